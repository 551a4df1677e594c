"""Memory that one evaluation leaves to the next.

Fresh arrays of a megabyte are handed back to the operating system when they are freed, and fetched again page by page
in the next time step: with glibc's defaults that costs as much as the arithmetic.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence

import torch
from torch import Tensor

_kept = threading.local()


def scratch(name: str, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    """A tensor on the CPU with arbitrary contents, valid until this thread asks for the same name again."""
    buffers: dict[tuple[str, torch.dtype], Tensor] = _kept.__dict__.setdefault("buffers", {})
    size = math.prod(shape)
    buffer = buffers.get((name, dtype))
    if buffer is None or len(buffer) < size:
        buffer = buffers[name, dtype] = torch.empty(size, dtype=dtype)
    return buffer[:size].view(*shape)
