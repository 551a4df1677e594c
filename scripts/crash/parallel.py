"""Spreads trials over processes that are forked from this one, so that each finds everything loaded."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import TypeVar

_Job = TypeVar("_Job")
_Found = TypeVar("_Found")
_SILENCE_S = 30.0


def each(name: str, trial: Callable[[_Job], _Found], jobs: Sequence[_Job], processes: int) -> list[_Found]:
    """What ``trial`` finds for each job, in their order; says now and then how far it is.

    Args:
        name: of the row, for the messages.
        trial: a function of a module (it is sent to the processes by name), or a ``functools.partial`` of one.
        jobs: arguments.
        processes: how many run at the same time.
    """
    found = []
    said = time.monotonic()
    with ProcessPoolExecutor(processes, mp_context=get_context("fork")) as pool:
        for result in pool.map(trial, jobs, chunksize=2):
            found.append(result)
            if time.monotonic() - said > _SILENCE_S:
                said = time.monotonic()
                print(f"  {name}: {len(found):,} of {len(jobs):,}", flush=True)
    return found
