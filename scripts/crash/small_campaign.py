"""A whole campaign in a fraction of a second: the real subject, dynamics, training and reference, on few atoms.

It is what `alpot run` does, in this process: only the platform is another, one that needs no Parsl.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

import alpot.subjects.launch as launch
import alpot.subjects.training_data
from alpot.campaign.apps import run_task
from alpot.campaign.subject import Kind
from alpot.config import Resources
from alpot.errors import AlpotError, UsageError
from alpot.store.directory import CampaignDirectory
from crash.logged_reference import BOOK
from crash.place import Place

TEXT = """\
seed = 1

[material]
elements = ["Al"]

[[material.starts]]
kind = "crystal"
prototypes = ["fcc"]
atoms = [4, 4]
density = [2.6, 3.0]
strain = 0.03
rattle = [0.0, 0.2]
vacancy_chance = 0.0
interstitial_chance = 0.0

[exploration]
walkers = 3
walkers_per_task = 3
timestep = 3.0
max_time = 0.06
temperature_start = [300.0, 800.0]
temperature_end = [300.0, 800.0]
temperature_amplitude = [0.0, 0.0]
max_force_error = 0.2
mean_force_error = 0.1
audit_share = 0.3

[reference]
code = "crash.logged_reference:LoggedEMT"
arguments = { asap_cutoff = false }

[potential]
members = 2
hidden = [8]

[potential.descriptor]
radial_cutoff = 4.5
radial_shifts = 8
angular_cutoff = 3.5
angular_shifts = 2
angle_sections = 4
angular_zeta = 14.0

[training]
initial_labels = 5
labels_per_generation = 3
blocks = 4
validation_blocks = 1
test_blocks = 1
batch_frames = 4
max_epochs = 3
schedule = "one-cycle"
learning_rate = 1e-2

[assessment]
properties = ["lattice"]
compare_reference = false

[stopping]
max_labels = 12

[resources]
checkpoint_interval = 1e-9    # each opportunity to save an unfinished task is taken
"""

#: Compaction is worth its while from 500 labels on; here it must happen within a dozen.
LABELS_PER_SHARD = 3


class Here:
    """A platform that runs each task at once in the controller's process."""

    def __init__(self, _settings: Resources) -> None:
        self.slots: Mapping[str, int] = {"workers": 1}
        self.pool_of: Mapping[Kind, str] = dict.fromkeys(Kind, "workers")
        self.provenance: Mapping[str, Any] = {}

    @contextmanager
    def executor(self, directory: CampaignDirectory, subject: str) -> Iterator[Here]:
        """See ``alpot.campaign.executor.Platform``."""
        self.directory, self.subject = directory, subject
        yield self

    def dry_run(self, directory: CampaignDirectory) -> list[tuple[str, str]]:
        """There are no job scripts."""
        return []

    def submit(self, task: dict[str, Any]) -> Future[dict[str, Any]]:
        """See ``alpot.campaign.executor.Executor``."""
        future: Future[dict[str, Any]] = Future()
        try:
            future.set_result(self._carry_out(task))
        except Exception as error:  # noqa: BLE001 - as an executor does
            future.set_exception(error)
        return future

    def _carry_out(self, task: dict[str, Any]) -> dict[str, Any]:
        return run_task(self.subject, str(self.directory.path), task)


class Forked(Here):
    """A platform that runs each task at once, in a process of its own that may die."""

    def _carry_out(self, task: dict[str, Any]) -> dict[str, Any]:
        ours, theirs = os.pipe()
        worker = os.fork()
        if worker == 0:
            try:
                os.write(theirs, json.dumps(super()._carry_out(task)).encode())
            finally:
                os._exit(0)
        os.close(theirs)
        with os.fdopen(ours, "rb") as pipe:
            answer = pipe.read()
        _, status = os.waitpid(worker, 0)
        if not answer:
            raise RuntimeError(f"the worker has ended with status {status}")
        return dict(json.loads(answer))


def alpot_run(
    place: Place, platform: Callable[[Resources], Here] = Here, errors: Path | None = None
) -> Callable[[], int]:
    """What `alpot run` does, as a function to be run in a forked process; returns its exit code."""

    def body() -> int:
        os.dup2(os.open(errors or place.errors, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644), 2)
        os.environ[BOOK] = str(place.book)
        launch.open_platform = platform  # type: ignore[assignment]
        try:
            launch.prepare(place.file, place.directory.path).run()
        except AlpotError as error:  # as alpot.cli.main
            print(f"error: {error}", file=sys.stderr)
            return 2 if isinstance(error, UsageError) else 1
        except BaseException:
            sys.excepthook(*sys.exc_info())
            raise
        return 0

    return body


def new_place(folder: Path, text: str = TEXT) -> Place:
    """A place for a campaign that has not begun."""
    return Place(folder).prepare(text)


@cache
def get_ready() -> None:
    """Loads and compiles in this process whatever its children would otherwise load and compile each by itself."""
    torch.set_num_threads(1)
    alpot.subjects.training_data.LABELS_PER_SHARD = LABELS_PER_SHARD
    with tempfile.TemporaryDirectory() as folder, _instead_of(launch, "open_platform", Here):
        place = new_place(Path(folder) / "warm-up")
        os.environ[BOOK] = str(place.book)
        launch.prepare(place.file, place.directory.path).run()


@contextmanager
def _instead_of(module: ModuleType, name: str, other: object) -> Iterator[None]:
    ours = getattr(module, name)
    setattr(module, name, other)
    try:
        yield
    finally:
        setattr(module, name, ours)
