"""The GPU kernels compile for a real GPU; the interpreter of the other tests accepts more than the compiler."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="Triton comes with torch's CUDA builds")
def test_kernels_compile_without_spilling(tmp_path):
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    script = Path(__file__).with_name("compile_gpu_kernels.py")
    run = subprocess.run(
        [sys.executable, script],
        env={**environment, "TRITON_CACHE_DIR": str(tmp_path), "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    used = json.loads(run.stdout)
    assert len(used) == 20
    # Where almost all of the time goes, values that do not fit into registers would cost it several times over.
    assert used["angular_forces_8 1 fp32"]["STACK"] == 0
    assert used["angular_forces_8 3 fp32"]["STACK"] == 0
    assert used["angular_features 1 fp32"]["STACK"] == 0
