"""Batches of walkers: each ends for its own reason, and none takes notice of the others."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from ase import Atoms

from alpot.exploration.explorer import Ending, Explorer, WalkerReport
from alpot.potential.batch import Batch
from alpot.potential.ensemble import Ensemble
from alpot.potential.neighbors import NeighborSearch
from alpot.structures.contacts import closest_approach


def starts_of(frames: list[Atoms], seed: int = 0) -> Iterator[tuple[Atoms, np.random.Generator]]:
    return iter([(atoms, np.random.default_rng([seed, i])) for i, atoms in enumerate(frames)])


def explore(ensemble, settings, frames, *, calibration=1.0, seed=0) -> list[WalkerReport]:
    return list(Explorer(ensemble, settings, calibration).run(starts_of(frames, seed)))


def test_walkers_that_nothing_stops_run_to_the_end(make_ensemble, settings_of, crystal):
    settings = settings_of(walkers=3)
    reports = explore(make_ensemble(), settings, [crystal(i) for i in range(7)])
    assert [report.ending for report in reports] == [Ending.FINISHED] * 7
    for report in reports:
        assert report.found is None and report.audit is None
        # Noticed at the next check, which is at most an interval later.
        assert settings.max_time <= report.time <= settings.max_time + 5 * 1e-3


def test_no_start_no_report(make_ensemble, settings_of):
    assert explore(make_ensemble(), settings_of(), []) == []


def test_starts_are_taken_when_there_is_room(make_ensemble, settings_of, crystal):
    """Starts may be dear to make; and never are there more walkers than asked for."""
    taken: list[int] = []

    def starts():
        for i in range(6):
            taken.append(i)
            yield crystal(i), np.random.default_rng(i)

    running = Explorer(make_ensemble(), settings_of(walkers=2)).run(starts())
    next(running)
    assert taken == [0, 1]
    next(running)
    next(running)
    assert len(taken) <= 5
    assert len(list(running)) == 3 and taken == list(range(6))


@pytest.mark.parametrize(
    "limits",
    [{"max_force_error": 0.006}, {"density_end": (60.0, 60.0), "max_time": 0.2, "contact_factor": 0.7}],
    ids=["uncertain", "contact"],
)
def test_what_becomes_of_a_walker_does_not_depend_on_the_others(make_ensemble, settings_of, crystal, limits):
    """Of different sizes, some replaced while others go on: the same endings at the same times with the same frames."""
    ensemble = make_ensemble(strength=0.3)
    sizes = [(1, 1, 1), (2, 1, 1), (1, 1, 1), (2, 2, 1), (1, 2, 1), (1, 1, 1), (2, 1, 1)]
    frames = [crystal(i, size) for i, size in enumerate(sizes)]
    together: dict[str, WalkerReport] = {}  # those that found nothing have all just finished
    for report in explore(ensemble, settings_of(walkers=3, audit_share=0.5, **limits), frames):
        seen = report.found or report.audit
        together[seen.atoms.info["start"] if seen else ""] = report
    assert len({report.time for report in together.values()}) > 1
    for i, frame in enumerate(frames):
        settings = settings_of(walkers=1, audit_share=0.5, **limits)
        (alone,) = Explorer(ensemble, settings).run(iter([(frame, np.random.default_rng([0, i]))]))
        seen = alone.found or alone.audit
        same = together[f"crystal {i}" if seen else ""]
        assert alone.ending is same.ending
        if seen:
            assert alone.time == same.time
        for mine, other in ((alone.found, same.found), (alone.audit, same.audit)):
            assert (mine is None) == (other is None)
            if mine:
                assert mine.time == other.time and mine.temperature == other.temperature
                # Sums in another order: 1e-15 Å, which chaos multiplies at most by e per 10 steps.
                np.testing.assert_allclose(mine.atoms.positions, other.atoms.positions, atol=1e-9)
                np.testing.assert_allclose(mine.atoms.cell.array, other.atoms.cell.array, rtol=1e-12)


def test_two_runs_of_the_same_seed_report_the_same(make_ensemble, settings_of, crystal):
    ensemble = make_ensemble(strength=0.3)
    settings = settings_of(max_force_error=0.006, audit_share=0.5)
    frames = [crystal(i, (2, 1, 1)) for i in range(8)]
    first, again, other = (explore(ensemble, settings, frames, seed=seed) for seed in (1, 1, 2))
    assert first == again
    assert first != other
    assert any(report.audit is not None for report in first)


def test_uncertain_walkers_stop_where_the_limit_is_passed(make_ensemble, settings_of, crystal):
    ensemble = make_ensemble(strength=0.3)
    frames = [crystal(i, (2, 1, 1)) for i in range(6)]
    for limits in ({"max_force_error": 0.006}, {"mean_force_error": 0.0045}):
        reports = explore(ensemble, settings_of(**limits), frames)
        stopped = [report for report in reports if report.ending is Ending.UNCERTAIN]
        assert stopped and max(report.time for report in stopped) > 0
        for report in stopped:
            found = report.found
            largest, mean = found.max_error, found.mean_error
            assert largest > limits.get("max_force_error", 0) and mean > limits.get("mean_force_error", 0)
            assert found.time == report.time
            # What it says of the frame is what the ensemble says of it.
            batch = Batch.from_atoms([found.atoms])
            forces = ensemble.evaluate(batch, NeighborSearch(ensemble.cutoff).pairs(batch)).forces
            deviation = np.linalg.norm(forces.std(0, ddof=1), axis=1)
            assert (deviation.mean(), deviation.max()) == pytest.approx((mean, largest), rel=1e-8)  # wrapped: rounding
        assert all(report.found is None for report in reports if report.ending is Ending.FINISHED)


def test_calibration_multiplies_the_deviation(make_ensemble, settings_of, crystal):
    settings = settings_of(max_force_error=1e-6, mean_force_error=1e3)
    (plain,) = explore(make_ensemble(strength=0.3), settings, [crystal(1)])
    (scaled,) = explore(make_ensemble(strength=0.3), settings, [crystal(1)], calibration=2.5)
    assert plain.ending is scaled.ending is Ending.UNCERTAIN and plain.time == 0.0
    assert scaled.found.max_error == pytest.approx(2.5 * plain.found.max_error)
    assert scaled.found.mean_error == pytest.approx(2.5 * plain.found.mean_error)


def test_contact_rewinds_to_the_last_good_frame(make_ensemble, settings_of, crystal):
    """Compressed until neighbors touch."""
    settings = settings_of(density_end=(60.0, 60.0), max_time=0.2, contact_factor=0.7, walkers=2)
    reports = explore(make_ensemble(strength=1e-6), settings, [crystal(i) for i in range(3)])
    for report in reports:
        assert report.ending is Ending.CONTACT
        assert report.found.time < report.time <= report.found.time + 5.5e-3  # the check before
        assert closest_approach(report.found.atoms) >= 0.7
        assert report.found.atoms.info["start"].startswith("crystal")


def test_images_of_one_atom_touch_too(make_ensemble, settings_of):
    atoms = Atoms("Al", cell=[3.0, 3.0, 3.0], pbc=True)
    settings = settings_of(density_end=(60.0, 60.0), max_time=0.2, contact_factor=0.9)
    (report,) = explore(make_ensemble(strength=1e-6), settings, [atoms])
    assert report.ending is Ending.CONTACT
    assert 0.9 * 2 * 1.21 <= report.found.atoms.cell.lengths()[0] < 2.6  # Å; aluminum's radius is 1.21 Å


@pytest.mark.parametrize("distance", [0.0, 1e-8, 0.5])
def test_starts_in_contact_end_at_once_and_alone(make_ensemble, settings_of, crystal, distance):
    bad = crystal(0)
    bad.positions[1] = bad.positions[0] + [0, 0, distance]
    bad.positions += 3.9  # across the boundary of the cell
    reports = explore(make_ensemble(), settings_of(), [crystal(1), bad, crystal(2)])
    assert sorted(report.ending for report in reports) == [Ending.CONTACT, Ending.FINISHED, Ending.FINISHED]
    contact = next(report for report in reports if report.ending is Ending.CONTACT)
    assert contact.found is None and contact.time == 0.0


def poison(monkeypatch, *, frame: int, after: int, value: float) -> None:
    """From some evaluation on, one force of one frame is not a number."""
    real = Ensemble.evaluate_geometry
    calls = []

    def evaluate_geometry(self, geometry, **options):
        result = real(self, geometry, **options)
        calls.append(1)
        if len(calls) > after and frame < geometry.n_frames:
            forces = result.forces.clone()
            forces[:, int((geometry.frame == frame).nonzero()[0]), 0] = value
            return result._replace(forces=forces)
        return result

    monkeypatch.setattr(Ensemble, "evaluate_geometry", evaluate_geometry)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("after", [0, 7, 10])
def test_a_blow_up_ends_one_walker(monkeypatch, make_ensemble, settings_of, crystal, value, after):
    """Whether it is seen at a check (evaluations 0 and 10) or strikes between two."""
    poison(monkeypatch, frame=1, after=after, value=value)
    settings = settings_of(walkers=2, check_interval=5)
    reports = explore(make_ensemble(), settings, [crystal(0), crystal(1)])
    assert [report.ending for report in reports] == [Ending.BLOW_UP, Ending.FINISHED]
    found = reports[0].found
    if after == 0:
        assert found is None
    else:
        assert found.time == pytest.approx(0.005) and np.isfinite(found.atoms.positions).all()


def test_a_real_blow_up(make_ensemble, settings_of, crystal):
    """Forces of 1e30 eV/Å: atoms leave for good between two checks, and nothing else breaks."""
    wild = make_ensemble(strength=1e30, spread=0.0)
    settings = settings_of(max_force_error=1e300, mean_force_error=1e300, max_time=0.2)
    reports = explore(wild, settings, [crystal(i) for i in range(3)])
    assert [report.ending for report in reports] == [Ending.BLOW_UP] * 3
    assert all(closest_approach(report.found.atoms) > 0.6 for report in reports)


@pytest.mark.parametrize("members", [slice(0, 1), slice(None)], ids=["one", "all"])
def test_nan_never_counts_as_certain(make_ensemble, settings_of, crystal, members):
    ensemble = make_ensemble()
    with torch.no_grad():
        ensemble.networks[0].weights[1][members] = torch.nan
    reports = explore(ensemble, settings_of(), [crystal(i) for i in range(3)])
    assert [report.ending for report in reports] == [Ending.BLOW_UP] * 3
    assert all(report.found is None and report.time == 0.0 for report in reports)


def test_a_start_that_is_not_finite_ends_alone(make_ensemble, settings_of, crystal):
    bad = crystal(0)
    bad.positions[0, 0] = np.nan
    reports = explore(make_ensemble(), settings_of(), [bad, crystal(1)])
    assert [report.ending for report in reports] == [Ending.BLOW_UP, Ending.FINISHED]


def test_audit_frames_are_taken_at_their_time(make_ensemble, settings_of, crystal):
    settings = settings_of(walkers=8, audit_share=0.5, max_time=0.03)
    reports = explore(make_ensemble(), settings, [crystal(i) for i in range(40)])
    audits = [report.audit for report in reports if report.audit is not None]
    # Binomial: 20 ± 3.2; the run ends after every audit time, so none is missed.
    assert 8 <= len(audits) <= 32
    assert len({audit.time for audit in audits}) > 3
    assert all(0.0 <= audit.time <= settings.max_time + 5e-3 for audit in audits)
    assert all(report.found is None for report in reports)


def test_an_audit_frame_is_taken_whatever_ends_the_walker(make_ensemble, settings_of, crystal):
    settings = settings_of(audit_share=0.999, density_end=(60.0, 60.0), max_time=0.2, contact_factor=0.7)
    reports = explore(make_ensemble(strength=1e-6), settings, [crystal(i) for i in range(12)])
    assert {report.ending for report in reports} == {Ending.CONTACT}
    taken = [report for report in reports if report.audit is not None]
    assert 0 < len(taken) < 12  # those whose time came before the contact
    assert all(report.audit.time < report.time for report in taken)


def test_langevin_dynamics_in_a_batch_has_its_temperature(make_ensemble, settings_of, crystal):
    """Weakly bound atoms, so that the kinetic temperature is that of the thermostat from end to end."""
    temperature = 400.0
    settings = settings_of(
        walkers=4,
        max_time=0.4,
        temperature_start=(temperature, temperature),
        temperature_end=(temperature, temperature),
        temperature_amplitude=(0.0, 0.0),
        friction=0.1,
        contact_factor=0.05,
    )
    explorer = Explorer(make_ensemble(strength=0.02), settings)
    samples = []
    real = explorer._check

    def check(dynamics, measurements):
        if dynamics.walkers[0].time > 0.05:
            samples.extend(measurement.kinetic_temperature for measurement in measurements)
        return real(dynamics, measurements)

    explorer._check = check
    list(explorer.run(starts_of([crystal(i, (2, 2, 1)) for i in range(4)])))
    # 4 walkers × 48 coordinates, velocities forgotten after 10 fs of 350: about 4500 independent squares, each with
    # a relative deviation of 2^½: error 2 %; four of them.
    assert np.mean(samples) == pytest.approx(temperature, rel=0.085)
