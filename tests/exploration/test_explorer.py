"""Batches of walkers: each ends for its own reason, and none takes notice of the others."""

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pytest
import torch
from ase import Atoms

from alpot.exploration.explorer import Ending, Explorer, WalkerReport
from alpot.exploration.uncertainty import urgency
from alpot.exploration.walker import Snapshot
from alpot.potential.batch import Batch
from alpot.potential.calibration import ErrorBound
from alpot.potential.ensemble import Ensemble
from alpot.potential.neighbors import NeighborSearch
from alpot.structures.contacts import closest_approach

#: The deviation itself is the bound.
PLAIN = ErrorBound(slope=1.0)


def starts_of(frames: list[Atoms], seed: int = 0) -> Iterator[tuple[Atoms, np.random.Generator]]:
    return iter([(atoms, np.random.default_rng([seed, i])) for i, atoms in enumerate(frames)])


def explore(ensemble, settings, frames, *, bound=PLAIN, seed=0) -> list[WalkerReport]:
    return list(Explorer(ensemble, settings, bound).run(starts_of(frames, seed)))


def test_walkers_that_nothing_stops_run_to_the_end(make_ensemble, settings_of, crystal):
    settings = settings_of(walkers=3)
    reports = explore(make_ensemble(), settings, [crystal(i) for i in range(7)])
    assert [report.ending for report in reports] == [Ending.FINISHED] * 7
    for report in reports:
        assert not report.found and report.rewound is None and report.audit is None
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

    running = Explorer(make_ensemble(), settings_of(walkers=2), PLAIN).run(starts())
    next(running)
    assert taken == [0, 1]
    next(running)
    next(running)
    assert len(taken) <= 5
    assert len(list(running)) == 3 and taken == list(range(6))


def frames_of(report: WalkerReport) -> list[Snapshot]:
    return [frame for frame in (*report.found, report.rewound, report.audit) if frame is not None]


@pytest.mark.parametrize(
    "limits",
    [{"max_force_error": 0.0006}, {"density_end": (60.0, 60.0), "max_time": 0.2, "contact_factor": 0.7}],
    ids=["uncertain", "contact"],
)
def test_what_becomes_of_a_walker_does_not_depend_on_the_others(make_ensemble, settings_of, crystal, limits):
    """Of different sizes, some replaced while others go on: the same endings at the same times with the same frames."""
    ensemble = make_ensemble(strength=0.3)
    sizes = [(1, 1, 1), (2, 1, 1), (1, 1, 1), (2, 2, 1), (1, 2, 1), (1, 1, 1), (2, 1, 1)]
    frames = [crystal(i, size) for i, size in enumerate(sizes)]
    together: dict[str, WalkerReport] = {}  # those that found nothing have all just finished
    for report in explore(ensemble, settings_of(walkers=3, audit_share=0.5, **limits), frames):
        seen = frames_of(report)
        together[seen[0].atoms.info["start"] if seen else ""] = report
    assert len({report.time for report in together.values()}) > 1
    for i, frame in enumerate(frames):
        settings = settings_of(walkers=1, audit_share=0.5, **limits)
        (alone,) = Explorer(ensemble, settings, PLAIN).run(iter([(frame, np.random.default_rng([0, i]))]))
        seen = frames_of(alone)
        same = together[f"crystal {i}" if seen else ""]
        assert alone.ending is same.ending
        if seen:
            assert alone.time == same.time
        for mine, other in zip(seen, frames_of(same), strict=True):
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


