"""``[material]``: what the potential is for, and how configurations begin (``[[material.starts]]``)."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from alpot.config.table import CountRange, Element, Fraction, NotNegativeRange, Positive, PositiveRange, Range, Table

#: Of a cell's length; beyond, nothing that is not in contact is left of any solid.
_LARGEST_COMPRESSION = 0.6
#: eV. The cells that walkers live in hold no cascade of more: every atom would be hit.
_HIGHEST_RECOIL = 1000.0

#: Largest of the Miller indices: beyond it, surfaces are steps of simpler ones, and do not fit into cells for labels.
_LARGEST_INDEX = 3


def _miller(indices: tuple[int, int, int]) -> tuple[int, int, int]:
    if math.gcd(*indices) != 1 or max(map(abs, indices)) > _LARGEST_INDEX:
        raise ValueError(
            f"{list(indices)} are no Miller indices of a surface: they must have no common factor, not all be 0, and be"
            f" at most {_LARGEST_INDEX}"
        )
    return indices


MillerIndices = Annotated[tuple[int, int, int], AfterValidator(_miller)]


def _not_too_strong(bounds: tuple[float, float]) -> tuple[float, float]:
    if not 0.0 <= bounds[0] <= bounds[1] <= _LARGEST_COMPRESSION:
        raise ValueError(
            f"[{bounds[0]:g}, {bounds[1]:g}] does not lie between 0 and {_LARGEST_COMPRESSION:g}; a strain of 0.25"
            " shortens the cell by a quarter"
        )
    return bounds


def _not_too_high(bounds: tuple[float, float]) -> tuple[float, float]:
    if bounds[1] > _HIGHEST_RECOIL:
        raise ValueError(f"a recoil of {bounds[1]:g} eV is too much for a cell of some hundred atoms; the most is 1000")
    return bounds


class StartTable(Table):
    """What all tables of starts say: how often they are drawn, and how their walkers move besides T(t) and ρ(t).

    Without any of this they move as ``[exploration]`` says; the first labels are starts that do not move at all.
    """

    weight: Positive = Field(1.0, description="share of the starts drawn from this table, relative to the others")
    recoil: Annotated[PositiveRange, AfterValidator(_not_too_high)] | None = Field(
        None,
        description="range of the kinetic energy in eV, drawn per walker, that one atom gets at the start in a random"
        " direction, on top of the heat: a collision cascade. An atom of Al leaves its site from some 20 eV on. For"
        " 2 ps such walkers have a friction of 0.001/fs at most, so that the cascade comes before the cooling, and a"
        " time step in which the recoil goes 0.1 Å at most (100 eV on Al: 0.37 fs). By default none",
    )
    compression: Annotated[Range, AfterValidator(_not_too_strong)] | None = Field(
        None,
        description="range of the uniaxial compression (no unit), drawn per walker, that the cell is brought to at a"
        " steady rate in exploration.max_time, along one of its periodic vectors, drawn too; what is perpendicular"
        " stays, as in a shock. 0.25 shortens the cell by a quarter. Comes on top of the density's schedule. By default"
        " none",
    )
    bias: Annotated[float, Field(ge=0)] | None = Field(
        None,
        description="largest energy in eV, of the whole frame, by which walkers are drawn to where the members"
        " disagree (uncertainty-driven dynamics, Kulichenko et al. 2023). A solid needs some 0.3 per atom: in 32 atoms"
        " of fcc Al at 700 K, 2 eV change nothing, 15 eV raise the disagreement of forces fourfold within a"
        " picosecond. All walkers of a batch in which one is biased cost about half as much again. By default none",
    )


class PackingStarts(StartTable):
    """Disordered packings: atoms dropped at random into a periodic cube, no two too close."""

    kind: Literal["packing"] = "packing"
    atoms: CountRange = Field((55, 250), description="number of atoms; the paper used cells of this size")
    density: PositiveRange | None = Field(
        None,
        description="mass density in g/cm³; by default 0.67 to 1.5 times that of the elements at normal conditions,"
        " which for Al is the paper's 1.80 to 4.05",
    )
    min_distance_factor: Positive = Field(
        0.75,
        description="closest approach allowed, as a fraction of the sum of the two covalent radii;"
        " 0.75 is the paper's 1.8 Å for Al. Lowered by itself where the density does not permit it",
    )


class CrystalStarts(StartTable):
    """Crystals (supercells of a prototype) with random strain, rattle and point defects."""

    kind: Literal["crystal"] = "crystal"
    prototypes: tuple[Literal["fcc", "bcc", "hcp", "sc", "diamond", "a15"], ...] = Field(
        ("fcc", "bcc", "hcp", "sc", "diamond", "a15"),
        min_length=1,
        description="prototype lattices, drawn with equal chance",
    )
    atoms: CountRange = Field(
        (30, 120), description="number of atoms of the supercell, or primitive cell, before defects are made"
    )
    density: PositiveRange | None = Field(
        None,
        description="mass density in g/cm³; by default 0.67 to 1.5 times that of the elements at normal conditions",
    )
    strain: Annotated[float, Field(ge=0, lt=0.5)] = Field(
        0.05, description="largest component of the random symmetric strain (no unit)"
    )
    rattle: NotNegativeRange = Field(
        (0.0, 0.2), description="standard deviation in Å of Gaussian displacements, drawn per start"
    )
    vacancy_chance: Fraction = Field(0.2, description="chance that a start has vacancies (1 to 3 of them)")
    interstitial_chance: Fraction = Field(0.1, description="chance that a start has one interstitial atom")
    slip_chance: Fraction = Field(
        0.0,
        description="chance that one close-packed plane (of fcc, bcc, hcp, sc) has slipped over the next, by any"
        " vector: stacking faults and the way to them",
    )


class SurfaceStarts(StartTable):
    """Free surfaces: slabs of a crystal, not periodic along their normal, whose density does not follow ρ(t)."""

    kind: Literal["surface"] = "surface"
    prototypes: tuple[Literal["fcc", "bcc", "hcp", "sc", "diamond", "a15"], ...] = Field(
        ("fcc", "bcc", "hcp"), min_length=1, description="prototype lattices, drawn with equal chance"
    )
    miller_indices: tuple[MillerIndices, ...] = Field(
        ((0, 0, 1), (1, 0, 0), (1, 0, 1), (1, 1, 1), (2, 1, 0)),
        min_length=1,
        description="surfaces, drawn with equal chance; they refer to the cubic cell, or to the three axes of hcp, for"
        " which the default has the basal plane, a prism and a pyramid",
    )
    atoms: CountRange = Field(
        (40, 150), description="number of atoms of a slab, which is about as thick as wide, before defects are made"
    )
    density: PositiveRange | None = Field(
        None,
        description="mass density in g/cm³ of the crystal that the slab is cut from; by default 0.85 to 1.1 times that"
        " of the elements at normal conditions: a free surface bears no pressure, but heat expands it",
    )
    strain: Annotated[float, Field(ge=0, lt=0.5)] = Field(
        0.03, description="largest component of the random symmetric strain in the plane (no unit)"
    )
    rattle: NotNegativeRange = Field(
        (0.0, 0.2), description="standard deviation in Å of Gaussian displacements, drawn per start"
    )
    vacancy_chance: Fraction = Field(0.2, description="chance that a start has vacancies (1 to 3 of them)")
    adatom_chance: Fraction = Field(0.2, description="chance that a start has one atom on its surface")


class FileStarts(StartTable):
    """Structures from a file in any format that ASE reads."""

    kind: Literal["file"] = "file"
    path: str = Field(description="file name, relative to the campaign file")
    index: str = Field(":", description="which frames, in ASE's notation")
    rattle: NotNegativeRange = Field(
        (0.0, 0.0), description="standard deviation in Å of Gaussian displacements, drawn per start"
    )


Starts = Annotated[PackingStarts | CrystalStarts | SurfaceStarts | FileStarts, Field(discriminator="kind")]


class Material(Table):
    """What the potential is for."""

    elements: tuple[Element, ...] = Field(min_length=1, description='chemical symbols, e.g. ["Al"]')
    composition: dict[Element, tuple[Fraction, Fraction]] | None = Field(
        None,
        description="range of the atomic fraction of each element, e.g. {Ni = [0.4, 0.6], Al = [0.4, 0.6]};"
        " by default any composition",
    )
    starts: tuple[Starts, ...] = Field(
        (PackingStarts(), CrystalStarts()),
        min_length=1,
        description="where walkers and the first labels come from; tables of kind packing, crystal, surface or file",
    )
    initial_labels: tuple[str, ...] = Field(
        (),
        description="files of frames that are labelled already (extxyz with REF_energy and REF_forces, or ANI-style"
        " HDF5), relative to the campaign file",
    )

    @model_validator(mode="after")
    def _composition_matches_elements(self) -> Material:
        if len(set(self.elements)) != len(self.elements):
            raise ValueError(f"elements lists an element twice: {list(self.elements)}")
        if self.composition is not None:
            if set(self.composition) != set(self.elements):
                raise ValueError(
                    f"composition names {sorted(self.composition)}, but elements are {sorted(self.elements)};"
                    " both must name the same elements"
                )
            low = sum(bounds[0] for bounds in self.composition.values())
            high = sum(bounds[1] for bounds in self.composition.values())
            if not low <= 1.0 <= high or any(a > b for a, b in self.composition.values()):
                raise ValueError("no composition lies inside these ranges: the fractions cannot add up to 1")
        return self
