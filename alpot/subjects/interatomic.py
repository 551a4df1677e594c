"""Interatomic potentials as the subject of a campaign: what each of its five tasks does.

This class says in which order the rooms below are used; the work itself is done there.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms
from numpy.typing import NDArray

from alpot.campaign.subject import Assignment, Kind
from alpot.config import Campaign
from alpot.config_file import read_campaign
from alpot.errors import Interrupted
from alpot.exploration.explorer import Ending, Explorer, WalkerReport
from alpot.exploration.uncertainty import urgency
from alpot.potential.baseline import Baseline
from alpot.potential.calculator import AlpotCalculator
from alpot.potential.calibration import ErrorBound, fewest_frames
from alpot.potential.cross_validation import member_roles
from alpot.potential.ensemble import Ensemble
from alpot.potential.novelty import Information
from alpot.potential.residuals import Residuals
from alpot.potential.saved import WEIGHTS, Card, load_potential, save_potential
from alpot.potential.training import TrainingResult, train
from alpot.reference import level_of_theory, open_cheap, open_reference
from alpot.store.assessment_file import write_assessment_file
from alpot.store.directory import CampaignDirectory
from alpot.store.files import sha256
from alpot.store.frames import read_frames, write_frames
from alpot.store.json_files import publish_json
from alpot.store.labels import Label, label_key
from alpot.structures import draw_start, isolated_atom
from alpot.subjects.assessment import AuditErrors, audit_errors, is_worse, prospective_coverage
from alpot.subjects.configuration_map import known_labels
from alpot.subjects.discovery import finds_by_table, provenance_of
from alpot.subjects.generation_properties import lost_properties, measure_generation
from alpot.subjects.isolated_atoms import isolated_energies
from alpot.subjects.label_task import Method, make_label, read_candidate
from alpot.subjects.portrait import portrait
from alpot.subjects.ranking import rank_candidates
from alpot.subjects.screening import screen, screen_after
from alpot.subjects.specimens import potential_identity
from alpot.subjects.training_data import LABELS_PER_SHARD, Dataset, compact, cost_exponent
from alpot.validation.suite import Specimen


@dataclass(frozen=True)
class _Found:
    """A frame on its way to become a candidate."""

    atoms: Atoms
    score: float
    reason: str
    audit: bool
    provenance: dict[str, Any]
    apart: bool = False


class InteratomicSubject:
    """The tasks of a campaign that learns an interatomic potential; see ``alpot.campaign.subject.Subject``."""

    def __init__(self, directory: Path) -> None:
        self.directory = CampaignDirectory.open(directory)
        self.config = read_campaign(self.directory.config)
        self.base_directory = self.directory.source.parent
        self.reference = open_reference(self.config.reference, base_directory=self.base_directory)
        self.level = level_of_theory(self.reference)
        self.cheap = open_cheap(self.config.reference, base_directory=self.base_directory)
        self.scratch = self.directory.path  # of the task that is running

    def run(self, assignment: Assignment) -> dict[str, Any]:
        """Run one task; spec and summary are described in ``alpot.campaign.subject``."""
        assignment.checkpoint.interval = self.config.resources.checkpoint_interval
        self.scratch = assignment.scratch
        spec = assignment.spec
        match assignment.kind:
            case Kind.EXPLORE if spec["generation"] is None:
                return self._emit_starts(assignment)
            case Kind.EXPLORE:
                return self._explore(assignment)
            case Kind.LABEL:
                return self._label(spec["candidate"])
            case Kind.SCORE:
                return self._score(spec)
            case Kind.TRAIN:
                return self._train(assignment)
            case Kind.ASSESS:
                return self._assess(spec)
            case Kind.MEASURE:
                raise NotImplementedError("a campaign measures properties when it assesses a generation")

    def _rng(self, assignment: Assignment) -> np.random.Generator:
        return np.random.default_rng([self.config.seed, zlib.crc32(assignment.task_id.encode()), assignment.draw])

    @cached_property
    def device(self) -> str:
        """Where potentials are trained and explored."""
        return device_of(self.config)

    @property
    def baseline(self) -> Baseline | None:
        """What the potential is the correction to, with a calculator of its own."""
        return None if self.cheap is None else self.cheap.baseline(self.scratch)

    def potential(self, generation: int) -> tuple[Ensemble, Card]:
        """The ensemble of a generation, on the device where it is used."""
        ensemble, card = load_potential(self.directory.model_path(generation), self.baseline)
        return ensemble.to(self.device), card

    # ---------------------------------------------------------------------------------------------- explore

    def _starts(
        self, rng: np.random.Generator, count: int, first: int = 0, *, shares: Sequence[float] | None = None
    ) -> Iterator[tuple[Atoms, np.random.Generator]]:
        """Starts, each with random numbers of its own, so that one does not depend on the fate of another.

        Those before ``first`` were made by an earlier attempt.
        """
        for walker_rng in rng.spawn(count)[first:]:
            start = draw_start(self.config.material, walker_rng, base_directory=self.base_directory, shares=shares)
            yield start, walker_rng

    def _emit_starts(self, assignment: Assignment) -> dict[str, Any]:
        """Before there is a potential: random starts are labelled as they are, some for the audit."""
        count = assignment.spec["starts"]
        n_audit = round(count * self.config.exploration.audit_share)
        found = [
            _Found(atoms, 1.0, "initial", index >= count, dict(atoms.info))
            for index, (atoms, _) in enumerate(self._starts(self._rng(assignment), count + n_audit))
        ]
        if assignment.spec.get("apart", False):  # a task of an older alpot does not say
            found += [
                _Found(isolated_atom(symbol), 1.0, "isolated_atom", False, {}, apart=True)
                for symbol in self.config.material.elements
            ]
        return {"generation": None, "candidates": self._candidates(assignment.task_id, found)}

    def _explore(self, assignment: Assignment) -> dict[str, Any]:
        generation = assignment.spec["generation"]
        ensemble, card = self.potential(generation)
        explorer = Explorer(ensemble, self.config.exploration, card.force_bound)
        starts = partial(
            self._starts,
            self._rng(assignment),
            self.config.exploration.walkers_per_task,
            shares=assignment.spec.get("shares"),
        )
        weights = sha256(self.directory.model_path(generation) / WEIGHTS)
        baseline = [] if ensemble.baseline is None else [ensemble.baseline.identity]
        belongs_to = self._identity(assignment, weights, repr(card.force_bound), *baseline)
        reports = list(explorer.run(starts, assignment.checkpoint, belongs_to))
        found = [item for number, report in enumerate(reports) for item in self._worth(report, number, generation)]
        return {
            "generation": generation,
            "candidates": self._candidates(assignment.task_id, found),
            "walkers": len(reports),
            "simulated_time": sum(report.time for report in reports),
            "endings": dict(Counter(report.ending.value for report in reports)),
            "samplers": finds_by_table(reports),
        }

    def _identity(self, assignment: Assignment, *inputs: str) -> str:
        """Hash of all that a task's state in the middle depends on, besides its position."""
        settings = self.config.model_dump_json(include={"seed", "material", "exploration"})
        text = json.dumps([assignment.task_id, assignment.draw, settings, *inputs])
        return hashlib.sha256(text.encode()).hexdigest()

    def _worth(self, report: WalkerReport, walker: int, generation: int) -> Iterator[_Found]:
        """The frames of one walker that may be worth a label."""
        rewound = "rewound" if report.ending is Ending.UNCERTAIN else report.ending.value
        frames = [
            (report.audit, "audit"),
            *((snapshot, Ending.UNCERTAIN.value) for snapshot in report.found),
            (report.rewound, rewound),
        ]
        for snapshot, reason in frames:
            if snapshot is not None:
                score = urgency(self.config.exploration, snapshot.mean_error, snapshot.max_error)
                provenance = provenance_of(snapshot, walker, generation)
                yield _Found(snapshot.atoms, score, reason, reason == "audit", provenance)

    def _candidates(self, task_id: str, found: list[_Found]) -> list[dict[str, Any]]:
        """Store frames, and describe what is then in the file: another attempt may have been first."""
        path = self.directory.candidates_path(task_id)
        provenance = [
            {
                **item.provenance,
                "key": label_key(item.atoms, self.level),
                "score": item.score,
                "reason": item.reason,
                "audit": item.audit,
                "apart": item.apart,
            }
            for item in found
        ]
        if not write_frames(path, [item.atoms for item in found], provenance):
            _, provenance = read_frames(path)
        names = ("key", "score", "reason", "audit", "apart")
        return [
            {"id": f"{task_id}/{index}", **{name: entry[name] for name in names if name in entry}}
            for index, entry in enumerate(provenance)
        ]

    # ------------------------------------------------------------------------------------------------ label

    def _label(self, candidate: str) -> dict[str, Any]:
        """Compute one label, unless an earlier attempt has left it behind."""
        atoms, provenance = read_candidate(self.directory, candidate)
        method = Method(self.reference, self.config.reference, self.level, self.cheap)
        return make_label(self.directory, method, candidate, atoms, provenance, self.scratch)

    # ------------------------------------------------------------------------------------------------ score

    def _score(self, spec: dict[str, Any]) -> dict[str, Any]:
        """Rank candidates among all that wait, and tell which of them are known by now."""
        ensemble, card = self.potential(spec["generation"])
        return rank_candidates(self.directory, spec, ensemble, card, self.config.exploration)

    # ------------------------------------------------------------------------------------------------ train

    def _continues(self, generation: int, parent: int) -> bool:
        """Whether a training begins from the weights of the generation ``parent``, which is the promoted one.

        Where the one before the new one was not promoted, labels that nothing was trained on have judged it worse:
        going on from the same weights once more is not the way.
        """
        asked = self.config.training.warm_start
        return parent == generation - 1 if asked == "auto" else asked

    def _train(self, assignment: Assignment) -> dict[str, Any]:
        """Compact single labels into shards, refuse those that are wrong, and fit all members to the rest."""
        spec = assignment.spec
        generation = spec["generation"]
        data = Dataset.read(self.directory, spec["shards"], spec["labels"])
        parent = self.potential(spec["parent"]) if spec["parent"] is not None else None
        refused = data.reasons
        refused |= self._screen(data.labels(without=spec["refused"]), spec["unseen"], parent)
        residuals = Residuals.below(self.baseline)
        refused |= data.beyond(residuals, without={*spec["refused"], *refused})
        labels = data.labels(without={*spec["refused"], *refused})
        fit = partial(
            train,
            elements=self.config.material.elements,
            potential=self.config.potential,
            settings=self.config.training,
            seed=int(self._rng(assignment).integers(2**31)),
            parent=parent[0] if parent is not None and self._continues(generation, spec["parent"]) else None,
            residuals=residuals,
            device=self.device,
        )
        result = fit(labels, checkpoint=assignment.checkpoint)
        if parent is None and (wrong := self._second_look(result.ensemble, labels)):
            refused |= wrong
            labels = data.labels(without={*spec["refused"], *refused})
            # In a file of its own: an attempt that goes on here passes the first fit once more, from its last state.
            second = assignment.checkpoint.path.with_stem(f"{assignment.checkpoint.path.stem}-second")
            try:
                result = fit(labels, checkpoint=replace(assignment.checkpoint, path=second))
            except Interrupted as interruption:  # what comes second is further than all of the first
                progress = len(result.history) + interruption.progress
                raise Interrupted(str(interruption), progress=progress) from interruption
        isolated = isolated_energies(self.directory, spec.get("apart_labels", []))
        new = data.latest(spec.get("unlearned", 0), without=spec["refused"])
        bounds = self._first_bounds(parent, [label for label in labels if label.key in new])
        folder = self._save(generation, result, labels, isolated, bounds)
        return {
            "generation": generation,
            "path": self.directory.relative(folder),
            "checksum": sha256(folder / WEIGHTS),
            "compacted": self._compact(generation, data.single, refused, spec["audit_labels"]),
            "refused": refused,
            "metrics": {
                **result.errors,
                "epochs": len(result.history),
                "labels": len(labels),
                "retrained": result.retrained,
                "isolated_atoms": isolated,
            },
        }

    def _screen(self, labels: Sequence[Label], n_new: int, judge: tuple[Ensemble, Card] | None) -> dict[str, str]:
        """Which of the last labels are wrong, and why; without a potential to judge them, all judge each other."""
        if judge is None:
            return screen(labels)
        ensemble, card = judge
        n_known = max(len(labels) - n_new, 0)
        return screen(labels[n_known:], known=labels[:n_known], judge=ensemble, calibration=card.calibration)

    def _first_bounds(
        self, parent: tuple[Ensemble, Card] | None, new: Sequence[Label]
    ) -> tuple[ErrorBound, ErrorBound]:
        """Bounds on errors of forces and energies as long as there are few audit labels.

        They tell how the predecessor fared with labels that were new to it. Those were chosen by what it knew of them,
        its deviations and where they lie, not by its true errors: so what these are for a given deviation is not
        changed by the choice.
        """
        confidence = self.config.exploration.confidence
        errors = audit_errors(parent[0], new) if parent is not None else None
        if errors is None or not errors.is_finite:
            return ErrorBound(confidence=confidence), ErrorBound(confidence=confidence)
        return errors.force_bound(confidence), errors.energy_bound(confidence)

    def _second_look(self, ensemble: Ensemble, labels: Sequence[Label]) -> dict[str, str]:
        """The first potential has no predecessor to judge its labels: its members judge those of other folds."""
        roles = member_roles([label.key for label in labels], ensemble.n_members, self.config.training)
        return screen_after(ensemble, labels, roles)

    def _compact(
        self, generation: int, single: Sequence[Label], refused: Collection[str], audit_keys: Sequence[str]
    ) -> list[dict[str, Any]]:
        """Gather single labels into shards where there are many; those for the audit into others."""
        good = [label for label in single if label.key not in refused]
        compacted = compact(self.directory, generation, good, audit=False)
        if len(audit_keys) >= LABELS_PER_SHARD:
            audit = Dataset.read(self.directory, [], audit_keys).single
            compacted += compact(self.directory, generation, audit, audit=True)
        return compacted

    def _save(
        self,
        generation: int,
        result: TrainingResult,
        labels: list[Label],
        isolated: dict[str, float],
        bounds: tuple[ErrorBound, ErrorBound],
    ) -> Path:
        folder = self.directory.model_path(generation)
        publish_json(folder / "learning_curve.json", {"epochs": [asdict(epoch) for epoch in result.history]})
        card = Card(
            elements=self.config.material.elements,
            level_of_theory={"hash": self.level, **self.reference.settings()},
            n_labels=len(labels),
            errors=result.errors,
            training=self.config.training.model_dump(mode="json"),
            generation=generation,
            provenance={
                "campaign": self.directory.path.name,
                "seed": self.config.seed,
                "labels_sha256": _hash_of(labels),
            },
            isolated_atoms=isolated,
            # Measured times differ from run to run; where labels cost nothing, decisions should not.
            cost_exponent=1.0 if self.reference.is_cheap else cost_exponent(labels),
            force_bound=bounds[0],
            energy_bound=bounds[1],
        )
        Information.of(result.ensemble, [label.atoms for label in labels]).write(folder)
        save_potential(folder, result.ensemble, card)
        return folder

    # ----------------------------------------------------------------------------------------------- assess

    def _assess(self, spec: dict[str, Any]) -> dict[str, Any]:
        """Measure a generation on the audit labels against the one it would replace; at the end, its properties."""
        generation, incumbent = spec["generation"], spec["incumbent"]
        data = Dataset.read(self.directory, spec["audit_shards"], spec["audit_labels"])
        judge = self.potential(incumbent if incumbent is not None else generation)
        refused = data.reasons
        refused |= self._screen(data.labels(without=spec["refused"]), spec["unseen"], judge)
        ensemble, card = self.potential(generation)
        refused |= data.beyond(Residuals.below(ensemble.baseline), without={*spec["refused"], *refused})
        labels = data.labels(without={*spec["refused"], *refused})
        errors = audit_errors(ensemble, labels)
        before = errors if incumbent in (None, generation) else audit_errors(judge[0], labels)
        new = data.latest(spec["unseen"], without=spec["refused"])
        is_new = np.array([label.key in new for label in labels], dtype=bool)
        coverage = {} if incumbent is None else _coverage(incumbent, before, is_new, judge[1])
        if not errors.is_finite:
            worthless = {"generation": generation, "promote": False, "audit_labels": len(labels), "refused": refused}
            return worthless | coverage
        # Those that were still being computed when the training began are known now.
        isolated = card.isolated_atoms | isolated_energies(self.directory, spec.get("apart_labels", []))
        card = self._record(generation, ensemble, replace(card, isolated_atoms=isolated), errors)
        known = known_labels(self.directory, spec, refused)
        seen = portrait(generation, ensemble, labels, errors, known, card.force_bound.confidence)
        write_assessment_file(self.directory, seen)
        promote = True
        if incumbent not in (None, generation):
            promote = not is_worse(errors, before)
        properties = self._properties(generation, final=spec["final"])
        held_back = []
        if self.config.assessment.hold_back and promote and incumbent not in (None, generation):
            held_back = lost_properties(properties, spec.get("within_tolerance", []))
        return {
            "generation": generation,
            "promote": promote and not held_back,
            "held_back": held_back,
            "force_error": errors.force,
            "force_error_high": errors.force_high(self.config.stopping.confidence),
            "force_error_confidence": self.config.stopping.confidence,
            "energy_error": errors.energy,
            "audit_labels": len(labels),
            "refused": refused,
            "calibration": errors.calibration,
            "force_bound": asdict(card.force_bound),
            "properties": properties,
            **coverage,
        }

    def _record(self, generation: int, ensemble: Ensemble, card: Card, errors: AuditErrors) -> Card:
        """Write what was measured onto the generation's card."""
        measured = {"audit_force": errors.force, "audit_energy": errors.energy}
        known = {name: value for name, value in measured.items() if value is not None}
        confidence = self.config.exploration.confidence
        changed = replace(card, errors={**card.errors, **known}, calibration=errors.calibration)
        n_audit = len(errors.counts)
        if n_audit >= fewest_frames(confidence) or n_audit >= card.force_bound.n_frames:
            force, energy = errors.force_bound(confidence), errors.energy_bound(confidence)
            force, energy = (replace(bound, is_audited=bound.n_frames > 0) for bound in (force, energy))
            changed = replace(changed, force_bound=force, energy_bound=energy)
        save_potential(self.directory.model_path(generation), ensemble, changed)
        return changed

    def _properties(self, generation: int, *, final: bool) -> list[dict[str, Any]]:
        """Rows of the table of properties; at the end, of all that are asked for."""
        wanted = self.config.assessment
        names = tuple(dict.fromkeys((*wanted.each_generation, *(wanted.properties if final else ()))))
        if not names:
            return []
        model = self.directory.model_path(generation)
        calculator = AlpotCalculator.load(model, device=self.device, baseline=self.baseline)
        potential = Specimen(calculator=calculator, identity=potential_identity(model))
        reference = None
        if wanted.compare_reference:
            reference = Specimen(calculator=self.reference.calculator(self.scratch), identity=self.level)
        return measure_generation(self.directory, self.config, generation, names, potential, reference)


def device_of(config: Campaign) -> str:
    """The device that the campaign file asks for, as torch names it."""
    wanted = config.resources.device
    if wanted == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return wanted


def _coverage(generation: int, errors: AuditErrors, is_new: NDArray[np.bool_], card: Card) -> dict[str, int | float]:
    """How often the bound that walkers stop at held on the labels that came since; nothing without any."""
    found = prospective_coverage(errors, is_new, card.force_bound)
    if found is None:
        return {}
    known = {"coverage": found.share, "coverage_atoms": found.n_atoms, "coverage_frames": found.n_frames}
    return known | {"coverage_of": generation}


def _hash_of(labels: list[Label]) -> str:
    """One hash for a set of labels."""
    return hashlib.sha256("".join(sorted(label.key for label in labels)).encode()).hexdigest()
