"""A label survives storage bit by bit, or its damage is noticed."""

import json

import h5py
import numpy as np
import pytest
from ase import Atoms
from hypothesis import given, settings
from hypothesis import strategies as st

from alpot.errors import LevelOfTheoryError, StorageError
from alpot.store.container import is_container
from alpot.store.files import sha256
from alpot.store.labels import Label, label_key, pack_labels, read_label, structure_hash, write_label
from tests.store.crash import acknowledged_before_kill


def _same(one: Label, two: Label) -> bool:
    return (
        (one.key, one.energy, one.level_of_theory, one.provenance)
        == (two.key, two.energy, two.level_of_theory, two.provenance)
        and np.array_equal(one.atoms.numbers, two.atoms.numbers)
        and np.array_equal(one.atoms.positions, two.atoms.positions)
        and np.array_equal(one.atoms.cell.array, two.atoms.cell.array)
        and np.array_equal(one.atoms.pbc, two.atoms.pbc)
        and np.array_equal(one.forces, two.forces)
        and (np.array_equal(one.stress, two.stress) if one.stress is not None else two.stress is None)
    )


@given(
    n_atoms=st.integers(1, 5),
    seed=st.integers(0, 2**32 - 1),
    pbc=st.tuples(st.booleans(), st.booleans(), st.booleans()),
    stress=st.booleans(),
    energy=st.floats(-1e9, 1e9),
    provenance=st.dictionaries(
        st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")), st.integers() | st.none()
    ),
)
@settings(max_examples=25, deadline=None)
def test_round_trip_is_exact(tmp_path_factory, n_atoms, seed, pbc, stress, energy, provenance):
    rng = np.random.default_rng(seed)
    atoms = Atoms(rng.integers(1, 100, n_atoms), rng.normal(size=(n_atoms, 3)), cell=rng.normal(size=(3, 3)), pbc=pbc)
    label = Label(
        key=label_key(atoms, "level"),
        atoms=atoms,
        energy=energy,
        forces=rng.normal(size=(n_atoms, 3)),
        stress=rng.normal(size=6) if stress else None,
        level_of_theory="level",
        provenance=provenance,
    )
    path = tmp_path_factory.mktemp("labels") / "label.h5"
    assert write_label(path, label) == sha256(path)
    assert _same(read_label(path), label)


def test_other_programs_can_read_it(tmp_path, make_label):
    write_label(tmp_path / "l.h5", make_label())
    assert is_container(tmp_path / "l.h5")
    with h5py.File(tmp_path / "l.h5") as file:
        units = {name: dataset.attrs["unit"] for name, dataset in file.items() if "unit" in dataset.attrs}
        assert units == {"positions": "Å", "cell": "Å", "energy": "eV", "forces": "eV/Å", "stress": "eV/Å³"}
        assert file.attrs["level_of_theory"] == "level-a"
        assert json.loads(file["provenance"].asstr()[0])["seed"] == 0


def test_every_flipped_byte_is_noticed(tmp_path, make_label):
    path = tmp_path / "l.h5"
    write_label(path, make_label())
    data = path.read_bytes()
    rng = np.random.default_rng(0)
    # The whole header, and a sample of the rest.
    for position in [*range(512), *rng.integers(512, len(data), 200).tolist()]:
        damaged = bytearray(data)
        damaged[position] ^= 1 << int(rng.integers(8))
        path.write_bytes(damaged)
        with pytest.raises(StorageError, match=r"l\.h5 (is damaged|has format version|holds)"):
            read_label(path)


@pytest.mark.parametrize("share", [0.0, 0.001, 0.01, 0.3, 0.9, 0.9999])
def test_torn_file_is_noticed(tmp_path, make_label, share):
    path = tmp_path / "l.h5"
    write_label(path, make_label())
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(StorageError, match=r"l\.h5 is damaged"):
        read_label(path)


def test_zeroed_tail_is_noticed(tmp_path, make_label):
    """A power cut on some file systems leaves a file of the right length that ends in zeros."""
    path = tmp_path / "l.h5"
    write_label(path, make_label())
    data = path.read_bytes()
    path.write_bytes(data[:4096] + bytes(len(data) - 4096))
    with pytest.raises(StorageError, match="damaged"):
        read_label(path)


def test_missing_and_foreign_files(tmp_path):
    with pytest.raises(StorageError, match="cannot read"):
        read_label(tmp_path / "missing.h5")
    with h5py.File(tmp_path / "foreign.h5", "w") as file:
        file["x"] = 1
    with pytest.raises(StorageError, match="was not written by alpot"):
        read_label(tmp_path / "foreign.h5")