def test_uncertain_walkers_report_what_they_pass(make_ensemble, settings_of, crystal):
    """What they say of a frame is what the ensemble says."""
    ensemble = make_ensemble(strength=0.3)
    frames = [crystal(i, (2, 1, 1)) for i in range(6)]
    for limits in ({"max_force_error": 0.005}, {"mean_force_error": 0.0035}):
        settings = settings_of(max_time=0.5, check_interval=2, **limits)
        reports = explore(ensemble, settings, frames)
        stopped = [report for report in reports if report.ending is Ending.UNCERTAIN]
        found = [frame for report in reports for frame in report.found]
        assert found and max(report.time for report in reports) > 0
        for report in stopped:
            assert report.found or report.rewound is not None
        for frame in found:
            assert urgency(settings, frame.mean_error, frame.max_error) > 1.0
            batch = Batch.from_atoms([frame.atoms])
            forces = ensemble.evaluate(batch, NeighborSearch(ensemble.cutoff).pairs(batch)).forces
            deviation = np.linalg.norm(forces.std(0, ddof=1), axis=1)
            # Wrapped into the cell: rounding.
            assert (deviation.mean(), deviation.max()) == pytest.approx((frame.mean_error, frame.max_error), rel=1e-8)


def test_frames_of_one_walker_lie_apart(make_ensemble, settings_of, crystal):
    """Always uncertain, never so much that it stops: the walker goes on to its end, and gives frames 0.2 ps apart."""
    settings = settings_of(max_force_error=0.1, max_time=0.5, check_interval=5, contact_factor=0.05)
    always = ErrorBound(slope=1e-9, floor=0.35e9)  # 0.35 eV/Å whatever the members say: 3.5 times the limit
    (report,) = explore(make_ensemble(), settings, [crystal(1)], bound=always)
    assert report.ending is Ending.FINISHED
    times = [frame.time for frame in report.found]
    assert len(times) == 3 and times[0] == 0.0
    # The next check after 0.2 ps, an interval (5 fs) later at most.
    assert all(0.2 <= later - earlier <= 0.2051 for earlier, later in pairwise(times))


def test_a_walker_that_has_found_enough_ends(make_ensemble, settings_of, crystal):
    """Four frames; what it would pass after them is left to others. One that is to give an audit frame goes on."""
    settings = settings_of(max_force_error=0.1, max_time=2.0, check_interval=5, contact_factor=0.05)
    always = ErrorBound(slope=1e-9, floor=0.15e9)
    (report,) = explore(make_ensemble(), settings, [crystal(1)], bound=always)
    assert report.ending is Ending.UNCERTAIN and len(report.found) == 4
    assert report.found[-1].time == report.time == pytest.approx(0.6, abs=0.02)


def test_what_is_trained_on_lies_apart_from_what_errors_are_measured_on(make_ensemble, settings_of, crystal):
    settings = settings_of(
        max_force_error=0.1, max_time=0.6, check_interval=5, contact_factor=0.05, audit_share=0.999, walkers=4
    )
    always = ErrorBound(slope=1e-9, floor=0.15e9)
    reports = explore(make_ensemble(), settings, [crystal(i) for i in range(8)], bound=always)
    audited = [report for report in reports if report.audit is not None]
    assert len(audited) > 4 and any(report.found for report in audited)
    for report in audited:
        assert all(abs(report.audit.time - frame.time) >= 0.2 for frame in report.found)


def test_a_walker_that_went_too_far_at_once_is_rewound(make_ensemble, settings_of, crystal, monkeypatch):
    """Between two checks it leaves what is known altogether: the frame before says more than the one it fell into."""
    settings = settings_of(max_force_error=0.1, max_time=0.5, check_interval=5, contact_factor=0.05)
    errors = iter([0.05, 0.05, 2.5])
    sudden = ErrorBound(slope=1.0)
    monkeypatch.setattr(ErrorBound, "of", lambda *_: next(pair))
    pair = (error for error in errors for _ in range(2))  # mean and largest at each check
    (report,) = explore(make_ensemble(), settings, [crystal(1)], bound=sudden)
    assert report.ending is Ending.UNCERTAIN and not report.found
    assert report.time == pytest.approx(0.01) and report.rewound.time == pytest.approx(0.005)
    assert (report.rewound.mean_error, report.rewound.max_error) == (0.05, 0.05)


