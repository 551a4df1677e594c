"""Pseudopotentials for LDA and for functionals with gradients are told apart, whatever the format; others are not."""

import re
from pathlib import Path
from typing import Any

import pytest
from dft_codes import open_code

from alpot.errors import ConfigError
from alpot.reference.espresso_output import FUNCTIONALS, OTHER_FUNCTIONALS
from alpot.reference.functionals import Family, family_of
from alpot.reference.pseudopotential_functional import stated_functional

LDA, GRADIENT = Family.LDA, Family.GRADIENT


def upf_2(functional: str, kind: str = "NC") -> str:
    """As pw.x and its tools write it; the spaces are theirs."""
    return (
        '<UPF version="2.0.1">\n<PP_INFO>\nFunctional: something\n</PP_INFO>\n<PP_HEADER\n   element="Al"\n'
        f'   pseudo_type="{kind}"\n   functional="{functional}"\n   z_valence="3.0"/>\n<PP_MESH>\n'
    )


def upf_1(functional: str) -> str:
    return (
        "<PP_HEADER>\n   0                   Version Number\n  Al                   Element\n"
        f"    F                  Nonlinear Core Correction\n {functional} Exchange-Correlation functional\n"
        "    3.00000000000      Z valence\n</PP_HEADER>\n"
    )


def abinit(pspcod: int, pspxc: int) -> str:
    return (
        "Al    ONCVPSP-3.3.0  r_core=   1.76802   1.76802   1.70587\n"
        "     13.0000      3.0000      171102    zatom,zion,pspd\n"
        f"     {pspcod}   {pspxc}   2     4   600     0    pspcod,pspxc,lmax,lloc,mmax,r2well\n  5.99 5.0 0.0\n"
    )


def paw_xml(attributes: str) -> str:
    return f'<?xml version="1.0"?>\n<paw_dataset version="0.7">\n<xc_functional {attributes}/>\n'


def gth(name: str) -> str:
    return f"Al {name}\n    2    1\n     0.45000000    1    -7.55476126\n     0\n"


def potcar(lexch: str) -> str:
    return f"  PAW Al 04Jan2001\n   3.000\n parameters from PSCTR are:\n   VRHFIN =Al: s2p1\n   LEXCH  = {lexch}\n"


@pytest.mark.parametrize(
    ("text", "words", "family"),
    [
        (upf_2(" SLA PZ NOGX NOGC"), "SLA PZ NOGX NOGC", LDA),
        (upf_2("LDA "), "LDA", LDA),
        (upf_2(" SLA  PW   PBX  PBC"), "SLA PW PBX PBC", GRADIENT),
        (upf_2("SLA LYP B88 BLYP"), "SLA LYP B88 BLYP", GRADIENT),
        (upf_2("SLA+PW+PSX+PSC+PBEsol"), "SLA+PW+PSX+PSC+PBEsol", GRADIENT),
        (upf_2("PBE"), "PBE", GRADIENT),
        (upf_2("SLA PW HOME MADE"), "SLA PW HOME MADE", None),
        (upf_2("SLA PW PBX PBC", kind="1/r"), "1/r", None),  # the nucleus itself is right for all
        (upf_1("SLA  PW   NOGX NOGC"), "SLA PW NOGX NOGC", LDA),
        (upf_1("SLA  PW   PBX  PBC   PBE "), "SLA PW PBX PBC PBE", GRADIENT),
        (abinit(8, 11), "pspxc = 11", GRADIENT),
        (abinit(8, -1012), "pspxc = -1012", LDA),
        (abinit(8, -101130), "pspxc = -101130", GRADIENT),
        (abinit(10, 1), "pspxc = 1", LDA),
        (abinit(6, 0), "pspxc = 0", None),
        (paw_xml('type="GGA" name="PBE"'), 'type="GGA" name="PBE"', GRADIENT),
        (paw_xml('type="LDA" name="PW"'), 'type="LDA" name="PW"', LDA),
        (paw_xml('name="PW"'), 'name="PW"', None),
        (gth("GTH-PADE-q3"), "GTH-PADE-q3", LDA),
        (gth("GTH-LDA"), "GTH-LDA", LDA),
        (gth("GTH-PBESol-q3"), "GTH-PBESol-q3", GRADIENT),
        (gth("GTH-NLCC-PBE-q3"), "GTH-NLCC-PBE-q3", GRADIENT),
        (gth("GTH-HF-q3"), "GTH-HF-q3", None),
        (gth("ALLELECTRON"), "", None),
        (potcar("CA"), "LEXCH = CA", LDA),
        (potcar("PE"), "LEXCH = PE", GRADIENT),
        (potcar("91"), "LEXCH = 91", GRADIENT),
        (potcar("PW"), "LEXCH = PW", None),  # what pw.x calls so is an LDA
        ("no format at all\n", "", None),
    ],
)
def test_what_is_stated(text: str, words: str, family: Family | None) -> None:
    assert stated_functional(text) == (words, family)