def test_the_first_label_stays(tmp_path, make_label):
    path = tmp_path / "l.h5"
    first = make_label(0)
    checksum = write_label(path, first)
    again = Label(**{**vars(first), "provenance": {"attempt": 2}})
    assert write_label(path, again) == checksum == sha256(path)
    assert read_label(path).provenance == first.provenance
    with pytest.raises(StorageError, match="holds label"):
        write_label(path, make_label(1))


def test_a_damaged_label_is_set_aside_and_replaced(tmp_path, make_label):
    path = tmp_path / "l.h5"
    path.write_bytes(b"alpot labels, torn")
    assert write_label(path, make_label()) == sha256(path)
    assert _same(read_label(path), make_label())
    (kept,) = tmp_path.glob("l.h5.damaged-*")
    assert kept.read_bytes() == b"alpot labels, torn"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"energy": float("nan")}, "energy is nan"),
        ({"forces": np.full((4, 3), np.inf)}, r"forces are not finite: inf eV/Å"),
        ({"forces": np.zeros((3, 3))}, r"forces have shape \(3, 3\), but \(4, 3\)"),
        ({"stress": np.zeros((3, 3))}, r"stress have shape"),
        ({"stress": np.full(6, np.nan)}, "stress are not finite"),
    ],
)
def test_labels_are_finite_and_in_shape(make_label, change, message):
    with pytest.raises(StorageError, match=message):
        Label(**{**vars(make_label(0)), **change})


def test_provenance_must_be_json(tmp_path, make_label):
    label = Label(**{**vars(make_label()), "provenance": {"x": np.zeros(2)}})
    with pytest.raises(StorageError, match=r"l\.h5: a provenance is not JSON"):
        write_label(tmp_path / "l.h5", label)
    assert not (tmp_path / "l.h5").exists()


def test_levels_of_theory_do_not_mix(tmp_path, make_label):
    with pytest.raises(LevelOfTheoryError, match="level-a, level-b"):
        pack_labels([make_label(0), make_label(1, level="level-b")], tmp_path / "x.h5")


def test_structure_hash_sees_every_change_and_nothing_else():
    atoms = Atoms("AlNi", [[0, 0, 0], [1, 1, 1]], cell=[4, 4, 4], pbc=True)
    same = atoms.copy()
    same.positions[0, 0] = -0.0
    same.positions[1] += 1e-10
    same.info["x"] = 1
    same.rattle(0.0)
    assert structure_hash(same) == structure_hash(atoms)
    hashes = {structure_hash(atoms)}
    for change in (
        lambda a: a.positions.__setitem__((0, 0), 1e-7),
        lambda a: a.set_cell([4, 4, 4.000001]),
        lambda a: a.set_pbc([True, True, False]),
        lambda a: a.numbers.__setitem__(0, 12),
        lambda a: a.__delitem__(1),
    ):
        changed = atoms.copy()
        change(changed)
        hashes.add(structure_hash(changed))
    assert len(hashes) == 6
    atoms.positions[0, 0] = np.nan
    with pytest.raises(StorageError, match="not finite"):
        structure_hash(atoms)


def test_keys_are_stable():
    """Keys name files on disk: whoever changes this value orphans every label that was paid for."""
    atoms = Atoms("Al", cell=[4.05, 4.05, 4.05], pbc=True)
    assert label_key(atoms, "level") == "9ba72e739aae59df233e386038686f47a783a9194496eb94430f550e64279893"
    assert label_key(atoms, "other") != label_key(atoms, "level")


_WRITER = """
import sys
from pathlib import Path
import numpy as np
from ase.build import bulk
from alpot.store.labels import Label, label_key, write_label
atoms = bulk("Al") * (3, 3, 3)
for i in range(10**6):
    atoms.positions[0, 0] = i
    key = label_key(atoms, "level")
    label = Label(key=key, atoms=atoms, energy=i, forces=np.zeros((27, 3)), level_of_theory="level")
    write_label(Path(sys.argv[1]) / key[:2] / f"{key}.h5", label)
    print(i, key, flush=True)
"""


def test_kill_loses_no_acknowledged_label(tmp_path):
    for line in acknowledged_before_kill(_WRITER, 0.1, tmp_path):
        number, key = line.split()
        label = read_label(tmp_path / key[:2] / f"{key}.h5")
        assert label.key == key
        assert label.energy == float(number)
