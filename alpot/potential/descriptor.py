"""Atomic environment vectors (ANI) of all atoms of a batch, with their exact derivatives.

The terms are torchani's: J. S. Smith, O. Isayev, A. E. Roitberg, Chem. Sci. 8, 3192 (2017), equations 3 and 4,
with NeuroChem's factor 0.25 on the radial terms and 0.95 inside the arccosine:

    radial   G(i, s, k)       = Σ_j 0.25 exp(−η (r_ij − R_k)²) f_c(r_ij)
    angular  G(i, st, a, z)   = Σ_jk 2 [(1 + cos(θ_jik − θ_z)) / 2]^ζ exp(−η ((r_ij + r_ik)/2 − R_a)²)
                                     f_c(r_ij) f_c(r_ik)

with j of element s; {j, k} of elements {s, t}; cos θ = 0.95 r̂_ij·r̂_ik; f_c(r) = ½ cos(π r / r_c) + ½.

The angular term is a product of a function of the angle (8 values) and one of the distances (8 values), so the sum
over the triples of an atom is a matrix product and the 64 products of a triple are never stored.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from alpot.config import Descriptor
from alpot.potential.segments import Segments

#: Exponents are cut here: e⁻⁸⁰ is nothing beside 1, and library exponentials are slow where they underflow.
_SMALLEST_EXPONENT = -80.0


@dataclass(frozen=True, kw_only=True)
class AevSettings:
    """Parameters of the symmetry functions; lengths in Å, η in 1/Å², angles in radian."""

    radial_cutoff: float
    radial_eta: float
    radial_shifts: tuple[float, ...]
    angular_cutoff: float
    angular_eta: float
    angular_zeta: float
    angular_shifts: tuple[float, ...]
    angle_sections: tuple[float, ...]

    @classmethod
    def from_config(cls, descriptor: Descriptor) -> AevSettings:
        """Spread the shifts evenly, as ANI does: the cutoff itself is not a shift, angles lie mid-section."""

        def evenly(n: int, end: float) -> tuple[float, ...]:
            step = (end - descriptor.shift_start) / n
            return tuple(descriptor.shift_start + k * step for k in range(n))

        return cls(
            radial_cutoff=descriptor.radial_cutoff,
            radial_eta=descriptor.radial_eta,
            radial_shifts=evenly(descriptor.radial_shifts, descriptor.radial_cutoff),
            angular_cutoff=descriptor.angular_cutoff,
            angular_eta=descriptor.angular_eta,
            angular_zeta=descriptor.angular_zeta,
            angular_shifts=evenly(descriptor.angular_shifts, descriptor.angular_cutoff),
            angle_sections=tuple(
                math.pi * (k + 0.5) / descriptor.angle_sections for k in range(descriptor.angle_sections)
            ),
        )

    @property
    def n_radial(self) -> int:
        """Radial features per element."""
        return len(self.radial_shifts)

    @property
    def n_angular(self) -> int:
        """Angular features per pair of elements."""
        return len(self.angular_shifts) * len(self.angle_sections)

    def n_features(self, n_elements: int) -> int:
        """Length of the atomic environment vector for that many elements."""
        return n_elements * self.n_radial + n_elements * (n_elements + 1) // 2 * self.n_angular


def element_pair_table(n_elements: int, device: torch.device | str = "cpu") -> Tensor:
    """(n_elements, n_elements) index of each unordered pair of elements, in torchani's order."""
    table = torch.zeros((n_elements, n_elements), dtype=torch.long, device=device)
    first, second = torch.triu_indices(n_elements, n_elements, device=device)
    table[first, second] = torch.arange(len(first), device=device)
    table[second, first] = table[first, second]
    return table


def _cutoff(distance: Tensor, cutoff: float) -> tuple[Tensor, Tensor]:
    """f_c and its derivative."""
    x = distance * (math.pi / cutoff)
    return 0.5 * torch.cos(x) + 0.5, (-0.5 * math.pi / cutoff) * torch.sin(x)


