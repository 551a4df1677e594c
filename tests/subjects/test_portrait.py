"""What assessments leave for the report, against what the calculator says of the same labels."""

from pathlib import Path

import numpy as np
import pytest
from tiny_campaign import MAX_LABELS, emt_labels, last_assessment, state_of

import alpot
from alpot.potential.saved import load_potential
from alpot.store.assessment_file import MAX_HARD, AssessmentFile, read_assessment_file
from alpot.store.directory import CampaignDirectory
from alpot.store.labels import Label, read_label
from alpot.store.ledger import Ledger
from alpot.store.repair import inspect, repair
from alpot.subjects import portrait as module
from alpot.subjects.assessment import AuditErrors, audit_errors
from alpot.subjects.configuration_map import Known
from alpot.subjects.portrait import portrait

#: Training works in single precision, the calculator in double; and the file keeps five digits.
PRECISION = {"rel": 2e-3, "abs": 2e-5}


def label_of(directory: CampaignDirectory, key: str) -> Label:
    return read_label(directory.label_path(key))


def answers(model: Path, label: Label) -> tuple[float, np.ndarray, np.ndarray]:
    """Energy per atom, forces, and σ_F of the atoms, from the calculator that users have."""
    atoms = label.atoms.copy()
    atoms.calc = alpot.load(model)
    energy, forces = atoms.get_potential_energy(force_consistent=True), atoms.get_forces()
    return energy / len(atoms), forces, np.linalg.norm(atoms.calc.results["forces_std"], axis=1)


def portrait_of(directory: CampaignDirectory, labels: list[Label]) -> AssessmentFile:
    ensemble, _ = load_potential(directory.model_path(1))
    known = [[Known(label, audit=True, imported=False) for label in labels]]
    return portrait(1, ensemble, labels, audit_errors(ensemble, labels), known, 0.9)


def test_every_generation_has_a_file_and_repair_knows_them(finished):
    generations = state_of(finished).generations
    files = sorted((finished.path / "assessments").iterdir())
    assert files == [finished.assessment_path(number) for number in range(1, generations + 1)]
    report = inspect(finished, {})
    assert report.is_sound and report.checked["assessments"] == generations


def test_a_damaged_file_costs_a_picture_and_nothing_else(campaign):
    path = campaign.assessment_path(1)
    path.write_bytes(path.read_bytes().replace(b"1", b"2", 1))
    report = repair(campaign, {})
    assert [damage.path for damage in report.damaged] == ["assessments/gen-0001.json"] and not report.lost
    assert read_assessment_file(campaign, 1) is None


def test_audit_frames_are_what_the_calculator_says(finished):
    found, model = last_assessment(finished), finished.model_path(state_of(finished).promoted)
    assert {frame.key for frame in found.audit} == set(state_of(finished).dataset.audit.loose)
    for frame in found.audit:
        label = label_of(finished, frame.key)
        energy, forces, sigma = answers(model, label)
        misfit = np.linalg.norm(forces - label.forces, axis=1)
        assert (frame.n_atoms, frame.reason) == (len(label.atoms), label.provenance["reason"])
        assert frame.energy == pytest.approx(label.energy / len(label.atoms), abs=1e-6)
        assert frame.energy_predicted == pytest.approx(energy, abs=1e-5)
        assert frame.energy_error == pytest.approx(energy - label.energy / len(label.atoms), **PRECISION)
        assert frame.force_rmse == pytest.approx(np.sqrt(np.mean((forces - label.forces) ** 2)), **PRECISION)
        assert frame.force_max_error == pytest.approx(misfit.max(), **PRECISION)
        # Of two members: their difference, so that single precision shows.
        assert frame.sigma_mean == pytest.approx(sigma.mean(), rel=1e-2, abs=1e-4)
        assert frame.sigma_max == pytest.approx(sigma.max(), rel=1e-2, abs=1e-4)


def test_the_errors_are_those_of_the_ledger(finished):
    with Ledger(finished.ledger, read_only=True) as ledger:
        summaries = [event.payload["summary"] for event in ledger.events() if event.kind == "task_finished"]
    assessed = {summary["generation"]: summary for summary in summaries if "promote" in summary}  # the last of each
    for generation, summary in assessed.items():
        found = read_assessment_file(finished, generation)
        assert len(found.audit) == summary["audit_labels"]
        force = np.sqrt(np.mean([frame.force_rmse**2 for frame in found.audit]))
        energy = np.sqrt(np.mean([frame.energy_error**2 for frame in found.audit]))
        assert (force, energy) == pytest.approx((summary["force_error"], summary["energy_error"]), rel=1e-4)


