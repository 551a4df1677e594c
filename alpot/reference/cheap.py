"""The cheap level of theory beside the reference: it screens frames before they are paid for, or is the baseline."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from ase import Atoms

from alpot.config import CheapReference, Reference
from alpot.errors import ConfigError, FailureClass, ReferenceError, UsageError
from alpot.potential.baseline import Baseline
from alpot.reference.labelling import label
from alpot.reference.protocol import ReferenceCalculator, level_of_theory
from alpot.reference.registry import DFT_CODES, open_reference


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

    def screen(self, atoms: Atoms, directory: Path) -> None:
        """Let a frame pass that the reference is to label; does nothing where frames are not screened.

        Args:
            atoms: the frame.
            directory: an existing directory for scratch files.

        Raises:
            ReferenceError: the frame is unphysical (a force above ``max_force``, or a result that is not finite), or
                the cheap code fails for a reason of its own, which ``failure`` names.
        """
        if "screen" not in self.settings.use:
            return
        limit = self.settings.max_force
        own = directory / "screen"  # the files of the reference come beside it
        own.mkdir(exist_ok=True)
        try:
            with np.errstate(all="ignore"):  # atoms on top of each other
                result = label(self.reference, self.limits, atoms, own, not_finite=FailureClass.UNPHYSICAL_GEOMETRY)
        except ReferenceError as error:
            raise ReferenceError(
                f"screened by reference.cheap, not labelled: {error.message}",
                failure=error.failure,
                evidence=error.evidence,
            ) from error
        sizes = np.linalg.norm(result.forces, axis=1)
        if not sizes.max() <= limit:
            raise ReferenceError(
                f"screened by reference.cheap, not labelled: the force of {self.reference.name!r} on atom"
                f" {int(sizes.argmax())} is {sizes.max():.4g} eV/Å, above reference.cheap.max_force = {limit:g} eV/Å",
                failure=FailureClass.UNPHYSICAL_GEOMETRY,
            )


def open_cheap(settings: Reference, *, base_directory: Path) -> CheapLevel | None:
    """Open the cheap level of a campaign.

    Args:
        settings: the table ``[reference]``.
        base_directory: folder of the campaign file.

    Returns:
        None where the campaign has none.

    Raises:
        ConfigError: the name or an argument is not known.
        UsageError: the module of an import path, or of an ASE calculator, is not installed.
    """
    cheap = settings.cheap
    if cheap is None:
        return None
    if cheap.code in DFT_CODES:
        raise ConfigError(
            f"reference.cheap.code = {cheap.code!r}: a density-functional code is not cheap; choose emt, lj, eam, ani"
            " or another ASE calculator"
        )
    named = Reference(code=cheap.code, arguments=cheap.arguments, time_limit=settings.time_limit)
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
        raise ConfigError(f"table [reference.cheap]: {error}") from error
    except UsageError as error:
        raise UsageError(f"table [reference.cheap]: {error}") from error
