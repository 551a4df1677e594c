"""The ensemble as an ASE calculator: what users run their own molecular dynamics with."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import torch
from ase import Atoms
from ase.calculators.calculator import BaseCalculator, Calculator, all_changes
from ase.stress import full_3x3_to_voigt_6_stress

from alpot.errors import NonFiniteError
from alpot.potential.baseline import Baseline
from alpot.potential.batch import Batch
from alpot.potential.ensemble import Ensemble
from alpot.potential.neighbors import NeighborSearch
from alpot.potential.saved import Card, load_potential


class AlpotCalculator(Calculator):
    """Energies, forces and stress of the ensemble's mean, and how far the members disagree.

    Results (float64 numpy, ASE units): ``energy``, ``free_energy``, ``energies`` (n_atoms,), ``forces`` (n_atoms, 3),
    ``stress`` (6,) where the cell has a volume; ``energy_std`` (standard deviation over members of the total energy,
    eV), ``energy_members`` (n_members,), ``forces_std`` (n_atoms, 3), ``forces_members`` (n_members, n_atoms, 3).
    Standard deviations are those of the members, dividing by M − 1. They say where errors are large, not how large:
    ensembles under-estimate their errors several times. What may be taken for an error are the bounds.

    ``forces_bound`` (n_atoms,), eV/Å: the norm of the force error of an atom is at most this with the confidence
    ``card.force_bound.confidence`` (0.9 unless the campaign asked for another); ``energy_bound``, eV: likewise for the
    total energy, with ``card.energy_bound``. Both were learned from labels that nothing was trained on, and hold for
    configurations like those; nothing is promised far away from them. Potentials of which no such labels are known
    (published NeuroChem weights, cards of older versions, campaigns with few audit labels) have an assumed bound, 3.5
    times the deviation: ``card.force_bound.n_frames`` is 0 then.

    A single member has neither deviations nor bounds; ``forces_bound`` needs the forces of all members.

    A potential that is the correction to a baseline gives the sum of both; ``energies`` and ``stress`` only where the
    baseline has them.

    Args:
        ensemble: the potential.
        card: what is known of it.
        mean_forces_only: leave out ``forces_std``, ``forces_bound`` and ``forces_members``, which cost about a third of
            the time.
        skin: Å; neighbor pairs are searched again only after atoms have moved half of it.
    """

    implemented_properties: list[str] = [  # noqa: RUF012 - the base class declares it so
        "energy",
        "free_energy",
        "energies",
        "forces",
        "stress",
        "energy_std",
        "energy_bound",
        "energy_members",
        "forces_std",
        "forces_bound",
        "forces_members",
    ]

    def __init__(
        self, ensemble: Ensemble, card: Card | None = None, *, mean_forces_only: bool = False, skin: float = 0.5
    ) -> None:
        super().__init__()
        self.ensemble = ensemble
        self.mean_forces_only = mean_forces_only
        self.card = card or Card(elements=ensemble.elements)
        self._search = NeighborSearch(ensemble.cutoff, skin)
        self._known: tuple[np.ndarray, np.ndarray] | None = None

    @classmethod
    def load(
        cls,
        path: str | Path,
        *,
        dtype: Literal["float32", "float64"] = "float64",
        device: str = "cpu",
        mean_forces_only: bool = False,
        skin: float = 0.5,
        baseline: Baseline | BaseCalculator | None = None,
    ) -> AlpotCalculator:
        """Open a potential folder, ours or NeuroChem's.

        Args:
            path: the folder.
            dtype: float64 (default) conserves energy best; float32 takes about a third less time on a CPU.
            device: where to compute, as torch names it: ``cpu``, ``cuda``, ``cuda:1``.
            mean_forces_only: leave out the forces of the members, their deviation and the bound; about a third less
                time.
            skin: Å added to the cutoff, so that neighbor pairs serve several steps.
            baseline: the ASE calculator to which the potential is the correction, as its card says; EMT,
                Lennard-Jones and ZBL are known and need not be given.

        Raises:
            PotentialError: the folder is not a potential, or is damaged, or needs a baseline that is not given.
        """
        ensemble, card = load_potential(Path(path), baseline)
        ensemble = ensemble.to(device=device, dtype=getattr(torch, dtype))
        return cls(ensemble, card, mean_forces_only=mean_forces_only, skin=skin)

    def members(self) -> list[AlpotCalculator]:
        """Each member of the ensemble as a calculator of its own: what the members say of a property is its error bar.

        A single member has no deviation: its results have no ``energy_std``, no ``forces_std`` and no bounds.
        """
        skin = self._search.skin
        return [AlpotCalculator(self.ensemble.member(i), self.card, skin=skin) for i in range(self.ensemble.n_members)]

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = all_changes,
    ) -> None:
        """Evaluate everything; ASE calls this when a property is asked for.

        Raises:
            NonFiniteError: an energy or force is NaN or infinite.
            PotentialError: an element is unknown, positions are not finite, or two atoms coincide.
        """
        super().calculate(atoms, list(properties), list(system_changes))
        self.results = {}  # what belongs to another frame must not survive a failure here
        frame = cast(Atoms, self.atoms)
        batch = Batch.from_atoms([frame])
        known = () if self._known is None or "numbers" in system_changes else self._known
        if not known or not all(map(np.array_equal, known, (batch.numbers, batch.pbc))):
            self._search.forget(0)
            self._known = (batch.numbers, batch.pbc)
        result = self.ensemble.evaluate(batch, self._search.pairs(batch), mean_only=self.mean_forces_only)
        # A baseline may have no stress; energies and forces it must have.
        has_baseline = self.ensemble.baseline is not None
        if not (result.has_forces if has_baseline else result.is_finite):
            raise NonFiniteError(
                f"the potential gives energies or forces that are NaN or infinite for {frame.symbols}:"
                " the configuration is far outside of what it was trained on, or its weights are damaged"
            )
        energies = result.energies[:, 0]
        self.results = {
            "energy": float(energies.mean()),
            "free_energy": float(energies.mean()),
            "forces": result.forces.mean(axis=0),
            "energy_members": energies,
        }
        is_alone = self.ensemble.n_members == 1
        if not is_alone:
            self.results["energy_std"] = float(energies.std(ddof=1))
            per_atom = self.results["energy_std"] / len(frame)
            self.results["energy_bound"] = self.card.energy_bound.of(per_atom) * len(frame)
        if np.isfinite(result.atom_energies).all():
            self.results["energies"] = result.atom_energies.mean(axis=0)
        if not (self.mean_forces_only or is_alone):
            self.results["forces_std"] = result.forces.std(axis=0, ddof=1)
            deviation = np.linalg.norm(self.results["forces_std"], axis=1)
            self.results["forces_bound"] = self.card.force_bound.of(deviation)
            self.results["forces_members"] = result.forces
        if frame.cell.rank == 3 and np.isfinite(result.virials).all():
            stress = result.virials.mean(axis=0)[0] / batch.volumes[0]
            self.results["stress"] = full_3x3_to_voigt_6_stress(stress)

    def todict(self, skip_default: bool = True) -> dict[str, Any]:
        """What ASE writes into trajectories and databases."""
        return {"name": "alpot", "elements": list(self.card.elements), "generation": self.card.generation}