@pytest.mark.parametrize(
    ("functional", "family"),
    [
        ("LDA", LDA), ("sla+pz", LDA), ("LDA_X+LDA_C_PW", LDA), ("7", LDA), ("-1012", LDA), ("-20", LDA),
        ("PBE", GRADIENT), ("PBEsol", GRADIENT), ("RPBE", GRADIENT), ("revPBE", GRADIENT), ("SCAN", GRADIENT),
        ("r2SCAN", GRADIENT), ("PBE0", GRADIENT), ("HSE06", GRADIENT), ("sla+pw+pbx+pbc", GRADIENT),
        ("vdw-df2-b86r", GRADIENT), ("b3lyp", GRADIENT), ("GGA_X_B86_R+GGA_C_PBE", GRADIENT), ("-497498", GRADIENT),
        ("11", GRADIENT), ("hf", None), ("tb09", None), ("0", None), ("40", None), ("-577", None), ("", None),
        ("XC-001i-004i-003i-004i-000i-000i", None),
    ],
)  # fmt: skip
def test_families(functional: str, family: Family | None) -> None:
    assert family_of(functional) is family


def test_the_functionals_that_pw_x_knows_by_name() -> None:
    unknown = {name for name in [*FUNCTIONALS, *OTHER_FUNCTIONALS] if family_of(name) is None}
    assert unknown == {"hf", "oep", "tb09"}


def test_the_numbers_of_libxc() -> None:
    header = Path("/usr/include/xc_funcs.h")
    if not header.is_file():
        pytest.skip("libxc-dev is not installed")
    named = re.findall(r"^#define +XC_(\w+) +(\d+)", header.read_text(), re.MULTILINE)
    assert len(named) > 500
    for name, number in named:
        expected = LDA if name.startswith("LDA_") else None if name.startswith("HYB_LDA_") else GRADIENT
        assert family_of(f"-{number}") in (expected, None), name


#: Where Debian's packages put them, what says in a file's name what it is for, and how many such files there are at
#: least.
INSTALLED = [
    ("/usr/share/espresso/pseudo", "*.pz-*.UPF", LDA, 10),
    ("/usr/share/espresso/pseudo", "*.*pbe*-*.UPF", GRADIENT, 30),
    ("/usr/share/espresso/pseudo", "*.tpss-*.UPF", GRADIENT, 2),
    ("/usr/share/abinit/psp", "Pseudodojo_nc_sr_04_pbe_standard_psp8/*.psp8", GRADIENT, 10),
    ("/usr/share/abinit/psp", "Pseudodojo_nc_sr_04_pw_standard_psp8/*.psp8", LDA, 10),
    ("/usr/share/abinit/psp", "Pseudodojo_paw_pbe_standard/*.xml", GRADIENT, 10),
    ("/usr/share/abinit/psp", "Pseudodojo_paw_pw_standard/*.xml", LDA, 8),
    ("/usr/share/abinit/psp", "PseudosHGH_pwteter/*.hgh", LDA, 50),
]


