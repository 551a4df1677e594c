"""Runs a measurement in a fresh process: malloc and the number of threads are read when a process starts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

import alpot
from engine_benchmarks.measuring import Row

ROOT = Path(__file__).parents[2]
#: Keeps freed memory instead of returning it to the system; alpot starts its workers with it.
TUNED = {"MALLOC_MMAP_THRESHOLD_": "4000000000", "MALLOC_TRIM_THRESHOLD_": "4000000000"}


class MeasurementError(RuntimeError):
    """A measurement ended without an answer; the message is the last line that it wrote."""


def run_isolated(
    module: str,
    job: dict[str, Any],
    *,
    malloc: str = "tuned",
    threads: int = 1,
    package: Path = ROOT,
    environment: dict[str, str] | None = None,
    memory_limit: float | None = None,
) -> Any:
    """The answer of ``engine_benchmarks.<module>`` to a job.

    Args:
        module: it calls ``answer`` when it is run.
        job: what to measure, JSON-able.
        malloc: ``default`` or ``tuned``.
        threads: number of threads of torch and numba.
        package: the folder that holds the package alpot to be measured.
        environment: further variables.
        memory_limit: bytes; the process is ended when it holds more.

    Raises:
        MeasurementError: the process failed, or held more memory than it may.
    """
    inherited = {name: value for name, value in os.environ.items() if name not in TUNED}
    chosen = inherited | (TUNED if malloc == "tuned" else {}) | (environment or {})
    for name in ("OMP", "MKL", "OPENBLAS", "NUMBA"):
        chosen[f"{name}_NUM_THREADS"] = str(threads)
    chosen["PYTHONPATH"] = os.pathsep.join([str(package), str(ROOT / "scripts")])
    # torchani warns of CUDA extensions that are of no use here.
    chosen["TORCHANI_NO_WARN_EXTENSIONS"] = "1"
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile("w+") as errors:
        result = Path(folder) / "answer.json"
        # -P: the folder that the script was started from is not searched before PYTHONPATH.
        command = [
            sys.executable,
            "-P",
            "-m",
            f"engine_benchmarks.{module}",
            json.dumps(job),
            str(result),
            str(package),
        ]
        process = subprocess.Popen(command, env=chosen, stdout=subprocess.DEVNULL, stderr=errors)
        try:
            _wait(process, memory_limit)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
        if result.exists():
            return json.loads(result.read_text())
        errors.seek(0)
        raise MeasurementError((errors.read().strip().splitlines() or [f"ended with code {process.returncode}"])[-1])


def _wait(process: subprocess.Popen[bytes], memory_limit: float | None) -> None:
    while memory_limit is not None and process.poll() is None:
        try:
            held = psutil.Process(process.pid).memory_info().rss
        except psutil.NoSuchProcess:
            break
        if held > memory_limit:
            raise MeasurementError(f"ended when it held more than {memory_limit / 2**30:.1f} GiB")
        time.sleep(0.1)
    process.wait()


def run_rows(module: str, job: dict[str, Any], **how: Any) -> list[Row]:
    """The rows that a module answers with; a single one with the reason if it fails."""
    try:
        return [Row.from_json(row) for row in run_isolated(module, job, **how)]
    except MeasurementError as error:
        return [Row(what=module.replace("_", " "), malloc=how.get("malloc", ""), reason=str(error))]


def answer(measure: Callable[..., Any]) -> None:
    """Called by a module that is run by ``run_isolated``: calls ``measure`` with the job as keyword arguments.

    Raises:
        MeasurementError: the package alpot that was imported is not the one to be measured.
    """
    job, result_file, package = sys.argv[1:]
    if not Path(alpot.__file__).is_relative_to(package):
        raise MeasurementError(f"{alpot.__file__} was imported, and {package} is to be measured")
    result = measure(**json.loads(job))
    if isinstance(result, list):
        result = [row.to_json() for row in result]
    Path(result_file).write_text(json.dumps(result))
