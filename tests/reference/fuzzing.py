"""Damages good outputs and asks what the readers make of them: the true label, or a named error; nothing else."""

import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from alpot.reference.dft_code import OutputError
from tests.reference.dft_corpus import Case, cases, code_of, unpack, wrong_number
from tests.reference.mutations import MUTATIONS

#: s; no reader may take longer.
LONGEST_S = 5.0


@dataclass(frozen=True)
class Verdict:
    """What came of one mutation.

    Attributes:
        case, number: from which it can be made again.
        what: the mutations of each file.
        kind: ``true label``, ``named error``, ``wrong label``, ``exception``, ``slow``.
        words: the error, or what is wrong.
        seconds: s, of the reader.
    """

    case: str
    number: int
    what: str
    kind: str
    words: str
    seconds: float


class Fuzzer:
    """Mutates the good outputs of one code; the number of a mutation says all about it."""

    def __init__(self, code: str, directory: Path) -> None:
        self.code = code
        self.good = [(case, case.files) for case in cases(code) if case.failure is None]
        self.directory = directory
        adapter = code_of(code)
        self.names = [adapter.output, *adapter.witness]

    def mutated(self, number: int) -> tuple[Case, dict[str, bytes], str]:
        """The case, its files with some damage, and what was done."""
        rng = random.Random(number)
        case, files = self.good[rng.randrange(len(self.good))]
        _, foreign = self.good[rng.randrange(len(self.good))]
        damaged, done = dict(files), []
        # Half of all: one file with one damage. Otherwise several damages, or several files.
        targets = [rng.choice(self.names)] if rng.random() < 0.7 else list(self.names)
        for name in targets:
            for _ in range(1 if rng.random() < 0.7 else rng.randrange(1, 5)):
                what = rng.choice(list(MUTATIONS))
                damaged[name] = MUTATIONS[what](damaged[name], rng, foreign.get(name, b""))
                done.append(f"{name}: {what}")
        return case, damaged, "; ".join(done)

    def try_out(self, number: int) -> Verdict:
        """Damages an output and reads it."""
        case, files, what = self.mutated(number)
        unpack(files, self.directory)
        begin = time.perf_counter()
        try:
            reading = code_of(self.code).believe(case.calculation(self.directory))
        except OutputError as error:
            kind, words = "named error", str(error)
        except Exception as error:  # noqa: BLE001 - this is what is looked for
            kind, words = "exception", f"{type(error).__name__}: {error}"
        else:
            problem = wrong_number(reading, case, is_damaged=True)
            kind, words = ("true label", "") if problem is None else ("wrong label", problem)
        seconds = time.perf_counter() - begin
        if seconds > LONGEST_S:
            kind, words = "slow", f"{seconds:.1f} s"
        return Verdict(case.name, number, what, kind, words, seconds)

    def run(self, numbers: range) -> Iterator[Verdict]:
        """Many of them."""
        return map(self.try_out, numbers)
