"""Reads files that strangers may have made: no devices, no pipes, and never more than a potential needs."""

from __future__ import annotations

from pathlib import Path

from alpot.errors import PotentialError


def read_plain(path: Path, most: int) -> bytes:
    """The content of a plain file of at most ``most`` bytes.

    Raises:
        PotentialError: it is missing, not a plain file, too large, or cannot be read.
    """
    if not path.is_file():
        raise PotentialError(f"{path}: cannot be read: it is missing, or not a plain file")
    try:
        if (size := path.stat().st_size) > most:
            raise PotentialError(f"{path}: has {size} bytes; no potential needs more than {most} there")
        return path.read_bytes()
    except OSError as error:
        raise PotentialError(f"{path}: cannot be read: {error.strerror}") from error
