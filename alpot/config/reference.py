"""``[reference]``: where truth comes from, and the cheap level of theory beside it (``[reference.cheap]``)."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from alpot.config.dft import Dft
from alpot.config.table import Positive, Table


class CheapReference(Table):
    """A second, cheap level of theory beside the reference. It is never a label."""

    code: str = Field(description="name or import path of the calculator, as in [reference]")
    dft: Dft | None = Field(
        None, description="for the density-functional codes, which can only screen: their level of theory"
    )
    arguments: dict[str, Any] = Field(default_factory=dict, description="keyword arguments, as in [reference]")
    use: tuple[Literal["screen", "baseline"], ...] = Field(
        ("screen",),
        min_length=1,
        description="what it is for. screen: it computes each frame first; what it finds unphysical is not labelled."
        " baseline: the potential learns the difference between the reference and it (Δ-learning), and every use of the"
        " potential computes both; a density-functional code cannot be one",
    )
    max_force: Positive = Field(
        100.0,
        description="screen: a frame with a larger force on any atom, in eV/Å, is rejected as unphysical; above"
        " reference.max_force, since a cheap method errs",
    )


class Reference(Table):
    """Where truth comes from."""

    code: str = Field(
        description="name of a reference calculator (espresso, gpaw, cp2k, abinit, vasp, orca; emt, lj, eam, ani, zbl;"
        ' or one of an installed plug-in), or the import path of any ASE calculator, e.g. "ase.calculators.emt:EMT"'
    )
    dft: Dft | None = Field(None, description="for espresso, gpaw, cp2k, abinit, vasp and orca: the level of theory")
    arguments: dict[str, Any] = Field(
        default_factory=dict,
        description="keyword arguments of the calculator, or whatever else the code can do in its own words; they are"
        " part of the level of theory",
    )
    max_force: Positive = Field(
        50.0, description="a label with a larger force on any atom, in eV/Å, is rejected as unphysical"
    )
    time_limit: Positive = Field(
        86400.0, description="wall time in s after which a reference calculation is ended, with all its ways of trying"
    )
    attempts: int = Field(3, ge=1, description="how often a label is tried before it is rejected")
    cheap: CheapReference | None = Field(
        None,
        description="A cheap level of theory that screens frames, or that the potential corrects; by default none.",
    )
    isolated_atoms: bool | None = Field(
        None,
        description="whether the energy of an isolated atom of each element is computed too, once per campaign, in"
        " addition to stopping.max_labels; it is recorded with the potential and never trained on. By default yes,"
        " but for ani, whose weights know condensed phases only, and with dft.charge, which is that of the cell",
    )

    @property
    def wants_isolated_atoms(self) -> bool:
        """Whether energies of isolated atoms are to be computed."""
        if self.isolated_atoms is not None:
            return self.isolated_atoms
        return self.code != "ani" and not (self.dft is not None and self.dft.charge)
