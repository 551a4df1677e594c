"""A whole campaign on real density-functional theory, from nothing to an equation of state, in minutes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from ase.data import reference_states

ROOT = Path(__file__).parents[1]
WORKFLOW = ROOT / "workflows" / "aluminum_dft" / "campaign.toml"


@pytest.mark.slow
def test_aluminum_on_quantum_espresso(tmp_path):
    if shutil.which("pw.x") is None:
        reason = "pw.x is not installed; scripts/install-dft-codes does it"
        if "ALPOT_REQUIRE_PROGRAMS" in os.environ:
            pytest.fail(reason)
        pytest.skip(reason)
    directory = tmp_path / "aluminum"
    command = [sys.executable, "-m", "alpot", "run", str(WORKFLOW), "--directory", str(directory)]
    # Twice the 15 minutes that it took beside other work.
    finished = subprocess.run(command, capture_output=True, text=True, timeout=1800)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    command = [sys.executable, "-m", "alpot", "status", str(directory), "--json"]
    status = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    rows = {row["name"]: row for row in status["properties"]}
    for name, share in (("lattice constant", 0.01), ("bulk modulus", 0.10)):
        row = rows[name]
        assert row["value"] == pytest.approx(row["reference"], rel=share), row
    # The local-density approximation binds too strongly: aluminum is 1 to 3 % smaller than in experiment (4.05 Å).
    assert 0.97 < rows["lattice constant"]["reference"] / reference_states[13]["a"] < 0.99
    assert not status["labels"]["rejected"] and status["given_up"] == 0
