"""Quantum ESPRESSO: its input, its output, and the labels that come of it."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, fcc111, molecule
from ase.units import Rydberg
from dft_codes import need, open_code, rattled

from alpot.config import Reference
from alpot.errors import ConfigError, FailureClass, ReferenceError, UsageError
from alpot.reference import label, level_of_theory
from alpot.reference.contract import check_reference_contract
from alpot.reference.dft import DftReference
from alpot.reference.ladder import Ladder, Trouble

INSTALL = "apt-get install quantum-espresso quantum-espresso-data"
CHEAP = {"cutoff": 204.0, "functional": "LDA", "kpoint_density": 7.0, "smearing": "cold", "smearing_width": 0.3}


def espresso(arguments=None, **changes) -> DftReference:
    pseudopotentials = {"pseudopotentials": {"Al": "Al.pz-vbc.UPF"}}
    return open_code("espresso", arguments, **{**CHEAP, **pseudopotentials, **changes})


@pytest.fixture
def upf(tmp_path: Path) -> Path:
    """A file that is good enough for writing input."""
    path = tmp_path / "Fe.UPF"
    path.write_text('<UPF version="2.0.1">\n<PP_HEADER element="Fe" z_valence="16.00"/>\n')
    return path


@pytest.fixture
def pw() -> None:
    need("pw.x", INSTALL)


def written(reference: DftReference, atoms: Atoms, folder: Path, *, number: int = 0) -> list[str]:
    """The lines of the input that the first run would get."""
    (folder / f"run-{number}").mkdir()
    reference.code.write(reference.calculation(atoms, folder / f"run-{number}"))
    return [" ".join(line.split()) for line in (folder / f"run-{number}" / "espresso.pwi").read_text().splitlines()]


# ------------------------------------------------------------------------------------------------------ the input


@pytest.mark.parametrize(("moment", "bands"), [(0.0, 16), (2.0, 18)])
def test_spins_of_an_insulator_are_those_of_the_moments(upf: Path, tmp_path: Path, moment: float, bands: int) -> None:
    """pw.x refuses fixed occupations of two spins without their difference; the bands must hold the larger one."""
    reference = open_code(
        "espresso",
        folder=tmp_path,
        cutoff=500.0,
        material="insulator",
        pseudopotentials={"Fe": upf.name},
        spin="collinear",
        magnetic_moments={"Fe": moment},
    )
    atoms = Atoms("Fe2", positions=[(0, 0, 0), (1.4, 1.4, 1.4)], cell=[2.8, 2.8, 5.6], pbc=True)
    lines = written(reference, atoms, tmp_path)
    assert f"tot_magnetization = {2 * moment}" in lines
    assert "occupations = 'fixed'" in lines and f"nbnd = {bands}" in lines


def test_input(upf: Path, tmp_path: Path) -> None:
    reference = open_code(
        "espresso",
        {"electrons": {"mixing_beta": 0.3}, "system": {"vdw_corr": "d3"}},
        tmp_path,
        cutoff=500.0,
        density_cutoff=4000.0,
        kpoint_density=12.0,
        pseudopotentials={"Fe": "Fe.UPF"},
        spin="collinear",
        magnetic_moments={"Fe": 2.4},
        charge=1.0,
    )
    atoms = Atoms("Fe2", positions=[(0, 0, 0), (1.4, 1.4, 1.4)], cell=[2.8, 2.8, 5.6], pbc=True)
    lines = written(reference, atoms, tmp_path)
    for line in (
        "calculation = 'scf'", "tstress = .true.", "tprnfor = .true.", f"ecutwfc = {500 / Rydberg!r}",
        f"ecutrho = {4000 / Rydberg!r}", "input_dft = 'pbe'", "occupations = 'smearing'", "smearing = 'cold'",
        f"degauss = {0.27 / Rydberg!r}", "nspin = 2", "starting_magnetization(1) = 0.15", "tot_charge = 1.0",
        f"conv_thr = {2e-7 / Rydberg!r}", "mixing_beta = 0.3", "vdw_corr = 'd3'", "Fe 55.845 Fe.Fe.UPF",
        "K_POINTS automatic", "5 5 3 0 0 0",
    ):  # fmt: skip
        assert line in lines, line
    assert (tmp_path / "run-0" / "Fe.Fe.UPF").resolve() == upf


def test_what_is_not_periodic_is_sampled_at_gamma_in_a_box(upf: Path, tmp_path: Path) -> None:
    reference = open_code("espresso", folder=tmp_path, cutoff=400.0, pseudopotentials={"Fe": "Fe.UPF"})
    dimer = Atoms("Fe2", positions=[(0, 0, 0), (0, 0, 2.0)])
    assert "K_POINTS gamma" in written(reference, dimer, tmp_path)
    slab = Atoms("Fe", cell=[2.5, 2.5, 0], pbc=[True, True, False])
    lines = written(reference, slab, tmp_path, number=1)
    assert "16 16 1 0 0 0" in lines and "0.00000000000000 0.00000000000000 12.00000000000000" in lines


def test_an_isolated_atom_has_the_moment_of_its_ground_state(upf: Path, tmp_path: Path) -> None:
    reference = open_code("espresso", folder=tmp_path, cutoff=400.0, pseudopotentials={"Fe": "Fe.UPF"})
    lines = written(reference, Atoms("Fe", cell=[12, 12, 12]), tmp_path)
    assert "nspin = 2" in lines and "starting_magnetization(1) = 0.25" in lines  # 4 of 16 electrons


@pytest.mark.parametrize("functional", ["PBX", "GGA", "pbee"])
def test_a_functional_that_is_not_known_is_refused(upf: Path, tmp_path: Path, functional: str) -> None:
    """pw.x takes of PBX what it understands, which is no correlation at all."""
    settings = {"cutoff": 400.0, "pseudopotentials": {"Fe": "Fe.UPF"}, "functional": functional}
    with pytest.raises(ConfigError, match=rf"functional = '{functional}' is not known .* PBEsol"):
        written(open_code("espresso", folder=tmp_path, **settings), Atoms("Fe", cell=[5, 5, 5], pbc=True), tmp_path)


@pytest.mark.parametrize("functional", ["b86bpbe", "vdw-df2", "sla+pw+pbx+pbc", "XC-001i-004i-003i-004i-000i-000i"])
def test_pw_x_s_own_names_of_functionals(upf: Path, tmp_path: Path, functional: str) -> None:
    settings = {"cutoff": 400.0, "pseudopotentials": {"Fe": "Fe.UPF"}, "functional": functional}
    lines = written(open_code("espresso", folder=tmp_path, **settings), Atoms("Fe", cell=[5, 5, 5], pbc=True), tmp_path)
    assert f"input_dft = '{functional}'" in lines


def test_an_insulator_has_fixed_occupations(upf: Path, tmp_path: Path) -> None:
    reference = open_code(
        "espresso", folder=tmp_path, cutoff=400.0, material="insulator", pseudopotentials={"Fe": "Fe.UPF"}
    )
    lines = written(reference, Atoms("Fe", cell=[5, 5, 5], pbc=True), tmp_path)
    assert "occupations = 'fixed'" in lines and "4 4 4 0 0 0" in lines
    assert not any("degauss" in line for line in lines)


@pytest.mark.parametrize(
    ("arguments", "changes", "message"),
    [
        ({"system": {"ecutwfc": 40}}, {}, r"arguments sets system.ecutwfc, which reference.dft.cutoff decides"),
        ({"control": {"outdir": "/tmp"}}, {}, r"control.outdir, which alpot decides"),
    ],
)
def test_what_the_table_decides_cannot_be_passed_on(upf, tmp_path, arguments, changes, message) -> None:
    with pytest.raises(ConfigError, match=message):
        open_code("espresso", arguments, tmp_path, cutoff=400.0, pseudopotentials={"Fe": "Fe.UPF"}, **changes)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"SYSTEM": {"ecutwfc": 40}}, r"arguments.SYSTEM.ecutwfc: write the key in lower case, system.ecutwfc"),
        ({"system": {"Ecutwfc": 40}}, r"arguments.system.Ecutwfc: write the key in lower case, system.ecutwfc"),
        ({"ecutwfc": 40}, r"arguments.ecutwfc is no namelist of pw.x; it has control, system, electrons"),
        ({"system": 40}, r"arguments.system is no namelist of pw.x"),
        (
            {"system": {"starting_magnetization(1)": 0.5}},
            r"sets system.starting_magnetization\(1\), which reference.dft.spin decides",
        ),
    ],
)
def test_what_the_table_decides_cannot_be_passed_on_in_other_words(upf, tmp_path, arguments, message) -> None:
    reference = open_code("espresso", arguments, tmp_path, cutoff=400.0, pseudopotentials={"Fe": "Fe.UPF"})
    with pytest.raises(ConfigError, match=message):
        written(reference, Atoms("Fe", cell=[5, 5, 5], pbc=True), tmp_path)


def test_missing_pseudopotentials_are_named(upf: Path, tmp_path: Path) -> None:
    reference = open_code("espresso", folder=tmp_path, cutoff=400.0, pseudopotentials={"Fe": "Fe.UPF"})
    with pytest.raises(ConfigError, match=r"pseudopotentials has no entry for Co \(it has Fe\); add Co = \"Co.UPF\""):
        reference.check(["Fe", "Co"])
    with pytest.raises(ConfigError, match=r"pseudopotentials.Fe = 'Fe.upf': there is no such file in .*pseudo-dojo"):
        open_code("espresso", folder=tmp_path, cutoff=400.0, pseudopotentials={"Fe": "Fe.upf"})


def test_a_missing_program_is_named_with_the_command_that_installs_it(upf: Path, tmp_path: Path) -> None:
    reference = open_code(
        "espresso", folder=tmp_path, cutoff=400.0, pseudopotentials={"Fe": "Fe.UPF"}, program="no-such-pw.x"
    )
    with pytest.raises(UsageError, match=r"needs the program 'no-such-pw.x'.*`apt-get install quantum-espresso"):
        reference.check(["Fe"])


def test_the_level_of_theory_is_the_content_of_the_pseudopotential_not_its_place(upf: Path, tmp_path: Path) -> None:
    def level(name: str, **changes) -> str:
        return level_of_theory(
            open_code("espresso", folder=tmp_path, **{"cutoff": 400.0, "pseudopotentials": {"Fe": name}, **changes})
        )

    assert level("Fe.UPF") == level("Fe.UPF", kpoint_density=40.0, smearing="cold", smearing_width=0.27)
    shutil.copy(upf, tmp_path / "other.UPF")
    assert level("Fe.UPF") == level("other.UPF", program="/opt/pw.x")
    (tmp_path / "other.UPF").write_text(upf.read_text() + "\n")
    assert (
        len({level("Fe.UPF"), level("other.UPF"), level("Fe.UPF", cutoff=401.0), level("Fe.UPF", spin="collinear")})
        == 4
    )


def test_what_sound_outputs_say_is_no_symptom() -> None:
    """Some eigenvalues that are left for the next step; symmetries that pw.x does without."""
    sound = [
        "     c_bands:  1 eigenvalues not converged",
        "     warning: symmetry operation #  3 not compatible with FFT grid. ",
        "     Not a group! Trying with lower acceptance parameter...",
        "     NOTICE: Bravais lattice has wrong number ( 3) of symmetries - symmetries are disabled",
        "     convergence has been achieved in  11 iterations",
    ]
    assert Ladder.of("espresso").diagnose(sound) is None
    unconverged = [*sound[:-1], "     convergence NOT achieved after 100 iterations: stopping"]
    assert Ladder.of("espresso").diagnose(unconverged) == Trouble("scf_not_converged", FailureClass.NOT_CONVERGED)


@pytest.mark.parametrize(
    ("said", "symptom"),
    [
        ("     Error in routine checkallsym (1):", "kpoint_symmetry"),
        ("     some of the original symmetry operations not satisfied ", "kpoint_symmetry"),
        ("     too many bands are not converged", "diagonalization"),
        ("     Error in routine cdiaghg (159):", "cholesky"),
    ],
)
def test_symptoms(said: str, symptom: str) -> None:
    trouble = Ladder.of("espresso").diagnose(["     Self-consistent Calculation", said])
    assert trouble is not None and trouble.symptom == symptom


# ---------------------------------------------------------------------------------------------- the real program


@pytest.mark.slow
def test_contract(pw) -> None:
    # Plane waves: a translation moves atoms against the density's grid, 1 meV/Å at this cutoff. The plane waves within
    # the cutoff change with the cell: at 1000 eV their number no longer matters.
    check_reference_contract(
        lambda: espresso(cutoff=1000.0),
        rattled(2),
        force_tolerance=2e-3,
        stress_tolerance=0.01 * 0.04,
        repeat_tolerance=1e-3,
        displacement=0.01,
    )


@pytest.mark.parametrize("n_atoms", [1, 2, 8])
def test_labels(pw, n_atoms: int, tmp_path: Path) -> None:
    atoms = rattled(n_atoms)
    result = label(espresso(), Reference(code="espresso"), atoms, tmp_path)
    assert result.energy / n_atoms == pytest.approx(-56.9, abs=0.4)
    assert np.abs(result.forces.sum(0)).max() < 1e-3
    assert result.stress is not None and result.stress.shape == (6,)
    facts = result.details
    assert facts["program"].startswith("pw.x") and facts["scf_steps"] > 2 and facts["n_electrons"] == 3 * n_atoms
    assert facts["core_seconds"] > 0 and facts["cpu_seconds"] > 0 and facts["peak_memory_MB"] > 10
    assert facts["energy_at_zero_smearing"] == pytest.approx(result.energy, abs=0.05 * n_atoms)
    assert facts["ladder"] == []
    assert not (tmp_path / "run-0" / "out").exists()  # wavefunctions are large


def test_slab_and_molecule_have_no_stress(pw, tmp_path: Path) -> None:
    slab = fcc111("Al", (1, 1, 2), vacuum=4.0)
    result = espresso().compute(slab, tmp_path / "slab")
    assert result.stress is None and result.forces[0, 2] * result.forces[1, 2] < 0
    dimer = molecule("H2")
    dimer.symbols[:] = "Al"
    dimer.positions *= 2.5 / 0.74
    result = espresso().compute(dimer, tmp_path / "dimer")
    assert result.stress is None and np.abs(result.forces.sum(0)).max() < 1e-2


@pytest.mark.slow
def test_an_isolated_atom_is_magnetic(pw, tmp_path: Path) -> None:
    details = espresso().compute(Atoms("Al", cell=[10, 10, 10]), tmp_path).details
    assert details["magnetic_moment"] == pytest.approx(1.0, abs=0.1)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("smearing", "widths"), [("cold", (0.8, 1.2)), ("gaussian", (0.8, 1.2)), ("fermi-dirac", (0.3, 0.4))]
)
def test_two_widths_have_the_same_energy_at_zero_smearing(
    pw, smearing: str, widths: tuple[float, float], tmp_path: Path
) -> None:
    """With all k points that it takes; what is left, 0.4 meV at most, is of the next order in the width."""
    results = [
        espresso(smearing=smearing, smearing_width=width, kpoint_density=60.0).compute(
            bulk("Al", a=4.05), tmp_path / f"{width}"
        )
        for width in widths
    ]
    free = [result.energy for result in results]
    at_zero = [result.details["energy_at_zero_smearing"] for result in results]
    assert abs(free[0] - free[1]) > 3e-3
    assert at_zero[0] == pytest.approx(at_zero[1], abs=6e-4)  # the formula of another order is off by 1 meV and more


def test_two_spins_of_an_insulator(pw, tmp_path: Path) -> None:
    pseudopotentials = {"H": "H.pz-vbc.UPF"}
    moments = {"H": 1.0}
    reference = espresso(
        smearing=None, smearing_width=None, material="insulator", spin="collinear", magnetic_moments=moments,
        pseudopotentials=pseudopotentials,
    )  # fmt: skip
    atoms = Atoms("H2", positions=[(0, 0, 0), (0, 0, 1.5)], cell=[4, 4, 5], pbc=True)
    assert reference.compute(atoms, tmp_path).details["magnetic_moment"] == pytest.approx(2.0, abs=1e-6)


def test_the_ladder_ends_in_the_declared_label(pw, tmp_path: Path) -> None:
    """Three steps do not suffice; the rung that allows more gives what an undisturbed calculation gives."""
    atoms = rattled(2)
    undisturbed = espresso().compute(atoms, tmp_path / "good")
    disturbed = espresso({"electrons": {"electron_maxstep": 3}}).compute(atoms, tmp_path / "bad")
    (step,) = disturbed.details["ladder"]
    assert step["after"] == "scf_not_converged" and step["change"]["electrons"]["electron_maxstep"] == 200
    # The tolerance of self-consistency is 2e-7 eV here; forces have an error of its square root.
    assert disturbed.energy == pytest.approx(undisturbed.energy, abs=1e-6)
    assert np.abs(disturbed.forces - undisturbed.forces).max() < 1e-3
    assert disturbed.details["core_seconds"] > undisturbed.details["core_seconds"] / 2


def test_hot_electrons_prepare_but_the_label_is_cold(pw, tmp_path: Path, monkeypatch) -> None:
    """The last rung for self-consistency: only its preparatory run has another smearing."""
    reference = espresso({"electrons": {"electron_maxstep": 2}})
    rungs = tuple(rung for rung in reference.ladder.rung if rung.before)
    monkeypatch.setattr(reference, "ladder", reference.ladder.model_copy(update={"rung": rungs}))
    result = reference.compute(rattled(2), tmp_path)
    assert "degauss = 0.05" in " ".join((tmp_path / "run-1" / "espresso.pwi").read_text().split())
    assert "startingpot = 'file'" in " ".join((tmp_path / "run-2" / "espresso.pwi").read_text().split())
    undisturbed = espresso().compute(rattled(2), tmp_path / "good")
    assert result.energy == pytest.approx(undisturbed.energy, abs=1e-6)


@pytest.mark.slow
def test_hot_electrons_of_an_insulator_have_bands_to_go_to(pw, tmp_path: Path, monkeypatch) -> None:
    """Its label has fixed occupations and no spare band; the preparatory run needs some."""
    silicon = bulk("Si")
    silicon.rattle(0.1, seed=1)
    settings = {"cutoff": 200.0, "functional": "LDA", "kpoint_density": 4.0, "material": "insulator"}
    settings |= {"pseudopotentials": {"Si": "Si.pz-vbc.UPF"}}
    reference = open_code("espresso", {"electrons": {"electron_maxstep": 2}}, **settings)
    rungs = tuple(rung for rung in reference.ladder.rung if rung.before)
    monkeypatch.setattr(reference, "ladder", reference.ladder.model_copy(update={"rung": rungs}))
    result = reference.compute(silicon, tmp_path)
    assert "nbnd = 8" in " ".join((tmp_path / "run-1" / "espresso.pwi").read_text().split())
    lines = " ".join((tmp_path / "run-2" / "espresso.pwi").read_text().split())
    assert "nbnd = 4 " in lines and "occupations = 'fixed'" in lines and "startingpot = 'file'" in lines
    undisturbed = open_code("espresso", **settings).compute(silicon, tmp_path / "good")
    assert result.energy == pytest.approx(undisturbed.energy, abs=1e-6)


def test_what_no_rung_mends_is_given_up_for_good(pw, tmp_path: Path, monkeypatch) -> None:
    reference = espresso({"electrons": {"electron_maxstep": 2}})
    monkeypatch.setattr(reference, "ladder", reference.ladder.model_copy(update={"rung": ()}))
    with pytest.raises(ReferenceError, match="scf_not_converged") as caught:
        reference.compute(rattled(2), tmp_path)
    assert caught.value.failure is FailureClass.NOT_CONVERGED and caught.value.is_final
    assert caught.value.core_seconds > 0
    assert "convergence NOT achieved" in caught.value.evidence or "JOB DONE" in caught.value.evidence


def test_a_density_is_a_start_for_the_next_frame(pw, tmp_path: Path) -> None:
    atoms = rattled(2)
    near = atoms.copy()
    near.positions[0] += 0.004
    reference = espresso()
    fresh = reference.compute(near, tmp_path / "fresh")
    reference.densities = tmp_path / "density"
    reference.compute(atoms, tmp_path / "first")
    chained = reference.compute(near, tmp_path / "second")
    assert chained.details["scf_steps"] < fresh.details["scf_steps"]
    assert chained.energy == pytest.approx(fresh.energy, abs=1e-6)
    far = atoms.copy()
    far.positions[0] += 0.4
    reference.compute(far, tmp_path / "third")
    assert "startingpot" not in (tmp_path / "third" / "run-0" / "espresso.pwi").read_text()
