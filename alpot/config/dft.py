"""``[reference.dft]``: the level of theory of a density-functional code."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from alpot.config.table import Element, Positive, Table


class Dft(Table):
    """A density-functional calculation in physical terms, the same for all codes."""

    functional: str = Field(
        "PBE",
        description="exchange and correlation: LDA, PBE, PBEsol, RPBE, revPBE, SCAN, r2SCAN, PBE0, HSE06, or what the"
        " code itself calls it",
    )
    cutoff: Positive | None = Field(
        None,
        description="kinetic energy cutoff of the plane waves in eV (cp2k: of its density grid, whose usual values are"
        " 10 times as large); orca has none, all others need it. What it must be depends on the pseudopotentials;"
        " `alpot converge` finds out",
    )
    density_cutoff: Positive | None = Field(
        None,
        description="cutoff of the density in eV; by default 4 times that of the plane waves. Ultrasoft"
        " pseudopotentials need 8 to 12 times",
    )
    material: Literal["metal", "insulator"] = Field(
        "metal",
        description="chooses the defaults of k points and smearing; a campaign that melts a semiconductor is"
        " one for a metal",
    )
    kpoint_density: Positive | None = Field(
        None,
        description="k points in Å: a direction gets this many, divided by the spacing of its lattice planes, rounded"
        " up, so that cells of all sizes are sampled alike; one where pbc is off. By default 40 for metals, 20 for"
        " insulators",
    )
    smearing: Literal["cold", "methfessel-paxton", "gaussian", "fermi-dirac", "none"] | None = Field(
        None,
        description="smearing of the occupations; by default cold (Marzari-Vanderbilt) for metals, where the code"
        " has it, and none for insulators",
    )
    smearing_width: Positive | None = Field(
        None,
        description="width of the smearing in eV (fermi-dirac: k_B T); by default 0.27 (0.02 Ry), with fermi-dirac 0.1",
    )
    spin: Literal["none", "collinear"] = Field("none", description="spin polarisation")
    magnetic_moments: dict[Element, float] = Field(
        default_factory=dict, description="initial magnetic moment per atom of an element in Bohr magnetons"
    )
    charge: float = Field(0.0, description="charge of the cell in elementary charges")
    pseudopotentials: dict[Element, str] = Field(
        default_factory=dict,
        description="pseudopotential of each element: a file relative to the campaign file or in"
        " pseudopotential_folder; for cp2k, gpaw and vasp its name, e.g. GTH-PBE-q3 or Al_sv",
    )
    pseudopotential_folder: str | None = Field(
        None,
        description="folder in which the pseudopotentials are, relative to the campaign file; by default the"
        " code's own",
    )
    basis: dict[Element, str] = Field(
        default_factory=dict,
        description="basis set of each element; cp2k: by default TZV2P-MOLOPT; orca: all of them, e.g. def2-TZVP",
    )
    scf_tolerance: Positive = Field(
        1e-7, description="the self-consistent field has converged when the energy is known to this, in eV per atom"
    )
    program: str | None = Field(
        None,
        description="the code's program, if it is not on the PATH by its usual name; a path is relative to the campaign"
        " file. No part of the level of theory",
    )

    @model_validator(mode="after")
    def _spin_for_moments(self) -> Dft:
        if self.magnetic_moments and self.spin == "none":
            raise ValueError('magnetic_moments need spin = "collinear"')
        if self.smearing == "none" and self.smearing_width is not None:
            raise ValueError('smearing_width goes with a smearing; there is smearing = "none"')
        return self

    @property
    def kpoints_per_length(self) -> float:
        """``kpoint_density`` in Å, by default that of the material."""
        return self.kpoint_density or (40.0 if self.material == "metal" else 20.0)
