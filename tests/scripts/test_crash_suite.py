"""The crash suite's sample: every promise, tried in small."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SUITE = Path(__file__).parents[2] / "scripts" / "crash_suite.py"


def suite(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, SUITE, *map(str, arguments)], capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_every_promise_holds_in_a_sample(tmp_path):
    done = suite("--quick", "--allow-missing-slurm", "--json", tmp_path / "seen.json")
    assert done.returncode == 0, done.stdout + done.stderr
    seen = json.loads((tmp_path / "seen.json").read_text())
    assert len(seen) == 9
    assert {name for name, row in seen.items() if row["verdict"] != "holds"} <= {"scheduler"}
    assert seen["operations"]["figures"]["points"] > 1000
    assert seen["resume"]["figures"]["explore"] > 0


def test_a_row_that_does_not_exist():
    done = suite("--only", "miracles")
    assert done.returncode == 2 and "invalid choice" in done.stderr
