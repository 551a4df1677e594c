"""A map of configuration space: what a campaign has learned, one point per label, near where environments are alike."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from ase import Atoms
from numpy.typing import NDArray

from alpot.potential.batch import Batch, in_portions
from alpot.potential.ensemble import Ensemble
from alpot.potential.kernels import Geometry
from alpot.potential.neighbors import NeighborSearch
from alpot.potential.threads import in_order, single_threaded_torch
from alpot.store.assessment_file import MAX_MAP, MapPoint
from alpot.store.directory import CampaignDirectory
from alpot.store.labels import Label
from alpot.structures.density import density_of
from alpot.subjects.discovery import discovery_of
from alpot.subjects.imports import is_imported
from alpot.subjects.training_data import Dataset

#: More digits than a screen has pixels.
_DIGITS = 5
#: Energies in eV have all-electron offsets, so that their decimals count rather than their digits.
ENERGY_DECIMALS = 6


@dataclass(frozen=True)
class Known:
    """A label of the campaign.

    Attributes:
        label: the label.
        audit: whether it is for the audit.
        imported: whether it was brought along.
    """

    label: Label
    audit: bool
    imported: bool


def known_labels(
    directory: CampaignDirectory, spec: Mapping[str, Any], refused: Collection[str]
) -> Iterator[list[Known]]:
    """All labels that are in use, shard by shard: they need not fit into memory together.

    Args:
        directory: the campaign.
        spec: of the assessment; one of an older alpot does not name the labels to train on.
        refused: keys of labels that are not used, besides those that the spec names.
    """
    without = {*spec["refused"], *refused}
    for prefix, audit in (("", False), ("audit_", True)):
        for shard in spec.get(f"{prefix}shards", []):
            labels = Dataset.read(directory, [shard], []).labels(without)
            yield [Known(label, audit, is_imported(shard)) for label in labels]
        single = Dataset.read(directory, [], spec.get(f"{prefix}labels", [])).labels(without)
        yield [Known(label, audit, imported=False) for label in single]


def draw_map(ensemble: Ensemble, known: Iterable[list[Known]]) -> tuple[list[MapPoint], int]:
    """The points of the map, and the number of labels that they are a random share of.

    Keys are hashes, so those that come first in order are a random choice. It is the same choice at the next
    assessment, but for labels that are new and those that make room for them.
    """
    shown: list[Known] = []
    total = 0
    for some in known:
        total += len(some)
        shown = sorted((*shown, *some), key=lambda item: item.label.key)[:MAX_MAP]
    places = projected(mean_environments(ensemble, [item.label.atoms for item in shown]))
    return [_point(item, x, y) for item, (x, y) in zip(shown, places.tolist(), strict=True)], total


def _point(item: Known, x: float, y: float) -> MapPoint:
    atoms = item.label.atoms
    discovery = discovery_of(item.label.provenance, imported=item.imported)
    return MapPoint(
        x=rounded(x),
        y=rounded(y),
        generation=discovery.generation,
        reason=discovery.reason,
        audit=item.audit,
        density=rounded(density_of(atoms.numbers, atoms.get_volume())) if atoms.pbc.all() else None,
        temperature=None if discovery.temperature is None else rounded(discovery.temperature),
        energy=round(item.label.energy / len(atoms), ENERGY_DECIMALS),
        n_atoms=len(atoms),
    )


def mean_environments(ensemble: Ensemble, frames: Sequence[Atoms]) -> NDArray[np.float64]:
    """(n_frames, n_features) mean over the atoms of each frame of their atomic environment vectors."""
    none = np.zeros((0, ensemble.aev.n_features(len(ensemble.elements))))
    with single_threaded_torch() as n_threads:
        return np.concatenate([none, *in_order(partial(_means, ensemble), in_portions(frames), n_threads)])


def _means(ensemble: Ensemble, frames: Sequence[Atoms]) -> NDArray[np.float64]:
    batch = Batch.from_atoms(frames)
    species = torch.from_numpy(ensemble.species(batch.numbers))
    geometry = Geometry.of(batch, species, NeighborSearch(ensemble.cutoff).pairs(batch), ensemble.device)
    features = ensemble.kernels.environments(geometry, 0, batch.n_atoms).features.detach().cpu().double().numpy()
    return np.add.reduceat(features, batch.offsets[:-1]) / batch.counts[:, None]


def projected(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n, 2) principal components of vectors (n, n_features): the plane in which they differ most.

    Smith et al., Nat. Commun. 12, 1257 (2021), draw such a map with t-SNE. Principal components are linear and
    deterministic: one map can be compared with the next, far apart on it is far apart in truth, and it needs no other
    package. They are computed anew for each map, from all its points. An axis points to where its largest component is
    positive.
    """
    centered = vectors - vectors.mean(axis=0) if len(vectors) else vectors
    _, axes = np.linalg.eigh(centered.T @ centered)  # in ascending order
    plane = axes[:, :-3:-1]
    largest = np.abs(plane).argmax(axis=0)
    return centered @ (plane * np.sign(plane[largest, [0, 1]]))


def rounded(value: float) -> float:
    """A number with as many digits as can be drawn."""
    return float(f"{value:.{_DIGITS}g}")
