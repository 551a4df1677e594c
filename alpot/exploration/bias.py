"""Uncertainty-driven dynamics: walkers are drawn to where the members disagree, by an energy that is bounded.

Kulichenko et al., Nat. Comput. Sci. 3, 230 (2023), eq. 1 and 2; the M members give a frame of N atoms the energies E_m:

    E_bias = A [exp(−σ_E² / (M N B²)) − 1],  σ_E² = ½ Σ_m (E_m − Ē)²,

which lies between −A and 0. With s = (Σ_m (E_m − Ē)² / (M N))^½, the members' deviation per root of an atom, it is a
Gaussian well of s with the width B; the pull is strongest where s = B, and is gone well beyond.

B follows from what the user accepts. Errors of different atoms are independent, so that s is the deviation of one
atom's energy. It belongs to the deviation of one atom's force, σ_F, by the length on which deviations change:
s = ℓ σ_F. So B = ℓ σ_F, with the σ_F that is just accepted: the pull leads to where frames become worth a label.
"""

from __future__ import annotations

from torch import Tensor

#: Å, ℓ: median of s over the mean σ_F of the published ANI-Al ensemble in 24 frames (hot and strained fcc, other
#: crystals, packings); the extremes are 0.1 and 3.
_LENGTH = 0.5


def width_for(accepted_deviation: float) -> float:
    """B in eV for the mean σ_F over the atoms, in eV/Å, that is just accepted."""
    return _LENGTH * accepted_deviation


def bias_energies(energies: Tensor, counts: Tensor, heights: Tensor, width: float) -> Tensor:
    """(n_frames,) E_bias in eV, see ``bias_forces``."""
    return heights * (-_exponents(energies, counts, width)).expm1()


def bias_forces(
    energies: Tensor, forces: Tensor, frame: Tensor, counts: Tensor, heights: Tensor, width: float
) -> Tensor:
    """(n_atoms, 3) eV/Å, the exact derivative: F = −A exp(−σ_E²/(M N B²)) Σ_m (E_m − Ē) F_m / (M N B²).

    Args:
        energies: (n_members, n_frames) eV.
        forces: (n_members, n_atoms, 3) eV/Å.
        frame: (n_atoms,) the frame of each atom.
        counts: (n_frames,) numbers of atoms.
        heights: (n_frames,) A in eV; 0 for a frame without bias.
        width: B in eV.
    """
    deviations = energies - energies.mean(0)
    decay = (-_exponents(energies, counts, width)).exp()
    weights = -heights * decay * deviations / _divisors(energies, counts, width)
    return (weights.index_select(1, frame).unsqueeze(2) * forces).sum(0)


def _exponents(energies: Tensor, counts: Tensor, width: float) -> Tensor:
    """(n_frames,) σ_E² / (M N B²)."""
    squares = (energies - energies.mean(0)).square().sum(0)
    return 0.5 * squares / _divisors(energies, counts, width)


def _divisors(energies: Tensor, counts: Tensor, width: float) -> Tensor:
    """(n_frames,) M N B² in the type of the energies."""
    return len(energies) * width**2 * counts.to(energies)
