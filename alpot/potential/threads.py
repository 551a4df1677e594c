"""Work shared among threads in a way that results do not depend on how many there are.

Torch's own threads split single operations, which are too short here; so whole pieces of work go to Python threads
(compiled kernels and torch release Python's lock), and torch uses one thread in each.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import lru_cache
from typing import TypeVar

import torch

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


@contextmanager
def single_threaded_torch() -> Iterator[int]:
    """Torch with one thread; gives the number that it may use otherwise."""
    n_threads = torch.get_num_threads()
    if n_threads == 1:
        yield 1
        return
    torch.set_num_threads(1)
    try:
        yield n_threads
    finally:
        torch.set_num_threads(n_threads)


def in_order(function: Callable[[_Item], _Result], items: Iterable[_Item], n_threads: int) -> Iterator[_Result]:
    """Results of ``function``, in the order of the items, computed by several threads a little ahead of their use."""
    if n_threads < 2:
        yield from map(function, items)
        return
    pool = _pool(n_threads)
    ahead: deque[Future[_Result]] = deque()
    try:
        for item in items:
            ahead.append(pool.submit(function, item))
            if len(ahead) > 2 * n_threads:  # bounds the memory of results that wait
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()
    finally:
        for future in ahead:
            future.cancel()


@lru_cache(maxsize=1)
def _pool(n_threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(n_threads, thread_name_prefix="alpot")
