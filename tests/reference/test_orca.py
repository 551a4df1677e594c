"""ORCA: its input, and outputs written here after its format; the program itself was never at hand."""

from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.units import Bohr, Hartree
from dft_codes import open_code

from alpot.errors import ConfigError, FailureClass, ReferenceError, UsageError
from alpot.reference import level_of_theory
from alpot.reference.dft import DftReference
from alpot.reference.dft_code import Calculation, OutputError
from alpot.reference.ladder import Ladder, dotted_keys, is_below


def orca(arguments=None, **changes) -> DftReference:
    return open_code("orca", arguments, **{"basis": {"O": "def2-TZVP", "H": "def2-TZVP"}, **changes})


def written(reference: DftReference, atoms: Atoms, folder: Path) -> str:
    reference.code.write(reference.calculation(atoms, folder))
    return (folder / "orca.inp").read_text()


GOLDEN = """\
! PBE def2-TZVP EnGrad TightSCF D4 SlowConv 
%basis
  NewGTO H "def2-SVP" end
end
%scf
  tole 1.102e-08
  convforced true
  maxiter 300
end
%maxcore 2000
%pal nprocs 4 end 
*xyz -1 1 
O   6.0 6.0 6.0
H   6.0 6.0 7.0
O   6.0 6.5 6.0
*
"""  # noqa: W291 - so does ASE