def test_a_cascade_is_no_contact(make_ensemble, settings_of, crystal):
    """Atoms come close while a recoil is passed on; afterwards a contact is one."""
    atoms = crystal(0, (2, 2, 2))
    atoms.info["recoil"] = 200.0
    settings = settings_of(max_time=0.1, contact_factor=0.8, check_interval=5)
    (report,) = explore(make_ensemble(strength=1e-6), settings, [atoms])
    assert report.ending is Ending.FINISHED
    (plain,) = explore(make_ensemble(strength=1e-6), settings_of(max_time=0.5, contact_factor=0.93), [crystal(0)])
    assert plain.ending is Ending.CONTACT


def test_the_bound_is_what_counts(make_ensemble, settings_of, crystal):
    settings = settings_of(max_force_error=1e-6, mean_force_error=1e3)
    (plain,) = explore(make_ensemble(strength=0.3), settings, [crystal(1)])
    bound = ErrorBound(slope=2.5, floor=0.01)
    (bounded,) = explore(make_ensemble(strength=0.3), settings, [crystal(1)], bound=bound)
    assert plain.ending is bounded.ending is Ending.UNCERTAIN and plain.time == 0.0
    assert bounded.found[0].max_error == pytest.approx(2.5 * (plain.found[0].max_error + 0.01))
    assert bounded.found[0].mean_error == pytest.approx(2.5 * (plain.found[0].mean_error + 0.01))


def test_contact_rewinds_to_the_last_good_frame(make_ensemble, settings_of, crystal):
    """Compressed until neighbors touch."""
    settings = settings_of(density_end=(60.0, 60.0), max_time=0.2, contact_factor=0.7, walkers=2)
    reports = explore(make_ensemble(strength=1e-6), settings, [crystal(i) for i in range(3)])
    for report in reports:
        assert report.ending is Ending.CONTACT
        assert report.rewound.time < report.time <= report.rewound.time + 5.5e-3  # the check before
        assert closest_approach(report.rewound.atoms) >= 0.7
        assert report.rewound.atoms.info["start"].startswith("crystal")


def test_images_of_one_atom_touch_too(make_ensemble, settings_of):
    atoms = Atoms("Al", cell=[3.0, 3.0, 3.0], pbc=True)
    settings = settings_of(density_end=(60.0, 60.0), max_time=0.2, contact_factor=0.9)
    (report,) = explore(make_ensemble(strength=1e-6), settings, [atoms])
    assert report.ending is Ending.CONTACT
    assert 0.9 * 2 * 1.21 <= report.rewound.atoms.cell.lengths()[0] < 2.6  # Å; aluminum's radius is 1.21 Å


@pytest.mark.parametrize("distance", [0.0, 1e-8, 0.5])
def test_starts_in_contact_end_at_once_and_alone(make_ensemble, settings_of, crystal, distance):
    bad = crystal(0)
    bad.positions[1] = bad.positions[0] + [0, 0, distance]
    bad.positions += 3.9  # across the boundary of the cell
    reports = explore(make_ensemble(), settings_of(), [crystal(1), bad, crystal(2)])
    assert sorted(report.ending for report in reports) == [Ending.CONTACT, Ending.FINISHED, Ending.FINISHED]
    contact = next(report for report in reports if report.ending is Ending.CONTACT)
    assert not contact.found and contact.rewound is None and contact.time == 0.0


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
    found = reports[0].rewound
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
    assert all(closest_approach(report.rewound.atoms) > 0.6 for report in reports)


@pytest.mark.parametrize("members", [slice(0, 1), slice(None)], ids=["one", "all"])
def test_nan_never_counts_as_certain(make_ensemble, settings_of, crystal, members):
    ensemble = make_ensemble()
    with torch.no_grad():
        ensemble.networks[0].weights[1][members] = torch.nan
    reports = explore(ensemble, settings_of(), [crystal(i) for i in range(3)])
    assert [report.ending for report in reports] == [Ending.BLOW_UP] * 3
    assert all(not report.found and report.rewound is None and report.time == 0.0 for report in reports)


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
    assert all(not report.found for report in reports)


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
    explorer = Explorer(make_ensemble(strength=0.02), settings, PLAIN)
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
