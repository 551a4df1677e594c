import json

import pytest

from alpot.campaign.forecast import LearningPoint, fit_learning_curve
from alpot.campaign.state import State
from alpot.campaign.subject import AssessSummary
from alpot.config import Stopping
from alpot.report.history import Generation
from alpot.report.outlook import outlook_of
from alpot.report.page.quality import error_figure
from alpot.report.wording import outlook_words


def known(n_points: int = 6, exponent: float = 0.4) -> State:
    labels = [60, 90, 140, 200, 300, 450][:n_points]
    points = [
        LearningPoint(
            labels=n,
            calculations=n * 5 // 4,
            force_error=0.031 * (n / 450) ** -exponent * (1.02 if n % 20 else 0.98),
            audit_labels=n // 4,
        )
        for n in labels
    ]
    found = AssessSummary(generation=6, promote=True, force_error=0.031, force_error_high=0.033, audit_labels=110)
    return State(assessment=found, learning_points=points, learning_curve=fit_learning_curve(points))


def test_the_words_tell_the_error_and_what_the_target_takes():
    outlook = outlook_of(Stopping(force_error=0.025, max_labels=700), known())
    needed = outlook.calculations
    assert needed.low < needed.expected < needed.high
    low, expected, high = (f"{float(f'{n:.2g}'):,.0f}" for n in (needed.low, needed.expected, needed.high))
    assert outlook_words(outlook) == (
        f"31 meV/Å (at most 33 with 90 % confidence), ∝ labels^−{outlook.exponent:.2f} ±"
        f" {outlook.exponent_std:.2f} · target 25 takes about {expected} ({low} to {high}) of 700"
        " calculations"
    )


@pytest.mark.parametrize(
    ("state", "target", "end"),
    [
        (known(1), 0.025, "with 90 % confidence) · target 25"),
        (known(), 0.035, "target 35 met"),
        (known(), 0.032, "target 32 met, but not yet with that confidence"),
        (known(3, 0.0), 0.0001, "or more) of 5,000 calculations"),
    ],
)
def test_words_where_less_is_known(state, target, end):
    assert outlook_words(outlook_of(Stopping(force_error=target), state)).endswith(end)


def test_nothing_is_said_before_the_first_audit_and_no_target_without_one():
    assert outlook_of(Stopping(), State()) is None
    assert "target" not in outlook_words(outlook_of(Stopping(), known()))


def test_the_curve_and_its_band_reach_to_the_target_at_most_three_times_as_far():
    near, far = (outlook_of(Stopping(force_error=target), known()) for target in (0.028, 0.005))
    assert near.curve[0].labels == far.curve[0].labels == 60
    assert 450 < near.curve[-1].labels < far.curve[-1].labels == 3 * 450
    assert all(point.low < point.expected < point.high for point in near.curve)
    assert type(near).model_validate_json(near.model_dump_json()) == near


def test_the_figure_shows_limits_curve_band_and_target():
    audit = [
        Generation(number=n, labels=60 * n, path="p", elapsed_s=1.0, seconds=1.0, audit_force=0.1 / n, promoted=True)
        for n in (1, 2)
    ]
    audit[1] = audit[1].model_copy(update={"audit_force_high": 0.06})
    figure = error_figure(audit, 0.028, outlook_of(Stopping(force_error=0.028), known()))
    errors, low, high, curve, target = figure.traces
    assert errors["error_y"]["array"] == pytest.approx([0.0, 10.0])
    assert all(a < b < c for a, b, c in zip(low["y"], curve["y"], high["y"], strict=True))
    assert target["x"][-1] == curve["x"][-1] and set(target["y"]) == {28.0}
    assert "target 28 takes about" in figure.note
    json.dumps(figure.traces, allow_nan=False)
