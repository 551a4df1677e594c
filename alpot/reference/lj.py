"""The Lennard-Jones potential: truth with known answers, for tests and noble gases.

All pairs of atoms interact alike, whatever their elements.
"""

from __future__ import annotations

from pathlib import Path

from ase.calculators.lj import LennardJones

from alpot.errors import ConfigError
from alpot.reference.ase_reference import AseReference


def open_lj(
    *, base_directory: Path, sigma: float, epsilon: float, rc: float | None = None, ro: float | None = None
) -> AseReference:
    """Lennard-Jones with ASE's smooth cutoff: without it forces jump at the cutoff, which no potential can learn.

    Args:
        base_directory: folder of the campaign file; no files are needed.
        sigma: distance of zero energy in Å; argon: 3.40.
        epsilon: depth of the well in eV; argon: 0.0104.
        rc: cutoff in Å; by default 3 sigma.
        ro: distance in Å from which the cutoff function acts; by default 0.66 rc.
    """
    arguments: dict[str, float] = {}
    _add_positive(arguments, "sigma", sigma)
    _add_positive(arguments, "epsilon", epsilon)
    _add_positive(arguments, "rc", 3 * sigma if rc is None else rc)
    _add_positive(arguments, "ro", 0.66 * arguments["rc"] if ro is None else ro)
    if not arguments["ro"] < arguments["rc"]:
        raise ConfigError(f"reference.arguments.ro = {arguments['ro']:g} Å must be below rc = {arguments['rc']:g} Å")
    settings = {**arguments, "smooth": True}
    return AseReference(name="lj", make=LennardJones, arguments=settings, described=settings, is_cheap=True)


def _add_positive(arguments: dict[str, float], key: str, value: float) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not value > 0:
        raise ConfigError(f"reference.arguments.{key} = {value!r} must be a positive number")
    arguments[key] = float(value)
