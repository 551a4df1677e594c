"""VASP: its input, and outputs written here after its format; the program itself was never at hand."""

from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.units import GPa
from dft_codes import open_code

from alpot.errors import ConfigError, FailureClass, UsageError
from alpot.reference import level_of_theory
from alpot.reference.dft import DftReference
from alpot.reference.dft_code import Calculation, OutputError
from alpot.reference.ladder import Ladder, Trouble, dotted_keys, is_below


@pytest.fixture(autouse=True)
def potcars(tmp_path: Path, monkeypatch) -> Path:
    """A folder as VASP's licence brings it, with all that is read of its files."""
    for family in ("potpaw_PBE.54", "potpaw_LDA"):
        for name, valence in (("Al", 3), ("O", 6), ("Fe_pv", 14)):
            folder = tmp_path / "potcars" / family / name
            folder.mkdir(parents=True)
            (folder / "POTCAR").write_text(
                f"  PAW {name} 04Jan2001\n   {valence}.0000\n"
                f"   TITEL  = PAW {name} 04Jan2001\n   LULTRA = F\n   IUNSCR = 1\n"
                f"   RPACOR = 1.500\n   POMASS =   26.982; ZVAL   =    {valence}.000    mass and valenz\n"
                f" End of Dataset of {family}\n"
            )
    monkeypatch.setenv("VASP_PP_PATH", str(tmp_path / "potcars"))
    return tmp_path / "potcars"


def vasp(arguments=None, **changes) -> DftReference:
    pseudopotentials = {"Al": "Al", "O": "O", "Fe": "Fe_pv"}
    return open_code("vasp", arguments, **{"cutoff": 400.0, "pseudopotentials": pseudopotentials, **changes})


def oxide() -> Atoms:
    """Not in VASP's order of elements."""
    positions = [(0.1, 0, 0), (2, 2, 0), (2, 0, 2.1), (0, 2, 2)]
    return Atoms("AlOAlO", positions=positions, cell=[[4, 0, 0], [0, 4.1, 0], [0.2, 0, 8]], pbc=True)


def written(reference: DftReference, atoms: Atoms, folder: Path) -> dict[str, str]:
    """The tags of INCAR."""
    folder.mkdir(exist_ok=True)
    reference.code.write(reference.calculation(atoms, folder))
    lines = (folder / "INCAR").read_text().splitlines()
    return dict(line.split(" = ") for line in lines)


INCAR = """\
PREC = Accurate
ENCUT = 400.0
LREAL = .FALSE.
LASPH = .TRUE.
GGA = PE
ISMEAR = 1
SIGMA = 0.27
EDIFF = 4e-07
NELM = 80
NELMIN = 4
IBRION = -1
NSW = 0
ISIF = 2
LWAVE = .FALSE.
ISPIN = 2
MAGMOM = 0.5 0.5 2.0 2.0
NELECT = 17.0
NCORE = 4
LDAU = .TRUE.
LDAUU = 0 3.5
"""


def test_input(tmp_path: Path) -> None:
    reference = vasp(
        {"ncore": 4, "nelm": 80, "ldau": True, "ldauu": [0, 3.5]},
        kpoint_density=12.0,
        spin="collinear",
        magnetic_moments={"Al": 2.0, "O": 0.5},
        charge=1.0,
    )
    folder = tmp_path / "run"
    written(reference, oxide(), folder)
    assert (folder / "INCAR").read_text() == INCAR
    assert (folder / "KPOINTS").read_text().splitlines()[1:] == ["0", "Gamma", "4 3 2", "0 0 0"]
    poscar = [line.split() for line in (folder / "POSCAR").read_text().splitlines()]
    assert poscar[0] == ["O", "Al"] and poscar[5:8] == [["O", "Al"], ["2", "2"], ["Cartesian"]]
    positions = np.array(poscar[8:], dtype=float)
    assert np.allclose(positions, oxide().positions[[1, 3, 0, 2]])
    assert [line for line in (folder / "POTCAR").read_text().splitlines() if "TITEL" in line] == [
        "   TITEL  = PAW O 04Jan2001", "   TITEL  = PAW Al 04Jan2001",
    ]  # fmt: skip


