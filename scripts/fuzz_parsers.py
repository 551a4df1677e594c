"""Reads damaged outputs of density-functional codes by the thousand: each must give its true label or a named error.

    PYTHONPATH=. python scripts/fuzz_parsers.py --mutations 100000 --processes 2 espresso cp2k ...

A label is wrong if any of its numbers differs from that of the undamaged output by more than rounding in the coarser of
its two places explains (``TOLERANCES`` in tests/reference/dft_corpus.py), or is there in only one of the two. Both
places of a number are damaged independently: that both come to the same wrong number is no fault of a reader.
What is told once only is information: of that, no more is demanded than a finite number for each atom, or none.
Counts go to ``reference_data/benchmarks/fuzz.json``; whatever is neither label nor named error is printed, with the
number from which it can be made again, and the exit status is 1.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from tests.reference.dft_corpus import codes
from tests.reference.fuzzing import Fuzzer, Verdict

_RESULT = Path(__file__).parents[1] / "reference_data" / "benchmarks" / "fuzz.json"
_CHUNK = 250
#: Bytes that reading may need beyond what the process has to begin with.
_MEMORY = 2**30
_GOOD = ("true label", "named error")


def read_chunk(job: tuple[str, int]) -> list[Verdict]:
    """Tries out the mutations from a number on."""
    code, begin = job
    with tempfile.TemporaryDirectory(prefix="alpot-fuzz-", dir=_memory_disk()) as folder:
        return list(Fuzzer(code, Path(folder)).run(range(begin, begin + _CHUNK)))


def _memory_disk() -> str | None:
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


def _limit() -> None:
    os.nice(5)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + _MEMORY, used + _MEMORY))


def fuzz(code: str, n: int, first: int, processes: int) -> Iterator[dict[str, object]]:
    """Counts what comes of ``n`` mutations of the outputs of a code, as far as they have got."""
    begin = time.monotonic()
    kinds: Counter[str] = Counter()
    slowest = 0.0
    with multiprocessing.get_context("spawn").Pool(processes, _limit) as pool:
        jobs = [(code, number) for number in range(first, first + n, _CHUNK)]
        for verdicts in pool.imap(read_chunk, jobs):
            kinds.update(verdict.kind for verdict in verdicts)
            slowest = max(slowest, *(verdict.seconds for verdict in verdicts))
            for verdict in verdicts:
                if verdict.kind not in _GOOD:
                    print(f"{code}: {verdict}", flush=True)
            yield {
                "mutations": kinds.total(),
                "first": first,
                **{kind.replace(" ", "_"): kinds[kind] for kind in (*_GOOD, "wrong label", "exception", "slow")},
                "per_second": round(kinds.total() / (time.monotonic() - begin), 1),
                "slowest_s": round(slowest, 3),
            }


def main() -> int:
    """Fuzzes the readers of all codes, or of some."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("codes", nargs="*", help="by default all that have a corpus")
    parser.add_argument("--mutations", type=int, default=100_000, help="in all")
    parser.add_argument("--first", type=int, default=0, help="number of the first mutation")
    parser.add_argument("--processes", type=int, default=2)
    chosen = parser.parse_args()
    names = chosen.codes or codes()
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
    table = json.loads(_RESULT.read_text()) if _RESULT.exists() else {}
    for code in names:
        for found in fuzz(code, chosen.mutations // len(names), chosen.first, chosen.processes):
            table[code] = {"commit": commit, "python": platform.python_version(), **found}
            _RESULT.write_text(json.dumps(table, indent=1, sort_keys=True) + "\n")
        print(code, table[code], flush=True)
    is_sound = all(table[code][kind] == 0 for code in names for kind in ("wrong_label", "exception", "slow"))
    return 0 if is_sound else 1


if __name__ == "__main__":
    sys.exit(main())
