"""The same ensemble in alpot and in torchani: the published ANI-Al, or random weights of its shape."""

from __future__ import annotations

from copy import deepcopy
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from ase import Atoms, units
from ase.calculators.calculator import BaseCalculator, all_changes
from numpy.typing import NDArray
from torch import Tensor

from alpot.config import Potential
from alpot.potential.batch import Batch
from alpot.potential.descriptor import AevSettings
from alpot.potential.ensemble import Ensemble, EnsembleResult
from alpot.potential.neighbors import NeighborSearch
from alpot.potential.saved import load_potential
from alpot.potential.torchani_bridge import to_torchani

if TYPE_CHECKING:
    from torchani.arch import ANI

N_MEMBERS = 8
#: Largest difference of forces (eV/Å), energies (eV/atom), stresses (eV/Å³) that count as the same in float32.
TOLERANCE = 1e-4


def load_ensemble(weights: str | None) -> Ensemble:
    """The ensemble in float32.

    Args:
        weights: folder of the published weights; None draws random ones for the same architecture.
    """
    if weights is not None:
        ensemble, _ = load_potential(Path(weights))
        return ensemble.float()
    settings = Potential(members=N_MEMBERS)
    aev = AevSettings.from_config(settings.descriptor)
    ensemble = Ensemble(("Al",), aev, settings.members, settings.hidden, settings.activation)
    generator = torch.Generator().manual_seed(0)
    for networks in ensemble.networks:
        for member in range(ensemble.n_members):
            networks.initialize(member, generator)
    return ensemble.float()


def evaluate(ensemble: Ensemble, atoms: Atoms, *, mean_only: bool) -> EnsembleResult:
    """All of one evaluation by alpot: neighbor search, energies, forces, stress."""
    batch = Batch.from_atoms([atoms])
    return ensemble.evaluate(batch, NeighborSearch(ensemble.cutoff).pairs(batch), mean_only=mean_only)


class TorchaniSide:
    """torchani, used as its users do: neighbors by the list that it chooses for the size of the frame.

    Stress is computed the ``fdotr`` way, the faster of the two that are right.

    Args:
        weights: as for ``load_ensemble``; published ones are read by torchani's own reader.
        ensemble: the same potential in alpot.
        dtype: floating-point type.
    """

    def __init__(self, weights: str | None, ensemble: Ensemble, dtype: torch.dtype = torch.float32) -> None:
        from torchani.neighbors import AdaptiveList

        self.dtype = dtype
        model = to_torchani(ensemble) if weights is None else _read_with_torchani(Path(weights))
        self.model: Any = model.to(dtype)
        self.model.neighborlist = AdaptiveList()
        self._calculator = self.model.ase(stress_kind="fdotr")

    @cached_property
    def separate_models(self) -> list[Any]:
        """One model per member, each with a descriptor of its own."""
        return [self.model[member] for member in range(N_MEMBERS)]

    def mean(self, atoms: Atoms) -> dict[str, NDArray[np.float64]]:
        """Energy, forces and stress of the mean."""
        self._calculator.calculate(atoms, ["energy", "forces", "stress"], all_changes)
        return self._calculator.results

    def members(self, atoms: Atoms) -> NDArray[np.float64]:
        """(M, n_atoms, 3) eV/Å: forces of every member, by ``members_forces``."""
        forces = self.model.members_forces(*self._input(atoms)).forces
        return forces[:, 0].numpy() * units.Hartree

    def separate(self, atoms: Atoms) -> NDArray[np.float64]:
        """(M, n_atoms, 3) eV/Å: forces of every member, by as many separate models."""
        from torchani.grad import energies_and_forces

        forces = []
        for model in self.separate_models:
            (species, positions), cell, pbc = self._input(atoms)
            forces.append(energies_and_forces(model, species, positions, cell, pbc).forces[0])
        return torch.stack(forces).numpy() * units.Hartree

    def calculator_with_skin(self) -> BaseCalculator:
        """Its ASE calculator on its neighbor list with a skin (1 Å), the fastest in molecular dynamics."""
        from torchani.neighbors import VerletCellList

        model = deepcopy(self.model)
        model.neighborlist = VerletCellList()
        return model.ase(stress_kind="fdotr")

    def _input(self, atoms: Atoms) -> tuple[tuple[Tensor, Tensor], Tensor, Tensor]:
        """What torchani's models take: ((species, positions), cell, pbc)."""
        positions = torch.tensor(atoms.positions, dtype=self.dtype)[None]
        cell = torch.tensor(atoms.cell.array, dtype=self.dtype)
        return (torch.from_numpy(atoms.numbers)[None], positions), cell, torch.from_numpy(atoms.pbc)


def _read_with_torchani(folder: Path) -> ANI:
    from torchani.arch import ANI
    from torchani.neurochem import load_aev_computer_and_symbols, load_ensemble, load_sae

    computer, symbols = load_aev_computer_and_symbols(next(folder.glob("*.params")))
    return ANI(
        symbols=symbols,
        aev_computer=computer,
        neural_networks=load_ensemble(symbols, folder / "train", N_MEMBERS),
        energy_shifter=load_sae(next(folder.glob("sae*.dat"))),
        periodic_table_index=True,
    )


def difference(ensemble: Ensemble, torchani: TorchaniSide, atoms: Atoms) -> str:
    """Says where alpot in float32 differs from torchani in float64 by more than float32 explains; empty if nowhere.

    Not from torchani in float32, which rounds coordinates to it: in a cell of 40 Å that alone is above the tolerance.
    """
    mean, members = torchani.mean(atoms), torchani.members(atoms)
    of_mean, of_members = (evaluate(ensemble, atoms, mean_only=mean_only) for mean_only in (True, False))
    differences = {
        "energies per atom": (of_mean.energies.mean() - mean["energy"]) / len(atoms),
        "mean forces": of_mean.forces[0] - mean["forces"],
        "stresses": of_mean.virials[0, 0] / atoms.get_volume() - mean["stress"],
        "members' forces": of_members.forces - members,
    }
    for name, values in differences.items():
        if not (largest := np.abs(values).max()) <= TOLERANCE:  # NaN must not pass
            return f"no ratio of things that differ: {name} by {largest:.1e} (eV, Å)"
    return ""
