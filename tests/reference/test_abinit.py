"""ABINIT: its input, its output, and the labels that come of it."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, fcc111
from dft_codes import need, open_code, rattled

from alpot.config import Reference
from alpot.errors import ConfigError, FailureClass, ReferenceError, UsageError
from alpot.reference import label, level_of_theory
from alpot.reference.contract import check_reference_contract
from alpot.reference.dft import DftReference
from alpot.reference.dft_code import OutputError
from alpot.reference.ladder import Ladder, Trouble, dotted_keys, is_below

INSTALL = "apt-get install abinit abinit-data"
ALUMINUM = "Pseudodojo_nc_sr_04_pbe_standard_psp8/Al.psp8"
CHEAP = {"cutoff": 200.0, "kpoint_density": 7.0, "smearing": "fermi-dirac", "smearing_width": 0.2}


def abinit(arguments=None, **changes) -> DftReference:
    return open_code("abinit", arguments, **{**CHEAP, "pseudopotentials": {"Al": ALUMINUM}, **changes})


@pytest.fixture
def program() -> None:
    need("abinit", INSTALL)


@pytest.fixture
def psp(tmp_path: Path) -> Path:
    """A file that is good enough for writing input."""
    path = tmp_path / "Fe.psp8"
    path.write_text("Fe    ONCVPSP\n 26.0000 16.0000 171102    zatom,zion,pspd\n")
    return path


def written(reference: DftReference, atoms: Atoms, folder: Path, *, number: int = 0) -> list[str]:
    """The lines of the input that the first run would get."""
    directory = folder / f"run-{number}"
    directory.mkdir()
    reference.code.write(reference.calculation(atoms, directory))
    return [" ".join(line.split()) for line in (directory / "abinit.abi").read_text().splitlines()]


def iron(folder: Path, arguments=None, **changes) -> DftReference:
    return open_code("abinit", arguments, folder, **{"cutoff": 500.0, "pseudopotentials": {"Fe": "Fe.psp8"}, **changes})


# ------------------------------------------------------------------------------------------------------ the input

GOLDEN = """\
spinat
0.00000000000000 0.00000000000000 2.40000000000000
0.00000000000000 0.00000000000000 2.40000000000000
boxcutmin 2.8284271247461903
charge 1.0
chksymbreak 0
chksymtnons 0
diemix 0.4
ecut 500.0 eV
ecutsm 0.5
fband 2.0
ixc 11
natom 2
ngkpt
5 5 3
nshiftk 1
nsppol 2
nstep 60
occopt 5
optforces 1
optstress 1
prtebands 0
prteig 0
shiftk
0.0 0.0 0.0
toldfe 2e-07 eV
tsmear 0.27 eV
vdw_xc 6
#Definition of the unit cell
acell
1.00000000000000 1.00000000000000 1.00000000000000 Angstrom
rprim
2.80000000000000 0.00000000000000 0.00000000000000
0.00000000000000 2.80000000000000 0.00000000000000
0.00000000000000 0.00000000000000 5.60000000000000
chkprim 0 # Allow non-primitive cells
#Definition of the atom types
ntypat 1
znucl 26
#Enumerate different atomic species
typat
1 1
pseudos "Fe.psp8"
#Definition of the atoms
xcart
0.00000000000000 0.00000000000000 0.00000000000000
2.64561657366684 2.64561657366684 2.64561657366684
chkexit 1 # abinit.exit file in the running directory terminates after the current SCF
"""


def test_input(psp: Path, tmp_path: Path) -> None:
    reference = iron(
        tmp_path,
        {"diemix": 0.4, "vdw_xc": 6},
        density_cutoff=4000.0,
        kpoint_density=12.0,
        spin="collinear",
        magnetic_moments={"Fe": 2.4},
        charge=1.0,
    )
    atoms = Atoms("Fe2", positions=[(0, 0, 0), (1.4, 1.4, 1.4)], cell=[2.8, 2.8, 5.6], pbc=True)
    lines = written(reference, atoms, tmp_path)
    assert lines[:-2] == GOLDEN.splitlines()[:-2]
    # Bohr radii; which of CODATA's years they are is the matter of ASE's version.
    assert [float(x) for x in lines[-2].split()] == pytest.approx([2.645616573666] * 3, rel=1e-7)
    assert (tmp_path / "run-0" / "Fe.psp8").resolve() == psp


def test_what_is_not_periodic_is_sampled_at_gamma_in_a_box(psp: Path, tmp_path: Path) -> None:
    lines = written(iron(tmp_path), Atoms("Fe2", positions=[(0, 0, 0), (0, 0, 2.0)]), tmp_path)
    assert "1 1 1" in lines and float(lines[lines.index("rprim") + 3].split()[2]) >= 14.0
    assert "diemac 2.0" in lines  # the screening of a vacuum
    slab = Atoms("Fe", cell=[2.5, 2.5, 0], pbc=[True, True, False])
    lines = written(iron(tmp_path, kpoint_density=30.0), slab, tmp_path, number=1)
    assert "12 12 1" in lines and not any("diemac" in line for line in lines)


def test_an_isolated_atom_has_the_moment_of_its_ground_state(psp: Path, tmp_path: Path) -> None:
    lines = written(iron(tmp_path, material="insulator"), Atoms("Fe", cell=[12, 12, 12]), tmp_path)
    assert "nsppol 2" in lines and "0.00000000000000 0.00000000000000 4.00000000000000" in lines
    assert "occopt 3" in lines and "tsmear 0.02 eV" in lines


def test_an_insulator_has_fixed_occupations(psp: Path, tmp_path: Path) -> None:
    lines = written(iron(tmp_path, material="insulator"), Atoms("Fe", cell=[5, 5, 5], pbc=True), tmp_path)
    assert "occopt 1" in lines and "4 4 4" in lines and not any("tsmear" in line for line in lines)


def test_a_functional_may_be_a_number_of_abinit(psp: Path, tmp_path: Path) -> None:
    cell = Atoms("Fe", cell=[5, 5, 5], pbc=True)
    assert "ixc -101130" in written(iron(tmp_path, functional="-101130"), cell, tmp_path)
    assert "usekden 1" in written(iron(tmp_path, functional="r2SCAN"), cell, tmp_path, number=1)
    with pytest.raises(ConfigError, match=r"reference.dft.functional = 'B3LYP' is not known .* it has LDA, PBE"):
        written(iron(tmp_path, functional="B3LYP"), cell, tmp_path, number=2)


def test_paw_has_its_own_cutoff_of_the_density(tmp_path: Path) -> None:
    (tmp_path / "Fe.xml").write_text('<?xml version="1.0"?>\n<paw_dataset version="0.7">\n')
    reference = iron(tmp_path, pseudopotentials={"Fe": "Fe.xml"}, density_cutoff=4000.0)
    lines = written(reference, Atoms("Fe", cell=[5, 5, 5], pbc=True), tmp_path)
    assert "pawecutdg 1000.0 eV" in lines and not any("boxcutmin" in line for line in lines)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"ecut": 20}, "arguments sets ecut, which reference.dft.cutoff decides"),
        ({"nband": 20}, "arguments sets nband, which reference.arguments.fband"),
        ({"tolvrs": 1e-10}, "arguments sets tolvrs, which reference.dft.scf_tolerance decides"),
    ],
)
def test_what_the_table_decides_cannot_be_passed_on(psp, tmp_path, arguments, message) -> None:
    with pytest.raises(ConfigError, match=message):
        iron(tmp_path, arguments)


def test_a_key_cannot_be_given_twice_by_its_case(psp: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"reference.arguments.ECUT: write the key in lower case, ecut"):
        written(iron(tmp_path, {"ECUT": 20}), Atoms("Fe", cell=[5, 5, 5], pbc=True), tmp_path)


def test_what_is_missing_is_named(psp: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"pseudopotentials has no entry for Co \(it has Fe\); add Co = \"Co.psp8\""):
        iron(tmp_path).check(["Fe", "Co"])
    with pytest.raises(ConfigError, match=r"pseudopotentials.Fe = 'iron.psp8': there is no such file in .*pseudo-dojo"):
        iron(tmp_path, pseudopotentials={"Fe": "iron.psp8"})
    with pytest.raises(UsageError, match=r"needs the program 'no-abinit'.*`apt-get install abinit"):
        iron(tmp_path, program="no-abinit").check(["Fe"])
    with pytest.raises(ConfigError, match=r"'abinit' needs reference.dft.cutoff in eV"):
        iron(tmp_path, cutoff=None)


def test_the_level_of_theory_is_the_content_of_the_pseudopotential(psp: Path, tmp_path: Path) -> None:
    shutil.copy(psp, tmp_path / "other.psp8")
    other = {"pseudopotentials": {"Fe": "other.psp8"}}
    assert level_of_theory(iron(tmp_path)) == level_of_theory(iron(tmp_path, program="/opt/abinit", **other))
    (tmp_path / "other.psp8").write_text(psp.read_text() + "\n")
    assert level_of_theory(iron(tmp_path)) != level_of_theory(iron(tmp_path, **other))


def test_the_ladder_leaves_the_level_of_theory_alone(psp: Path, tmp_path: Path) -> None:
    ladder, free = Ladder.of("abinit"), iron(tmp_path).code.free
    assert len(ladder.rung) > 5
    for rung in ladder.rung:
        assert all(is_below(key, free) for key in dotted_keys(rung.change)), rung.why


@pytest.mark.parametrize(
    ("said", "symptom"),
    [
        ("    nstep 60 was not enough SCF cycles to converge.", "scf_not_converged"),
        ("    The minimal occupation factor is:   0.112.", "too_few_bands"),
        ("    Action: change your k point grid, or set chksymbreak to 0", "kpoint_symmetry"),
        ("    For pseudopotential 1  znucl from user input file=   1.3000E+01", "pseudopotential"),
        ("    Atoms number   1 and   2 are located at the same point of the unit cell", "atoms_too_close"),
        ("    This name is not one of the registered input variable names", "input"),
    ],
)
def test_symptoms(said: str, symptom: str) -> None:
    trouble = Ladder.of("abinit").diagnose(["           chksymbreak           0", said])
    assert trouble is not None and trouble.symptom == symptom


def test_the_echo_of_a_meta_gga_is_no_symptom() -> None:
    """Every output has it; where one frame does not converge, the campaign must not stop for a wrong potential."""
    trouble = Ladder.of("abinit").diagnose([
        "           usekden           1",
        "      nstep 60 was not enough SCF cycles to converge.",
    ])  # fmt: skip
    assert trouble == Trouble("scf_not_converged", FailureClass.NOT_CONVERGED)


# ---------------------------------------------------------------------------------------------- the real program


@pytest.mark.slow
def test_contract(program) -> None:
    # A translation moves atoms against the density's grid: 1 meV/Å. The smoothed cutoff (ecutsm) makes stress and
    # energy agree at any cutoff.
    check_reference_contract(
        lambda: abinit(cutoff=300.0, scf_tolerance=1e-8),
        rattled(4),
        force_tolerance=2e-3,
        stress_tolerance=0.01 * 0.03,
        repeat_tolerance=1e-5,
        displacement=0.005,
    )


@pytest.mark.parametrize("n_atoms", [1, 2, pytest.param(8, marks=pytest.mark.slow)])
def test_labels(program, n_atoms: int, tmp_path: Path) -> None:
    result = label(abinit(), Reference(code="abinit"), rattled(n_atoms), tmp_path)
    assert result.energy / n_atoms == pytest.approx(-62.6, abs=0.4)
    assert np.abs(result.forces.sum(0)).max() < 1e-3
    assert result.stress is not None and result.stress.shape == (6,)
    facts = result.details
    assert facts["program"].startswith("abinit") and facts["scf_steps"] > 2 and facts["n_electrons"] == 3 * n_atoms
    assert facts["energy_at_zero_smearing"] == pytest.approx(result.energy, abs=0.1 * n_atoms)
    assert facts["energy_at_zero_smearing"] > result.energy and facts["ladder"] == []
    assert not (tmp_path / "run-0" / "abinito_WFK").exists()  # wavefunctions are large


def test_the_grid_of_k_points_is_as_asked(program, tmp_path: Path) -> None:
    """3×3×3 around Γ, and k with −k: 14 points."""
    assert abinit(kpoint_density=11.0).compute(rattled(4), tmp_path).details["n_kpoints"] == 14


@pytest.mark.slow
def test_a_slab_has_no_stress(program, tmp_path: Path) -> None:
    result = abinit().compute(fcc111("Al", (1, 1, 2), vacuum=4.0), tmp_path)
    assert result.stress is None and result.forces[0, 2] * result.forces[1, 2] < 0


@pytest.mark.slow
def test_an_isolated_atom_is_magnetic(program, tmp_path: Path) -> None:
    details = abinit(smearing_width=0.02).compute(Atoms("Al"), tmp_path).details
    assert details["magnetic_moment"] == pytest.approx(1.0, abs=0.01)
    (around_the_atom,) = details["magnetic_moments"]  # within 2 Bohr radii
    assert 0.1 < around_the_atom < 0.2


@pytest.mark.slow
def test_paw_and_two_elements(program, tmp_path: Path) -> None:
    result = abinit(pseudopotentials={"Al": "Al.GGA-PBE-paw.abinit.xml"}).compute(rattled(2), tmp_path / "paw")
    assert result.energy / 2 == pytest.approx(-56.5, abs=1.0)
    # Silicon first: the results must come back in this order.
    alloy = rattled(4)
    alloy.symbols[[0, 2]] = "Si"
    both = {"pseudopotentials": {"Al": ALUMINUM, "Si": "Pseudodojo_nc_sr_04_pbe_standard_psp8/Si.psp8"}}
    first = abinit(**both).compute(alloy, tmp_path / "alloy")
    second = abinit(**both).compute(alloy[[1, 3, 0, 2]], tmp_path / "sorted")
    assert second.energy == pytest.approx(first.energy, abs=1e-5)
    assert np.abs(second.forces - first.forces[[1, 3, 0, 2]]).max() < 1e-3


def test_the_ladder_ends_in_the_declared_label(program, tmp_path: Path) -> None:
    """Three steps do not suffice; the rung that allows more gives what an undisturbed calculation gives."""
    atoms = rattled(2)
    undisturbed = abinit().compute(atoms, tmp_path / "good")
    disturbed = abinit({"nstep": 3}).compute(atoms, tmp_path / "bad")
    (step,) = disturbed.details["ladder"]
    assert step["after"] == "scf_not_converged" and step["change"]["nstep"] == 150
    # The tolerance of self-consistency is 2e-7 eV here; forces have an error of its square root.
    assert disturbed.energy == pytest.approx(undisturbed.energy, abs=2e-6)
    assert np.abs(disturbed.forces - undisturbed.forces).max() < 1e-3


@pytest.mark.slow
def test_more_bands_where_the_highest_is_not_empty(program, tmp_path: Path) -> None:
    undisturbed = abinit().compute(rattled(2), tmp_path / "good")
    narrow = abinit({"fband": 0.2}).compute(rattled(2), tmp_path / "bands")
    assert {step["after"] for step in narrow.details["ladder"]} == {"too_few_bands"}
    # What the last hundredth of an electron in the band that is missing would add.
    assert narrow.energy == pytest.approx(undisturbed.energy, abs=2e-4)


@pytest.mark.slow
def test_wide_smearing_prepares_but_the_label_has_its_own(program, tmp_path: Path, monkeypatch) -> None:
    """The last rung for self-consistency: only its preparatory run has another smearing."""
    reference = abinit({"nstep": 3})
    rungs = tuple(rung for rung in reference.ladder.rung if rung.before)
    monkeypatch.setattr(reference, "ladder", reference.ladder.model_copy(update={"rung": rungs}))
    result = reference.compute(rattled(2), tmp_path)
    assert "tsmear 0.5 eV" in (tmp_path / "run-1" / "abinit.abi").read_text()
    assert "irdwfk 1" in (tmp_path / "run-2" / "abinit.abi").read_text()
    assert result.energy == pytest.approx(abinit().compute(rattled(2), tmp_path / "good").energy, abs=2e-6)


@pytest.mark.slow
def test_the_wide_smearing_of_an_insulator_has_bands_to_fill(program, tmp_path: Path, monkeypatch) -> None:
    """Its label has fixed occupations and hardly a spare band; the preparatory run needs some."""
    silicon = bulk("Si")
    silicon.rattle(0.1, seed=1)
    settings = {"cutoff": 200.0, "kpoint_density": 4.0, "material": "insulator"}
    settings |= {"pseudopotentials": {"Si": "Pseudodojo_nc_sr_04_pbe_standard_psp8/Si.psp8"}}
    reference = open_code("abinit", {"nstep": 3}, **settings)
    rungs = tuple(rung for rung in reference.ladder.rung if rung.before)
    monkeypatch.setattr(reference, "ladder", reference.ladder.model_copy(update={"rung": rungs}))
    result = reference.compute(silicon, tmp_path)
    prepared, declared = ((tmp_path / f"run-{n}" / "abinit.abi").read_text() for n in (1, 2))
    assert "fband 2.0" in prepared and "occopt 7" in prepared
    assert "fband 0.125" in declared and "occopt 1" in declared and "irdwfk 1" in declared
    undisturbed = open_code("abinit", **settings).compute(silicon, tmp_path / "good")
    assert result.energy == pytest.approx(undisturbed.energy, abs=2e-6)


def test_what_no_rung_mends_is_given_up_for_good(program, tmp_path: Path, monkeypatch) -> None:
    reference = abinit({"nstep": 2})
    monkeypatch.setattr(reference, "ladder", reference.ladder.model_copy(update={"rung": ()}))
    with pytest.raises(ReferenceError, match="scf_not_converged") as caught:
        reference.compute(rattled(1), tmp_path)
    assert caught.value.failure is FailureClass.NOT_CONVERGED and caught.value.is_final


def test_failures_have_their_class(program, tmp_path: Path) -> None:
    twin = rattled(2)
    twin.positions[1] = twin.positions[0]
    with pytest.raises(ReferenceError) as caught:
        abinit().compute(twin, tmp_path / "twin")
    assert caught.value.failure is FailureClass.UNPHYSICAL_GEOMETRY and caught.value.is_final
    wrong = {"Al": "Pseudodojo_nc_sr_04_pbe_standard_psp8/As.psp8"}
    with pytest.raises(ReferenceError, match="pseudopotential") as caught:
        abinit(pseudopotentials=wrong).compute(rattled(1), tmp_path / "wrong")
    assert caught.value.failure is FailureClass.MISSING_PROGRAM


@pytest.mark.slow
def test_wavefunctions_are_a_start_for_the_next_frame(program, tmp_path: Path) -> None:
    atoms = rattled(2)
    reference = abinit()
    fresh = reference.compute(atoms, tmp_path / "fresh")
    reference.densities = tmp_path / "density"
    reference.compute(atoms, tmp_path / "first")
    chained = reference.compute(atoms, tmp_path / "second")
    assert chained.details["scf_steps"] < fresh.details["scf_steps"] and chained.details["ladder"] == []
    assert chained.energy == pytest.approx(fresh.energy, abs=2e-6)


def test_no_damaged_output_is_believed(program, tmp_path: Path) -> None:
    """Cut off, doubled, of another frame, or with one changed digit: an error, or the same label."""
    reference, atoms = abinit(), rattled(2)
    result = reference.compute(atoms, tmp_path)
    calculation = reference.calculation(atoms, tmp_path / "run-0")
    file = tmp_path / "run-0" / "abinit.abo"
    text = file.read_text()
    whole = reference.code.believe(calculation)
    assert whole.energy == result.energy

    lines = text.splitlines(keepends=True)
    for torn in [*("".join(lines[:count]) for count in range(0, len(lines) - 5, 7)), text + text]:
        file.write_text(torn)
        with pytest.raises(OutputError):
            reference.code.believe(calculation)
    rng = np.random.default_rng(0)
    digits = [place for place, letter in enumerate(text) if letter.isdigit()]
    for place in rng.choice(digits, 200, replace=False):
        file.write_text(text[:place] + str((int(text[place]) + 1 + rng.integers(8)) % 10) + text[place + 1 :])
        try:
            seen = reference.code.believe(calculation)
        except OutputError:
            continue
        assert seen.energy == pytest.approx(whole.energy, abs=1e-4)
        assert np.abs(seen.forces - whole.forces).max() < 1e-5
        assert seen.stress is not None and whole.stress is not None
        assert np.abs(seen.stress - whole.stress).max() < 1e-6

    moved = atoms.copy()
    moved.positions[0] += 0.01
    file.write_text(text)
    with pytest.raises(OutputError, match="another frame"):
        reference.code.believe(reference.calculation(moved, tmp_path / "run-0"))


def test_a_killed_program_is_no_label(psp: Path, tmp_path: Path) -> None:
    program = tmp_path / "abinit"
    program.write_text("#!/bin/sh\necho '.Version 9.6.2  of ABINIT' > abinit.abo\nkill -KILL $$\n")
    program.chmod(0o755)
    with pytest.raises(ReferenceError) as caught:
        iron(tmp_path, program=str(program)).compute(Atoms("Fe", cell=[5, 5, 5], pbc=True), tmp_path / "run")
    assert caught.value.failure is FailureClass.OUT_OF_MEMORY and not caught.value.is_final
