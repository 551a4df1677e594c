"""A table of one number per atom: whole, or nothing, and never an error."""

import numpy as np
import pytest

from alpot.reference.populations import per_atom

TABLE = """\
CHARGES
  1 O :  -0.800000
  2 H :   0.300001
  3 H :   0.499999
Sum :     0.000000
"""


def charges(text: str, n_atoms: int = 3) -> np.ndarray | None:
    return per_atom(
        text,
        n_atoms,
        title=r"^CHARGES\n",
        row=r" *(\d+) +[A-Z][a-z]? +: +(-?\d+\.\d+)",
        total=r"Sum : +(-?\d+\.\d+)",
    )


def test_a_whole_table_is_read() -> None:
    found = charges(f"before\n{TABLE}after\n")
    assert found is not None and found.tolist() == [-0.8, 0.300001, 0.499999]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("CHARGES", "CHANGES"),
        ("  2 H :   0.300001\n", ""),
        ("  2 H :   0.300001\n", "  2 H :   0.300001\n" * 2),
        ("  2 H", "  1 H"),
        ("  2 H", f"{'9' * 5000} H"),
        ("0.300001", "********"),
        ("0.300001", "0.300101"),
        ("0.300001", f"{'9' * 5000}.0"),
        ("0.300001", "NaN"),
        ("Sum :     0.000000", "Sum :     1.000000"),
        ("Sum :     0.000000", "Sum :"),
        ("Sum :     0.000000\n", ""),
        (TABLE, TABLE * 2),
        (TABLE, ""),
        ("\n", "\r"),
    ],
)
def test_any_other_table_is_none(old: str, new: str) -> None:
    assert old in TABLE
    assert charges(TABLE.replace(old, new)) is None


@pytest.mark.parametrize("n_atoms", [0, 1, 2, 4])
def test_a_table_of_another_number_of_atoms_is_none(n_atoms: int) -> None:
    assert charges(TABLE, n_atoms) is None