def test_input(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("ALPOT_RANKS", "4")
    reference = orca(
        {"simple": "D4", "blocks": "%maxcore 2000", "scf": {"maxiter": 300}, "strategy": "SlowConv"},
        basis={"O": "def2-TZVP", "H": "def2-SVP"},
        charge=-1.0,
    )
    atoms = Atoms("OHO", positions=[(6, 6, 6), (6, 6, 7), (6, 6.5, 6)], cell=[20, 20, 20])
    atoms.set_tags(71)
    text = written(reference, atoms, tmp_path)
    lines, golden = text.splitlines(), GOLDEN.splitlines()
    assert lines[:-4] == golden[:-4] and lines[-1] == golden[-1]
    positions = np.array([line.split()[1:] for line in lines[-4:-1]], dtype=float)
    assert np.abs(positions - positions[0] - (atoms.positions - atoms.positions[0])).max() < 1e-9
    assert [line.split()[0] for line in lines[-4:-1]] == ["O", "H", "O"]  # no ghosts
    assert list(reference.code.command(reference.calculation(atoms, tmp_path), "/opt/orca")) == [
        "/opt/orca",
        "orca.inp",
    ]


@pytest.mark.parametrize(
    ("frame", "changes", "multiplicity"),
    [
        (molecule("H2O"), {}, 1),
        (molecule("OH"), {}, 2),
        (molecule("OH"), {"charge": -1.0}, 1),
        (Atoms("O"), {}, 3),
        (Atoms("H"), {}, 2),
        (molecule("O2"), {"spin": "collinear", "magnetic_moments": {"O": 1.0}}, 3),
        (molecule("OH"), {"spin": "collinear", "magnetic_moments": {"O": 1.9}}, 2),
        (molecule("OH"), {"spin": "collinear", "magnetic_moments": {"O": 3.2}}, 4),
    ],
)
def test_multiplicity(frame: Atoms, changes, multiplicity: int, tmp_path: Path) -> None:
    charge = round(changes.get("charge", 0.0))
    assert f"*xyz {charge} {multiplicity} \n" in written(orca(**changes), frame, tmp_path)


def test_orbitals_of_another_frame_are_a_start(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "orca.gbw").write_bytes(b"orbitals")
    reference = orca()
    calculation = reference.calculation(molecule("H2O"), tmp_path)
    calculation = Calculation(**{**vars(calculation), "start_from": tmp_path / "old"})
    reference.code.write(calculation)
    assert 'moinp "start.gbw"' in (tmp_path / "orca.inp").read_text()
    assert (tmp_path / "start.gbw").read_bytes() == b"orbitals"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cutoff": 400.0}, "reference.dft.cutoff has no meaning for reference.code = 'orca'"),
        ({"smearing": "cold"}, "reference.dft.smearing = 'cold' is not known"),
        ({"charge": 0.5}, "reference.dft.charge = 0.5: a molecule has a whole number"),
        ({"basis": {"O": "def2-TZVP"}}, 'reference.dft.basis has no entry for H; add H = "def2-TZVP"'),
        ({"arguments": {"keywords": "D4"}}, "there are simple, blocks, scf and strategy"),
        ({"arguments": {"scf": {"tole": 1e-3}}}, "scf.tole, which reference.dft.scf_tolerance decides"),
        ({"arguments": {"scf": {"TolE": 1e-3}}}, "reference.arguments.scf.TolE: write the key in lower case"),
    ],
)
def test_what_it_cannot_do_is_named(changes, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        written(orca(changes.pop("arguments", None), **changes), molecule("H2O"), tmp_path)


def test_crystals_are_refused(tmp_path: Path) -> None:
    """One such frame among molecules is no reason to label none of them."""
    with pytest.raises(ReferenceError, match="orca computes without periodic boundaries; the frame has pbc") as caught:
        written(orca(), bulk("O", "fcc", a=4.0), tmp_path)
    assert caught.value.failure is FailureClass.UNPHYSICAL_GEOMETRY


def test_check_knows_the_screen_reader(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"needs the program .*orcaforum"):
        orca(program=str(tmp_path / "nothing")).check(["O", "H"])
    program = tmp_path / "orca"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    orca(program=str(program)).check(["O", "H"])
    program.write_text("#!/usr/bin/python3\n# Orca, a Screen Reader\n")
    with pytest.raises(UsageError, match="is a screen reader"):
        orca(program=str(program)).check(["O", "H"])


def test_the_basis_is_part_of_the_level_of_theory() -> None:
    levels = {level_of_theory(orca(basis={"O": "def2-TZVP", "H": name})) for name in ("def2-TZVP", "def2-SVP")}
    assert len(levels) == 2
    assert level_of_theory(orca()) == level_of_theory(orca(program="/opt/orca"))


def test_the_ladder_leaves_the_level_of_theory_alone() -> None:
    for rung in Ladder.of("orca").rung:
        assert all(is_below(key, orca().code.free) for key in dotted_keys(rung.change)), rung.why
    trouble = Ladder.of("orca").diagnose(["               SCF NOT CONVERGED AFTER 125 CYCLES"])
    assert trouble is not None and trouble.symptom == "scf_not_converged"


#: What stands in outputs of runs in which nothing is wrong, and speaks of what also goes wrong.
SOUND = """\
                              Please study these warnings very carefully!
INFO   : the flag for use of SHARK has been found!
# number of contracted basis functions          ...     43
 Reset frequency         DirectResetFreq ....    20
 Convergence Check Mode ConvCheckMode   .... Total+1el-Energy
 Convergence forced     ConvForced      .... 1
Diagonalization of the overlap matrix:
Smallest eigenvalue                        ... 2.560e-02
Time for diagonalization                   ...    0.000 sec
Threshold for overlap eigenvalues          ... 1.000e-08
Number of eigenvalues below threshold      ... 0
Maximum memory used throughout the entire PROP-calculation: 12.3 MB
                      ***  Starting incremental Fock matrix formation  ***
Warning: op=0 Small HOMO/LUMO gap (  -0.060) - skipping pre-diagonalization
         Will do a full diagonalization
                 **** Energy Check signals convergence ****
              ***Rediagonalizing the Fockian in SOSCF/NRSCF***
               *           SCF CONVERGED AFTER  11 CYCLES          *
"""


def test_what_sound_outputs_say_is_no_symptom() -> None:
    assert Ladder.of("orca").diagnose(SOUND.splitlines()) is None


# --------------------------------------------------------------------------------------------------- the output


INPUT_FILE = """\
================================================================================
                                       INPUT FILE
================================================================================
NAME = orca.inp
|  1> ! PBE def2-TZVP EnGrad TightSCF 
|  2> %scf
|  3>   tole 1.102e-08
|  4>   convforced true
|  5> end
|  6> *xyz 0 1 
|  7> O   6.0 6.0 6.0
|  8> *
|  9>                          ****END OF INPUT****
================================================================================
"""  # noqa: W291 - so does ASE
CHARGES = """\
                    ********************************
                    * MULLIKEN POPULATION ANALYSIS *
                    ********************************

-----------------------
MULLIKEN ATOMIC CHARGES
-----------------------
   0 O :   -0.683274
   1 H :    0.341637
   2 H :    0.341637
Sum of atomic charges:   -0.0000000

--------------------------------
MULLIKEN REDUCED ORBITAL CHARGES
--------------------------------
  0 O s       :     3.700000  s :     3.700000

----------------------
LOEWDIN ATOMIC CHARGES
----------------------
   0 O :   -0.413028
   1 H :    0.206514
   2 H :    0.206514
"""
CHARGES_OF_TWO_SPINS = """\
--------------------------------------------
MULLIKEN ATOMIC CHARGES AND SPIN POPULATIONS
--------------------------------------------
   0 O :   -0.183274    1.050000
   1 H :    0.591637   -0.025000
   2 H :    0.591637   -0.025000
Sum of atomic charges         :    1.0000000
Sum of atomic spin populations:    1.0000000
"""


def answered(reference: DftReference, folder: Path) -> tuple[Calculation, np.ndarray]:
    """A calculation of water with outputs as ORCA writes them, and its gradient in Hartree/Bohr."""
    calculation = reference.calculation(molecule("H2O"), folder)
    atoms = calculation.atoms
    gradient = np.array([[0, 0, -0.0123456789], [0, 0.0034567891, 0.006172839], [0, -0.0034567891, 0.006172839]])
    rows = "\n".join(f"       {value:.12f}" for value in gradient.ravel())
    places = "\n".join(
        f"  {number:2d} {x:14.7f} {y:14.7f} {z:14.7f}"
        for number, (x, y, z) in zip(atoms.numbers, atoms.positions / Bohr, strict=True)
    )
    (folder / "orca.engrad").write_text(
        f"#\n# Number of atoms\n#\n 3\n#\n# The current total energy in Eh\n#\n    -76.381234567891\n#\n"
        f"# The current gradient in Eh/bohr\n#\n{rows}\n#\n# The atomic numbers and current coordinates in Bohr\n#\n"
        f"{places}\n"
    )
    coordinates = "\n".join(
        f"  {symbol:2s} {x:12.6f} {y:12.6f} {z:12.6f}"
        for symbol, (x, y, z) in zip(atoms.symbols, atoms.positions, strict=True)
    )
    gradients = "\n".join(
        f"   {n + 1}   {symbol}   : {x:14.9f} {y:14.9f} {z:14.9f}"
        for n, (symbol, (x, y, z)) in enumerate(zip(atoms.symbols, gradient, strict=True))
    )
    (folder / "orca.out").write_text(
        "                                 * O   R   C   A *\n"
        "                         Program Version 5.0.4 -  RELEASE  -\n\n"
        f"{INPUT_FILE}\n"
        "Number of atoms                             ...  3\n\n"
        f"---------------------------------\nCARTESIAN COORDINATES (ANGSTROEM)\n---------------------------------\n"
        f"{coordinates}\n\n"
        "General Settings:\n"
        " Integral files         IntName         .... orca\n"
        " Hartree-Fock type      HFTyp           .... RHF\n"
        " Total Charge           Charge          ....    0\n"
        " Multiplicity           Mult            ....    1\n"
        " Number of Electrons    NEL             ....   10\n\n"
        "               *****************************************************\n"
        "               *           SCF CONVERGED AFTER  11 CYCLES          *\n"
        "               *****************************************************\n\n"
        f"{CHARGES}\n"
        "-------------------------   --------------------\n"
        "FINAL SINGLE POINT ENERGY       -76.381234567891\n"
        "-------------------------   --------------------\n\n"
        f"------------------\nCARTESIAN GRADIENT\n------------------\n\n{gradients}\n\n"
        "                             ****ORCA TERMINATED NORMALLY****\n"
    )
    return calculation, gradient


def test_output(tmp_path: Path) -> None:
    reference = orca()
    calculation, gradient = answered(reference, tmp_path)
    reading = reference.code.believe(calculation)
    assert reading.energy == pytest.approx(-76.381234567891 * Hartree, abs=1e-9)
    assert np.allclose(reading.forces, -gradient * Hartree / Bohr, atol=1e-9, rtol=0)
    assert reading.stress is None and reading.smearing_energy is None
    assert reading.facts == {"program": "ORCA 5.0.4", "scf_steps": 11, "n_electrons": 10.0}
    assert reading.charges is not None and reading.charges.tolist() == [-0.683274, 0.341637, 0.341637]
    assert reading.charges_method == "mulliken"


@pytest.mark.parametrize(
    ("table", "charges"),
    [
        (CHARGES_OF_TWO_SPINS, [-0.183274, 0.591637, 0.591637]),
        (CHARGES.replace("   1 H :    0.341637\n", "", 1), None),
        (CHARGES.replace("0.341637", "0.3*1637", 1), None),
        ("", None),
    ],
)
def test_charges_are_information(table: str, charges: list[float] | None, tmp_path: Path) -> None:
    """Whatever has become of them, the label is as good."""
    reference = orca()
    calculation, _ = answered(reference, tmp_path)
    output = tmp_path / "orca.out"
    output.write_text(output.read_text().replace(CHARGES, table))
    reading = reference.code.believe(calculation)
    assert reading.energy == pytest.approx(-76.381234567891 * Hartree, abs=1e-9)
    assert (None if reading.charges is None else reading.charges.tolist()) == charges


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("orca.out", "****ORCA TERMINATED NORMALLY****", ""),
        ("orca.out", "SCF CONVERGED AFTER  11", "SCF NOT CONVERGED AFTER 125"),
        (
            "orca.out",
            "FINAL SINGLE POINT ENERGY       -76.381234567891",
            "FINAL SINGLE POINT ENERGY       -76.381134567891",
        ),
        ("orca.out", "-76.381234567891\n-", "-76.381234567891 (Wavefunction not fully converged!)\n-"),
        ("orca.out", "-0.012345679", "-0.012346679"),
        ("orca.out", "CARTESIAN GRADIENT", "GRADIENT"),
        ("orca.engrad", "-76.381234567891", "-76.381235567891"),
        ("orca.engrad", "0.003456789100", "0.013456789100"),
        ("orca.engrad", "   8 ", "   7 "),
        ("orca.engrad", " 3\n", " 2\n"),
        ("orca.engrad", "# The atomic numbers", "0.1\n# The atomic numbers"),
    ],
)
def test_no_damaged_output_is_believed(name: str, old: str, new: str, tmp_path: Path) -> None:
    reference = orca()
    calculation, _ = answered(reference, tmp_path)
    text = (tmp_path / name).read_text()
    assert old in text
    (tmp_path / name).write_text(text.replace(old, new, 1))
    with pytest.raises(OutputError):
        reference.code.believe(calculation)


