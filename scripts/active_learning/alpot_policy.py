"""(e) alpot's rules, by its own functions: what a campaign does between two generations, without its queues of jobs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from ase import Atoms

from active_learning.engine import Choice, Engine
from active_learning.policies import DRAWS, STARTS
from alpot.campaign.samplers import Sampler, shares
from alpot.exploration.explorer import Explorer, WalkerReport
from alpot.exploration.selection import deviations, rank
from alpot.exploration.uncertainty import urgency
from alpot.potential.batch import Batch
from alpot.potential.calibration import ErrorBound, fewest_frames
from alpot.potential.ensemble import Ensemble
from alpot.potential.neighbors import NeighborSearch
from alpot.potential.novelty import Information
from alpot.store.labels import label_key
from alpot.subjects.assessment import audit_errors

#: Confidence of the bound on errors of forces.
CONFIDENCE = 0.9
#: Frames dropped by a generation whose true error is looked at, without counting it as a label.
_SAMPLE = 8


@dataclass(frozen=True, kw_only=True)
class Ingredients:
    """Parts of alpot's rules; an ablation leaves one out.

    Attributes:
        calibration: errors are bounded by what audit labels have taught; without it, σ_F itself is taken for the error,
            and no label is spent on an audit.
        several_frames: all uncertain frames of a walker; without it, the last one.
        rescoring: a new generation judges again what waits, and drops what it knows; without it, frames are labelled in
            the order that the generation gave them that found them.
        novelty: frames are ranked by what they teach beside those that are labelled and taken; without it, by their
            expected error.
        samplers: starts are drawn from those tables that still find errors, and from more tables than others have.
    """

    calibration: bool = True
    several_frames: bool = True
    rescoring: bool = True
    novelty: bool = True
    samplers: bool = True


@dataclass(kw_only=True)
class _Waiting:
    """A frame that waits.

    Attributes:
        atoms: the frame.
        key: of its label.
        is_uncertain: whether it was found so; else it is the last good one before a contact or a blow-up.
        score: the largest is labelled first; NaN as long as it was not ranked.
    """

    atoms: Atoms
    key: str
    is_uncertain: bool
    score: float = float("nan")


@dataclass
class Alpot:
    """What the policy remembers.

    Attributes:
        ingredients: which parts of the rules are used.
        waiting: found and not yet labelled.
        samplers: what was found from each table of starts.
        judged, dropped: frames that waited when a new generation judged them, and those of them that it knew already.
        sampled, known: dropped frames whose true error was looked at, and those whose error was accepted indeed.
        bounds: by generation.
        previous: the ensemble that chose last, and how many labels it was trained on.
    """

    ingredients: Ingredients = field(default_factory=Ingredients)
    waiting: list[_Waiting] = field(default_factory=list)
    samplers: dict[int, Sampler] = field(default_factory=dict)
    judged: int = 0
    dropped: int = 0
    sampled: int = 0
    known: int = 0
    bounds: list[ErrorBound] = field(default_factory=list)
    previous: tuple[Ensemble, int] | None = None

    def first_choices(self, starts: list[Atoms], audit_share: float) -> list[Choice]:
        """A share of the first labels is for the audit, too."""
        n_audit = round(audit_share * len(starts)) if self.ingredients.calibration else 0
        n_trained = len(starts) - n_audit
        return [Choice(atoms=atoms, audit=index >= n_trained) for index, atoms in enumerate(starts)]

    def bound(self, engine: Engine, ensemble: Ensemble) -> ErrorBound:
        """Learned from all audit labels; while they are few, from labels that were new to the last ensemble."""
        if not self.ingredients.calibration:
            return ErrorBound(slope=1.0, confidence=CONFIDENCE)
        if len(engine.audit) < fewest_frames(CONFIDENCE) and self.previous is not None:
            before, n_known = self.previous
            return audit_errors(before, engine.labels[n_known:]).force_bound(CONFIDENCE)
        return audit_errors(ensemble, engine.audit).force_bound(CONFIDENCE)

    def choose(self, engine: Engine, ensemble: Ensemble, count: int) -> list[Choice]:
        """Judge what waits, explore until there is enough, rank it all; audit frames come first."""
        bound = self.bound(engine, ensemble)
        self.bounds.append(bound)
        with engine.exploring():
            information = Information.of(ensemble, [label.atoms for label in engine.labels])
        self._judge_again(engine, ensemble, bound)
        audit = self._explore(engine, ensemble, bound, round(count * (1.0 + engine.plan.surplus)))[:count]
        with engine.exploring():
            self._rank(engine, ensemble, bound, information)
        self.waiting.sort(key=lambda one: -one.score)
        n_chosen = count - len(audit)
        chosen, self.waiting = self.waiting[:n_chosen], self.waiting[n_chosen:]
        for sampler in self.samplers.values():
            sampler.fade()
        self.previous = ensemble, len(engine.labels)
        return [*(Choice(atoms=atoms, audit=True) for atoms in audit), *(Choice(atoms=one.atoms) for one in chosen)]

    def _judge_again(self, engine: Engine, ensemble: Ensemble, bound: ErrorBound) -> None:
        if not self.ingredients.rescoring or not self.waiting:
            return
        limits = engine.plan.exploration
        with engine.exploring():
            errors = [bound.of(deviation) for deviation in deviations(ensemble, [one.atoms for one in self.waiting])]
        kept: list[_Waiting] = []
        dropped: list[_Waiting] = []
        for one, error in zip(self.waiting, errors, strict=True):
            is_known = one.is_uncertain and urgency(limits, float(error.mean()), float(error.max())) <= 1.0
            (dropped if is_known else kept).append(one)
        self.judged += len(self.waiting)
        self.dropped += len(dropped)
        self.waiting = kept
        self._look_at_dropped(engine, ensemble, dropped)

    def _look_at_dropped(self, engine: Engine, ensemble: Ensemble, dropped: list[_Waiting]) -> None:
        """Whether frames that a generation claims to know have errors that the user accepts: for the report only."""
        rng = engine.rng(DRAWS, engine.generation)
        for index in rng.permutation(len(dropped))[:_SAMPLE]:
            atoms = dropped[index].atoms
            batch = Batch.from_atoms([atoms])
            forces = ensemble.evaluate(batch, NeighborSearch(ensemble.cutoff).pairs(batch), mean_only=True).forces[0]
            errors = np.linalg.norm(forces - engine.reference.compute(atoms, engine.scratch).forces, axis=1)
            self.sampled += 1
            self.known += urgency(engine.plan.exploration, float(errors.mean()), float(errors.max())) <= 1.0

    def _explore(self, engine: Engine, ensemble: Ensemble, bound: ErrorBound, wanted: int) -> list[Atoms]:
        """Walk until so many frames wait.

        Returns:
            Frames for the audit.
        """
        plan = engine.plan
        material = plan.alpot_material if self.ingredients.samplers else plan.material
        share = plan.exploration.audit_share if self.ingredients.calibration else 0.0
        settings = plan.exploration.model_copy(update={"audit_share": share})
        explorer = Explorer(ensemble, settings, bound)
        audit: list[Atoms] = []
        seen = {*engine.keys, *(one.key for one in self.waiting)}
        for number in range(plan.rounds):
            if len(self.waiting) >= wanted:
                break
            drawn = shares([table.weight for table in material.starts], self.samplers) or None
            starts = engine.starts(
                STARTS, number, settings.walkers, material, drawn if self.ingredients.samplers else None
            )
            with engine.exploring():
                reports = list(explorer.run(starts))
            engine.costs.walkers += len(reports)
            engine.costs.simulated_ps += sum(report.time for report in reports)
            for report in reports:
                audit += self._note(report, engine.level, seen)
        return audit

    def _note(self, report: WalkerReport, level: str, seen: set[str]) -> list[Atoms]:
        """Take in what a walker has found, and give back what it has for the audit; of the same frame, the audit's."""
        if report.table is not None:
            has_found = bool(report.found) or report.rewound is not None
            self.samplers.setdefault(report.table, Sampler()).add(1, int(has_found), report.time)
        found = report.found if self.ingredients.several_frames else report.found[-1:]
        if not self.ingredients.several_frames and report.rewound is not None:
            found = ()
        audit = [] if report.audit is None else [report.audit.atoms]
        seen.update(label_key(atoms, level) for atoms in audit)
        frames = [(snapshot.atoms, True) for snapshot in found]
        if report.rewound is not None:
            frames.append((report.rewound.atoms, False))
        for atoms, is_uncertain in frames:
            key = label_key(atoms, level)
            if key not in seen:
                seen.add(key)
                self.waiting.append(_Waiting(atoms=atoms, key=key, is_uncertain=is_uncertain))
        return audit

    def _rank(self, engine: Engine, ensemble: Ensemble, bound: ErrorBound, information: Information) -> None:
        ranked = [one for one in self.waiting if self.ingredients.rescoring or np.isnan(one.score)]
        ranking = rank([one.atoms for one in ranked], ensemble, bound, engine.plan.exploration, information=information)
        scores = ranking.scores if self.ingredients.novelty else ranking.urgencies
        for one, score in zip(ranked, scores, strict=True):
            one.score = float(score)

    def facts(self, engine: Engine) -> dict[str, Any]:
        """What became of those that waited, and the bounds."""
        return {
            "ingredients": vars(self.ingredients),
            "left_waiting": len(self.waiting),
            "judged_again": self.judged,
            "dropped_share": self.dropped / self.judged if self.judged else None,
            "dropped_sampled": self.sampled,
            "dropped_known": self.known / self.sampled if self.sampled else None,
            "bounds": [{"slope": one.slope, "floor": one.floor, "n_frames": one.n_frames} for one in self.bounds],
            "samplers": {
                table: {"walkers": one.walkers, "found": one.found, "ps": round(one.simulated, 2)}
                for table, one in sorted(self.samplers.items())
            },
        }
