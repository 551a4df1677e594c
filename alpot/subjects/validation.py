"""Measures the properties of a potential without a campaign: what `alpot validate` does.

Each property with each calculator (the potential, the members of its ensemble, the reference) is one task for the
workers. What is measured is kept at once by the hash of the question, so a run that was ended goes on where it was, and
a reference that is compared with many potentials is measured once.
"""

from __future__ import annotations

import logging
import shutil
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from ase.data import atomic_numbers

from alpot import __version__
from alpot.campaign.events import Task
from alpot.campaign.subject import Kind
from alpot.config import PropertyName, Resources
from alpot.config_file import read_campaign
from alpot.errors import CampaignLockedError, UsageError
from alpot.platforms.label_environment import label_environment
from alpot.platforms.registry import open_platform
from alpot.potential.calculator import AlpotCalculator
from alpot.reference import open_reference
from alpot.store.directory import CampaignDirectory
from alpot.store.files import make_folder
from alpot.store.measurements import Measurements
from alpot.store.permissions import refuse_writable_by_others
from alpot.store.property_file import PropertyFile, write_property_file
from alpot.subjects.measuring import Request
from alpot.subjects.specimens import PotentialSource, ReferenceSource, Source, find_source
from alpot.validation.catalogue import CATALOGUE, SUITES, Suite, refuse_unknown
from alpot.validation.measurement import Job, Measurement, jobs_of, measurements_of
from alpot.validation.outcome import Outcome
from alpot.validation.suite import calibration_of, known_outcome
from alpot.validation.table import results_of

SUBJECT = "alpot.subjects.measuring:MeasuringSubject"
#: A measurement whose worker was lost so often is given up: it may be the cause.
_ATTEMPTS = 3

logger = logging.getLogger(__name__)

#: Called with the measurements done and in all, and the name of the last one.
Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Validation:
    """Properties that are ready to be measured.

    Attributes:
        directory: where measurements are kept and the table is written.
        request: what is measured.
        resources: where.
        members: of the potential's ensemble that are measured, for error bars; 0 for none.
        calibration: factor from the members' deviation to the expected error.
    """

    directory: CampaignDirectory
    request: Request
    resources: Resources
    members: int
    calibration: float

    @property
    def file(self) -> Path:
        """Where the table is written."""
        return self.directory.path / "properties.json"

    def run(self, on_progress: Progress) -> PropertyFile:
        """Measure what is not known yet, and write the table.

        SIGTERM ends it like Ctrl-C: nothing that was measured is lost, and workers go when they have finished what they
        are measuring, which is kept, too.

        Raises:
            UsageError: no worker can be reached.
            CampaignLockedError: the same folder is in use.
            KeyboardInterrupt: it was ended.
        """
        with self._alone(), _ended_by_sigterm():
            self.request.write(self.directory)
            wanted = self._steps()
            outcomes = self._known(wanted)
            on_progress(len(outcomes), len(wanted), "")
            missing = [step for step in wanted if step not in outcomes]
            if missing:
                self._measure(missing, outcomes, lambda name: on_progress(len(outcomes), len(wanted), name))
            found = self._table(outcomes)
            write_property_file(self.file, found)
            shutil.rmtree(self.directory.path / "tasks", ignore_errors=True)
        return found

    @contextmanager
    def _alone(self) -> Iterator[None]:
        with ExitStack() as stack:
            try:
                stack.enter_context(self.directory.lock())
            except CampaignLockedError as error:
                raise CampaignLockedError(
                    f"another `alpot validate` is at work in {self.directory.path} ({self.directory.holder()}); wait"
                    " for it, or choose another folder with --output"
                ) from error
            yield

    @property
    def _jobs(self) -> list[Job]:
        return jobs_of(self.request.elements, self.request.properties)

    def _steps(self) -> list[Measurement]:
        """All measurements, those first that take longest."""
        has_reference = self.request.reference is not None
        jobs = sorted(self._jobs, key=lambda job: not CATALOGUE[job.name].is_long)
        return [
            step for job in jobs for step in measurements_of(job, members=self.members, has_reference=has_reference)
        ]

    def _known(self, steps: Sequence[Measurement]) -> dict[Measurement, Outcome]:
        kept = Measurements(self.directory.measurements)
        questions = {step: step.question(self.request.identities, self.request.seed) for step in steps}
        return {step: known for step, q in questions.items() if q and (known := known_outcome(kept, q))}

    def _measure(
        self, steps: Sequence[Measurement], outcomes: dict[Measurement, Outcome], on_done: Callable[[str], None]
    ) -> None:
        """Spread measurements over the workers; adds to ``outcomes``."""
        platform = open_platform(self.resources)
        slots = platform.slots[platform.pool_of[Kind.MEASURE]]
        waiting = [(step, 1) for step in reversed(steps)]
        running: dict[Future[dict[str, Any]], tuple[Measurement, int]] = {}
        with platform.executor(self.directory, SUBJECT) as executor:
            while waiting or running:
                while waiting and len(running) < slots:
                    step, attempt = waiting.pop()
                    identifier = f"measure-{steps.index(step) + 1:06d}"
                    task = Task(identifier, Kind.MEASURE, step.model_dump(mode="json"), attempt=attempt)
                    running[executor.submit(task.dump())] = step, attempt
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    step, attempt = running.pop(future)
                    outcome = _outcome_of(future)
                    if outcome is None and attempt < _ATTEMPTS:
                        waiting.append((step, attempt + 1))
                        continue
                    lost = (
                        f"its worker was lost {attempt} times, the last time: {future.exception() or 'its job ended'}"
                    )
                    outcomes[step] = outcome or Outcome(error=lost, is_final=False)
                    on_done(step.job.name)

    def _table(self, outcomes: dict[Measurement, Outcome]) -> PropertyFile:
        request = self.request
        return PropertyFile(
            potential=request.potential.name,
            reference=request.reference.name if request.reference else "",
            provenance={
                "alpot": __version__,
                **request.identities,
                "seed": str(request.seed),
            },
            results=tuple(results_of(self._jobs, outcomes, self.calibration)),
        )


@contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """Batch systems send SIGTERM: workers are to be ended, and the user told how to go on."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _outcome_of(future: Future[dict[str, Any]]) -> Outcome | None:
    """What a task gave; None if its worker was lost; raises ``UsageError`` if no worker can be reached any more."""
    error = future.exception()
    if isinstance(error, UsageError):
        raise error
    if error is not None:
        logger.warning("a worker was lost: %s", error)
        return None
    result = future.result()
    if result["status"] == "finished":
        return Outcome.model_validate(result["summary"]["outcome"])
    if result["status"] == "interrupted":
        return None
    return Outcome(error=str(result["message"]), is_final=False)


def prepare_validation(
    potential: str,
    output: Path,
    *,
    reference: str | None = None,
    suite: str = "quick",
    properties: Sequence[str] = (),
    elements: Sequence[str] = (),
    members: bool = True,
    seed: int = 0,
    workers: int | None = None,
    trust_directory: bool = False,
) -> Validation:
    """Find out what is to be measured, and that it can be.

    Args:
        potential: see ``find_source``.
        output: folder for measurements and the table.
        reference: likewise, what it is compared with.
        suite: which properties, a key of ``SUITES``.
        properties: these instead.
        elements: chemical symbols; by default those of the potential.
        members: measure the members of the ensemble, too.
        seed: of everything random.
        workers: on this machine, in place of what ``[resources]`` of the campaign file asks for.
        trust_directory: accept a folder that other users may write to: they could have workers run code of theirs.

    Raises:
        UsageError: a name is not known, the potential has no elements, or the folder holds something else.
    """
    chosen = _chosen(properties, suite, has_reference=reference is not None)
    source = find_source(potential)
    truth = find_source(reference) if reference else None
    resources = _resources(reference or potential, workers)
    device = _device(resources)
    opened = source.open(Path(), device=device) if isinstance(source, PotentialSource) else None
    names = _elements(potential, elements, opened)
    for found in (source, truth):
        _check(found, names, resources)
    return Validation(
        directory=_folder(output, trust_directory),
        request=Request(
            potential=source,
            reference=truth,
            elements=names,
            properties=chosen,
            seed=seed,
            device=device,
            identities={"potential": source.identity, **({"reference": truth.identity} if truth else {})},
        ),
        resources=resources,
        members=opened.ensemble.n_members if opened and members and opened.ensemble.n_members > 1 else 0,
        calibration=calibration_of(opened) if opened else 1.0,
    )


def _chosen(properties: Sequence[str], suite: str, *, has_reference: bool) -> tuple[PropertyName, ...]:
    """The properties that are asked for; of a suite, those that there can be without a reference."""
    refuse_unknown(tuple(properties))
    if suite not in SUITES:
        raise UsageError(f"there is no suite {suite!r}; the suites are {', '.join(SUITES)}")
    named = cast(tuple[PropertyName, ...], tuple(properties))
    impossible = [name for name in named if CATALOGUE[name].compare and not has_reference]
    if impossible:
        raise UsageError(f"{', '.join(impossible)} compares with a reference; name one with --reference")
    of_suite = (name for name in SUITES[cast(Suite, suite)] if has_reference or not CATALOGUE[name].compare)
    return named or tuple(of_suite)


def _elements(potential: str, elements: Sequence[str], opened: AlpotCalculator | None) -> tuple[str, ...]:
    known = opened.card.elements if opened else ()
    names = tuple(dict.fromkeys(elements or known))
    if not names:
        raise UsageError(f"{potential} does not say which elements it is for; name one with --element")
    for name in names:
        if name not in atomic_numbers or name == "X":
            raise UsageError(f"--element {name!r} is no chemical symbol, such as Al")
        if opened and name not in known:
            raise UsageError(f"{potential} does not know the element {name}; it knows {', '.join(known)}")
    return names


def _resources(named: str, workers: int | None) -> Resources:
    """Those of the campaign file that was named, if it is one; by default this machine."""
    path = Path(named).expanduser()
    resources = read_campaign(path).resources if path.is_file() else Resources()
    if workers is None:
        return resources
    if resources.platform != "laptop":
        raise UsageError(
            f"--workers is for measurements on this machine, but {named} asks for the platform {resources.platform!r},"
            " whose pools say how many there are"
        )
    return resources.model_copy(update={"workers": workers})


def _device(resources: Resources) -> str:
    if resources.device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return resources.device


def _check(source: Source | None, elements: Sequence[str], resources: Resources) -> None:
    if isinstance(source, ReferenceSource):
        with label_environment(resources):
            open_reference(source.reference, base_directory=source.base_directory).check(elements)


def _folder(output: Path, trust_directory: bool) -> CampaignDirectory:
    directory = CampaignDirectory(output)
    if directory.path.exists() and not directory.path.is_dir():
        raise UsageError(f"{output} is a file; give a folder with --output")
    if directory.path.is_dir() and any(directory.path.iterdir()) and not Request.is_in(directory):
        raise UsageError(
            f"{output} is not empty, and no properties were measured there; choose another folder with --output"
        )
    make_folder(directory.path)
    if not trust_directory:
        refuse_writable_by_others(directory.path)
    return directory
