"""Reads from what schedulers write why a job has ended: a table of their phrases, and nothing else.

The phrases are searched in the job's own output, into which Slurm and PBS write, and in the scheduler's description of
the job. What a reference code prints into the same output must not be mistaken for them, hence the narrow patterns.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from alpot.errors import FailureClass


@dataclass(frozen=True)
class Sign:
    """A phrase, and what it means.

    Attributes:
        pattern: a regular expression that matches within one line.
        failure: the class of the loss.
        meaning: what has happened to the job, to follow its name.
    """

    pattern: str
    failure: FailureClass
    meaning: str


@dataclass(frozen=True)
class Finding:
    """What a sign said, and the line that it was found in."""

    sign: Sign
    line: str


#: The first that is found counts: a job that was killed for its memory is also "cancelled" in the end.
SIGNS = (
    Sign(r"(slurmstepd|srun).*\boom[-_]kill", FailureClass.OUT_OF_MEMORY, "was out of memory"),
    Sign(
        r"(slurmstepd|srun).*(Out Of Memory|[Ee]xceeded .*memory limit)",
        FailureClass.OUT_OF_MEMORY,
        "was out of memory",
    ),
    Sign(r"\bJobState=OUT_OF_MEMORY\b", FailureClass.OUT_OF_MEMORY, "was out of memory"),
    Sign(r"=>> PBS: job killed: v?mem .*exceeded", FailureClass.OUT_OF_MEMORY, "was out of memory"),
    Sign(r"Cgroup mem(sw)? limit exceeded", FailureClass.OUT_OF_MEMORY, "was out of memory"),
    Sign(r"\bTERM_(MEMLIMIT|SWAP)\b", FailureClass.OUT_OF_MEMORY, "was out of memory"),
    Sign(r"slurmstepd.*DUE TO TIME LIMIT", FailureClass.WALLTIME, "reached its walltime"),
    Sign(r"\bJobState=(TIMEOUT|DEADLINE)\b", FailureClass.WALLTIME, "reached its walltime"),
    Sign(r"=>> PBS: job killed: walltime .*exceeded", FailureClass.WALLTIME, "reached its walltime"),
    Sign(r"\bTERM_RUNLIMIT\b", FailureClass.WALLTIME, "reached its walltime"),
    Sign(r"slurmstepd.*DUE TO PREEMPTION", FailureClass.NODE_LOST, "was preempted"),
    Sign(r"\bJobState=PREEMPTED\b", FailureClass.NODE_LOST, "was preempted"),
    Sign(r"\bTERM_PREEMPT\b", FailureClass.NODE_LOST, "was preempted"),
    Sign(r"(slurmstepd|srun).*(DUE TO NODE FAILURE|Node failure)", FailureClass.NODE_LOST, "lost a node"),
    Sign(r"\bJobState=(NODE_FAIL|BOOT_FAIL)\b", FailureClass.NODE_LOST, "lost a node"),
    Sign(r"\bTERM_UNKNOWN\b.*|\bTERM_EXTERNAL_SIGNAL\b", FailureClass.NODE_LOST, "was killed from outside"),
    Sign(r"slurmstepd.*CANCELLED AT", FailureClass.NODE_LOST, "was cancelled"),
    Sign(r"\bJobState=CANCELLED\b", FailureClass.NODE_LOST, "was cancelled"),
    Sign(r"=>> PBS: job killed", FailureClass.NODE_LOST, "was killed by PBS"),
    Sign(r"\bTERM_(OWNER|ADMIN|FORCE_OWNER|FORCE_ADMIN)\b", FailureClass.NODE_LOST, "was cancelled"),
)


def find_sign(text: str) -> Finding | None:
    """The first sign in a job's output and description; None if they give no reason."""
    for sign in SIGNS:
        match = re.search(f"^.*(?:{sign.pattern}).*$", text, re.MULTILINE)
        if match:
            return Finding(sign, match[0].strip())
    return None
