"""What one output of the corpus is, and how a code is run cheaply."""

from __future__ import annotations

import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from ase import Atoms

from alpot.errors import FailureClass
from tests.reference.dft_codes import rattled


class Running(Protocol):
    """The runner of a case, as far as damage needs it."""

    bench: Bench

    def run(self, case: Case, directory: Path) -> int:
        """Runs a case; its exit status."""

    def results(self, directory: Path) -> Path:
        """The file in which a run's results are for people."""

    def witnesses(self, directory: Path) -> list[Path]:
        """The other files in which they are."""


#: Changes the outputs in the first directory; may run something else in the second.
After = Callable[[Running, Path, Path], None]


@dataclass(frozen=True, kw_only=True)
class Bench:
    """How a code is run cheaply, and how it is brought into trouble.

    Attributes:
        dft, arguments: cheap settings.
        pseudopotentials: what the corpus declares, files beside ``corpus.json`` or names.
        few_steps: arguments with which it runs out of electron steps.
        nonsense: arguments that it does not understand.
        other_levels: changes to ``dft`` that its output shows.
        regions: where its output tells energy and forces, as regular expressions.
        results: the file in which its results are, if that is not its standard output.
        progress: the file that grows while it runs, if that is not its standard output.
        of_nan: the verdict on a frame that is none.
        of_unconverged_log: the verdict on the log of a run that did not converge, without what else that run said.
        own: cases that only this code has.
    """

    dft: dict[str, Any]
    arguments: dict[str, Any] = field(default_factory=dict)
    pseudopotentials: dict[str, str] = field(default_factory=dict)
    few_steps: dict[str, Any]
    nonsense: dict[str, Any]
    other_levels: dict[str, dict[str, Any]]
    regions: dict[str, str]
    results: str | None = None
    progress: str | None = None
    of_nan: tuple[FailureClass, str | None] = (FailureClass.UNKNOWN, None)
    of_unconverged_log: tuple[FailureClass, str | None] = (FailureClass.NOT_CONVERGED, "scf_not_converged")
    own: Callable[[], list[Case]] = list


@dataclass(frozen=True, kw_only=True)
class Case:
    """One output; what is not given is as in the bench.

    Attributes:
        name: what is wrong.
        verdict: None where it must be believed; else the class of failure.
        symptom: its symptom, where that is not the class itself.
        frame, dft, arguments: what is declared.
        ran_frame, ran_dft, ran_arguments: what is run, where that is something else.
        tamper: changes the inputs in a directory.
        after: changes the outputs in a directory.
        prefix: comes before the command.
        kill: share of the usual log after which it is killed, or one of its MPI ranks, and the signal.
        fills_disk: it runs on a small file system, which it fills.
        status: exit status that a launcher would make of it, instead of its own.
    """

    name: str
    verdict: FailureClass | None
    symptom: str | None = None
    frame: Atoms = field(default_factory=lambda: rattled(2))
    dft: dict[str, Any] = field(default_factory=dict)
    arguments: dict[str, Any] = field(default_factory=dict)
    ran_frame: Atoms | None = None
    ran_dft: dict[str, Any] = field(default_factory=dict)
    ran_arguments: dict[str, Any] = field(default_factory=dict)
    tamper: Callable[[Path], None] | None = None
    after: After | None = None
    prefix: Sequence[str] = ()
    kill: tuple[float, signal.Signals] | None = None
    fills_disk: bool = False
    status: int | None = None
