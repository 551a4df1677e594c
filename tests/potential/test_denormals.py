"""The setting holds for the kernels only, in the thread that asked for it."""

import threading

import numpy as np
import torch

from alpot.potential.denormals import flushed_denormals

SMALL = np.array([np.finfo(np.float32).tiny], np.float32)


def are_flushed() -> bool:
    return bool((SMALL * np.float32(0.5))[0] == 0.0)


def test_denormals_are_zero_within_and_as_before_without():
    assert not are_flushed()
    with flushed_denormals():
        here, elsewhere = are_flushed(), []
        thread = threading.Thread(target=lambda: elsewhere.append(are_flushed()))
        thread.start()
        thread.join()
    assert here == torch.set_flush_denormal(False)  # where the processor can do it
    assert not are_flushed()


def test_who_flushes_already_goes_on_so():
    can = torch.set_flush_denormal(True)
    try:
        with flushed_denormals():
            pass
        assert are_flushed() == can
    finally:
        torch.set_flush_denormal(False)
