"""Labelled frames go out to other programs and come back."""

from pathlib import Path

import ase.io
import h5py
import numpy as np
import pytest
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from ase.units import Hartree
from hypothesis import given, settings
from hypothesis import strategies as st

from alpot.errors import LevelOfTheoryError, StructureError
from alpot.store.ani_hdf5 import read_ani_hdf5, write_ani_hdf5
from alpot.store.dataset import write_shard
from alpot.store.extxyz import read_extxyz, write_extxyz
from alpot.store.formats import read_labelled
from alpot.store.labels import label_key

SHARED = Path(__file__).parents[2].parent / "shared"


@pytest.fixture
def labels(make_label):
    alloy = bulk("Al", cubic=True)
    alloy.numbers[:] = [13, 28, 13, 28]
    other_order = alloy.copy()
    other_order.numbers[:] = [13, 13, 28, 28]
    return [
        make_label(0),
        make_label(1),
        make_label(2, stress=False),
        make_label(3, atoms=alloy),
        make_label(4, atoms=other_order),
        make_label(5, atoms=molecule("H2O")),
    ]


# extxyz writes 8 decimals of positions and forces; HDF5 loses the last bits of a double by changing units.
@pytest.mark.parametrize(("name", "tolerance"), [("x.extxyz", 0.6e-8), ("x.xyz", 0.6e-8), ("x.h5", 1e-12)])
def test_round_trip(tmp_path, labels, name, tolerance):
    write = write_ani_hdf5 if name.endswith("h5") else write_extxyz
    write(tmp_path / name, labels)
    assert b"_JSON" not in (tmp_path / name).read_bytes()  # ASE's own way, which no other program reads
    back = {label.key: label for label in read_labelled(tmp_path / name, "level-a")}
    assert set(back) == {label.key for label in labels}
    for label in labels:
        other = back[label.key]
        assert str(other.atoms.symbols) == str(label.atoms.symbols)
        assert np.array_equal(other.atoms.pbc, label.atoms.pbc)
        np.testing.assert_allclose(other.atoms.positions, label.atoms.positions, rtol=0, atol=tolerance)
        np.testing.assert_allclose(other.atoms.cell.array, label.atoms.cell.array, rtol=0, atol=1e-12)
        np.testing.assert_allclose(other.energy, label.energy, rtol=1e-14)
        np.testing.assert_allclose(other.forces, label.forces, rtol=0, atol=tolerance)
        assert (other.stress is None) == (label.stress is None)
        if label.stress is not None:
            np.testing.assert_allclose(other.stress, label.stress, rtol=1e-14)


def written_with(path, label, info=None, arrays=None):
    """The frame that ASE reads where the user's own had these entries; the label must be whole."""
    own = label.atoms.copy()
    own.info = info or {}
    own.arrays |= arrays or {}
    write_extxyz(path, [label], frames=[own])
    (back,) = read_extxyz(path, "level-a")
    assert back.energy == pytest.approx(label.energy, rel=1e-14)
    np.testing.assert_allclose(back.forces, label.forces, rtol=0, atol=0.6e-8)
    np.testing.assert_allclose(back.stress, label.stress, rtol=1e-14)
    assert back.atoms.numbers.tolist() == label.atoms.numbers.tolist() and back.atoms.pbc.all()
    return ase.io.read(path, format="extxyz")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("comment", ""),
        ("base64", "bGFiZWw="),
        ("folder", "C:\\"),
        ("json", "_JSON x"),
        ("array", np.array([])),
        ("ragged", [[1], [2, 3]]),
        ("quoted", {"name": 'the "x"'}),
        ("virial", 1.0),
        ("=", 1.0),
        ("a=b", 1.0),
        ('a"b', 1.0),
        ("a b", 1.0),
        ("REF_energ\\y", 1.0),
        ("REF_energy", 1.0),
    ],
)
def test_an_entry_that_would_spoil_the_line_is_left_out(tmp_path, make_label, name, value):
    atoms = written_with(tmp_path / "x.xyz", make_label(), {name: value, "kept": 1})
    assert atoms.info.keys() == {"REF_energy", "REF_stress", "key", "level_of_theory", "kept"}


@pytest.mark.parametrize(
    ("name", "array"), [("none", np.zeros((4, 0))), ('a"b', np.zeros(4)), ("a=b", np.zeros(4)), ("Z", np.arange(4))]
)
def test_a_column_that_would_spoil_the_frame_is_left_out(tmp_path, make_label, name, array):
    atoms = written_with(tmp_path / "x.xyz", make_label(), arrays={name: array, "kept": np.arange(4)})
    assert atoms.arrays.keys() == {"numbers", "positions", "REF_forces", "kept"}


