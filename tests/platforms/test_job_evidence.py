"""Phrases of schedulers, in short texts of our own that are worded like theirs."""

import pytest

from alpot.errors import FailureClass
from alpot.platforms.job_evidence import SIGNS, find_sign

SLURM = "slurmstepd: error: *** JOB 7 ON n01 CANCELLED AT 2026-01-02T03:04:05 "


@pytest.mark.parametrize(
    ("text", "failure", "meaning"),
    [
        (f"{SLURM}DUE TO TIME LIMIT ***", "walltime", "reached its walltime"),
        (f"{SLURM}DUE TO PREEMPTION ***", "node_lost", "was preempted"),
        (f"{SLURM}DUE TO NODE FAILURE, SEE SLURMCTLD LOG FOR DETAILS ***", "node_lost", "lost a node"),
        (f"{SLURM}***", "node_lost", "was cancelled"),
        (f"slurmstepd-n01: error: Exceeded job memory limit\n{SLURM}***", "out_of_memory", "was out of memory"),
        ("slurmstepd: error: StepId=7.batch exceeded memory limit (9 > 8), being killed", "out_of_memory", "memory"),
        ("slurmstepd: error: Detected 1 oom_kill event in StepId=7.batch.", "out_of_memory", "was out of memory"),
        ("slurmstepd: error: Detected 2 oom-kill event(s) in step 7.0 cgroup.", "out_of_memory", "was out of memory"),
        ("srun: error: n01: task 0: Out Of Memory", "out_of_memory", "was out of memory"),
        ("JobId=7\n   JobState=TIMEOUT Reason=TimeLimit", "walltime", "reached its walltime"),
        ("   JobState=NODE_FAIL Reason=NodeDown", "node_lost", "lost a node"),
        ("   JobState=CANCELLED Reason=None", "node_lost", "was cancelled"),
        ("   JobState=OUT_OF_MEMORY Reason=OutOfMemory", "out_of_memory", "was out of memory"),
        ("   JobState=PREEMPTED Reason=None", "node_lost", "was preempted"),
        ("=>> PBS: job killed: walltime 3605 exceeded limit 3600", "walltime", "reached its walltime"),
        ("=>> PBS: job killed: mem 9kb exceeded limit 8kb", "out_of_memory", "was out of memory"),
        ("-bash: line 1: 9 Killed\nCgroup mem limit exceeded: oom-kill: constraint", "out_of_memory", "memory"),
        ("=>> PBS: job killed: node 1 (n02) requested job terminate", "node_lost", "killed by PBS"),
        ("TERM_RUNLIMIT: job killed after reaching LSF run time limit.", "walltime", "reached its walltime"),
        ("TERM_MEMLIMIT: job killed after reaching LSF memory usage limit.", "out_of_memory", "was out of memory"),
        ("TERM_OWNER: job killed by owner.", "node_lost", "was cancelled"),
        ("TERM_PREEMPT: job killed after preemption.", "node_lost", "was preempted"),
    ],
)
def test_what_schedulers_write(text, failure, meaning):
    finding = find_sign(f"Found cores : 4\n{text}\nsome last words")
    assert finding is not None
    assert finding.sign.failure == FailureClass(failure)
    assert meaning in finding.sign.meaning
    assert finding.line in text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "JobState=RUNNING Reason=None",
        "Process worker pool exiting normally",
        "pw.x: out of memory, try more nodes",  # of a reference code, for whose failures its adapter is responsible
        "torch.OutOfMemoryError: CUDA out of memory.",
        "the walltime was exceeded in the last run, CANCELLED AT noon",
    ],
)
def test_what_others_write_is_no_sign(text):
    assert find_sign(text) is None


def test_losses_are_infrastructure():
    assert {sign.failure for sign in SIGNS} == {
        FailureClass.NODE_LOST,
        FailureClass.WALLTIME,
        FailureClass.OUT_OF_MEMORY,
    }
