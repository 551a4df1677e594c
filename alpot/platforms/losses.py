"""Finds out why a worker was lost: from its note, from the scheduler, and from the output of its job."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from parsl.executors import HighThroughputExecutor
from parsl.executors.high_throughput.errors import ManagerLost, WorkerLost

from alpot.campaign.executor import WorkerLostError
from alpot.errors import FailureClass
from alpot.platforms.job_evidence import Finding, find_sign
from alpot.platforms.worker import note_path
from alpot.store.directory import CampaignDirectory

_EVIDENCE_LINES = 12
_TAIL_BYTES = 8192
#: A scheduler that ends a job kills its workers first and tells the reason a moment later.
_AFTERTHOUGHT_S = 3.0
#: Many tasks are lost with one block; the scheduler is asked once.
_WORDS_HOLD_S = 10.0


class Losses:
    """Explains losses in one campaign.

    Args:
        directory: the campaign.
        executors: by name of the pool.
    """

    def __init__(self, directory: CampaignDirectory, executors: Mapping[str, HighThroughputExecutor]) -> None:
        self._directory = directory
        self._executors = executors
        self._words: dict[str, tuple[float, str]] = {}

    def explain(self, pool: str, task: dict[str, Any], error: BaseException) -> WorkerLostError:
        """What has happened to the worker of a task; takes seconds.

        Args:
            pool: the task's.
            task: as it was submitted.
            error: what Parsl said.
        """
        executor = self._executors[pool]
        note = self._note(task)
        block = note.get("block") or _block_of_manager(executor, error)
        is_alone = isinstance(error, WorkerLost)
        evidence = self._evidence(executor, block)
        finding = find_sign(evidence)
        if finding is None and is_alone:
            time.sleep(_AFTERTHOUGHT_S)
            self._words.clear()
            evidence = self._evidence(executor, block)
            finding = find_sign(evidence)
        failure = finding.sign.failure if finding else FailureClass.NODE_LOST
        return WorkerLostError(
            _sentence(task["id"], executor.blocks_to_job_id.get(block or ""), note.get("host"), finding, error),
            failure=failure,
            evidence=_shortened(evidence, finding, error),
            is_suspect=failure == FailureClass.OUT_OF_MEMORY or (is_alone and finding is None),
        )

    def _note(self, task: dict[str, Any]) -> dict[str, Any]:
        try:
            note = json.loads(note_path(self._directory, task).read_bytes())
        except (OSError, ValueError):
            return {}
        return note if note.get("attempt") == task["attempt"] else {}

    def _evidence(self, executor: HighThroughputExecutor, block: str | None) -> str:
        """Output of a block's job, and the scheduler's description of it."""
        if block is None:
            return ""
        provider: Any = executor.provider
        texts = [_tail(path) for path in _outputs(Path(provider.script_dir), f".{executor.label}.block-{block}.")]
        job = executor.blocks_to_job_id.get(block)
        if job is not None and hasattr(provider, "describe"):
            known = self._words.get(job)
            if known is None or time.monotonic() - known[0] > _WORDS_HOLD_S:
                self._words[job] = known = (time.monotonic(), provider.describe(job))
            texts.append(known[1])
        return "\n".join(text for text in texts if text)


def _block_of_manager(executor: HighThroughputExecutor, error: BaseException) -> str | None:
    """The block of a manager, known from the folder of its log; for tasks that were lost before they began."""
    if not isinstance(error, ManagerLost):
        return None
    folders = Path(executor.worker_logdir).glob(f"block-*/{error.manager_id.decode()}")
    return next((folder.parent.name.removeprefix("block-") for folder in folders), None)


def _outputs(scripts: Path, part: str) -> list[Path]:
    """Files into which a job wrote, whatever its scheduler calls them; ``part`` is in the names of a block's files."""
    if not scripts.is_dir():
        return []
    suffixes = (".stdout", ".stderr", ".out", ".err")
    return [path for path in sorted(scripts.iterdir()) if part in path.name and path.suffix in suffixes]


def _tail(path: Path) -> str:
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - _TAIL_BYTES))
            return file.read().decode("utf-8", errors="replace").strip()
    except OSError:
        return ""


def _sentence(task: str, job: str | None, host: str | None, finding: Finding | None, error: BaseException) -> str:
    if job is None:
        return f"the worker of {task} was lost: {error}"
    place = f"job {job} on {host}" if host else f"job {job}"
    if finding is not None:
        return f"{place}, which had {task}, {finding.sign.meaning}"
    if isinstance(error, WorkerLost):
        return f"the worker of {task} died in {place}, which lived on: a crash, a lack of memory, or a kill"
    return f"{place}, which had {task}, gave no more sign of life: {error}"


def _shortened(evidence: str, finding: Finding | None, error: BaseException) -> str:
    lines = evidence.splitlines()[-_EVIDENCE_LINES:]
    if finding is not None and finding.line not in (line.strip() for line in lines):
        lines.insert(0, finding.line)
    return "\n".join(lines) or f"{type(error).__name__}: {error}"