def test_parity_and_bins_hold_all_atoms_of_the_audit(finished):
    found, model = last_assessment(finished), finished.model_path(state_of(finished).promoted)
    labels = [label_of(finished, frame.key) for frame in found.audit]
    n_atoms = sum(len(label.atoms) for label in labels)
    assert sum(part.count for part in found.sigma_bins) == n_atoms
    parity = found.force_parity
    assert len(parity.reference) == 3 * n_atoms and parity.total is None
    np.testing.assert_allclose(
        parity.reference, np.concatenate([label.forces for label in labels]).ravel(), rtol=1e-4, atol=1e-12
    )
    predicted = np.concatenate([answers(model, label)[1] for label in labels]).ravel()
    np.testing.assert_allclose(parity.predicted, predicted, rtol=1e-3, atol=1e-4)


def test_the_hardest_frames_come_whole(finished):
    found = last_assessment(finished)
    assert len(found.hard) == len(found.audit) <= MAX_HARD
    errors = [frame.force_rmse for frame in found.hard]
    assert errors == sorted(errors, reverse=True)  # so few frames are all on the first list
    for frame in found.hard:
        label = label_of(finished, frame.key)
        assert frame.symbols == list(label.atoms.symbols) and list(frame.pbc) == label.atoms.pbc.tolist()
        np.testing.assert_allclose(frame.positions, label.atoms.positions, atol=1e-4)
        np.testing.assert_allclose(frame.cell, label.atoms.cell.array, atol=1e-4)
        assert np.sqrt(np.mean(np.square(frame.atom_errors)) / 3) == pytest.approx(frame.force_rmse, rel=1e-3)


def test_twenty_hard_frames_of_many(finished):
    found = portrait_of(finished, emt_labels(30))
    assert [frame.why for frame in found.hard] == ["worst predicted"] * 10 + ["most uncertain"] * 10
    assert len({frame.key for frame in found.hard}) == MAX_HARD
    left_out = {frame.key for frame in found.audit} - {frame.key for frame in found.hard}
    by_key = {frame.key: frame for frame in found.audit}
    assert max(by_key[key].force_rmse for key in left_out) <= min(frame.force_rmse for frame in found.hard[:10])
    assert max(by_key[key].sigma_max for key in left_out) <= min(frame.sigma_max for frame in found.hard[10:])


def test_many_components_are_sampled(finished, monkeypatch):
    labels = emt_labels(6)
    everything = portrait_of(finished, labels).force_parity
    monkeypatch.setattr(module, "MAX_PARITY", 20)
    some = portrait_of(finished, labels).force_parity
    assert (len(some.reference), some.total) == (20, 6 * 4 * 3)
    assert set(zip(some.reference, some.predicted, strict=True)) <= set(
        zip(everything.reference, everything.predicted, strict=True)
    )
    assert portrait_of(finished, labels).force_parity == some  # another attempt writes the same


def test_bins_of_an_honest_ensemble_lie_on_the_diagonal():
    rng = np.random.default_rng(5)
    sigma = rng.lognormal(-2.0, 1.0, 40_000)  # over two orders of magnitude
    misfits = np.linalg.norm(rng.normal(0.0, (sigma / np.sqrt(3.0))[:, None], (len(sigma), 3)), axis=1)
    errors = AuditErrors(
        force_squares=np.zeros(0),
        energy_errors=np.zeros(0),
        energy_deviations=np.zeros(0),
        counts=np.zeros(0, dtype=np.int64),
        forces=np.zeros((len(sigma), 3)),
        predicted=sigma,
        actual=misfits,
    )
    bins = module._sigma_bins(errors, 0.9)
    assert [part.count for part in bins] == [2000] * 20
    assert [part.sigma for part in bins] == sorted(part.sigma for part in bins)
    # 1/√(2·3·2000) = 0.9 % of statistical error; more in the last bin, where few atoms weigh most.
    for part in bins[:-1]:
        assert part.error == pytest.approx(part.sigma, rel=0.04)
    assert bins[-1].error == pytest.approx(bins[-1].sigma, rel=0.15)
    # χ² of three degrees of freedom is below 6.251 for 90 %; bins in the middle are narrow.
    for part in bins[5:15]:
        assert part.error_quantile == pytest.approx(part.sigma * np.sqrt(6.251 / 3), rel=0.05)


def test_without_audit_labels_there_is_nothing_to_show(finished):
    found = portrait_of(finished, [])
    assert found == AssessmentFile(generation=1)


def test_the_map_shows_every_label_in_use(finished):
    found, state = last_assessment(finished), state_of(finished)
    assert len(found.map) == MAX_LABELS - len(state.dataset.refused) and found.map_total is None
    assert sum(point.audit for point in found.map) == state.dataset.audit.size
