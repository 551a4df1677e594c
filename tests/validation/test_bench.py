from __future__ import annotations

import pytest
from ase.calculators.emt import EMT

from alpot.errors import FailureClass, ReferenceError
from alpot.validation.bench import Bench


class Counting(EMT):
    """EMT that cannot compute the first time."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error, self.calls = error, 0

    def calculate(self, *args: object, **kwargs: object) -> None:
        self.calls += 1
        if self.calls == 1:
            raise self.error
        super().calculate(*args, **kwargs)


def test_a_failure_of_the_machine_is_forgotten() -> None:
    bench = Bench(Counting(ReferenceError("the node was lost", failure=FailureClass.NODE_LOST)), "Al")
    with pytest.raises(ReferenceError, match="the node was lost"):
        bench.crystal()
    assert bench.crystal().lattice_constant == pytest.approx(3.99, abs=0.01)


def test_a_finding_is_kept_though_the_calculator_would_now_answer() -> None:
    """EMT raises for an element that it does not know, and answers nonsense when asked again."""
    calculator = Counting(NotImplementedError("No EMT-potential for Al"))
    bench = Bench(calculator, "Al")
    for _ in range(2):
        with pytest.raises(NotImplementedError, match="No EMT-potential"):
            bench.crystal()
    assert calculator.calls == 1