class Environments:
    """Descriptor of all atoms of a batch: features, and forces from weights on them.

    Features are differentiable by autograd (any order) with respect to ``vectors``. The compiled kernels are tested
    against this.

    Args:
        settings: the symmetry functions.
        n_elements: number of elements of the potential.
        n_atoms: number of centers.
        center: (n_pairs,) index of the center of each pair, ascending.
        neighbor_species: (n_pairs,) element index of the neighbor of each pair.
        vectors: (n_pairs, 3) Å, from center to neighbor, all shorter than the radial cutoff.
    """

    def __init__(
        self,
        settings: AevSettings,
        n_elements: int,
        n_atoms: int,
        center: Tensor,
        neighbor_species: Tensor,
        vectors: Tensor,
    ) -> None:
        self.settings = settings
        self.n_elements = n_elements
        self.n_atoms = n_atoms
        self.n_element_pairs = n_elements * (n_elements + 1) // 2
        self.center, self.vectors = center, vectors
        self.distances = torch.linalg.vector_norm(vectors, dim=1)
        self._neighbor_species = neighbor_species

    # ------------------------------------------------------------------------------------------- radial

    @cached_property
    def _radial(self) -> tuple[Tensor, Tensor]:
        """(n_pairs, n_radial) terms and their derivatives with respect to the distance."""
        s = self.settings
        x = self.distances[:, None] - self.vectors.new_tensor(s.radial_shifts)
        gauss = 0.25 * torch.exp((-s.radial_eta * x * x).clamp(min=_SMALLEST_EXPONENT))
        fc, dfc = _cutoff(self.distances[:, None], s.radial_cutoff)
        return gauss * fc, gauss * (dfc - 2.0 * s.radial_eta * x * fc)

    @cached_property
    def _radial_bins(self) -> Tensor:
        return self.center * self.n_elements + self._neighbor_species

    @cached_property
    def radial_segments(self) -> Segments:
        """Pairs grouped by (center, element of the neighbor)."""
        return Segments(self._radial_bins, self.n_atoms * self.n_elements)

    # ------------------------------------------------------------------------------------------ angular

    @cached_property
    def _angular_pairs(self) -> Tensor:
        """Indices of the pairs inside the angular cutoff, still sorted by center."""
        return (self.distances.detach() < self.settings.angular_cutoff).nonzero()[:, 0]

    @cached_property
    def _triples(self) -> tuple[Tensor, Tensor]:
        """(n_triples,) positions in ``_angular_pairs`` of the two pairs of each triple, first < second."""
        center = self.center[self._angular_pairs]
        counts = torch.bincount(center, minlength=self.n_atoms)
        last = torch.cumsum(counts, 0)[center]
        here = torch.arange(len(center), device=center.device)
        partners = last - here - 1
        first = torch.repeat_interleave(here, partners)
        begin = torch.cumsum(partners, 0) - partners
        second = torch.arange(len(first), device=center.device) - begin[first] + first + 1
        return first, second

    @cached_property
    def _triple_bins(self) -> Tensor:
        first, second = self._triples
        species = self._neighbor_species[self._angular_pairs]
        kind = element_pair_table(self.n_elements, species.device)[species[first], species[second]]
        return self.center[self._angular_pairs][first] * self.n_element_pairs + kind

    @cached_property
    def _triple_segments(self) -> Segments:
        return Segments(self._triple_bins, self.n_atoms * self.n_element_pairs)

    @cached_property
    def _angles(self) -> tuple[Tensor, Tensor, Tensor]:
        """(n_triples,) cos θ without the factor, and (n_triples, n_sections) angle terms with d/d cos θ."""
        s = self.settings
        first, second = self._triples
        unit = (self.vectors / self.distances[:, None])[self._angular_pairs]
        cosine = (unit[first] * unit[second]).sum(1)
        c = (0.95 * cosine)[:, None]
        sine = torch.sqrt(1.0 - c * c)
        sections = self.vectors.new_tensor(s.angle_sections)
        cos_z, sin_z = torch.cos(sections), torch.sin(sections)
        base = (0.5 + 0.5 * (c * cos_z + sine * sin_z)).clamp(min=1e-12)
        terms = 2.0 * torch.exp((s.angular_zeta * torch.log(base)).clamp(min=_SMALLEST_EXPONENT))
        slopes = 0.95 * s.angular_zeta * terms / base * (0.5 * (cos_z - c / sine * sin_z))
        return cosine, terms, slopes

    @cached_property
    def _distance_terms(self) -> Tensor:
        """(n_triples, n_shifts) Gaussians of the mean distance."""
        s = self.settings
        first, second = self._triples
        distance = self.distances[self._angular_pairs]
        x = 0.5 * (distance[first] + distance[second])[:, None] - self.vectors.new_tensor(s.angular_shifts)
        return torch.exp((-s.angular_eta * x * x).clamp(min=_SMALLEST_EXPONENT))

    @cached_property
    def _cutoffs(self) -> tuple[Tensor, Tensor, Tensor]:
        """(n_triples,) product of the two cutoff functions and its derivatives by first and second distance."""
        first, second = self._triples
        fc, dfc = _cutoff(self.distances[self._angular_pairs], self.settings.angular_cutoff)
        return fc[first] * fc[second], dfc[first] * fc[second], fc[first] * dfc[second]

    # ------------------------------------------------------------------------------------------ results

    @cached_property
    def features(self) -> Tensor:
        """(n_atoms, n_features) atomic environment vectors, radial part first."""
        radial = self.vectors.new_zeros((self.n_atoms * self.n_elements, self.settings.n_radial))
        radial = radial.index_add(0, self._radial_bins, self._radial[0])
        _, angles, _ = self._angles
        gauss = self._distance_terms * self._cutoffs[0][:, None]
        segments = self._triple_segments
        angular = torch.bmm(segments.pad(gauss).transpose(1, 2), segments.pad(angles))
        return torch.cat([radial.view(self.n_atoms, -1), angular.reshape(self.n_atoms, -1)], dim=1)

    def pair_gradients(self, weights: Tensor) -> Tensor:
        """Derivatives of M energies with respect to the pair vectors (vector–Jacobian product).

        Args:
            weights: (n_atoms, M, n_features) derivatives of the energies with respect to the features, eV.

        Returns:
            (n_pairs, M, 3) eV/Å.
        """
        n_members = weights.shape[1]
        s = self.settings
        n_radial = self.n_elements * s.n_radial
        radial_weights = weights[:, :, :n_radial].reshape(self.n_atoms, n_members, self.n_elements, s.n_radial)
        radial_weights = radial_weights.permute(0, 2, 3, 1).reshape(-1, s.n_radial, n_members)
        segments = self.radial_segments
        slopes = segments.unpad(torch.bmm(segments.pad(self._radial[1]), radial_weights))  # (n_pairs, M)
        unit = self.vectors / self.distances[:, None]
        gradients = slopes[:, :, None] * unit[:, None, :]
        if len(self._triples[0]):
            gradients.index_add_(0, self._angular_pairs, self._angular_gradients(weights[:, :, n_radial:], unit))
        return gradients

    def _angular_gradients(self, weights: Tensor, unit: Tensor) -> Tensor:
        """(n_angular_pairs, M, 3) angular part of ``pair_gradients``.

        With E(a) the Gaussians, A(z) the angle terms, P the product of the cutoffs and W(a, z) the weights, the
        energy of a triple is P Σ_az E_a W_az A_z; its derivatives by r_ij, r_ik and cos θ follow by the chain rule.
        """
        s, segments = self.settings, self._triple_segments
        n_members, n_shifts, n_sections = weights.shape[1], len(s.angular_shifts), len(s.angle_sections)
        cosine, angles, angle_slopes = self._angles
        gauss = self._distance_terms
        w = weights.reshape(self.n_atoms, n_members, self.n_element_pairs, n_shifts, n_sections)
        w = w.permute(0, 2, 3, 1, 4).reshape(-1, n_shifts, n_members, n_sections)
        # The slope of a Gaussian is −η (mean distance − R_a) times the Gaussian: R_a goes into the weights, so that
        # value and slope come from one product.
        shifted = w * self.vectors.new_tensor(s.angular_shifts)[:, None, None]
        by_angle = torch.bmm(segments.pad(gauss), torch.cat([w, shifted], dim=2).flatten(2))
        by_angle = segments.unpad(by_angle).view(-1, 2 * n_members, n_sections)  # Σ_a of each triple
        value, moment = (by_angle * angles[:, None]).sum(2).split(n_members, dim=1)
        by_cosine = (by_angle[:, :n_members] * angle_slopes[:, None]).sum(2)
        product, by_first, by_second = (c[:, None] for c in self._cutoffs)
        first, second = self._triples
        u, v = unit[self._angular_pairs][first], unit[self._angular_pairs][second]
        distance = self.distances[self._angular_pairs]
        mean_distance = 0.5 * (distance[first] + distance[second])[:, None]
        by_distance = s.angular_eta * (moment - mean_distance * value)
        by_cosine = by_cosine * product
        toward_first = value * by_first + by_distance * product - by_cosine * (cosine / distance[first])[:, None]
        toward_second = value * by_second + by_distance * product - by_cosine * (cosine / distance[second])[:, None]
        across_first = by_cosine / distance[first, None]
        across_second = by_cosine / distance[second, None]
        gradients = unit.new_zeros((len(self._angular_pairs), n_members, 3))
        gradients.index_add_(0, first, toward_first[..., None] * u[:, None] + across_first[..., None] * v[:, None])
        gradients.index_add_(0, second, toward_second[..., None] * v[:, None] + across_second[..., None] * u[:, None])
        return gradients
