"""Runs density-functional codes into trouble on purpose, and keeps what they write for the tests of the readers.

    PYTHONPATH=. python scripts/make_dft_corpus.py [--cases CASE ...] [CODE ...]

Each case says what was asked for (the declared frame and settings), runs the real program with that or with something
else, perhaps kills it or tampers with its files, and says what a campaign must make of the output: believe it, or name
this failure. The outputs go to ``tests/reference/corpus/<code>/<case>/``, the verdicts, as they are demanded here, into
``corpus.json`` beside them. Nothing is recorded when a verdict is not the demanded one. Cases that fill a disk mount a
small one, as root.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dft_corpus.benches import BENCHES
from dft_corpus.case import Case
from dft_corpus.common import bad_cases, good_cases
from dft_corpus.runner import Runner, place

from alpot.reference.dft import RunFailed, judged
from alpot.reference.ladder import Ladder
from alpot.reference.program import STANDARD_ERROR
from tests.reference.dft_corpus import ROOT, numbers_of


def main() -> int:
    """Makes the corpora of some codes, or some cases of them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("codes", nargs="*", default=list(BENCHES), help="by default all")
    parser.add_argument("--cases", nargs="*", help="by default all; the others stay as they are")
    chosen = parser.parse_args()
    # Fortran keeps 8 kB of its output to itself: a killed program would leave nothing of a short log.
    os.environ |= {"GFORTRAN_UNBUFFERED_ALL": "1", "OMP_NUM_THREADS": "1"}
    are_right = [make_corpus(name, chosen.cases) for name in chosen.codes]
    return 0 if all(are_right) else 1


def make_corpus(name: str, names: Sequence[str] | None) -> bool:
    """Makes the corpus of a code, or these cases of it; whether all verdicts are the demanded ones."""
    runner, file = Runner(name), ROOT / name / "corpus.json"
    has_second_file = bool(runner.witnesses(Path()))
    cases = [*good_cases(), *bad_cases(runner.bench, has_second_file=has_second_file), *runner.bench.own()]
    known = {row["name"]: row for row in json.loads(file.read_text())["cases"]} if file.is_file() else {}
    made = {case.name: make(runner, case) for case in cases if names is None or case.name in names}
    rows = [row for row in (made.get(case.name, known.get(case.name)) for case in cases) if row is not None]
    text = json.dumps({"cases": rows}, indent=None).replace('{"name"', '\n{"name"')
    file.write_text(text + "\n")
    print(f"{name}: {len(rows)} cases")
    return None not in made.values()


def make(runner: Runner, case: Case) -> dict[str, Any] | None:
    """Makes one case, and its row in ``corpus.json``; None, with a word, where the verdict is another one."""
    code = runner.code
    with place(is_small=case.fills_disk) as directory, tempfile.TemporaryDirectory() as scratch:
        status = runner.run(case, directory)
        status = status if case.status is None else case.status
        asked = runner.calculation(case.frame, case.dft, case.arguments, directory)
        if case.after is not None:
            case.after(runner, directory, Path(scratch))
        failure, symptom, numbers, why = None, None, {}, "a label"
        try:
            numbers = numbers_of(judged(code, Ladder.of(runner.name), asked, status))
        except RunFailed as failed:
            failure, symptom, why = failed.trouble.failure, failed.trouble.symptom, failed.message
        expected = case.symptom or (None if case.verdict is None else case.verdict.value)
        print(f"{runner.name} {case.name}: status {status}, {symptom or 'believed'}: {why}", flush=True)
        if (failure, symptom) != (case.verdict, expected):
            print(f"    WRONG: {case.verdict}, {expected} is demanded", flush=True)
            return None
        names = [code.output, STANDARD_ERROR, *code.logs, *code.witness]
        _keep(directory, ROOT / runner.name / case.name, names, [directory, Path(scratch)])
        is_full = {"is_disk_full": True} if case.fills_disk else {}
    frame = asked.atoms
    declared = {
        "frame": {
            "symbols": str(frame.symbols),
            "positions": frame.positions.tolist(),
            "cell": frame.cell.tolist(),
            "pbc": frame.pbc.tolist(),
        },
        "dft": {**runner.bench.dft, **case.dft},
        "arguments": dict(asked.arguments),
        "kpoints": list(asked.kpoints),
        "pseudopotentials": runner.bench.pseudopotentials
        or {key: text.replace(sys.prefix, "/environment") for key, text in asked.pseudopotentials.items()},
    }
    return {"name": case.name, "status": status, "failure": failure, "symptom": symptom, "declared": declared,
            "numbers": numbers, **is_full}  # fmt: skip


def _keep(directory: Path, folder: Path, names: Sequence[str], places: Sequence[Path]) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name in names:
        if (directory / name).is_file():
            (folder / f"{name}.gz").parent.mkdir(parents=True, exist_ok=True)
            content = _anonymous((directory / name).read_bytes(), {str(place): "/run" for place in places})
            (folder / f"{name}.gz").write_bytes(gzip.compress(content, mtime=0))


def _anonymous(content: bytes, places: Mapping[str, str]) -> bytes:
    """A log without what it tells of this machine; one that was cut may end within a path."""
    names = {**places, sys.prefix: "/environment", str(Path.cwd()): "/alpot", platform.node(): "node"}
    for local, word in names.items():
        content = content.replace(local.encode(), word.encode())
        for size in range(len(local) - 1, 4, -1):
            content = content.removesuffix(local[:size].encode())
    return content


if __name__ == "__main__":
    sys.exit(main())
