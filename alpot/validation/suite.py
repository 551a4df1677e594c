"""The table at the end of a campaign: every property of a potential beside its reference and its tolerance.

A property that fails becomes a row that says why; the others are measured all the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import get_args

import numpy as np
from ase.calculators.calculator import BaseCalculator

from alpot.config import PropertyName
from alpot.errors import UsageError
from alpot.validation.crystals import Structure, build_supercell, preferred_structure
from alpot.validation.elastic import elastic_constants
from alpot.validation.force_errors import force_errors
from alpot.validation.fresh_frames import make_far_frames, make_fresh_frames
from alpot.validation.langevin import run_langevin
from alpot.validation.lattice import Equilibrium, equilibrium, lattice_properties
from alpot.validation.melting import melting_temperature
from alpot.validation.nve import energy_drift
from alpot.validation.phases import compared_structures, phase_differences
from alpot.validation.properties import Measured, PropertyValue
from alpot.validation.tolerances import LANGEVIN_TIME, NVE_TIME, Expected, expected_rows
from alpot.validation.vacancy import vacancy_formation_energy

#: In units of the melting temperature: 600 K and 1200 K for Al.
_NVE_TEMPERATURE, _LANGEVIN_TEMPERATURE = 600 / 933, 1200 / 933
#: The long runs are of 108 atoms in fcc, 128 in bcc.
_RUN_ATOMS = 100

_Measure = Callable[[], Measured]


@dataclass(frozen=True, kw_only=True)
class PropertyRow:
    """One line of the table; ``dataclasses.asdict`` gives what JSON can hold.

    Attributes:
        property: the name in the campaign file that asked for it.
        system: what it is a property of, such as "fcc Al".
        name: what was measured.
        unit: of all numbers in this row; empty for pure numbers.
        value: of the potential, or None where it failed.
        std: standard deviation over the members of the ensemble, or None.
        reference: the reference's value, or None where it was not asked for or failed.
        difference: value − reference, or None.
        tolerance: what is accepted, as text with the row's unit or %, or None where nothing is promised.
        ok: whether the value is within tolerance; None where that cannot be said.
        error: why a value is missing or fell short, or None.
    """

    property: PropertyName
    system: str
    name: str
    unit: str
    value: float | None = None
    std: float | None = None
    reference: float | None = None
    difference: float | None = None
    tolerance: str | None = None
    ok: bool | None = None
    error: str | None = None


def validate(
    calculator: BaseCalculator,
    elements: Sequence[str],
    properties: Sequence[PropertyName],
    *,
    reference_calculator: BaseCalculator | None = None,
    seed: int = 0,
) -> list[PropertyRow]:
    """Measure physical properties of a potential, and of its reference where that is given.

    ``fresh_frames`` needs a reference; ``nve`` and ``langevin`` never call it. Rows come in the order of
    ``properties``.

    Args:
        calculator: any ASE calculator.
        elements: chemical symbols; each is examined as a pure crystal, and all together in ``fresh_frames``.
        properties: names as in the campaign file.
        reference_calculator: the truth, if it is cheap enough for some hundred calls.
        seed: of everything random; what one property draws does not depend on which others are asked for.

    Raises:
        UsageError: a property is unknown, or there are no elements.
    """
    known = get_args(PropertyName)
    unknown = [name for name in properties if name not in known]
    if unknown or not elements:
        raise UsageError(
            f"unknown properties {unknown}; known are {', '.join(known)}" if unknown else "validate needs an element"
        )
    benches = [_Bench(calculator, element) for element in elements]
    references = [_Bench(reference_calculator, element) if reference_calculator else None for element in elements]
    rows: list[PropertyRow] = []
    for name in dict.fromkeys(properties):
        entropy = [seed, known.index(name)]
        if name == "fresh_frames":
            rng = np.random.default_rng(entropy)
            measure = partial(_errors_on_frames, calculator, reference_calculator, elements, rng)
            rows += _rows(name, "-".join(elements), expected_rows(name, elements[0]), measure, None)
            continue
        for number, (bench, reference) in enumerate(zip(benches, references, strict=True)):
            rows += _rows_of_element(name, bench, reference, np.random.default_rng([*entropy, number]))
    return rows


class _Bench:
    """One element under one calculator; crystals are brought to equilibrium once and shared by all properties.

    So are failures: some calculators, EMT among them, answer nonsense after the first one.
    """

    def __init__(self, calculator: BaseCalculator, element: str) -> None:
        self.calculator = calculator
        self.element = element
        self._crystals: dict[Structure, Equilibrium | Exception] = {}

    def crystal(self, structure: Structure | None = None) -> Equilibrium:
        """The crystal at equilibrium; by default the element's own structure."""
        own = preferred_structure(self.element)
        structure = structure or own
        if structure not in self._crystals:
            volume = None if structure == own else self.crystal().volume
            try:
                self._crystals[structure] = equilibrium(self.calculator, self.element, structure, volume=volume)
            except Exception as error:  # noqa: BLE001 - raised below, for every property that needs this crystal
                self._crystals[structure] = error
        found = self._crystals[structure]
        if isinstance(found, Exception):
            raise found
        return found

    def lattice(self) -> Measured:
        return lattice_properties(self.crystal())

    def elastic(self) -> Measured:
        return elastic_constants(self.calculator, self.crystal())

    def phases(self) -> Measured:
        return phase_differences([self.crystal(structure) for structure in compared_structures(self.element)])

    def vacancy(self) -> Measured:
        return vacancy_formation_energy(self.calculator, self.crystal())

    def nve(self, rng: np.random.Generator) -> Measured:
        temperature = _NVE_TEMPERATURE * melting_temperature([self.element])
        crystal = self.crystal()
        start = build_supercell(self.element, crystal.structure, crystal.volume, _RUN_ATOMS, crystal.c_over_a)
        return energy_drift(self.calculator, start, temperature, rng, time_ps=NVE_TIME)

    def langevin(self, rng: np.random.Generator) -> Measured:
        temperature = _LANGEVIN_TEMPERATURE * melting_temperature([self.element])
        crystal = self.crystal()
        start = build_supercell(self.element, crystal.structure, crystal.volume, _RUN_ATOMS, crystal.c_over_a)
        run = run_langevin(self.calculator, start, temperature, rng, time_ps=LANGEVIN_TIME)
        ended = f"ended after {run.time_ps:.2f} ps: {run.ended_by}" if run.ended_by else None
        return Measured(
            values=(
                PropertyValue(name="Langevin run survived", value=run.time_ps, unit="ps", shortfall=ended),
                PropertyValue(name="Langevin mean temperature", value=run.mean_temperature, unit="K"),
            )
        )


