"""``[resources]``: where the work runs, and the pools of workers on a cluster (``[resources.label]`` and others)."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from alpot.config.table import Positive, Table, ordered


def _one_line(text: str) -> str:
    if not text or not text.isprintable():
        raise ValueError("it must be one line without control characters")
    return text


def _shell_line(text: str) -> str:
    return _one_line(text.replace("\t", "    "))


def _name(text: str) -> str:
    # These reach job scripts and commands of schedulers whose quoting differs: only what needs none is let through.
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.,:=@%+/-]*", text, re.ASCII):
        raise ValueError("only letters, digits and _ . , : = @ % + / - may occur, and it must not begin with a -")
    return text


def _constraint(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_(\[][A-Za-z0-9_.,:=&|*()\[\]-]*", text, re.ASCII):
        raise ValueError("only letters, digits and _ . , : = & | * ( ) [ ] - may occur")
    return text


def _scheduler_option(text: str) -> str:
    if not _one_line(text).startswith("-"):
        raise ValueError('it must be one option as it would follow #SBATCH, #PBS or #BSUB, e.g. "--mail-type=END"')
    return text


def _walltime(text: str) -> str:
    match = re.fullmatch(r"(\d{1,4}):([0-5]\d):([0-5]\d)", text, re.ASCII)
    if not match or match[3] != "00" or int(match[1]) * 60 + int(match[2]) < 1:
        raise ValueError('it must be "HH:MM:00": whole minutes (schedulers count them), and at least one')
    return text


Name = Annotated[str, AfterValidator(_name)]
SchedulerOption = Annotated[str, AfterValidator(_scheduler_option)]
ShellLine = Annotated[str, AfterValidator(_shell_line)]
Starter = Literal["srun", "mpirun", "mpiexec", "jsrun", "aprun"]


class Pool(Table):
    """Workers on a cluster for one kind of work. A block is one job of the scheduler."""

    nodes: int = Field(1, ge=1, description="nodes of one block")
    blocks: Annotated[tuple[Annotated[int, Field(ge=0)], Annotated[int, Field(ge=1)]], AfterValidator(ordered)] = Field(
        (0, 1), description="blocks that are kept at least, and started at most as work demands"
    )
    walltime: Annotated[str, AfterValidator(_walltime)] = Field(
        "01:00:00", description='time limit of a block, "HH:MM:00"'
    )
    drain: Annotated[float, Field(ge=0)] | None = Field(
        None,
        description="time in s before the walltime from which a block takes no new task; set it to what one label"
        " takes. By default a quarter of the walltime for labels, and for work that can be continued elsewhere a"
        " tenth, at most 300 s",
    )
    account: Name | None = Field(None, description="account or project that is charged")
    partition: Name | None = Field(None, description="partition (Slurm) or queue (PBS, LSF)")
    qos: Name | None = Field(None, description="quality of service (Slurm only)")
    constraint: Annotated[str, AfterValidator(_constraint)] | None = Field(
        None, description='features that the nodes must have (Slurm only), e.g. "haswell&ssd"'
    )
    scheduler_options: tuple[SchedulerOption, ...] = Field(
        (), description='further options for the scheduler, one each, e.g. ["--exclusive", "--mail-type=END"]'
    )
    worker_init: tuple[ShellLine, ...] = Field(
        (), description='lines of shell that the job runs first, e.g. ["module load qe/7.3"]; nowhere else is shell'
    )
    workers_per_node: int = Field(1, ge=1, description="tasks that run on a node at the same time")
    cores_per_worker: int | None = Field(
        None, ge=1, description="processor cores of one worker; by default ranks × threads_per_rank"
    )
    gpus_per_worker: int = Field(0, ge=0, description="GPUs of one worker; it sees no others")
    memory: int | None = Field(
        None, ge=1, description="memory per node in GB that is requested; by default what the scheduler gives"
    )
    launcher: Literal["single", Starter] | None = Field(
        None,
        description="how workers are started on the nodes of a block. single: on the first node only, whose tasks may"
        " use the others through MPI; by default single for blocks of one node, otherwise srun (Slurm), mpiexec (PBS)"
        " or jsrun (LSF)",
    )
    ranks: int = Field(1, ge=1, description="MPI ranks of one reference calculation")
    threads_per_rank: int = Field(1, ge=1, description="threads of one rank (OMP_NUM_THREADS)")
    mpi: Starter | None = Field(
        None,
        description="program that starts the ranks; by default none for one rank, otherwise srun (Slurm), mpiexec (PBS)"
        " or jsrun (LSF)",
    )

    @property
    def walltime_s(self) -> int:
        """The walltime in s."""
        hours, minutes, seconds = map(int, self.walltime.split(":"))
        return hours * 3600 + minutes * 60 + seconds

    @property
    def cores(self) -> int:
        """Processor cores of one worker."""
        return self.cores_per_worker or self.ranks * self.threads_per_rank

    @model_validator(mode="after")
    def _drained_before_it_ends(self) -> Pool:
        if self.drain is not None and self.drain >= self.walltime_s:
            raise ValueError(
                f"drain {self.drain:g} s is not below the walltime of {self.walltime_s} s; no task would ever start"
            )
        return self


class Resources(Table):
    """Where the work runs."""

    platform: str = Field(
        "laptop", description="name of a platform: laptop, slurm, pbs, lsf, parsl, or one from an installed plug-in"
    )
    workers: int | None = Field(
        None, ge=1, description="laptop: tasks that run at the same time; by default as many as there are cores for"
    )
    ranks: int = Field(
        1, ge=1, description="laptop: MPI ranks of one reference calculation, started with mpirun if there are several"
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="where potentials are trained and explored; auto takes a GPU where there is one"
    )
    waiting_candidates: int = Field(
        400,
        ge=1,
        description="exploration pauses while more candidates wait than this, and than there are label workers; labels"
        " are chosen among those that wait, so some times `training.labels_per_generation` is a good choice",
    )
    checkpoint_interval: Positive = Field(
        300.0, description="time in s between two checkpoints of a task that explores or trains"
    )
    interface: Name | None = Field(
        None,
        description='network interface of this machine that the nodes reach, e.g. "ib0"; by default that of its host'
        " name (slurm, pbs, lsf)",
    )
    poll_interval: int = Field(
        10, ge=1, description="time in s between two questions to the scheduler about our jobs (slurm, pbs, lsf)"
    )
    parsl_config: str | None = Field(
        None,
        description="parsl: absolute path of a Python file that defines `config`, a parsl.Config whose executors are"
        " labelled explore, label, train. The file is code and is run",
    )
    explore: Pool | None = Field(
        None, description="Explores (slurm, pbs, lsf); by default shares the workers of train."
    )
    label: Pool | None = Field(
        None, description="Computes labels (slurm, pbs, lsf); by default shares those of explore."
    )
    train: Pool | None = Field(
        None, description="Trains, assesses and scores (slurm, pbs, lsf); by default shares the workers of explore."
    )
