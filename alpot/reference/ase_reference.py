"""Makes a reference of any ASE calculator; the other modules of this room build on it.

Energies: forces are derivatives of ASE's ``free_energy`` (for metals with smeared occupations that is not the energy
extrapolated to zero temperature), so it is what a potential must learn. It is taken wherever the calculator gives it,
otherwise ``energy``.
"""

from __future__ import annotations

import inspect
import shlex
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import ase
import numpy as np
from ase import Atoms
from ase.calculators.calculator import (
    BadConfiguration,
    BaseCalculator,
    Calculator,
    CalculatorSetupError,
    all_changes,
)

from alpot.errors import FailureClass, ReferenceError, UsageError
from alpot.reference.failures import as_reference_error
from alpot.reference.protocol import ReferenceResult

#: Raised by hand when this adapter begins to give other numbers for the same arguments; never a package's version.
LEVEL_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class AseReference:
    """A reference that computes with an ASE calculator.

    Attributes:
        name: how the campaign file calls it.
        make: the calculator's class, or a function that makes one.
        arguments: keyword arguments for ``make``.
        described: the arguments as they enter the level of theory: hashes of contents in place of paths.
        elements: the chemical symbols that it knows; None if that is not known beforehand.
        is_cheap: a call takes milliseconds.
        is_reusable: one calculator may serve all calls of ``compute``; only for codes whose result does not depend on
            what they computed before and that write no files.
    """

    name: str
    make: Callable[..., BaseCalculator]
    arguments: Mapping[str, Any] = field(default_factory=dict)
    described: Mapping[str, Any] = field(default_factory=dict)
    elements: frozenset[str] | None = None
    is_cheap: bool = False
    is_reusable: bool = False

    def settings(self) -> dict[str, Any]:
        """The level of theory: code, arguments (files by their hash), and the version of this adapter."""
        return {
            "code": self.name,
            "version": LEVEL_VERSION,
            "arguments": dict(self.described),
            "energy": "free_energy, or energy where the calculator has no free_energy",
        }

    def check(self, elements: Sequence[str]) -> None:
        """Looks for the program and the elements; see ``ReferenceCalculator.check``."""
        self._refuse_unknown(elements)
        with tempfile.TemporaryDirectory(prefix="alpot-check-") as scratch:
            try:
                calculator = self.calculator(Path(scratch))
            except (
                BadConfiguration,
                CalculatorSetupError,
                ImportError,
                OSError,
                LookupError,
                RuntimeError,
                TypeError,
                ValueError,
            ) as error:
                raise UsageError(
                    f"reference {self.name!r} cannot be set up with the arguments {dict(self.arguments)!r}:"
                    f" {type(error).__name__}: {error}; mend reference.arguments, or install and configure the code as"
                    " ASE's page on its calculator says"
                ) from error
        if not isinstance(calculator, BaseCalculator):
            raise UsageError(
                f"reference {self.name!r} is of the type {type(calculator).__name__}, which is no ASE calculator (a"
                " subclass of ase.calculators.calculator.BaseCalculator); correct reference.code"
            )
        program = _program(calculator)
        if program is not None and shutil.which(program) is None:
            raise UsageError(
                f"reference {self.name!r} needs the program {program!r}, which is not on the PATH; install it, or name"
                " the right command in reference.arguments or in ASE's configuration file"
            )

    def compute(self, atoms: Atoms, directory: Path) -> ReferenceResult:
        """Computes one frame; see ``ReferenceCalculator.compute``."""
        try:
            calculator = self._kept_calculator if self.is_reusable else self.calculator(directory)
            results = _evaluate(calculator, atoms)
        except ReferenceError:
            raise
        except Exception as error:
            raise as_reference_error(error, directory, name=self.name) from error
        if not _is_converged(calculator):
            raise ReferenceError(
                f"reference {self.name!r} did not converge for {atoms.get_chemical_formula()}; its calculator says so",
                failure=FailureClass.NOT_CONVERGED,
            )
        return _as_result(results, self.name)

    def calculator(self, directory: Path) -> BaseCalculator:
        """A new calculator with its files in ``directory``."""
        place = {"directory": str(directory)} if _accepts_directory(self.make) else {}
        return self.make(**self.arguments, **place)

    @cached_property
    def _kept_calculator(self) -> BaseCalculator:
        return self.make(**self.arguments)

    def _refuse_unknown(self, elements: Sequence[str]) -> None:
        if self.elements is None:
            return
        unknown = [symbol for symbol in elements if symbol not in self.elements]
        if unknown:
            raise UsageError(
                f"reference {self.name!r} does not know the element{'s' if len(unknown) > 1 else ''}"
                f" {', '.join(unknown)}; it knows {', '.join(sorted(self.elements))}. Change material.elements or"
                " choose another reference.code"
            )


def _accepts_directory(make: Callable[..., BaseCalculator]) -> bool:
    try:
        parameters = inspect.signature(make).parameters.values()
    except ValueError:
        return False
    if any(parameter.name == "directory" for parameter in parameters):
        return True
    passes_on = any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters)
    return passes_on and isinstance(make, type) and issubclass(make, Calculator)


def _program(calculator: BaseCalculator) -> str | None:
    """The program that a file-based calculator starts, if it says so in a way that can be looked up."""
    command = getattr(getattr(calculator, "profile", None), "command", None) or getattr(calculator, "command", None)
    if not isinstance(command, str) or not command.strip() or any(sign in command for sign in "=$;|&"):
        return None
    return shlex.split(command)[0]


def _evaluate(calculator: BaseCalculator, atoms: Atoms) -> dict[str, Any]:
    """Energy, forces and (bulk systems) stress by one calculation, so that no code runs three times."""
    wanted = ["energy", "forces"]
    # The stress of a slab depends on how much vacuum it has: no quantity to learn from.
    if atoms.pbc.all() and "stress" in calculator.implemented_properties:
        wanted.append("stress")
    frame = atoms.copy()
    try:
        calculator.calculate(frame, wanted, all_changes)
    except NotImplementedError:
        # Some codes list stress and then have it for some of their modes only.
        if wanted.pop() != "stress":
            raise
        calculator.calculate(frame, wanted, all_changes)
    given = calculator.results
    return {key: given[key] for key in (*wanted, "free_energy") if given.get(key) is not None}


def _is_converged(calculator: BaseCalculator) -> bool:
    """What the calculator says of its own convergence; those that say nothing are taken as converged."""
    converged = getattr(calculator, "converged", None)
    if callable(converged):
        converged = converged()
    return converged is None or bool(converged)


def _as_result(results: Mapping[str, Any], name: str) -> ReferenceResult:
    missing = [key for key in ("energy", "forces") if key not in results]
    if missing == ["energy"] and "free_energy" in results:
        missing = []
    if missing:
        raise ReferenceError(
            f"reference {name!r} gave no {' and no '.join(missing)}; alpot needs both energy and forces",
            failure=FailureClass.BAD_OUTPUT,
        )
    energy_kind = "free_energy" if "free_energy" in results else "energy"
    stress = results.get("stress")
    return ReferenceResult(
        energy=float(results[energy_kind]),
        forces=np.array(results["forces"], dtype=np.float64),
        stress=None if stress is None else np.array(stress, dtype=np.float64),
        details={"ase": ase.__version__, "energy": energy_kind},
    )
