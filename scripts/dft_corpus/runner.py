"""Runs the cases of one code."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import Any

import psutil
from ase import Atoms

from alpot.config import Dft, Reference
from alpot.reference.box import with_box
from alpot.reference.dft import DftReference
from alpot.reference.dft_code import Calculation, DftCode
from alpot.reference.kpoints import kpoint_grid
from alpot.reference.ladder import merged
from alpot.reference.program import run_program
from alpot.reference.registry import open_reference
from dft_corpus.benches import BENCHES
from dft_corpus.case import Case

#: Bytes in a file system of which a program fills what its inputs leave.
_DISK = 2**20
_LAUNCHERS = ("mpirun", "orterun", "orted")


class Runner:
    """Runs the cases of one code."""

    def __init__(self, name: str) -> None:
        self.bench = BENCHES[name]
        self.name = name

    @property
    def code(self) -> DftCode:
        """The adapter."""
        return self._reference.code

    @cached_property
    def _reference(self) -> DftReference:
        """At the level of theory that the cases change."""
        settings = Reference(code=self.name, dft=Dft(**self.bench.dft), arguments=self.bench.arguments)
        reference = open_reference(settings, base_directory=Path.cwd())
        assert isinstance(reference, DftReference)
        return reference

    def results(self, directory: Path) -> Path:
        """The file in which a run's results are for people."""
        return directory / (self.bench.results or self.code.output)

    def witnesses(self, directory: Path) -> list[Path]:
        """The other files in which they are."""
        return [directory / name for name in self.code.witness if name != self.bench.results]

    def calculation(self, frame: Atoms, dft: dict[str, Any], arguments: dict[str, Any], directory: Path) -> Calculation:
        """As the reference makes it."""
        changed = Dft(**{**self.bench.dft, **dft})
        boxed = with_box(frame)
        return Calculation(
            atoms=boxed,
            directory=directory,
            dft=changed,
            # The same for all functionals, also those for which a reference would refuse them.
            pseudopotentials={
                symbol: self.code.find_pseudopotential(symbol, self._reference.dft, Path.cwd())[0]
                for symbol in sorted(set(boxed.symbols))
            },
            arguments=merged(self.bench.arguments, arguments),
            kpoints=kpoint_grid(boxed, changed.kpoints_per_length),
        )

    def run(self, case: Case, directory: Path) -> int:
        """Runs a case; its exit status."""
        calculation = self.calculation(
            case.ran_frame or case.frame,
            {**case.dft, **case.ran_dft},
            merged(case.arguments, case.ran_arguments),
            directory,
        )
        self.code.write(calculation)
        if case.tamper is not None:
            case.tamper(directory)
        if case.fills_disk:
            _fill(directory, left=self._log_size // 2)
        command = [*case.prefix, *self.code.command(calculation, shutil.which(self.code.program) or self.code.program)]
        output = directory / self.code.output
        if case.kill is None:
            return run_program(command, directory, output).status
        share, number = case.kill
        size, progress = int(share * self._log_size), self._progress(directory)
        killer = threading.Thread(target=_kill, args=(directory, progress, size, number))
        killer.start()
        status = run_program(command, directory, output).status
        killer.join()
        # The last lines are written faster than anybody looks.
        if progress.stat().st_size > size:
            os.truncate(progress, size)
        return status

    def _progress(self, directory: Path) -> Path:
        return directory / (self.bench.progress or self.code.output)

    @cached_property
    def _log_size(self) -> int:
        """Bytes that it writes as it runs."""
        with tempfile.TemporaryDirectory() as folder:
            self.run(Case(name="", verdict=None), Path(folder))
            return self._progress(Path(folder)).stat().st_size


@contextmanager
def place(*, is_small: bool) -> Iterator[Path]:
    """A folder for a run; a small one is a file system of its own, which takes root."""
    with tempfile.TemporaryDirectory() as folder:
        if is_small:
            subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={_DISK}", "tmpfs", folder], check=True)
        try:
            yield Path(folder)
        finally:
            if is_small:
                subprocess.run(["umount", folder], check=True)


def _fill(directory: Path, left: int) -> None:
    """Leaves so many bytes of a small file system."""
    free = shutil.disk_usage(directory).free
    if free > _DISK:
        raise ValueError(f"{directory} is no small file system")
    (directory / "filler").write_bytes(b"\0" * (free - left))


def _kill(directory: Path, progress: Path, size: int, number: signal.Signals) -> None:
    """Kills the program that runs in a directory, or one of its ranks, once it has written so many bytes."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        if progress.exists() and progress.stat().st_size >= size:
            _programs(directory)[-1].send_signal(number)
            return
        time.sleep(0.0005)


def _programs(directory: Path) -> list[psutil.Process]:
    found = []
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            if child.name() not in _LAUNCHERS and Path(child.cwd()).samefile(directory):
                found.append(child)
    return found