NAMES = st.text("aZ_9 =:\"'\\\\{}[],\n", max_size=4) | st.text(max_size=4)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | NAMES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=2),
    max_leaves=5,
)


@settings(max_examples=100, deadline=None)
@given(info=st.dictionaries(NAMES, VALUES, max_size=3))
def test_no_entry_of_the_users_spoils_a_label(tmp_path_factory, make_label, info):
    written_with(tmp_path_factory.mktemp("written") / "x.xyz", make_label(), info)


def test_what_ase_writes_by_itself(tmp_path):
    """ASE takes plain energy, forces and stress into a calculator; they are found there."""
    atoms = bulk("Cu", cubic=True)
    atoms.rattle(0.1, seed=1)
    atoms.calc = EMT()
    energy, forces, stress = atoms.get_potential_energy(), atoms.get_forces(), atoms.get_stress()
    ase.io.write(tmp_path / "x.xyz", atoms, format="extxyz")
    (label,) = read_labelled(tmp_path / "x.xyz", "emt")
    assert label.energy == pytest.approx(energy, abs=1e-8)
    np.testing.assert_allclose(label.forces, forces, rtol=0, atol=0.6e-8)
    np.testing.assert_allclose(label.stress, stress, rtol=0, atol=1e-8)
    assert label.level_of_theory == "emt"
    assert label.key == label_key(label.atoms, "emt")
    assert label.provenance == {"imported": {"file": "x.xyz", "frame": 0}}


def test_published_dft_data():
    path = SHARED / "data" / "zuo2020_Ni.extxyz"
    if not path.is_file():
        pytest.skip("the published data is not there")
    labels = read_labelled(path, "PBE")
    assert {str(label.atoms.symbols[0]) for label in labels} == {"Ni"}
    # Total energies of VASP's PBE nickel are between -5 and -6 eV per atom.
    assert all(-6.5 < label.energy / len(label.atoms) < -3 for label in labels)


XYZ = '2\nLattice="9 0 0 0 9 0 0 0 9" Properties=species:S:1:pos:R:3{column} {info} pbc="T T T"\n'
ROWS = "Al 0 0 0 {0}\nAl 3 0 0 {0}\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (XYZ.format(column=":REF_forces:R:3", info="") + ROWS.format("0 0 0"), "frame 1: no energy; REF_energy"),
        (XYZ.format(column="", info="REF_energy=1") + ROWS.format(""), "frame 1: no forces; a column REF_forces"),
        (
            XYZ.format(column=":REF_forces:R:3", info="REF_energy=nan") + ROWS.format("0 0 0"),
            "frame 1: a label's energy is nan",
        ),
        (
            XYZ.format(column=":REF_forces:R:3", info="REF_energy=high") + ROWS.format("0 0 0"),
            "frame 1: could not convert string to float: 'high'",
        ),
        (
            XYZ.format(column=":REF_forces:R:2", info="REF_energy=1") + ROWS.format("0 0"),
            r"frame 1: a label's forces have shape \(2, 2\)",
        ),
        (
            XYZ.format(column=":REF_forces:R:3", info='REF_energy=1 REF_stress="1 2 3"') + ROWS.format("0 0 0"),
            r"frame 1: a label's stress have shape \(3,\)",
        ),
        ("2\nLattice", "cannot be read as extended XYZ"),
        ("two\n", "cannot be read as extended XYZ"),
    ],
)
def test_bad_extxyz_names_file_frame_and_field(tmp_path, text, message):
    good = XYZ.format(column=":REF_forces:R:3", info="REF_energy=1") + ROWS.format("0 0 0")
    (tmp_path / "bad.xyz").write_text(good + text)
    with pytest.raises(StructureError, match=rf"bad\.xyz, .*{message}"):
        read_extxyz(tmp_path / "bad.xyz", "level")


def test_an_ani_file_of_another_level_of_theory(tmp_path, labels):
    write_ani_hdf5(tmp_path / "labels.h5", labels)
    level = labels[0].level_of_theory
    assert len(read_labelled(tmp_path / "labels.h5", level)) == len(labels)
    with pytest.raises(LevelOfTheoryError, match=level):
        read_labelled(tmp_path / "labels.h5", "another")


def test_a_file_of_another_level_of_theory(tmp_path, labels):
    write_extxyz(tmp_path / "x.xyz", labels)
    write_shard(tmp_path / "x.h5", labels)
    for name in ("x.xyz", "x.h5"):
        with pytest.raises(LevelOfTheoryError, match="level-a, but this campaign's reference is other"):
            read_labelled(tmp_path / name, "other")
    assert len(read_labelled(tmp_path / "x.h5", "level-a")) == len(labels)