def test_what_the_table_says_becomes_tags(tmp_path: Path) -> None:
    def tags(arguments=None, atoms: Atoms | None = None, **changes) -> dict[str, str]:
        return written(vasp(arguments, **changes), atoms or oxide(), tmp_path / "run")

    assert tags(functional="r2SCAN")["METAGGA"] == "R2SCAN"
    assert tags(functional="HSE06").items() >= {"LHFCALC": ".TRUE.", "HFSCREEN": "0.2"}.items()
    assert tags(functional="LDA")["GGA"] == "CA" and tags()["GGA"] == "PE"  # whatever the POTCAR is for
    assert "MAGMOM" not in tags() and "NELECT" not in tags()
    assert tags(smearing="fermi-dirac").items() >= {"ISMEAR": "-1", "SIGMA": "0.1"}.items()
    assert tags(material="insulator").items() >= {"ISMEAR": "0", "SIGMA": "0.01"}.items()
    atom = tags(material="insulator", atoms=Atoms("Fe"))
    assert atom.items() >= {"ISPIN": "2", "MAGMOM": "4.0", "ISMEAR": "-1", "SIGMA": "0.02"}.items()
    assert (tmp_path / "run" / "KPOINTS").read_text().splitlines()[3] == "1 1 1"


def test_a_start_and_more_bands(tmp_path: Path) -> None:
    (tmp_path / "CHGCAR").write_text("a density")
    reference = vasp()
    calculation = reference.calculation(oxide(), tmp_path / "run")
    calculation.directory.mkdir()
    reference.code.write(Calculation(**{**vars(calculation), "start_from": tmp_path, "bands": 1.5}))
    incar = (tmp_path / "run" / "INCAR").read_text()
    assert "ICHARG = 1\n" in incar and "NBANDS = 17\n" in incar  # 1.5 times 18 / 2 + 4 / 2
    assert (tmp_path / "run" / "CHGCAR").read_text() == "a density"


