"""Reads what a code says of each atom: charges and moments, which are information beside a label and never cost it."""

from __future__ import annotations

import re

import numpy as np


def per_atom(text: str, n_atoms: int, *, title: str, row: str, total: str, first: int = 1) -> np.ndarray | None:
    """The numbers of a table with a line for each atom; None unless there is one such table, whole and sound.

    Args:
        text: of the output.
        n_atoms: how many rows there must be.
        title: pattern of all that stands above the first row, with the end of its line; no groups.
        row: pattern of a row; its groups are the atom's number and what is read.
        total: pattern of what follows on the rows, up to the sum of what is read, which is its group.
        first: number of the first atom.

    Returns:
        (n_atoms,) finite numbers, whose sum is the total to six decimals.
    """
    parts = re.split(title, text, flags=re.MULTILINE)
    if len(parts) != 2:
        return None
    lines = parts[1].splitlines()
    rows = [match.groups() for line in lines[:n_atoms] if (match := re.fullmatch(row, line))]
    end = re.match(total, "\n".join(lines[n_atoms : n_atoms + 2]))
    if end is None or [number for number, _ in rows] != [str(first + i) for i in range(n_atoms)]:
        return None
    numbers = np.array([value for _, value in rows], dtype=float)
    # What is not finite has no such sum.
    return numbers if abs(numbers.sum() - float(end[1])) <= 1e-6 * (n_atoms + 1) else None
