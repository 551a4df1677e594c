from __future__ import annotations

import numpy as np
import pytest
from ase import units
from ase.md.melchionna import MelchionnaNPT

from alpot.errors import PotentialError
from alpot.validation import melting_point as module
from alpot.validation.dynamics import set_velocities
from alpot.validation.lattice import Equilibrium, equilibrium
from alpot.validation.melting_point import melting_point
from alpot.validation.properties import attached
from tests.validation.fast_emt import FastEMT
from tests.validation.fast_lennard_jones import BROUGHTON_GILMER_MELTING, FastLennardJones

SIGMA, EPSILON = 2.6, 0.2
#: K, known to a per mille.
KNOWN = BROUGHTON_GILMER_MELTING * EPSILON / units.kB


@pytest.fixture(scope="module")
def pairs() -> FastLennardJones:
    return FastLennardJones(SIGMA, EPSILON)


@pytest.fixture(scope="module")
def crystal(pairs: FastLennardJones) -> Equilibrium:
    return equilibrium(pairs, "Al", "fcc")


@pytest.mark.slow
def test_lennard_jones_melts_where_it_is_known_to(pairs: FastLennardJones, crystal: Equilibrium) -> None:
    measured = melting_point(
        pairs, crystal, np.random.default_rng(0), guess=1.07 * KNOWN, minimum_atoms=500, time_ps=24.0
    )
    (found,) = measured.values
    assert found.value == pytest.approx(KNOWN, rel=0.03)
    assert found.noise is not None
    assert found.noise < 0.02 * KNOWN


@pytest.mark.slow
def test_two_starts_of_emt_aluminum_agree_within_their_error_bars(fcc_aluminum: Equilibrium) -> None:
    low, high = (
        melting_point(
            FastEMT(), fcc_aluminum, np.random.default_rng(seed), guess=guess, minimum_atoms=400, settling_ps=8.0
        ).values[0]
        for seed, guess in ((1, 700.0), (2, 1000.0))
    )
    assert low.noise is not None
    assert high.noise is not None
    # Three standard errors: what chance exceeds once in 400 times, for numbers that differ from machine to machine.
    assert abs(low.value - high.value) < 3 * np.hypot(low.noise, high.noise)
    assert max(low.noise, high.noise) < 0.03 * low.value


def test_the_run_is_at_constant_enthalpy(pairs: FastLennardJones, crystal: Equilibrium) -> None:
    # The temperature means what it should only if the integrator neither heats nor cools.
    atoms = attached(pairs, crystal.supercell(250))
    set_velocities(atoms, 1.2 * KNOWN, np.random.default_rng(0))
    dynamics = MelchionnaNPT(
        atoms,
        timestep=2 * units.fs,
        temperature_K=300,
        externalstress=0.0,
        pfactor=(300 * units.fs) ** 2 * crystal.bulk_modulus * units.GPa,
        mask=np.eye(3),
    )
    dynamics.run(500)
    enthalpies = []
    for _ in range(100):
        dynamics.run(20)
        enthalpies.append(dynamics.get_gibbs_free_energy() / len(atoms))  # its other terms are those of a thermostat
    first, second = (half.mean() for half in np.array_split(np.array(enthalpies), 2))
    # In kelvin, by 3 k_B per atom: what 2 ps may do to a melting point of 1400 K.
    assert (second - first) / (3 * units.kB) == pytest.approx(0.0, abs=0.3)


def test_a_hopeless_guess_gives_up_with_a_sentence(
    pairs: FastLennardJones, crystal: Equilibrium, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_ATTEMPTS", 1)
    sentence = r"did not stay side by side in 1 attempts\. A start at 400 K became all crystal after \d+ ps"
    with pytest.raises(PotentialError, match=sentence):
        melting_point(pairs, crystal, np.random.default_rng(0), guess=400.0, minimum_atoms=100, time_ps=1.0)
