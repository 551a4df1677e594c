"""Places where tasks run, each a Parsl configuration."""