def test_torn_and_foreign_outputs_are_not_believed(tmp_path: Path) -> None:
    reference = orca()
    calculation, _ = answered(reference, tmp_path)
    for name in ("orca.out", "orca.engrad"):
        text = (tmp_path / name).read_text()
        for torn in [*(text[:end] for end in range(0, len(text) - 40, 37)), text + text]:
            (tmp_path / name).write_text(torn)
            with pytest.raises(OutputError):
                reference.code.believe(calculation)
        (tmp_path / name).write_text(text)
    moved = molecule("H2O")
    moved.rotate(10, "x")
    with pytest.raises(OutputError, match="another frame"):
        reference.code.believe(reference.calculation(moved, tmp_path))


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        ("! PBE def2-TZVP", "! PBE def2-SVP", "its functional and basis set is pbe def2-svp, not pbe def2-tzvp"),
        ("! PBE def2-TZVP", "! BLYP def2-TZVP", "functional and basis set"),
        ("! PBE def2-TZVP EnGrad TightSCF", "!", "functional and basis set"),
        ("Charge          ....    0", "Charge          ....    1", "its total charge is 1, not 0"),
        ("Charge          ....    0", "Charge          ....   -1", "its total charge is -1, not 0"),
        ("Mult            ....    1", "Mult            ....    3", "its multiplicity is 3, not 1"),
    ],
)
def test_another_level_of_theory_is_not_believed(old: str, new: str, what: str, tmp_path: Path) -> None:
    reference = orca()
    calculation, _ = answered(reference, tmp_path)
    output = tmp_path / "orca.out"
    text = output.read_text()
    assert text.count(old) == 1
    output.write_text(text.replace(old, new))
    with pytest.raises(OutputError, match=what):
        reference.code.believe(calculation)


def test_the_case_of_words_and_an_input_that_is_not_repeated_are_no_reason(tmp_path: Path) -> None:
    reference = orca()
    calculation, _ = answered(reference, tmp_path)
    output = tmp_path / "orca.out"
    text = output.read_text()
    for told in (text.replace("PBE def2-TZVP", "pbe  DEF2-tzvp"), text.replace(INPUT_FILE, "")):
        output.write_text(told)
        assert reference.code.believe(calculation).facts["n_electrons"] == 10.0
