"""Bad labels: faults are put into one per cent of sound labels; they must be refused before training, others not."""

from __future__ import annotations

from pathlib import Path

import screening_study
import torch

from crash.row import Row

_FOUND, _FALSE = 0.99, 0.005


def run(folder: Path, *, quick: bool, processes: int) -> Row:
    """The row of the table; see ``scripts/screening_study.py`` for data, faults and situations."""
    row = Row("bad labels", "1 % injected", "≥ 99 % refused, ≤ 0.5 % false")
    torch.set_num_threads(1)
    injected = refused = good = false = 0
    trials, looks = (8, 0) if quick else (40, 2)
    for name, frames in screening_study.data_sets(quick):
        for situation, tally in screening_study.study(frames, trials, looks, per_trial=1).items():
            injected += tally.injected.total()
            refused += tally.refused.total()
            good += tally.good
            false += len(tally.reasons)
            row.complaints += [f"{name}, {situation}: not refused: {missed}" for missed in tally.missed]
        print(f"  bad labels: {name}", flush=True)
    row.figures = {"injected": injected, "refused": refused, "good": good, "good refused": false}
    row.seen = (
        f"{refused} of {injected} refused ({refused / injected:.1%}), {false} of {good} false ({false / good:.2%})"
    )
    # Of the few of a sample, a single one that is missed says nothing yet about one in a hundred.
    may_be_missed = max((1 - _FOUND) * injected, 1.0 if quick else 0.0)
    row.holds = injected - refused <= may_be_missed and false <= _FALSE * good
    return row
