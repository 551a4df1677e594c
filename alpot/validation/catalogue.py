"""Which properties there are, how each is measured, and which belong together in a suite."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from ase.calculators.calculator import BaseCalculator

from alpot.config import PropertyName
from alpot.errors import UsageError
from alpot.validation.bench import Bench
from alpot.validation.cold_curve import cold_curve
from alpot.validation.dimer import dimer_curve, pair_compression
from alpot.validation.divacancy import divacancy_binding_energy
from alpot.validation.elastic import elastic_constants
from alpot.validation.fresh_frames import errors_on_frames
from alpot.validation.grain_boundaries import grain_boundary_energies
from alpot.validation.hot_crystal import hot_crystal
from alpot.validation.interstitials import interstitial_formation_energies
from alpot.validation.langevin import stability
from alpot.validation.lattice import Equilibrium, lattice_properties
from alpot.validation.liquid import liquid_properties
from alpot.validation.melting_point import melting_point
from alpot.validation.nve import energy_drift
from alpot.validation.phases import phase_differences
from alpot.validation.phonons import phonon_properties
from alpot.validation.properties import Measured
from alpot.validation.shock import shock
from alpot.validation.stacking_faults import stacking_fault_energies
from alpot.validation.surfaces import surface_energies
from alpot.validation.thermal_expansion import thermal_expansion
from alpot.validation.tolerances import LANGEVIN_TIME, NVE_TIME
from alpot.validation.vacancy import vacancy_formation_energy
from alpot.validation.vacancy_migration import vacancy_migration_energy

Suite = Literal["quick", "metal", "full"]

#: In units of the melting temperature: 600 K and 1200 K for Al.
_NVE_TEMPERATURE, _LANGEVIN_TEMPERATURE = 600 / 933, 1200 / 933
#: The long runs are of 108 atoms in fcc, 128 in bcc.
_RUN_ATOMS = 100
_LIQUID_TEMPERATURE = 1.1


@dataclass(frozen=True, kw_only=True)
class Property:
    """How a property is measured.

    Attributes:
        measure: from a bench, and random numbers that are the same for whoever is measured.
        compare: instead of ``measure``, for what is a comparison of a potential with its reference by itself; it takes
            the calculators of both, and all elements at once.
        by_members: whether each member of an ensemble is measured, for an error bar; not where a run only has to live
            to its end.
        by_reference: whether the reference is measured.
        is_long: whether it takes minutes; these begin first, so that they do not end alone.
        single_precision: whether forces of single precision do, at half the price: their error is far below the noise
            of an average over a run.
        version: raised by hand when its numbers change, so that what was kept of the older ones is measured again.
    """

    measure: Callable[[Bench, np.random.Generator], Measured] | None = None
    compare: Callable[[BaseCalculator, BaseCalculator, Sequence[str], np.random.Generator], Measured] | None = None
    by_members: bool = True
    by_reference: bool = True
    is_long: bool = False
    single_precision: bool = False
    version: int = 1


def _nve(bench: Bench, rng: np.random.Generator) -> Measured:
    temperature = _NVE_TEMPERATURE * bench.melting_temperature
    return energy_drift(bench.calculator, bench.supercell(_RUN_ATOMS), temperature, rng, time_ps=NVE_TIME)


def _langevin(bench: Bench, rng: np.random.Generator) -> Measured:
    temperature = _LANGEVIN_TEMPERATURE * bench.melting_temperature
    return stability(bench.calculator, bench.supercell(_RUN_ATOMS), temperature, rng, time_ps=LANGEVIN_TIME)


def _dimer(bench: Bench, rng: np.random.Generator) -> Measured:
    alone = dimer_curve(bench.calculator, bench.element)
    within = pair_compression(bench.calculator, bench.crystal())
    return Measured(
        values=(*alone.values, *within.values),
        curves=(*alone.curves, *within.curves),
        remarks=(*alone.remarks, *within.remarks),
    )


def _liquid(bench: Bench, rng: np.random.Generator) -> Measured:
    return liquid_properties(bench.calculator, bench.crystal(), _LIQUID_TEMPERATURE * bench.melting_temperature, rng)


def _of_crystal(measure: Callable[[BaseCalculator, Equilibrium], Measured]) -> Property:
    """What is measured of the own crystal, and draws no random numbers."""
    return Property(measure=lambda bench, rng: measure(bench.calculator, bench.crystal()))


CATALOGUE: dict[PropertyName, Property] = {
    "lattice": _of_crystal(lattice_properties),
    "phases": Property(measure=lambda bench, rng: phase_differences(bench.calculator, bench.element, bench.crystal)),
    "cold_curve": _of_crystal(cold_curve),
    "elastic": _of_crystal(elastic_constants),
    "phonons": _of_crystal(phonon_properties),
    "thermal_expansion": _of_crystal(thermal_expansion),
    "hot_crystal": Property(
        measure=lambda bench, rng: hot_crystal(bench.calculator, bench.crystal(), bench.melting_temperature, rng),
        is_long=True,
        single_precision=True,
    ),
    "vacancy": _of_crystal(vacancy_formation_energy),
    "vacancy_migration": _of_crystal(vacancy_migration_energy),
    "divacancy": _of_crystal(divacancy_binding_energy),
    "interstitials": _of_crystal(interstitial_formation_energies),
    "surfaces": _of_crystal(surface_energies),
    "stacking_faults": _of_crystal(stacking_fault_energies),
    "grain_boundaries": _of_crystal(grain_boundary_energies),
    "dimer": Property(measure=_dimer),
    "liquid": Property(measure=_liquid, is_long=True, single_precision=True),
    "melting_point": Property(
        measure=lambda bench, rng: melting_point(bench.calculator, bench.crystal(), rng), is_long=True
    ),
    "shock": Property(
        measure=lambda bench, rng: shock(bench.calculator, bench.crystal(), rng, uncertainty=bench.judge),
        is_long=True,
        single_precision=True,
        version=2,
    ),
    "fresh_frames": Property(compare=errors_on_frames, by_members=False, by_reference=False, is_long=True),
    "nve": Property(measure=_nve, by_members=False, by_reference=False, is_long=True),
    "langevin": Property(measure=_langevin, by_members=False, by_reference=False, is_long=True),
}

SUITES: dict[Suite, tuple[PropertyName, ...]] = {
    "quick": ("lattice", "phases", "elastic", "vacancy"),
    "metal": tuple(name for name in CATALOGUE if name not in ("melting_point", "fresh_frames", "nve", "langevin")),
    "full": tuple(CATALOGUE),
}


def number_of(name: PropertyName) -> int:
    """Where a property stands in the list of names; it seeds its random numbers."""
    return get_args(PropertyName).index(name)


def refuse_unknown(properties: tuple[str, ...]) -> None:
    """Raises ``UsageError`` if one of the names is not that of a property."""
    unknown = [name for name in properties if name not in CATALOGUE]
    if unknown:
        raise UsageError(f"unknown properties {unknown}; known are {', '.join(CATALOGUE)}")
