"""What is done to outputs when a program has ended."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

from ase import Atoms

from dft_corpus.case import After, Case, Running
from tests.reference.dft_codes import rattled


def with_log_of(frame: Atoms, dft: dict[str, Any]) -> After:
    """Puts the log of another frame, or of another level of theory, in place of its own."""

    def put(runner: Running, directory: Path, scratch: Path) -> None:
        runner.run(Case(name="", verdict=None, ran_frame=frame, ran_dft=dft), scratch)
        shutil.copy(runner.results(scratch), runner.results(directory))

    return put


def log_of_few_steps(runner: Running, directory: Path, scratch: Path) -> None:
    """Puts the log of a run that did not converge in place of its own."""
    runner.run(Case(name="", verdict=None, ran_arguments=runner.bench.few_steps), scratch)
    shutil.copy(runner.results(scratch), runner.results(directory))


def twice(runner: Running, directory: Path, scratch: Path) -> None:
    """Doubles the log."""
    runner.results(directory).write_bytes(runner.results(directory).read_bytes() * 2)


def with_log_added(runner: Running, directory: Path, scratch: Path) -> None:
    """Puts the log of another frame before its own."""
    runner.run(Case(name="", verdict=None, ran_frame=rattled(2, seed=2)), scratch)
    runner.results(directory).write_bytes(runner.results(scratch).read_bytes() + runner.results(directory).read_bytes())


def overwritten(what: str, word: str) -> After:
    """Overwrites numbers in place with ``word``, as a program does whose numbers are none."""

    def mask(region: re.Match[str]) -> str:
        return re.sub(r"-?\d*\.\d+(e[-+]?\d+)?", lambda number: word.rjust(len(number[0])), region[0])

    def overwrite(runner: Running, directory: Path, scratch: Path) -> None:
        for path in (runner.results(directory), *runner.witnesses(directory)):
            if b"\0" not in path.read_bytes():
                path.write_text(re.sub(runner.bench.regions[what], mask, path.read_text(), flags=re.MULTILINE))

    return overwrite


def cut_log(share: float) -> After:
    """Cuts the log off."""

    def cut(runner: Running, directory: Path, scratch: Path) -> None:
        content = runner.results(directory).read_bytes()
        runner.results(directory).write_bytes(content[: int(share * len(content))])

    return cut


def emptied_log(runner: Running, directory: Path, scratch: Path) -> None:
    """Empties the log."""
    runner.results(directory).write_bytes(b"")


def without_witness(runner: Running, directory: Path, scratch: Path) -> None:
    """Removes the other files with results."""
    for path in runner.witnesses(directory):
        path.unlink()


def emptied_witness(runner: Running, directory: Path, scratch: Path) -> None:
    """Empties the other files with results."""
    for path in runner.witnesses(directory):
        path.write_bytes(b"")


def halved_witness(runner: Running, directory: Path, scratch: Path) -> None:
    """Cuts the other files with results in the middle."""
    for path in runner.witnesses(directory):
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
