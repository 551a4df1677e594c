"""What came of measuring a property with one calculator: what was measured, or why nothing was; as data for files."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

from pydantic import BaseModel, ConfigDict

from alpot.errors import PotentialError
from alpot.validation.properties import Curve, Measured, PropertyValue

#: What a calculator says of itself, and would say again. All else may be a missing file or program, a machine that
#: failed or a bug, and must never be kept as a property of the potential.
FINDINGS = (PotentialError, NotImplementedError)


class Outcome(BaseModel):
    """A measurement, or why there is none.

    Attributes:
        values: see ``Measured``; those that are not finite are left out, and ``remarks`` say so.
        curves: likewise; curves with points that are not finite are left out.
        remarks: see ``Measured``.
        error: why nothing was measured, or empty.
        is_final: whether measuring again would give the same: not where a program was missing, or a machine failed.
        seconds: that it took.
    """

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    values: tuple[PropertyValue, ...] = ()
    curves: tuple[Curve, ...] = ()
    remarks: tuple[str, ...] = ()
    error: str = ""
    is_final: bool = True
    seconds: float = 0.0

    @classmethod
    def of(cls, measure: Callable[[], Measured]) -> Outcome:
        """Measures; whatever is raised is recorded, and is final if it is one of ``FINDINGS``."""
        began = time.monotonic()
        try:
            measured = measure()
        except Exception as error:  # noqa: BLE001 - see above
            text = f"{type(error).__name__}: {error}"
            return cls(error=text, is_final=isinstance(error, FINDINGS), seconds=round(time.monotonic() - began, 3))
        values = [value for value in measured.values if math.isfinite(value.value)]
        curves = [curve for curve in measured.curves if _is_finite(curve)]
        lost = {value.name for value in measured.values} - {value.name for value in values}
        lost |= {curve.name for curve in measured.curves} - {curve.name for curve in curves}
        return cls(
            values=tuple(values),
            curves=tuple(curves),
            remarks=(*measured.remarks, *(f"{name} is not a finite number." for name in sorted(lost))),
            seconds=round(time.monotonic() - began, 3),
        )

    def value(self, name: str) -> PropertyValue | None:
        """The value of this name, if there is one."""
        return next((value for value in self.values if value.name == name), None)

    def dump(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return self.model_dump(mode="json")


def _is_finite(curve: Curve) -> bool:
    return all(math.isfinite(value) for line in (curve.x, *curve.lines.values()) for value in line)
