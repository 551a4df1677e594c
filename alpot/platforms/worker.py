"""What Parsl executes in a worker: notes where the task is, keeps to the GPUs that were granted, runs the task."""

from __future__ import annotations

import json
import os
import socket
import time
from pathlib import Path
from typing import Any

import psutil

from alpot.campaign.apps import run_task
from alpot.store.directory import CampaignDirectory
from alpot.store.files import publish

#: Where a worker's job is named, by scheduler.
_JOB_VARIABLES = ("SLURM_JOB_ID", "PBS_JOBID", "LSB_JOBID")
#: Of all that Parsl sets where it pins a worker to GPUs, this one holds their numbers as they were given to it.
_PINNED = "ZE_AFFINITY_MASK"


def run_in_worker(subject: str, directory: str, task: dict[str, Any]) -> dict[str, Any]:
    """Runs one attempt at a task; arguments and result as of ``alpot.campaign.apps.run_task``."""
    _keep_to_granted_gpus()
    # Where srun has started the workers: ranks of a reference code would inherit it, and number the lines they print.
    os.environ.pop("SLURM_LABELIO", None)
    publish(note_path(CampaignDirectory(Path(directory)), task), json.dumps(_whereabouts(task)).encode())
    return run_task(subject, directory, task)


def note_path(directory: CampaignDirectory, task: dict[str, Any]) -> Path:
    """The note by which it can be found out later what has happened to a task's worker."""
    return directory.task_path(task["kind"], task["id"]) / "worker.json"


def _whereabouts(task: dict[str, Any]) -> dict[str, Any]:
    return {
        "attempt": task["attempt"],
        "block": os.environ.get("PARSL_WORKER_BLOCK_ID", ""),
        "job": next((os.environ[name] for name in _JOB_VARIABLES if name in os.environ), ""),
        "host": os.environ.get("SLURMD_NODENAME") or socket.gethostname(),
        "pid": os.getpid(),
        "began": time.time(),
    }


def _keep_to_granted_gpus() -> None:
    """Parsl numbers the GPUs of a worker from 0; the scheduler may have granted others to the job."""
    job = _environment_of_manager()
    granted = job.get("CUDA_VISIBLE_DEVICES", "").split(",")
    share = os.environ.get(_PINNED, "")
    if share == job.get(_PINNED, ""):
        return  # this pool has no GPUs, or leaves them to its tasks
    numbers = [int(number) for number in share.split(",")]
    if max(numbers) < len(granted) and all(granted):
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(granted[number] for number in numbers)


def _environment_of_manager() -> dict[str, str]:
    try:
        return dict(psutil.Process(os.getppid()).environ())
    except psutil.Error:
        return {}
