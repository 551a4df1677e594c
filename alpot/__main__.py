"""``python -m alpot`` does what the command ``alpot`` does."""

from alpot.cli import main

if __name__ == "__main__":
    main()
