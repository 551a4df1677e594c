"""What any source of truth must offer, so that the campaign need not know which code it is.

A plug-in author implements ``ReferenceCalculator`` in one class, announces a factory for it under the entry point
group ``alpot.references``, and runs ``alpot.reference.contract.check_reference_contract`` in the own tests.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from ase import Atoms
from ase.calculators.calculator import BaseCalculator

from alpot.errors import UsageError


@dataclass(frozen=True)
class ReferenceResult:
    """The answer of a reference calculation for one frame.

    Attributes:
        energy: total energy in eV; the one whose derivatives the forces are (see ``ase_reference``).
        forces: (n_atoms, 3) eV/Å.
        stress: (6,) eV/Å³ in ASE's Voigt order and sign (xx, yy, zz, yz, xz, xy; tension is positive), or None where
            the code gives none or the frame is not periodic in all directions.
        details: JSON-able facts worth keeping with the label, such as versions and the wall time; they are not part of
            the level of theory. The campaign learns what labels cost from ``core_seconds`` (wall time × cores occupied,
            retries included; by default time × cores of the worker), ``scf_steps`` and ``peak_memory_MB``.
    """

    energy: float
    forces: np.ndarray
    stress: np.ndarray | None = None
    details: dict[str, Any] = field(default_factory=dict)


class ReferenceCalculator(Protocol):
    """A method of computing energy, forces and stress that counts as the truth.

    Attributes:
        name: how the campaign file calls it.
        is_cheap: a call takes milliseconds, so that validation may use it freely.
    """

    @property
    def name(self) -> str:
        """How the campaign file calls it."""

    @property
    def is_cheap(self) -> bool:
        """Whether a call takes milliseconds, so that validation may use it freely."""

    def settings(self) -> dict[str, Any]:
        """All that defines the level of theory, JSON-able: code, arguments, hashes of files; the same at every call.

        Paths, processor counts and package versions do not belong here: they do not change the physics, and labels
        of different settings are never mixed.
        """

    def check(self, elements: Sequence[str]) -> None:
        """Finds out before anything is spent whether this reference can work here.

        Args:
            elements: chemical symbols of the campaign.

        Raises:
            UsageError: a program or file is missing or an element is not supported; the message says what to do.
        """

    def compute(self, atoms: Atoms, directory: Path) -> ReferenceResult:
        """Computes one frame.

        Args:
            atoms: the frame; it is not changed.
            directory: an existing directory for the scratch files of this calculation.

        Raises:
            ReferenceError: there is no valid result; its ``failure`` says why.
        """

    def calculator(self, directory: Path) -> BaseCalculator:
        """A new ASE calculator of this level of theory for validation, with its scratch files in ``directory``."""


def level_of_theory(reference: ReferenceCalculator) -> str:
    """The hash that labels carry: two references with the same one may share a dataset.

    Returns:
        16 hexadecimal digits: the start of the sha256 of the canonical JSON of ``reference.settings()``.

    Raises:
        UsageError: the settings cannot be written as JSON.
    """
    settings = reference.settings()
    try:
        canonical = json.dumps(settings, sort_keys=True, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise UsageError(
            f"the settings of the reference {reference.name!r} cannot be written as JSON ({error}): {settings!r};"
            " use numbers, strings, booleans, lists and tables only"
        ) from error
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]
