import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk

from alpot.potential.calibration import ErrorBound
from alpot.potential.descriptor import AevSettings
from alpot.potential.ensemble import Ensemble
from alpot.potential.saved import Card, save_potential

SCRIPT = Path(__file__).parents[2] / "workflows" / "molecular_dynamics" / "run_md.py"


@pytest.fixture(scope="module")
def potential(tmp_path_factory) -> Path:
    """Random weights on a scale of meV: smooth, and too weak to tear a crystal apart within the test."""
    aev = AevSettings(
        radial_cutoff=4.0,
        radial_eta=4.0,
        radial_shifts=(1.5, 2.5, 3.5),
        angular_cutoff=3.5,
        angular_eta=2.0,
        angular_zeta=4.0,
        angular_shifts=(2.0, 3.0),
        angle_sections=(0.8, 2.3),
    )
    ensemble = Ensemble(("Al",), aev, 2, (6,), "silu")
    generator = torch.Generator().manual_seed(1)
    for networks in ensemble.networks:
        for member in range(2):
            networks.initialize(member, generator)
    ensemble.energy_scale.fill_(0.01)
    folder = tmp_path_factory.mktemp("potential")
    save_potential(folder, ensemble.double(), Card(elements=("Al",), force_bound=ErrorBound(slope=4.0, n_frames=30)))
    return folder


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Warnings are errors: deprecated calls of ASE must not be shown to users as an example."""
    command = [sys.executable, "-W", "error", "-W", "ignore::DeprecationWarning:torch", str(SCRIPT)]
    return subprocess.run([*command, *map(str, arguments)], capture_output=True, text=True)


def numbers(pattern: str, output: str) -> list[float]:
    found = re.search(pattern, output)
    assert found, output
    return [float(text) for text in found.groups()]


def test_all_parts_run_and_say_what_they_found(potential):
    done = run(potential, "--repeat", 2, "--steps", 20, "--timestep", 1, "--temperature", 300)
    assert done.returncode == 0, done.stderr
    drift, time = numbers(r"energy drift: (\S+) meV/atom in (\S+) ps", done.stdout)
    assert time == 0.02
    # Exact derivatives of a weak potential: what is left is far below the last digit of k_B T (26 meV).
    assert abs(drift) < 0.01
    _, volume, density = numbers(r"second half: (\S+) K, (\S+) Å³/atom, (\S+) g/cm³", done.stdout)
    # The barostat needs 1000 steps, so after 20 of them the volume is still that of ASE's fcc Al, 4.05³/4 Å³.
    assert volume == pytest.approx(4.05**3 / 4, rel=0.02)
    # 26.98 amu in that volume, 1.66054 being the g/cm³ of 1 amu/Å³.
    assert density == pytest.approx(26.9815 * 1.66054 / volume, rel=1e-3)
    (energy,) = numbers(r"at most (\S+) meV/atom, with 90 % confidence \(assumed, not measured\)", done.stdout)
    mean, largest = numbers(r"at most (\S+) eV/Å on average, (\S+) eV/Å for the worst, with 90 %", done.stdout)
    assert energy > 0 and largest >= mean > 0
    assert "with 90 % confidence (learned from 30 labels)" in done.stdout


def test_a_structure_of_the_users_and_one_seed(potential, tmp_path):
    bulk("Al", cubic=True).repeat((2, 2, 1)).write(tmp_path / "slab.xyz")
    options = ("--structure", tmp_path / "slab.xyz", "--repeat", 1, "--steps", 5, "--temperature", 100)
    first, second = run(potential, *options), run(potential, *options)
    assert first.returncode == 0, first.stderr
    assert first.stdout.startswith("Al16,")
    assert first.stdout == second.stdout


def test_what_is_wrong_is_told(potential, tmp_path):
    missing = run(tmp_path / "nowhere")
    assert missing.returncode == 1 and "there is no such folder" in missing.stderr
    Atoms("Al", positions=np.zeros((1, 3))).write(tmp_path / "atom.xyz")
    open_cell = run(potential, "--structure", tmp_path / "atom.xyz")
    assert open_cell.returncode == 1 and "periodic in all directions" in open_cell.stderr
    (tmp_path / "notes.txt").write_text("no structure")
    unreadable = run(potential, "--structure", tmp_path / "notes.txt")
    assert unreadable.returncode == 1 and "cannot read a structure" in unreadable.stderr
    steps = run(potential, "--steps", 0)
    assert steps.returncode == 2 and "--steps is 0" in steps.stderr