def test_equal_frames_count_once(tmp_path, labels):
    write_extxyz(tmp_path / "x.xyz", [labels[0], labels[1], labels[0]])
    assert [label.energy for label in read_labelled(tmp_path / "x.xyz", "level-a")] == [
        labels[0].energy,
        labels[1].energy,
    ]


def test_unknown_missing_and_empty_files(tmp_path):
    with pytest.raises(StructureError, match="there is no file"):
        read_labelled(tmp_path / "x.xyz", "l")
    (tmp_path / "x.traj").write_text("")
    with pytest.raises(StructureError, match=r"read from \.extxyz, \.xyz, \.h5, \.hdf5 files, not from \.traj"):
        read_labelled(tmp_path / "x.traj", "l")
    for name in ("x.xyz", "x.h5"):
        (tmp_path / name).write_text("")
        with pytest.raises(StructureError, match=name):
            read_labelled(tmp_path / name, "l")


def _ani(path: Path, **datasets: object) -> Path:
    """A small file as the ANI data sets have it: one shared list of species, no pbc, energies in Hartree."""
    content: dict[str, object] = {
        "species": np.array([b"O", b"H", b"H"]),
        "coordinates": np.arange(18.0).reshape(2, 3, 3),
        "energies": np.array([-1.0, -2.0]),
        "forces": np.ones((2, 3, 3), dtype=np.float32),
    }
    content.update(datasets)
    with h5py.File(path, "w") as file:
        for name, values in content.items():
            if values is not None:
                file[f"deep/water/{name}"] = values
    return path


def test_ani_conventions(tmp_path):
    one, two = read_ani_hdf5(_ani(tmp_path / "a.h5"), "l")
    assert str(one.atoms.symbols) == "OH2"
    assert two.energy == pytest.approx(-2 * Hartree)
    assert one.forces[0, 0] == pytest.approx(Hartree)
    assert not one.atoms.pbc.any()
    assert two.provenance == {"imported": {"file": "a.h5", "group": "/deep/water", "frame": 1}}
    periodic = _ani(tmp_path / "b.h5", cell=9 * np.eye(3), energies=None, energy=np.zeros((2, 1)))
    assert read_ani_hdf5(periodic, "l")[1].atoms.pbc.all()
    numbers = _ani(tmp_path / "c.h5", species=np.array([[8, 1, 1], [1, 1, 8]]))
    assert str(read_ani_hdf5(numbers, "l")[1].atoms.symbols) == "H2O"


def test_the_sign_of_gradients_must_be_said(tmp_path):
    path = _ani(tmp_path / "al.h5", forces=None, force=np.ones((2, 3, 3)))
    with pytest.raises(StructureError, match=r"sign is uncertain .*forces_name=\"force\", forces_sign=-1"):
        read_ani_hdf5(path, "l")
    assert read_ani_hdf5(path, "l", forces_name="force", forces_sign=-1)[0].forces[0, 0] == pytest.approx(-Hartree)


@pytest.mark.parametrize(
    ("datasets", "message"),
    [
        ({"energies": None}, "`energy` is missing; there are coordinates, forces, species"),
        ({"forces": None}, "`forces` is missing"),
        ({"species": None}, "`species` is missing"),
        ({"species": np.array([b"O", b"H"])}, r"`species` has shape \(2,\), where \(2, 3\) is needed"),
        ({"species": np.array([b"O", b"H", b"Q"])}, "`species` names Q"),
        ({"energies": np.zeros(3)}, r"`energies` has shape \(3,\)"),
        ({"forces": np.full((2, 3, 3), np.nan)}, "frame 0: a label's forces are not finite"),
        ({"coordinates": np.zeros((2, 3))}, r"`coordinates` have shape \(2, 3\)"),
        ({"coordinates": None}, "no ANI-style group"),
    ],
)
def test_bad_ani_names_group_and_field(tmp_path, datasets, message):
    with pytest.raises(StructureError, match=rf"bad\.h5.*{message}"):
        read_ani_hdf5(_ani(tmp_path / "bad.h5", **datasets), "l")


def test_units_of_ani_are_heeded(tmp_path):
    path = _ani(tmp_path / "a.h5")
    with h5py.File(path, "r+") as file:
        file["deep/water/energies"].attrs["unit"] = "eV"
    assert read_ani_hdf5(path, "l")[0].energy == -1.0
    with h5py.File(path, "r+") as file:
        file["deep/water/energies"].attrs["unit"] = "kcal/mol"
    with pytest.raises(StructureError, match="has the unit 'kcal/mol'; Hartree and eV"):
        read_ani_hdf5(path, "l")
