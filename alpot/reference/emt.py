"""ASE's effective medium theory: the embedded surrogate for truth, so that a campaign runs where no DFT code is."""

from __future__ import annotations

from pathlib import Path

from ase.calculators.emt import EMT, parameters

from alpot.errors import ConfigError
from alpot.reference.ase_reference import AseReference


def open_emt(*, base_directory: Path, asap_cutoff: bool = False) -> AseReference:
    """EMT for Al, Cu, Ag, Au, Ni, Pd, Pt (and toy parameters for H, C, N, O).

    Args:
        base_directory: folder of the campaign file; EMT needs no files.
        asap_cutoff: use the cutoff of the ASAP code, as ASE's ``EMT`` does.
    """
    if not isinstance(asap_cutoff, bool):
        raise ConfigError(f"reference.arguments.asap_cutoff = {asap_cutoff!r} must be true or false")
    arguments = {"asap_cutoff": asap_cutoff}
    return AseReference(
        name="emt",
        make=EMT,
        arguments=arguments,
        described=arguments,
        elements=frozenset(parameters),
        is_cheap=True,
    )
