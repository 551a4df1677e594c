"""What every code must be believed, and what every code can be brought into."""

from __future__ import annotations

import signal

from ase import Atoms

from alpot.errors import FailureClass
from dft_corpus.case import Bench, Case
from dft_corpus.damage import (
    cut_log,
    emptied_log,
    emptied_witness,
    halved_witness,
    log_of_few_steps,
    overwritten,
    twice,
    with_log_added,
    with_log_of,
    without_witness,
)
from tests.reference.dft_codes import rattled

NOT_CONVERGED, BAD_OUTPUT = FailureClass.NOT_CONVERGED, FailureClass.BAD_OUTPUT
KILLED = FailureClass.OUT_OF_MEMORY  # nobody else kills without a word
UNKNOWN, NODE_LOST = FailureClass.UNKNOWN, FailureClass.NODE_LOST
# Nothing can be computed before the user has mended it.
MISSING = FailureClass.MISSING_PROGRAM
WRONG_INPUT = FailureClass.WRONG_INPUT


def good_cases() -> list[Case]:
    """What must be believed."""
    slab = rattled(2)
    slab.pbc = (True, True, False)
    return [
        Case(name="al1", verdict=None, frame=rattled(1)),
        Case(name="al2", verdict=None),
        Case(name="al4", verdict=None, frame=rattled(4)),
        Case(name="al8", verdict=None, frame=rattled(8), dft={"kpoint_density": 4.0}),
        Case(name="gamma", verdict=None, frame=rattled(4), dft={"kpoint_density": 0.1}),
        Case(name="slab", verdict=None, frame=slab, dft={"kpoint_density": 4.0}),
        Case(name="atom", verdict=None, frame=Atoms("Al", positions=[(0, 0, 0)])),
        Case(name="spin", verdict=None, dft={"spin": "collinear", "magnetic_moments": {"Al": 1.0}}),
        Case(name="fermi-dirac", verdict=None, dft={"smearing": "fermi-dirac"}),
        Case(name="no-smearing", verdict=None, dft={"smearing": "none"}),
    ]


def bad_cases(bench: Bench, *, has_second_file: bool) -> list[Case]:
    """What every code can be brought into."""
    displaced, stretched, permuted, nan = rattled(2), rattled(2), rattled(4), rattled(2)
    displaced.positions[0, 1] += 0.05
    stretched.set_cell(stretched.cell.array * 1.01, scale_atoms=False)
    permuted.positions = permuted.positions[[1, 0, 2, 3]]
    nan.positions[0, 0] = float("nan")
    killed = [
        Case(name=f"killed-{percent:02d}", verdict=KILLED, kill=(percent / 100, signal.SIGKILL))
        for percent in (5, 25, 50, 75, 95)
    ]
    levels = [
        Case(name=f"other-{name}", verdict=BAD_OUTPUT, ran_dft=change) for name, change in bench.other_levels.items()
    ]
    second = [
        Case(name="no-second-file", verdict=BAD_OUTPUT, after=without_witness),
        Case(name="empty-second-file", verdict=BAD_OUTPUT, after=emptied_witness),
        Case(name="half-second-file", verdict=BAD_OUTPUT, after=halved_witness),
    ]
    return [
        Case(name="few-steps", verdict=NOT_CONVERGED, symptom="scf_not_converged", ran_arguments=bench.few_steps),
        Case(name="nonsense-input", verdict=WRONG_INPUT, symptom="input", ran_arguments=bench.nonsense),
        *killed,
        Case(name="killed-50-unnoticed", verdict=BAD_OUTPUT, kill=(0.5, signal.SIGKILL), status=0),
        Case(name="log-cut-at-95", verdict=BAD_OUTPUT, after=cut_log(0.95)),
        Case(name="segmentation-fault", verdict=UNKNOWN, kill=(0.6, signal.SIGSEGV)),
        Case(name="terminated", verdict=NODE_LOST, kill=(0.6, signal.SIGTERM)),
        Case(name="full-disk", verdict=NODE_LOST, fills_disk=True),
        Case(name="file-size-limit", verdict=UNKNOWN, prefix=["prlimit", "--fsize=6000"]),
        Case(name="displaced", verdict=BAD_OUTPUT, ran_frame=displaced),
        Case(name="other-cell", verdict=BAD_OUTPUT, ran_frame=stretched),
        Case(name="permuted", verdict=BAD_OUTPUT, frame=rattled(4), ran_frame=permuted),
        Case(name="other-size", verdict=BAD_OUTPUT, ran_frame=rattled(4)),
        Case(name="nan-positions", verdict=bench.of_nan[0], symptom=bench.of_nan[1], ran_frame=nan),
        *levels,
        Case(name="log-of-other-frame", verdict=BAD_OUTPUT, after=with_log_of(rattled(2, seed=2), {})),
        Case(
            name="log-of-other-cutoff", verdict=BAD_OUTPUT, after=with_log_of(rattled(2), bench.other_levels["cutoff"])
        ),
        Case(
            name="log-of-unconverged",
            verdict=bench.of_unconverged_log[0],
            symptom=bench.of_unconverged_log[1],
            after=log_of_few_steps,
        ),
        Case(name="two-runs-in-one-log", verdict=BAD_OUTPUT, after=twice),
        Case(name="two-frames-in-one-log", verdict=BAD_OUTPUT, after=with_log_added),
        Case(name="nan-energy", verdict=BAD_OUTPUT, after=overwritten("energy", "NaN")),
        Case(name="nan-forces", verdict=BAD_OUTPUT, after=overwritten("forces", "NaN")),
        Case(name="stars", verdict=BAD_OUTPUT, after=overwritten("forces", "********")),
        Case(name="empty-log", verdict=BAD_OUTPUT, after=emptied_log),
        *(second if has_second_file else []),
    ]
