import numpy as np

from alpot.potential.self_energies import fit_self_energies

ELEMENTS = ("Ni", "Al", "Cu")
TRUE = {28: -4.0, 13: 2.5, 29: -100.0}


def frames(rng, n=40):
    return [rng.choice([13, 28, 29], rng.integers(2, 30)) for _ in range(n)]


def test_exact_energies_are_found_again():
    numbers = frames(np.random.default_rng(0))
    energies = [sum(TRUE[n] for n in frame) for frame in numbers]
    np.testing.assert_allclose(fit_self_energies(ELEMENTS, numbers, energies), [-4.0, 2.5, -100.0], atol=1e-10)


def test_noise_is_averaged():
    rng = np.random.default_rng(1)
    numbers = frames(rng, 400)
    energies = [sum(TRUE[n] for n in frame) + len(frame) * rng.normal(0, 0.1) for frame in numbers]
    # Noise of 0.1 eV/atom over 400 frames: 5 meV times the scatter of compositions, about a factor of 5.
    np.testing.assert_allclose(fit_self_energies(ELEMENTS, numbers, energies), [-4.0, 2.5, -100.0], atol=0.1)


def test_one_composition_gives_each_element_its_share():
    """Nothing tells the elements apart: the solution of least norm reproduces the mean energy, finite."""
    numbers = [np.array([13, 28])] * 5
    fitted = fit_self_energies(("Al", "Ni"), numbers, [3.0, 5.0, 4.0, 4.0, 4.0])
    np.testing.assert_allclose(fitted, [2.0, 2.0], atol=1e-12)  # rounding


def test_an_element_without_frames_gets_zero():
    fitted = fit_self_energies(("Al", "Ni"), [np.array([13, 13])] * 3, [4.0, 4.0, 4.0])
    np.testing.assert_allclose(fitted, [2.0, 0.0], atol=1e-12)  # rounding
