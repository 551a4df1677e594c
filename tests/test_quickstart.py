"""The quickstart's campaign, and whether its potential is what the README says: the slowest test there is.

With one worker, because a campaign then takes the same decisions whatever the machine is busy with: a gate on physics
must not be a lottery.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from alpot.potential.calculator import AlpotCalculator
from alpot.validation.suite import validate

ROOT = Path(__file__).parents[1]
CAMPAIGN = ROOT / "workflows" / "aluminum_quickstart" / "campaign.toml"
#: What the campaign itself must find within the tolerances of ``alpot.validation.tolerances``.
PROMISED = {
    "lattice constant",
    "bulk modulus",
    "C11",
    "C12",
    "C44",
    "E(hcp) − E(fcc)",
    "E(bcc) − E(fcc)",
    "vacancy formation energy",
    "force RMSE, fresh frames",
    "rank correlation of mean σ_F and error",
}


@pytest.fixture(scope="module")
def campaign(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a finished quickstart campaign."""
    folder = tmp_path_factory.mktemp("quickstart")
    file = folder / "aluminum.toml"
    text = CAMPAIGN.read_text()
    assert "workers = 2" in text
    file.write_text(text.replace("workers = 2", "workers = 1"))
    directory = folder / "aluminum"
    command = [sys.executable, "-m", "alpot", "run", str(file)]
    finished = subprocess.run(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return directory


def status_of(directory: Path) -> dict:
    command = [sys.executable, "-m", "alpot", "status", str(directory), "--json"]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


@pytest.mark.slow
def test_properties_are_those_of_the_reference(campaign):
    rows = {row["name"]: row for row in status_of(campaign)["properties"]}
    assert set(rows) >= PROMISED
    missed = [
        f"{name}: {row['value']} {row['unit']}, reference {row['reference']}, tolerance {row['tolerance']}"
        for name, row in rows.items()
        if name in PROMISED and not row["ok"]
    ]
    assert not missed, "\n".join(missed)


@pytest.mark.slow
def test_molecular_dynamics_is_stable(campaign):
    """10 ps NVE at 600 K drift by less than 1 meV/atom, and 20 ps Langevin at 1200 K survive (108 atoms)."""
    potential = AlpotCalculator.load(status_of(campaign)["potential"], mean_forces_only=True)
    rows = [row for result in validate(potential, ["Al"], ["nve", "langevin"]) for row in result.rows]
    assert rows and all(row.ok for row in rows if row.tolerance is not None), rows
