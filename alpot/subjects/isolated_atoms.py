"""Labels of isolated atoms: one for each element, kept apart from all others.

They are never trained on, and the self energies of the networks stay those of a least-squares fit to the labels: a
potential for condensed phases is fitted best around its own mean, whereas the cohesive energy would be an offset of
some eV per atom that the networks had to learn. What needs isolated atoms finds their energies on the potential's card.
"""

from __future__ import annotations

from collections.abc import Sequence

from alpot.store.directory import CampaignDirectory
from alpot.store.labels import read_label
from alpot.subjects.training_data import is_whole


def isolated_energies(directory: CampaignDirectory, keys: Sequence[str]) -> dict[str, float]:
    """Energies in eV by element.

    Args:
        directory: the campaign.
        keys: of the labels of isolated atoms; of several for an element the first counts, damaged ones do not.
    """
    energies: dict[str, float] = {}
    for path in map(directory.label_path, keys):
        if is_whole(path):
            label = read_label(path)
            energies.setdefault(str(label.atoms.symbols[0]), label.energy)
    return energies
