"""A disk that is full soon, and labels to store."""

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from alpot.store.labels import Label, label_key


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 kB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    try:
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", disk], capture_output=True)
    except FileNotFoundError:
        pytest.skip("there is no mount program")
    if mounted.returncode:
        pytest.skip("mounting a tmpfs is not permitted")
    yield disk
    subprocess.run(["umount", disk], check=True)


@pytest.fixture(scope="session")
def make_label() -> Callable[..., Label]:
    """Builds labels with made-up results; the same seed gives the same label."""

    def make(seed: int = 0, *, atoms: Atoms | None = None, level: str = "level-a", stress: bool = True) -> Label:
        rng = np.random.default_rng(seed)
        if atoms is None:
            atoms = bulk("Al", cubic=True) * (1, 1, 1 + seed % 2)
            atoms.positions += rng.normal(0, 0.1, (len(atoms), 3))
        return Label(
            key=label_key(atoms, level),
            atoms=atoms,
            energy=rng.normal(),
            forces=rng.normal(size=(len(atoms), 3)),
            stress=rng.normal(size=6) if stress else None,
            level_of_theory=level,
            provenance={"seed": seed, "ångström": [1, None, {"x": 0.5}]},
        )

    return make