@pytest.mark.parametrize(
    ("arguments", "changes", "message"),
    [
        ({"encut": 500}, {}, "arguments sets encut, which reference.dft.cutoff decides"),
        ({"ENCUT": 500}, {}, "arguments.ENCUT: write the key in lower case, encut"),
        ({}, {"smearing": "cold"}, r"reference.dft.smearing = 'cold' is not known .* it has methfessel-paxton"),
        ({}, {"functional": "B3LYP"}, r"reference.dft.functional = 'B3LYP' is not known"),
        ({}, {"density_cutoff": 1600.0}, "reference.dft.density_cutoff: VASP chooses the grid"),
        ({}, {"cutoff": None}, "'vasp' needs reference.dft.cutoff"),
        ({}, {"pseudopotentials": {"Al": "O", "O": "O"}}, r"pseudopotentials.Al: .*POTCAR is not a POTCAR of Al alone"),
        ({}, {"pseudopotentials": {"Al": "Al"}}, r"no entry for O \(it has Al\); add O = \"O\""),
        (
            {},
            {"pseudopotentials": {"Al": "Al_GW", "O": "O"}},
            r"'Al_GW/POTCAR': there is no such file in .*VASP_PP_PATH",
        ),
    ],
)
def test_what_it_cannot_do_is_named(arguments, changes, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        written(vasp(arguments, **changes), oxide(), tmp_path / "run")


def test_a_missing_program_is_named() -> None:
    with pytest.raises(UsageError, match=r"needs the program 'no-vasp'.*vasp.at"):
        vasp(program="no-vasp").check(["Al"])


def test_the_level_of_theory_is_the_content_of_the_potcars(potcars: Path) -> None:
    level = level_of_theory(vasp())
    assert level == level_of_theory(vasp(pseudopotential_folder=str(potcars / "potpaw_PBE.54"), program="/opt/vasp"))
    assert level != level_of_theory(vasp(functional="LDA"))
    (potcars / "potpaw_PBE.54" / "Al" / "POTCAR").write_text("another")
    assert level != level_of_theory(vasp())


def test_the_ladder_leaves_the_level_of_theory_alone() -> None:
    for rung in Ladder.of("vasp").rung:
        assert all(is_below(key, vasp().code.free) for key in dotted_keys(rung.change)), rung.why


@pytest.mark.parametrize(
    ("said", "symptom"),
    [
        (" LAPACK: Routine ZPOTRF failed!           4           1           0", "cholesky"),
        ("Error EDDDAV: Call to ZHEGV failed. Returncode =  15 2  16", "diagonalization"),
        (" WARNING in EDDRMM: call to ZHEGV failed, returncode =   6  3      2", "diagonalization"),
        (" ERROR in EDDIAG: eigenvalues are not in order", "diagonalization"),
        (" ERROR: number of potentials on File POTCAR incompatible with number of species", "pseudopotential"),
        (" BRMIX: very serious problems", "mixing"),
        (" the old and the new charge density differ", "mixing"),
        (" TOO FEW BANDS!! ", "too_few_bands"),
        (" VERY BAD NEWS! internal error in subroutine SGRCON:", "kpoint_symmetry"),
        (" internal error in subroutine IBZKPT:", "kpoint_symmetry"),
        (" internal error in subroutine PRICEL (probably precision problem):", "kpoint_symmetry"),
        (" RHOSYG internal error: stars are not distinct", "kpoint_symmetry"),
        (" REAL_OPTLAY: internal error (1)", "projectors"),
        (" ZBRENT: fatal error in bracketing", "scf_not_converged"),
        ("------------------------ aborting loop EDIFF was not reached (unconverged) ------", "scf_not_converged"),
        ("|     The distance between some ions is very small.  |", "atoms_too_close"),
    ],
)  # fmt: skip
def test_symptoms(said: str, symptom: str) -> None:
    trouble = Ladder.of("vasp").diagnose([" running on    4 total cores", said])
    assert trouble is not None and trouble.symptom == symptom


#: What stands in OUTCAR and standard output of runs in which nothing is wrong, and speaks of what also goes wrong.
SOUND = """\
 running on    4 total cores
 POSCAR found type information on POSCAR  O  Al
| WARNING: type information on POSCAR and POTCAR are incompatible             |
| POTCAR overwrites the type information in POSCAR                            |
 WARNING: random wavefunctions but no delay for mixing, default for NELMDL
 POSCAR, INCAR and KPOINTS ok, starting setup
   LULTRA =        F    use ultrasoft PP ?
  real space projection operators for L= 0
 NOSYMM: (Re-)initialisation of all symmetry stuff for point group C_1.
 Subroutine PRICEL returns:
 Subroutine GETGRP returns: Found  1 space group operations
 Subroutine IBZKPT returns following result:
   ENAUG  =  605.4 eV  augmentation charge cutoff
   EDIFF  = 0.4E-06   stopping-criterion for ELM
   LDIAG  =      T    sub-space diagonalisation (order eigenvalues)
   NBANDS =     16    number of bands
   MAXMIX =    -45    number of steps kept by the mixing
 charge density and potential will be updated during run
 use of overlap-Matrix (Vanderbilt PP)
 position of ions in fractional coordinates (direct lattice)
 total amount of memory used by VASP MPI-rank0    41380. kBytes
 charge density of overlapping atoms calculated
 keeping initial charge density in first step
 Maximum index for augmentation-charges   4102 (set IRDMAX)
 augmentation part      180.0000000 magnetization      18.0000000
    SETDIJ:  cpu time      0.0009: real time      0.0009
    EDDAV:  cpu time      0.3124: real time      0.3219
    EDDIAG:  cpu time      0.0124: real time      0.0219
  RMM-DIIS:  cpu time      0.0139: real time      0.0147
    ORTHCH:  cpu time      0.0002: real time      0.0002
 eigenvalue-minimisations  :   512
  Broyden mixing:
  rms(total) = 0.62E-02    rms(broyden)= 0.61E-02
 E-fermi :   7.1234     XC(G=0):  -9.2345     alpha+bet : -9.8765
------------------------ aborting loop because EDIFF is reached ----------------------------------------
"""


def test_what_sound_outputs_say_is_no_symptom() -> None:
    assert Ladder.of("vasp").diagnose(SOUND.splitlines()) is None
    unconverged = [*SOUND.splitlines()[:-1], "---- aborting loop EDIFF was not reached (unconverged) ----"]
    assert Ladder.of("vasp").diagnose(unconverged) == Trouble("scf_not_converged", FailureClass.NOT_CONVERGED)


# --------------------------------------------------------------------------------------------------- the output

ENERGY, ENTROPY, MOMENT = -23.12345678, -0.01234567, 0.51234
FORCES = np.array([[0.1, -0.2, 0.3], [-0.4, 0.5, 0.123456], [0.25, 0.0, -0.3], [0.05, -0.3, -0.123456]])
#: In kB, tension negative, as VASP has it: xx, yy, zz, xy, yz, zx.
STRESS = (11.12345, 22.2, 33.3, 4.4, 5.5, -6.6)


#: As VASP 6 writes them, with spaces behind a name as 6.4.3 does; further ones left out.
PARAMETERS = """\
 <parameters>
  <separator name="electronic" >
   <i type="string" name="PREC">accura</i>
   <i name="ENMAX">    400.00000000</i>
   <i name="NELECT">     18.00000000</i>
   <separator name="electronic smearing" >
    <i type="int" name="ISMEAR">     1</i>
    <i name="SIGMA">      0.27000000</i>
   </separator>
   <separator name="electronic spin" >
    <i type="int" name="ISPIN">     2</i>
   </separator>
   <separator name="electronic exchange-correlation" >
    <i type="logical" name="LASPH"> T  </i>
    <i type="logical" name="LMETAGGA"> F  </i>
   </separator>
   <separator name="electronic convergence" >
    <i type="int" name="NELM"> 100</i>
   </separator>
  </separator>
  <separator name="electronic exchange-correlation" >
   <i type="string" name="GGA    ">PE</i>
   <i type="logical" name="LHFCALC"> F  </i>
   <i name="HFSCREEN">      0.00000000</i>
  </separator>
 </parameters>
"""


def rows(values: np.ndarray, form: str = "16.8f") -> str:
    return "\n".join(f"    <v>{''.join(f'{x:{form}}' for x in row)} </v>" for row in values)


def answered(reference: DftReference, folder: Path) -> Calculation:
    """A calculation of ``oxide`` with outputs as VASP writes them, sorted by elements."""
    folder.mkdir(exist_ok=True)
    calculation = reference.calculation(oxide(), folder)
    order = [1, 3, 0, 2]
    atoms, forces = calculation.atoms[order], FORCES[order]
    xx, yy, zz, xy, yz, zx = STRESS
    structure = (
        '<structure{}>\n <crystal>\n  <varray name="basis" >\n'
        + rows(atoms.cell.array)
        + "\n  </varray>\n </crystal>\n"
        ' <varray name="positions" >\n' + rows(atoms.get_scaled_positions(wrap=False)) + "\n </varray>\n</structure>\n"
    )
    scf = (
        f'<scstep>\n <energy>\n  <i name="eentropy"> {ENTROPY:.8f} </i>\n  <i name="e_fr_energy"> {ENERGY:.8f} </i>\n'
        f'  <i name="e_wo_entrp"> {ENERGY - ENTROPY:.8f} </i>\n'
        f'  <i name="e_0_energy"> {ENERGY - ENTROPY / 2:.8f} </i>\n'
        " </energy>\n</scstep>\n"
    )
    species = "\n".join(f"   <rc><c>{symbol} </c><c> 1</c></rc>" for symbol in atoms.symbols)
    (folder / "vasprun.xml").write_text(
        '<?xml version="1.0" encoding="ISO-8859-1"?>\n<modeling>\n <generator>\n'
        '  <i name="program" type="string">vasp </i>\n  <i name="version" type="string">6.4.2  </i>\n </generator>\n'
        ' <kpoints>\n  <generation param="Gamma">\n'
        '   <v type="int" name="divisions">      11       10        5 </v>\n  </generation>\n'
        '  <varray name="kpointlist" >\n    <v> 0.0 0.0 0.0 </v>\n    <v> 0.5 0.0 0.0 </v>\n  </varray>\n'
        '  <varray name="weights" >\n    <v> 0.5 </v>\n    <v> 0.5 </v>\n  </varray>\n </kpoints>\n'
        + PARAMETERS
        + f' <atominfo>\n  <atoms> 4 </atoms>\n'
        f'  <array name="atoms" >\n  <set>\n{species}\n  </set>\n  </array>\n </atominfo>\n'
        + structure.format(' name="initialpos" ')
        + "<calculation>\n" + 9 * scf + structure.format("")
        + f'<varray name="forces" >\n{rows(forces)}\n</varray>\n'
        + f'<varray name="stress" >\n{rows(np.array([[xx, xy, zx], [xy, yy, yz], [zx, yz, zz]]))}\n</varray>\n'
        + f'<energy>\n <i name="e_fr_energy"> {ENERGY:.8f} </i>\n <i name="e_wo_entrp"> {ENERGY - ENTROPY:.8f} </i>\n'
        + f' <i name="e_0_energy"> {ENERGY - ENTROPY / 2:.8f} </i>\n</energy>\n</calculation>\n'
        + structure.format(' name="finalpos" ') + "</modeling>\n"
    )  # fmt: skip
    table = "\n".join(
        "".join(f"{x:13.5f}" for x in place) + "    " + "".join(f"{x:14.6f}" for x in force)
        for place, force in zip(atoms.positions, forces, strict=True)
    )
    lattice = "\n".join("".join(f"{x:15.9f}" for x in [*vector, *vector]) for vector in atoms.cell.array)
    (folder / "OUTCAR").write_text(
        " vasp.6.4.2 20Jul23 (build) complex\n POTCAR:    PAW O 04Jan2001\n POTCAR:    PAW Al 04Jan2001\n"
        " POTCAR:    PAW O 04Jan2001\n POTCAR:    PAW Al 04Jan2001\n   ISPIN  =      2    spin polarized calculation?\n"
        "   k-points           NKPTS =      2   k-points in BZ     NKDIM =      2   number of bands    NBANDS=     16\n"
        " k-points in reciprocal lattice and weights: x\n   0.0 0.0 0.0  0.5\n   0.5 0.0 0.0  0.5\n"
        "   ions per type =               2   2\n"
        "--------------------------------------- Iteration      1(   9)  ---------------------------------------\n"
        f"  entropy T*S    EENTRO =       {ENTROPY:.8f}\n  free energy    TOTEN  =       {ENERGY:.8f} eV\n"
        "------------------------ aborting loop because EDIFF is reached ----------------------------------------\n"
        f" number of electron      18.0000000 magnetization       {MOMENT:.7f}\n"
        f"  in kB  {''.join(f'{value:12.5f}' for value in STRESS)}\n"
        f"      direct lattice vectors                 reciprocal lattice vectors\n{lattice}\n\n"
        " POSITION                                       TOTAL-FORCE (eV/Angst)\n"
        f" -----------------------------------------------------------------------------------\n{table}\n"
        " -----------------------------------------------------------------------------------\n\n"
        "  FREE ENERGIE OF THE ION-ELECTRON SYSTEM (eV)\n  ---------------------------------------------------\n"
        f"  free  energy   TOTEN  =       {ENERGY:.8f} eV\n\n"
        f"  energy  without entropy=      {ENERGY - ENTROPY:.8f}"
        f"  energy(sigma->0) =      {ENERGY - ENTROPY / 2:.8f}\n\n"
        " General timing and accounting informations for this job:\n ========================================\n"
    )
    (folder / "OSZICAR").write_text(
        f"DAV:   9    -0.231234567800E+02   -0.1E-07\n"
        f"   1 F= -.23123457E+02 E0= -.23117284E+02  d E =0.0  mag= {MOMENT:9.4f}\n"
    )
    return calculation


@pytest.fixture
def magnetic() -> DftReference:
    return vasp(spin="collinear", magnetic_moments={"Al": 1.0})


def test_output(magnetic: DftReference, tmp_path: Path) -> None:
    reading = magnetic.code.believe(answered(magnetic, tmp_path / "run"))
    assert reading.energy == ENERGY and reading.smearing_energy == pytest.approx(ENTROPY, abs=1e-9)
    assert np.allclose(reading.forces, FORCES, atol=1e-9)  # in the order of the frame
    xx, yy, zz, xy, yz, zx = STRESS
    assert reading.stress is not None
    assert np.allclose(reading.stress, -0.1 * GPa * np.array([xx, yy, zz, yz, zx, xy]), atol=1e-9)
    assert reading.magnetic_moment == pytest.approx(MOMENT, abs=1e-4)
    assert reading.facts == {"program": "VASP 6.4.2", "scf_steps": 9, "n_kpoints": 2, "n_electrons": 18.0}


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("OUTCAR", "General timing", ""),
        ("OUTCAR", "because EDIFF is reached", "EDIFF was not reached (unconverged)"),
        ("OUTCAR", "free  energy   TOTEN  =       -23.12345678", "free  energy   TOTEN  =       -23.12355678"),
        ("OUTCAR", "0.123456", "0.123556"),
        ("OUTCAR", "11.12345", "11.22345"),
        ("OUTCAR", "11.12345", "11.1*345"),
        ("OUTCAR", "EENTRO =       -0.01", "EENTRO =       -0.02"),
        ("OUTCAR", "magnetization       0.51", "magnetization       0.61"),
        ("OUTCAR", "ions per type =               2   2", "ions per type =               1   3"),
        ("OUTCAR", "      2.10000", "      2.20000"),
        ("vasprun.xml", "-23.12345678 </i>\n <i name=\"e_wo", "-23.12355678 </i>\n <i name=\"e_wo"),
        ("vasprun.xml", "0.50000000      0.12345600", "0.50000000      0.12355600"),
        ("vasprun.xml", '"NELM"> 100', '"NELM"> 9'),
        ("vasprun.xml", "<c>O </c>", "<c>N </c>"),
        ("vasprun.xml", "</modeling>", ""),
        ("vasprun.xml", "11.12345000", "       nan"),
        ("OSZICAR", "mag=    0.5", "mag=    0.4"),
    ],
)  # fmt: skip
def test_no_damaged_output_is_believed(magnetic: DftReference, name, old, new, tmp_path: Path) -> None:
    calculation = answered(magnetic, tmp_path / "run")
    file = tmp_path / "run" / name
    text = file.read_text()
    assert old in text
    file.write_text(new.join(text.rsplit(old, 1)))
    with pytest.raises(OutputError):
        magnetic.code.believe(calculation)