@pytest.mark.parametrize(("folder", "pattern", "family", "count"), INSTALLED)
def test_files_that_are_installed_are_understood(folder: str, pattern: str, family: Family, count: int) -> None:
    if not Path(folder).is_dir():
        pytest.skip(f"there is no {folder}")
    files = sorted(Path(folder).glob(pattern))
    assert len(files) >= count
    told = {file.name: stated_functional(file.read_text(errors="replace"))[1] for file in files}
    assert set(told.values()) == {family}, told


def test_the_names_in_cp2k_s_data_are_understood() -> None:
    data = Path("/usr/share/cp2k/GTH_POTENTIALS")
    if not data.is_file():
        pytest.skip("cp2k-data is not installed")
    entries = re.findall(r"^[A-Z][a-z]? +(?:GTH-\S+ *)+$", data.read_text(), re.MULTILINE)
    assert len(entries) > 300
    for entry in entries:
        element, *names = entry.split()
        families = {stated_functional(f"{element} {name}\n")[1] for name in names}
        assert families == {LDA if "GTH-PADE" in entry else GRADIENT}, entry


# -------------------------------------------------------------------------------------------- codes and campaigns

#: What the codes take, with all that is read of it when a reference is opened.
MADE = {
    "espresso": ("Al.UPF", upf_2(" SLA PZ NOGX NOGC"), upf_2("PBE")),
    "abinit": ("Al.psp8", abinit(8, -1012), abinit(8, 11)),
    "vasp": ("Al/POTCAR", potcar("CA"), potcar("PE")),
    "cp2k": ("GTH_POTENTIALS", gth("GTH-PADE-q3 GTH-MINE"), gth("GTH-PBE-q3 GTH-MINE")),
}
NAMED = {"vasp": "Al", "cp2k": "GTH-PADE-q3"}


def opened(code: str, functional: str, folder: Path, *, is_lda: bool) -> None:
    """Opens a reference with a pseudopotential of aluminum for LDA or PBE; nothing of it has to be installed."""
    name, for_lda, for_pbe = MADE[code]
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text(for_lda if is_lda else for_pbe)
    (folder / "BASIS_MOLOPT").write_text("Al TZV2P-MOLOPT-SR-GTH\n 1\n 2 0 1 1 1\n 1.0 1.0\n")
    named = NAMED.get(code, name) if is_lda else NAMED.get(code, name).replace("PADE", "PBE")
    settings: dict[str, Any] = {"functional": functional, "cutoff": 400.0, "pseudopotential_folder": str(folder)}
    open_code(code, folder=folder, pseudopotentials={"Al": named}, **settings)


@pytest.mark.parametrize("code", MADE)
def test_another_family_is_refused(code: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        opened(code, "PBE", tmp_path, is_lda=True)
    words = stated_functional(MADE[code][1])[0]
    for part in (
        f"({words}: LDA) than reference.dft.functional = 'PBE'",
        "pseudopotentials.Al: ",
        'functional = "LDA"',
    ):
        assert part in str(caught.value)
    with pytest.raises(ConfigError, match=r"\(.*: GGA or beyond\) than reference.dft.functional = 'LDA'"):
        opened(code, "LDA", tmp_path, is_lda=False)


@pytest.mark.parametrize("code", MADE)
def test_sound_practice_is_left_alone(code: str, tmp_path: Path) -> None:
    opened(code, "LDA", tmp_path, is_lda=True)
    for functional in ("PBE", "PBEsol", "RPBE", "revPBE", "SCAN", "r2SCAN", "PBE0", "HSE06", "my own"):
        opened(code, functional, tmp_path, is_lda=False)
    opened(code, "my own", tmp_path, is_lda=True)


def test_the_message_names_a_pseudopotential_that_there_is(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"Take a pseudopotential that was made for r2SCAN or PBE, or set"):
        opened("abinit", "r2SCAN", tmp_path, is_lda=True)
