"""The cheap level of theory beside the reference: it screens frames before they are paid for, or is the baseline."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from alpot.config import CheapReference, Reference
from alpot.errors import ConfigError, FailureClass, ReferenceError, UsageError
from alpot.potential.baseline import Baseline
from alpot.reference.labelling import label
from alpot.reference.protocol import ReferenceCalculator, ReferenceResult, level_of_theory
from alpot.reference.registry import DFT_CODES, open_reference

#: How messages about a reference name the keys that ``[reference.cheap]`` has too.
_SHARED_KEY = re.compile(r"\breference\.(code|dft|arguments)\b")


@dataclass(frozen=True)
class CheapLevel:
    """What the table ``[reference.cheap]`` asks for.

    Attributes:
        settings: the table.
        limits: of a screen; the largest force is looked at here.
        reference: the cheap calculator.
    """

    settings: CheapReference
    limits: Reference
    reference: ReferenceCalculator

    @property
    def is_screen(self) -> bool:
        """Whether frames are to be screened."""
        return "screen" in self.settings.use

    def check(self, elements: Sequence[str]) -> None:
        """Find out whether it can work here; raises ``UsageError``."""
        with _named():
            self.reference.check(elements)

    def baseline(self, directory: Path) -> Baseline | None:
        """The baseline of the potential, with its scratch files in ``directory``; None where it is not used as one."""
        if "baseline" not in self.settings.use:
            return None
        settings = {"code": self.reference.name, **self.reference.settings()}
        level = {**settings, "hash": level_of_theory(self.reference)}
        return Baseline(level, partial(self.reference.calculator, directory))

    def screen(self, atoms: Atoms, directory: Path) -> dict[str, Any]:
        """Let a frame pass that the reference is to label; does nothing where frames are not screened.

        It passes too where the cheap code does not converge: that says nothing about the frame.

        Args:
            atoms: the frame.
            directory: an existing directory for scratch files.

        Returns:
            What it took, to be kept with the label: ``screen_core_seconds``, and ``screen_wall_s``, or
            ``screen_failed`` with the reason. Empty where frames are not screened.

        Raises:
            ReferenceError: the frame is unphysical (a force above ``max_force``, or a result that is not finite), or
                the cheap code fails for a reason of its own, which ``failure`` names; ``core_seconds`` says what was
                spent.
        """
        if not self.is_screen:
            return {}
        limit = self.settings.max_force
        own = directory / "screen"  # the files of the reference come beside it
        own.mkdir(exist_ok=True)
        try:
            with np.errstate(all="ignore"):  # atoms on top of each other
                result = label(self.reference, self.limits, atoms, own, not_finite=FailureClass.UNPHYSICAL_GEOMETRY)
        except ReferenceError as error:
            if error.failure is FailureClass.NOT_CONVERGED:  # which coarse settings may not do where better ones do
                return {"screen_core_seconds": error.core_seconds, "screen_failed": error.message}
            is_verdict = error.failure is FailureClass.UNPHYSICAL_GEOMETRY
            what = "screened by reference.cheap" if is_verdict else "the screen by reference.cheap has failed"
            raise ReferenceError(
                f"{what}, not labelled: {_in_its_own_table(error.message)}",
                failure=error.failure,
                evidence=error.evidence,
                core_seconds=error.core_seconds,
            ) from error
        sizes = np.linalg.norm(result.forces, axis=1)
        if not sizes.max() <= limit:
            raise ReferenceError(
                f"screened by reference.cheap, not labelled: the force of {self.reference.name!r} on atom"
                f" {int(sizes.argmax())} is {sizes.max():.4g} eV/Å, above reference.cheap.max_force = {limit:g} eV/Å",
                failure=FailureClass.UNPHYSICAL_GEOMETRY,
                core_seconds=result.details["core_seconds"],
            )
        return {f"screen_{name}": result.details[name] for name in ("core_seconds", "wall_s")}


def screened_label(
    cheap: CheapLevel | None, reference: ReferenceCalculator, settings: Reference, atoms: Atoms, directory: Path
) -> ReferenceResult:
    """Computes and checks one label, see ``label``, of a frame that passes the screen, if there is one.

    Args:
        cheap: the cheap level, if there is one.
        reference: where truth comes from.
        settings: the table ``[reference]``.
        atoms: the frame; it is not changed.
        directory: an existing directory for scratch files.

    Returns:
        The sound result; its ``details`` say what the screen took, too.

    Raises:
        ReferenceError: the screen has stopped the frame, or there is no label; ``core_seconds`` says what was spent on
            both levels.
    """
    spent = {} if cheap is None else cheap.screen(atoms, directory)
    try:
        result = label(reference, settings, atoms, directory)
    except ReferenceError as error:
        if spent:
            error.core_seconds = (error.core_seconds or 0.0) + spent["screen_core_seconds"]
        raise
    return replace(result, details={**result.details, **spent})


def open_cheap(settings: Reference, *, base_directory: Path) -> CheapLevel | None:
    """Open the cheap level of a campaign.

    Args:
        settings: the table ``[reference]``.
        base_directory: folder of the campaign file.

    Returns:
        None where the campaign has none.

    Raises:
        ConfigError: the name or an argument is not known, or a density-functional code is to be a baseline.
        UsageError: the module of an import path, or of an ASE calculator, is not installed.
    """
    cheap = settings.cheap
    if cheap is None:
        return None
    if cheap.code in DFT_CODES and "baseline" in cheap.use:
        raise ConfigError(
            f"reference.cheap.code = {cheap.code!r}: a density-functional code cannot be a baseline, for each step of"
            ' each walker would be a calculation of its own; use = ["screen"], or choose emt, lj, eam, ani, zbl or'
            " another ASE calculator"
        )
    named = Reference(code=cheap.code, dft=cheap.dft, arguments=cheap.arguments, time_limit=settings.time_limit)
    with _named():
        reference = open_reference(named, base_directory=base_directory)
    # Its own limit has another name in messages.
    return CheapLevel(cheap, named.model_copy(update={"max_force": math.inf}), reference)


@contextmanager
def _named() -> Iterator[None]:
    """Says of errors which of the two references they are about."""
    try:
        yield
    except ConfigError as error:
        raise ConfigError(f"table [reference.cheap]: {_in_its_own_table(str(error))}") from error
    except UsageError as error:
        raise UsageError(f"table [reference.cheap]: {_in_its_own_table(str(error))}") from error


def _in_its_own_table(message: str) -> str:
    """A message in which the keys are those of ``[reference.cheap]``."""
    return _SHARED_KEY.sub(r"reference.cheap.\1", message)