def test_torn_and_foreign_outputs_are_not_believed(magnetic: DftReference, tmp_path: Path) -> None:
    calculation = answered(magnetic, tmp_path / "run")
    for name in ("OUTCAR", "vasprun.xml"):
        file = tmp_path / "run" / name
        text = file.read_text()
        for torn in [*(text[:end] for end in range(0, len(text) - 120, 97)), text + text]:
            file.write_text(torn)
            with pytest.raises(OutputError):
                magnetic.code.believe(calculation)
        file.write_text(text)
    moved = oxide()
    moved.positions[2, 2] += 0.01
    with pytest.raises(OutputError, match="another frame"):
        magnetic.code.believe(magnetic.calculation(moved, tmp_path / "run"))


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        ("400.00000000", "500.00000000", "cutoff"),
        ('"ISMEAR">     1', '"ISMEAR">     0', "ISMEAR is 0, not 1"),
        ("0.27000000", "0.20000000", "width of the smearing"),
        ('"ISPIN">     2', '"ISPIN">     1', "ISPIN is 1, not 2"),
        ('"NELECT">     18.0', '"NELECT">     17.0', "number of electrons"),
        ("11       10        5", "11       10        1", "k-point grid is 11 10 1, not 11 10 5"),
        ('"GGA    ">PE', '"GGA    ">PS', "GGA is PS, not PE"),
        ('"LHFCALC"> F', '"LHFCALC"> T', "LHFCALC is T, not F"),
        ('name="ENMAX"', 'name="ENINI"', "ENMAX"),
    ],
)
def test_another_level_of_theory_is_not_believed(magnetic: DftReference, old, new, what: str, tmp_path: Path) -> None:
    calculation = answered(magnetic, tmp_path / "run")
    file = tmp_path / "run" / "vasprun.xml"
    text = file.read_text()
    assert text.count(old) == 1
    file.write_text(text.replace(old, new))
    with pytest.raises(OutputError, match=what):
        magnetic.code.believe(calculation)


