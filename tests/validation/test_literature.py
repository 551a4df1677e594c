"""Published values are read whole or refused with a sentence, and those of aluminum agree with each other."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import get_args

import pytest
from ase.data import atomic_numbers, reference_states

from alpot.config import PropertyName
from alpot.errors import UsageError
from alpot.validation import literature as module
from alpot.validation.crystals import Structure
from alpot.validation.literature import Published, literature, published_for, read_literature
from alpot.validation.tolerances import expected_rows

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "reference_data").glob("*.toml"))
#: An entry to which nothing is wrong, as TOML.
GOOD = {
    "property": '"elastic"',
    "name": '"C11"',
    "value": "114.3",
    "unit": '"GPa"',
    "kind": '"experiment"',
    "temperature": "0",
    "doi": '"10.1063/1.1713309"',
    "source": '"Kamm and Alers, J. Appl. Phys. 35, 327 (1964)"',
    "seen_in": '"article"',
}


def entry(**changes: str | None) -> str:
    keys = GOOD | changes
    return "\n[[value]]\n" + "\n".join(f"{key} = {value}" for key, value in keys.items() if value is not None) + "\n"


def read(folder: Path, text: str) -> tuple[str, tuple[Published, ...]]:
    path = folder / "some.toml"
    path.write_text(text, "utf-8")
    return read_literature(path)


def one(property: str, name: str, kind: str, method: str | None = None, temperature: float = 0) -> float:
    """The only published value of aluminum that answers to all this."""
    found = [
        published.value
        for published in published_for("Al", property, name)
        if (published.kind, published.temperature) == (kind, temperature) and method in (None, published.method)
    ]
    (value,) = found
    return value


# ----------------------------------------------------------------------------------------------- what comes with alpot


def test_every_file_is_valid_and_every_wheel_has_it():
    assert [path.name for path in FILES] == ["aluminum.toml"]
    for path in FILES:
        element, values = read_literature(path)
        assert literature(element) == values != ()
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["hatch"]["build"]["targets"]["wheel"]
    packed = {f"reference_data/{path.name}": f"alpot/validation/reference_data/{path.name}" for path in FILES}
    assert settings["force-include"] == packed


def test_an_element_without_a_file_has_no_published_values():
    assert literature("Xe") == ()
    assert published_for("Xe", "elastic", "C11") == ()
    assert published_for("Al", "elastic", "C99") == ()


@pytest.mark.skipif(importlib.util.find_spec("hatchling") is None, reason="hatchling builds the wheel")
def test_an_installed_wheel_finds_the_values_without_the_checkout(tmp_path):
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True, timeout=60)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    code = "from alpot.validation.literature import literature; print(len(literature('Al')))"
    environment = {"PYTHONPATH": str(tmp_path / "site")}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, check=True, capture_output=True, text=True
    )
    assert int(done.stdout) == len(literature("Al"))


def test_nothing_beside_an_installed_package_is_taken_for_its_files(monkeypatch, tmp_path):
    (tmp_path / "reference_data").mkdir()  # of another package: there is no pyproject.toml
    monkeypatch.setattr(module, "_CHECKOUT", tmp_path)
    monkeypatch.setattr(module, "_PACKAGED", tmp_path / "alpot" / "validation" / "reference_data")
    with pytest.raises(UsageError, match=r"are not at .*validation/reference_data: install alpot again"):
        literature("Al")


# ------------------------------------------------------------------------------------------------ aluminum's own values


def test_published_values_have_the_names_and_units_of_the_suite():
    known = get_args(PropertyName)
    for published in literature("Al"):
        rows = expected_rows(published.property, "Al") if published.property in known else ()
        for row in rows:
            if row.name == published.name:
                assert row.unit == published.unit, published


def test_the_names_of_the_commonest_values_are_those_of_the_suite():
    wanted = [("lattice", "lattice constant"), ("lattice", "bulk modulus"), ("vacancy", "vacancy formation energy")]
    wanted += [("elastic", name) for name in ("C11", "C12", "C44")] + [("phases", "E(bcc) − E(fcc)")]
    for property, name in wanted:
        assert name in [row.name for row in expected_rows(property, "Al")]
        assert published_for("Al", property, name)


def test_phases_are_crystals_that_we_can_build():
    names = {published.name for published in literature("Al") if published.property == "phases"}
    assert names <= {f"E({structure}) − E(fcc)" for structure in get_args(Structure)}


def test_the_bulk_modulus_is_that_of_the_elastic_constants():
    """B = (C11 + 2 C12)/3 for cubic crystals; the published numbers are rounded to 0.1 GPa."""
    c11, c12 = (one("elastic", name, "experiment") for name in ("C11", "C12"))
    assert one("lattice", "bulk modulus", "experiment") == pytest.approx((c11 + 2 * c12) / 3, abs=0.15)


def test_the_crystal_is_stable_and_softens_with_temperature():
    """Born's conditions for a cubic crystal."""
    cold, warm = (
        [one("elastic", name, "experiment", temperature=kelvin) for name in ("C11", "C12", "C44")]
        for kelvin in (0, 300)
    )
    for c11, c12, c44 in (cold, warm):
        assert c11 > c12 > 0
        assert c44 > 0
    assert warm[0] < cold[0]
    assert warm[2] < cold[2]


