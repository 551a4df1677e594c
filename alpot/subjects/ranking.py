"""The task ``score``: what a model thinks of the candidates that wait, all together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from alpot.config import Exploration
from alpot.exploration.selection import rank
from alpot.exploration.walker import Ending
from alpot.potential.ensemble import Ensemble
from alpot.potential.novelty import Information
from alpot.potential.saved import Card
from alpot.store.directory import CampaignDirectory
from alpot.subjects.label_task import read_candidates
from alpot.subjects.training_data import Dataset


def rank_candidates(
    directory: CampaignDirectory, spec: Mapping[str, Any], ensemble: Ensemble, card: Card, limits: Exploration
) -> dict[str, Any]:
    """Rank candidates among all that wait, and tell which of them are known by now.

    A frame that was kept because its walker ran into a contact or blew up was certain when it was found; what is wrong
    came after it. So it stays, whatever the new model says of it.

    Args:
        directory: the campaign.
        spec: of the task, see ``alpot.campaign.subject``; one of an older alpot names those that are to be judged only.
        ensemble: the model; its baseline is taken off.
        card: of the model.
        limits: what the user accepts.

    Returns:
        The summary of the task, see ``alpot.campaign.subject.ScoreSummary``.
    """
    generation, judged = spec["generation"], spec["candidates"]
    there = read_candidates(directory, [*judged, *spec.get("waiting", [])])
    if not there:
        return {"generation": generation, "scores": {}}
    frames, provenances = zip(*there.values(), strict=True)
    ensemble.baseline = None  # common to all members, it does not change how far they disagree
    keys = spec.get("labels", [])
    unlearned = Dataset.read(directory, [], keys[max(len(keys) - spec.get("unseen", 0), 0) :]).single
    taken = read_candidates(directory, spec.get("labelling", [])).values()
    ranking = rank(
        frames,
        ensemble,
        card.force_bound,
        limits,
        information=Information.read(directory.model_path(generation), ensemble),
        taken=[*(label.atoms for label in unlearned), *(atoms for atoms, _ in taken)],
        cost_exponent=card.cost_exponent,
    )
    known = {
        name
        for name, provenance, expected in zip(there, provenances, ranking.urgencies, strict=True)
        if expected <= 1.0 and provenance["reason"] == Ending.UNCERTAIN
    }
    # Six digits order them as well, and keep the ledger small.
    scores = {name: float(f"{score:.6g}") for name, score in zip(there, ranking.scores, strict=True)}
    return {"generation": generation, "scores": scores, "certain": [name for name in judged if name in known]}