@pytest.mark.parametrize(
    ("functional", "told"),
    [
        ("HSE06", ("PE", "T", "0.20000000")),
        ("PBE0", ("PE", "T", "0.00000000")),
        ("r2SCAN", ("--", "F", "0.00000000")),
        ("PBE", ("--", "F", "0.00000000")),  # of POTCAR; versions differ in what they tell
    ],
)
def test_functionals_are_known_by_what_is_told(functional: str, told: tuple[str, str, str], tmp_path: Path) -> None:
    reference = vasp(functional=functional, spin="collinear", magnetic_moments={"Al": 1.0})
    calculation = answered(reference, tmp_path / "run")
    file = tmp_path / "run" / "vasprun.xml"
    gga, is_hybrid, screening = told
    tags = f'"GGA">{gga}</i>\n<i name="LHFCALC"> {is_hybrid} </i>\n<i name="HFSCREEN">  {screening}</i>\n  </separator>'
    before, _, after = file.read_text().partition('"GGA    ">')
    file.write_text(f"{before}{tags}{after.partition('</separator>')[2]}")
    assert reference.code.believe(calculation).energy == ENERGY
    other = vasp(functional="revPBE" if is_hybrid == "T" else "HSE06", spin="collinear", magnetic_moments={"Al": 1.0})
    with pytest.raises(OutputError, match="another level of theory"):
        other.code.believe(other.calculation(oxide(), tmp_path / "run"))