def test_theory_and_experiment_are_of_the_same_crystal():
    room = reference_states[atomic_numbers["Al"]]["a"]
    cold = one("lattice", "lattice constant", "experiment")
    # Aluminum shrinks by 0.4 % on cooling from room temperature; PBE is within 0.5 % for it.
    assert 0.993 * room < cold < room
    assert one("lattice", "lattice constant", "dft") == pytest.approx(cold, rel=0.005)


def test_what_is_stiffer_or_dearer_in_every_measurement_is_so_here():
    frequencies = {p.name.removeprefix("phonon "): p.value for p in literature("Al") if p.property == "phonons"}
    assert frequencies["X longitudinal"] > frequencies["X transverse"] > frequencies["L transverse"]
    surfaces = [one("surfaces", f"surface energy ({plane})", "dft") for plane in ("111", "100", "110")]
    assert surfaces == sorted(surfaces)  # the closer packed, the cheaper
    faults = [
        one("stacking_faults", f"{kind} stacking fault energy", "dft", "LDA") for kind in ("intrinsic", "unstable")
    ]
    assert faults == sorted(faults)
    interstitials = [p.value for p in literature("Al") if p.property == "interstitials" and p.method == "PBE"]
    assert interstitials == sorted(interstitials)  # dumbbell, octahedral, tetrahedral
    assert one("liquid", "liquid self-diffusion", "experiment", temperature=980) < one(
        "liquid", "liquid self-diffusion", "experiment", temperature=1020
    )


def test_measurements_of_the_vacancy_agree_within_their_errors():
    measured = [v for v in published_for("Al", "vacancy", "vacancy formation energy") if v.kind == "experiment"]
    assert len(measured) == 3
    for first in measured:
        for second in measured:
            assert first.uncertainty is not None and second.uncertainty is not None
            assert abs(first.value - second.value) <= first.uncertainty + second.uncertainty


# ------------------------------------------------------------------------------------------------------ what is refused


def test_a_good_entry_is_read(tmp_path):
    element, (value,) = read(tmp_path, 'element = "Cu"\n' + entry())
    assert element == "Cu"
    assert (value.name, value.value, value.unit, value.uncertainty, value.note) == ("C11", 114.3, "GPa", None, "")


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"unit": '"Gpa"'}, r"entry 2 \(C11\), key unit: Input should be .*'GPa'.*seen: 'Gpa'"),
        ({"doi": None}, r"entry 2 \(C11\), key doi: Field required"),
        ({"doi": '"https://doi.org/10.1063/1.1"'}, r"entry 2 \(C11\), key doi: .*pattern"),
        ({"value": "nan"}, r"entry 2 \(C11\), key value: Input should be a finite number"),
        ({"uncertainty": "-1.0"}, r"entry 2 \(C11\), key uncertainty: Input should be greater than 0"),
        ({"name": '""'}, r"entry 2 \(\), key name: "),
        ({"doy": '"10.1/2"'}, r"entry 2 \(C11\), key doy: there is no such key; did you mean 'doi'\?"),
        ({"kind": '"dft"'}, r"entry 2 \(C11\): a computed value needs `method`"),
        ({}, r"the file: there more than once: C11 of elastic \(experiment, no method, 0 K, 10.1063/1.1713309\)"),
    ],
)
def test_a_bad_entry_is_named_with_its_key(tmp_path, changes, sentence):
    with pytest.raises(UsageError, match=sentence) as caught:
        read(tmp_path, 'element = "Al"\n' + entry() + entry(**changes))
    assert str(tmp_path / "some.toml") in str(caught.value)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("element = ", r"cannot read the published values in .*some.toml"),
        ('element = "Aluminum"\nvalue = []', r"the file, key element: 'Aluminum' is not a chemical symbol"),
        ('element = "Al"\nvalue = 3', r"the file, key value: "),
        ('element = "Al"\nvalue = [3]', r"entry 1: "),
    ],
)
def test_a_bad_file_is_named(tmp_path, text, sentence):
    with pytest.raises(UsageError, match=sentence):
        read(tmp_path, text)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UsageError, match=r"cannot read the published values in .*nowhere.toml.*No such file"):
        read_literature(tmp_path / "nowhere.toml")
