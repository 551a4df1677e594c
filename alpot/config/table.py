"""What all tables of the campaign file have in common: their base, and the types of their values."""

from __future__ import annotations

from typing import Annotated

from ase.data import chemical_symbols
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

#: Elements that have a chemical symbol; ``X`` (number 0) is not one.
_ELEMENTS = frozenset(chemical_symbols[1:])


class Table(BaseModel):
    """Base of all tables: unknown keys are refused, values cannot be changed."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def ordered(bounds: tuple[float, float]) -> tuple[float, float]:
    """The bounds as they are; ``ValueError`` if the lower one is above the upper one."""
    if bounds[0] > bounds[1]:
        raise ValueError(f"the lower bound {bounds[0]:g} is above the upper bound {bounds[1]:g}")
    return bounds


def _element(symbol: str) -> str:
    if symbol not in _ELEMENTS:
        raise ValueError(f"{symbol!r} is not a chemical symbol")
    return symbol


def _not_negative(bounds: tuple[float, float]) -> tuple[float, float]:
    if bounds[0] < 0:
        raise ValueError(f"the lower bound {bounds[0]:g} is negative")
    return bounds


#: A closed interval [low, high] from which values are drawn uniformly.
Range = Annotated[tuple[float, float], AfterValidator(ordered)]
NotNegativeRange = Annotated[Range, AfterValidator(_not_negative)]
PositiveRange = Annotated[tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]], AfterValidator(ordered)]
CountRange = Annotated[tuple[Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]], AfterValidator(ordered)]
Element = Annotated[str, AfterValidator(_element)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
