"""Four codes, one frame: what is matched must agree, or an adapter has mistaken a unit, a grid or an energy."""

from pathlib import Path

import numpy as np
import pytest
from ase.units import GPa
from dft_codes import need, need_gpaw, open_code, rattled

#: The same level of theory in all of them: k points 4 × 4 × 4 around Γ.
MATCHED = {"functional": "PBE", "smearing": "fermi-dirac", "smearing_width": 0.1, "kpoint_density": 15.9}
DATA = Path("/usr/share/cp2k/GTH_POTENTIALS")
PSEUDODOJO = "Pseudodojo_nc_sr_04_pbe_standard_psp8/Al.psp8"
#: Each as converged as some meV/Å need.
SETTINGS = {
    "espresso": {"cutoff": 340.0, "pseudopotentials": {"Al": "Al.gth"}},
    "abinit": {"cutoff": 500.0, "pseudopotentials": {"Al": PSEUDODOJO}},
    "cp2k": {
        "cutoff": 5500.0,
        "pseudopotentials": {"Al": "GTH-PBE-q3"},
        "basis": {"Al": "TZV2P-MOLOPT-SR-GTH"},
    },
    "gpaw": {"cutoff": 400.0, "pseudopotentials": {"Al": "paw"}},
}
PROGRAMS = {"espresso": "pw.x", "abinit": "abinit", "cp2k": "cp2k.psmp"}


def write_gth(path: Path) -> None:
    """The pseudopotential GTH-PBE-q3 of aluminum from CP2K's data, in the format that pw.x reads."""
    lines = DATA.read_text().splitlines()
    start = next(number for number, line in enumerate(lines) if line.split()[:2] == ["Al", "GTH-PBE-q3"])
    _, local, _, s_channel, s_more, p_channel = (line.split() for line in lines[start + 1 : start + 7])
    path.write_text(
        "GTH-PBE-q3 Al\n13 3 010101 zatom,zion,pspdat\n10 11 1 0 2001 0 pspcod,pspxc,lmax,lloc,mmax,r2well\n"
        f"{' '.join(local)} rloc nloc c1\n2 nnonloc\n"
        f"{' '.join(s_channel)}\n{' '.join(s_more)}\n{' '.join(p_channel)}\n0.0\n"
    )


@pytest.mark.slow
def test_forces_and_stress_of_four_codes_agree(tmp_path: Path) -> None:
    for program in PROGRAMS.values():
        need(program, "scripts/install-dft-codes does it")
    need_gpaw()
    write_gth(tmp_path / "Al.gth")
    frame = rattled(4)
    results = {}
    for code, settings in SETTINGS.items():
        reference = open_code(code, folder=tmp_path, **MATCHED, **settings)
        results[code] = reference.compute(frame, tmp_path / code)
    assert len({result.details["n_kpoints"] for result in results.values()}) == 1
    for one in results:
        for other in results:
            difference = results[one].forces - results[other].forces
            # Forces are 0.9 eV/Å in the mean; different pseudopotentials and basis sets explain some meV/Å.
            assert np.sqrt(np.mean(difference**2)) < 0.015, (one, other, difference)
            # A mistaken sign, unit or order of components would be far beyond; pseudopotentials differ by 1 GPa.
            stress = np.abs(results[one].stress - results[other].stress) / GPa
            assert stress.max() < 1.5, (one, other, stress)
            # The entropy of the electrons hardly depends on the pseudopotential.
            smearing = [
                2 * (result.energy - result.details["energy_at_zero_smearing"])
                for result in (results[one], results[other])
            ]
            assert smearing[0] == pytest.approx(smearing[1], abs=5e-3)