def _rows_of_element(
    name: PropertyName, bench: _Bench, reference: _Bench | None, rng: np.random.Generator
) -> list[PropertyRow]:
    system = f"{preferred_structure(bench.element)} {bench.element}"
    expected = expected_rows(name, bench.element)
    if name in ("nve", "langevin"):
        run = bench.nve if name == "nve" else bench.langevin
        return _rows(name, system, expected, partial(run, rng), None)
    return _rows(name, system, expected, getattr(bench, name), getattr(reference, name, None))


def _errors_on_frames(
    calculator: BaseCalculator,
    reference_calculator: BaseCalculator | None,
    elements: Sequence[str],
    rng: np.random.Generator,
) -> Measured:
    """Force errors in meV/Å on fresh and on far frames, and the rank correlation over all of them."""
    if reference_calculator is None:
        raise UsageError("fresh frames are made and labelled by the reference: a reference calculator is needed")
    fresh = make_fresh_frames(reference_calculator, elements, rng)
    far = make_far_frames(reference_calculator, elements, rng)
    mixed = force_errors(calculator, [*fresh, *far])
    values = [
        PropertyValue(
            name=f"force RMSE, {kind} frames", value=1000 * force_errors(calculator, frames).rmse, unit="meV/Å"
        )
        for kind, frames in (("fresh", fresh), ("far", far))
    ]
    for name, correlation in (("mean", mixed.rank_correlation_mean), ("largest", mixed.rank_correlation_max)):
        values.append(
            PropertyValue(
                name=f"rank correlation of {name} σ_F and error",
                value=math.nan if correlation is None else correlation,
                unit="",
                shortfall="the calculator gives no forces_std to rank" if correlation is None else None,
            )
        )
    return Measured(values=tuple(values))


def _rows(
    name: PropertyName,
    system: str,
    expected: Sequence[Expected],
    measure: _Measure,
    measure_reference: _Measure | None,
) -> list[PropertyRow]:
    """The expected rows of one property, filled with what could be measured."""
    values, error = _attempt(measure)
    references, reference_error = _attempt(measure_reference) if measure_reference else ({}, None)
    return [_row(name, system, row, values, references, error, reference_error) for row in expected]


def _attempt(measure: _Measure) -> tuple[dict[str, PropertyValue], str | None]:
    """What was measured, by name, or why nothing was."""
    try:
        return {value.name: value for value in measure().values}, None
    except Exception as error:  # noqa: BLE001 - whatever a calculator raises is the finding, and is recorded in the row
        return {}, f"{type(error).__name__}: {error}"


def _row(
    name: PropertyName,
    system: str,
    expected: Expected,
    values: dict[str, PropertyValue],
    references: dict[str, PropertyValue],
    error: str | None,
    reference_error: str | None,
) -> PropertyRow:
    measured = values.get(expected.name)
    value = measured.value if measured and math.isfinite(measured.value) else None
    if measured and error is None:
        error = measured.shortfall or (None if value is not None else "the value is not a finite number")
    if reference_error and error is None:
        error = f"the reference failed: {reference_error}"
    truth = references.get(expected.name)
    reference = truth.value if truth and math.isfinite(truth.value) else None
    tolerance = expected.tolerance
    if value is None:
        ok = None if tolerance is None else False
    else:
        ok = tolerance.judge(value, reference) if tolerance else None
    return PropertyRow(
        property=name,
        system=system,
        name=expected.name,
        unit=expected.unit,
        value=value,
        reference=reference,
        difference=None if value is None or reference is None else value - reference,
        tolerance=str(tolerance) if tolerance else None,
        ok=ok,
        error=error,
    )
