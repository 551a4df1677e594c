"""Guesses what a name in the campaign file was meant to be that nobody knows."""

import difflib
from collections.abc import Iterable


def did_you_mean(seen: str, known: Iterable[str]) -> str:
    """A question that goes after a semicolon, e.g. `` did you mean 'emt'?``; empty if no known name is alike."""
    close = difflib.get_close_matches(seen, list(known), n=1)
    return f" did you mean {close[0]!r}?" if close else ""
