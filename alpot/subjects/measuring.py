"""The task of measuring one property with one calculator, and the subject that knows no other task."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from alpot.campaign.subject import Assignment
from alpot.config import PropertyName
from alpot.errors import UsageError
from alpot.store.directory import CampaignDirectory
from alpot.store.json_files import publish_json, read_json
from alpot.store.measurements import Measurements
from alpot.subjects.specimens import Source
from alpot.validation.bench import Bench
from alpot.validation.catalogue import CATALOGUE
from alpot.validation.measurement import Measurement
from alpot.validation.outcome import Outcome
from alpot.validation.suite import benches_of, measure, remembered


class Request(BaseModel):
    """What is to be measured.

    Attributes:
        potential: what is examined.
        reference: what it is compared with, if anything.
        elements: each is examined as a pure crystal.
        properties: in the order of the table.
        seed: of everything random.
        device: where potentials compute, as torch names it.
        identities: hashes of all that the answers of ``potential`` and ``reference`` depend on, when it was asked.
    """

    model_config = ConfigDict(frozen=True)

    potential: Source
    reference: Source | None = None
    elements: tuple[str, ...]
    properties: tuple[PropertyName, ...]
    seed: int = 0
    device: str = "cpu"
    identities: dict[str, str]

    def write(self, directory: CampaignDirectory) -> None:
        """Leaves it for the workers."""
        publish_json(_path(directory), self.model_dump(mode="json"))

    @classmethod
    def read(cls, directory: CampaignDirectory) -> Request:
        """What was left for the workers."""
        return cls.model_validate(read_json(_path(directory)))

    @staticmethod
    def is_in(directory: CampaignDirectory) -> bool:
        """Whether properties were measured here before."""
        return _path(directory).is_file()


def _path(directory: CampaignDirectory) -> Path:
    return directory.path / "request.json"


class MeasuringSubject:
    """Measures properties; see ``alpot.campaign.subject.Subject``."""

    def __init__(self, directory: Path) -> None:
        self.directory = CampaignDirectory(directory)
        self.request = Request.read(self.directory)
        self.benches = cache(self._benches)

    def run(self, assignment: Assignment) -> dict[str, Any]:
        """Measure one property, unless that has been done."""
        request, wanted = self.request, Measurement.model_validate(assignment.spec)
        entry = CATALOGUE[wanted.job.name]

        def make() -> Outcome:
            benches = self.benches(wanted.of, wanted.member, "float32" if entry.single_precision else "float64")
            against = None
            if entry.compare is not None and request.reference is not None:
                against = request.reference.open(assignment.scratch, device=request.device)
            return measure(wanted.job, benches, against)

        kept = Measurements(self.directory.measurements)
        outcome = remembered(kept, wanted.question(request.identities, request.seed), make)
        return {"outcome": outcome.dump()}

    def _benches(
        self, of: Literal["potential", "reference"], member: int, dtype: Literal["float32", "float64"]
    ) -> Mapping[str, Bench]:
        """Kept by the worker: the crystals at equilibrium serve its next tasks."""
        request = self.request
        source = request.potential if of == "potential" else request.reference
        assert source is not None, "the reference is measured only where there is one"
        if source.identity != request.identities[of]:
            raise UsageError(f"{source.name} is not what it was when this was asked for; run the same command again")
        scratch = self.directory.worker_scratch / f"{socket.gethostname()}-{os.getpid()}"
        scratch.mkdir(parents=True, exist_ok=True)
        calculator: Any = source.open(scratch, device=request.device, mean_forces_only=True, dtype=dtype)
        if member >= 0:
            return benches_of(calculator.members()[member], request.elements, request.seed)
        judge = source.open(scratch, device=request.device)
        return benches_of(calculator, request.elements, request.seed, judge)
