"""Numbers too small for the normal format count as zero in the kernels: some processors are 100 times slower with them.

Gaussians of distant neighbors make many of them; on an Intel Xeon the kernels took 8 times as long for their sake. The
setting belongs to a thread, and is put back, for it would change the arithmetic of whoever calls.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

_SMALLEST_NORMAL = np.finfo(np.float32).tiny


@contextmanager
def flushed_denormals() -> Iterator[None]:
    """Within it, this thread's denormal numbers are zero."""
    if _SMALLEST_NORMAL * np.float32(0.5) == 0.0:  # they are anyway
        yield
        return
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)
