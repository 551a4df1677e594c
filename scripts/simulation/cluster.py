"""A cluster in virtual time: blocks of workers that come, drain and go, lose nodes, and run tasks in between.

A block is one node. It is asked for, waits in the scheduler's queue, and lives until its walltime; shortly before, it
drains: it takes no more tasks. When it is gone, another is asked for. Of what runs in it then, work that saves itself
is *interrupted* and goes on later; other work is lost. A node may be lost at any time, with all that it ran.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from math import inf, log
from typing import Any

import numpy as np

from simulation.workload import HOUR


class End(StrEnum):
    """How a task's stay on a worker ended."""

    DONE = "done"
    INTERRUPTED = "interrupted"
    WALLTIME = "walltime"
    NODE_LOST = "node_lost"


@dataclass(frozen=True, kw_only=True)
class PoolSettings:
    """One pool of workers.

    Attributes:
        slots: tasks that run at the same time when all blocks are there.
        node_slots: of one block.
        walltime: of a block in s.
        drain: how long before its walltime a block stops taking tasks, in s.
        queue_median: what a block waits in the scheduler's queue, in s, lognormal ...
        queue_spread: ... with this standard deviation of the logarithm.
        node_mtbf: mean time between failures of one node in s.
    """

    slots: int
    node_slots: int
    walltime: float = 24 * HOUR
    drain: float = 0.5 * HOUR
    queue_median: float = 600.0
    queue_spread: float = 1.0
    node_mtbf: float = 20_000 * HOUR


@dataclass(eq=False)
class Job:
    """A piece of work.

    Attributes:
        duration: how long it takes if undisturbed, in s.
        on_end: called with how its stay ended and how long it has run in this stay, in s.
        saves_itself: it may be interrupted, and goes on later.
    """

    duration: float
    on_end: Callable[[End, float], None]
    saves_itself: bool = False
    started: float = 0.0
    is_over: bool = False


@dataclass(eq=False)
class _Block:
    """A node of a pool; ``free`` of its slots are idle."""

    free: int
    running: set[Job] = field(default_factory=set)
    accepts: bool = True
    is_listed: bool = False
    is_gone: bool = False


class Pool:
    """Workers of one kind, and what waits for them; integrals in slot-seconds."""

    def __init__(self, name: str, settings: PoolSettings, cluster: Cluster, draw: np.random.Generator) -> None:
        self.name, self.settings = name, settings
        self._cluster, self._draw = cluster, draw
        self._queue: deque[Job] = deque()
        self._open: list[_Block] = []  # blocks with free slots
        self._blocks: set[_Block] = set()
        self._since = 0.0
        self._busy = self._accepting = self._paid = 0
        #: Slot-seconds that worked, that would have taken a task, and that were held.
        self.busy_time = self.accepting_time = self.paid_time = 0.0
        self.lost_time = 0.0
        self.nodes_lost = 0
        self._epoch = 0  # requests for blocks of an earlier one are void

    def fill(self) -> None:
        """Asks for all blocks."""
        left = self.settings.slots
        while left > 0:
            self._ask(min(left, self.settings.node_slots))
            left -= self.settings.node_slots

    def submit(self, job: Job) -> None:
        """Starts a job, or queues it until a slot is free."""
        self._queue.append(job)
        self._dispatch()

    def vanish(self, grace: float) -> list[Job]:
        """All blocks end, because whoever has asked for them is dead; nobody is told, and nothing comes after them.

        Returns:
            The jobs that still came to their end, because they needed no longer than ``grace`` seconds.
        """
        self.settle()
        self._epoch += 1
        running = [job for block in self._blocks for job in block.running]
        for block in self._blocks:
            block.is_gone, block.accepts = True, False
        for job in running:
            job.is_over = True
        self._blocks.clear()
        self._open.clear()
        self._queue.clear()
        self._busy = self._accepting = self._paid = 0
        finished = [job for job in running if job.started + job.duration <= self._cluster.now + grace]
        survivors = set(finished)
        self.lost_time += sum(self._cluster.now - job.started for job in running if job not in survivors)
        return sorted(finished, key=lambda job: job.started + job.duration)

    @property
    def running(self) -> int:
        """Number of jobs that run."""
        return self._busy

    @property
    def queued(self) -> int:
        """Number of jobs that wait for a slot."""
        return len(self._queue)

    def settle(self) -> None:
        """Brings the integrals up to now."""
        elapsed = self._cluster.now - self._since
        if elapsed > 0:
            self.busy_time += elapsed * self._busy
            self.accepting_time += elapsed * self._accepting
            self.paid_time += elapsed * self._paid
            self._since = self._cluster.now

    # ---------------------------------------------------------------------------------------------- blocks

    def _ask(self, slots: int) -> None:
        settings = self.settings
        wait = settings.queue_median * float(np.exp(settings.queue_spread * self._draw.standard_normal()))
        epoch = self._epoch
        self._cluster.after(wait, lambda: self._come(slots, epoch))

    def _come(self, slots: int, epoch: int) -> None:
        if epoch != self._epoch:
            return
        self.settle()
        block = _Block(free=slots)
        self._blocks.add(block)
        self._accepting += slots
        self._paid += slots
        fails_in = -self.settings.node_mtbf * log(1.0 - self._draw.random()) if self.settings.node_mtbf < inf else inf
        if fails_in < self.settings.walltime:
            self._cluster.after(fails_in, lambda: self._go(block, slots, End.NODE_LOST))
        drains_in = self.settings.walltime - self.settings.drain
        if fails_in > drains_in:
            self._cluster.after(drains_in, lambda: self._drain(block))
        if fails_in >= self.settings.walltime:
            self._cluster.after(self.settings.walltime, lambda: self._go(block, slots, End.WALLTIME))
        self._list(block)
        self._dispatch()

    def _drain(self, block: _Block) -> None:
        """From here on its idle slots no longer count as accepting; its busy ones do until they are free."""
        if block.is_gone:
            return
        self.settle()
        block.accepts = False
        self._accepting -= block.free

    def _go(self, block: _Block, slots: int, why: End) -> None:
        if block.is_gone:
            return
        self.settle()
        block.is_gone = True
        self._blocks.discard(block)
        self._accepting -= len(block.running) + (block.free if block.accepts else 0)
        self._paid -= slots
        self._busy -= len(block.running)
        self.nodes_lost += why == End.NODE_LOST
        block.accepts = False
        for job in sorted(block.running, key=lambda job: job.started):
            job.is_over = True
            saved = job.saves_itself and why == End.WALLTIME
            ran = self._cluster.now - job.started
            self.lost_time += 0.0 if saved else ran
            # A scheduler's loss is noticed when the heartbeat stays away.
            delay, end = (0.0, End.INTERRUPTED) if saved else (self._cluster.heartbeat, why)
            self._cluster.after(delay, partial(job.on_end, end, ran))
        block.running.clear()
        self._ask(slots)

    # ---------------------------------------------------------------------------------------------- jobs

    def _list(self, block: _Block) -> None:
        if not block.is_listed and block.free > 0:
            block.is_listed = True
            self._open.append(block)

    def _dispatch(self) -> None:
        while self._queue and self._open:
            block = self._open[-1]
            if not block.accepts or block.free == 0:
                self._open.pop()
                block.is_listed = False
                continue
            self._run(self._queue.popleft(), block)

    def _run(self, job: Job, block: _Block) -> None:
        self.settle()
        job.started, job.is_over = self._cluster.now, False
        block.free -= 1
        block.running.add(job)
        self._busy += 1
        self._cluster.after(job.duration, lambda: self._finish(job, block))

    def _finish(self, job: Job, block: _Block) -> None:
        if job.is_over:
            return
        self.settle()
        job.is_over = True
        block.running.discard(job)
        block.free += 1
        self._busy -= 1
        if block.accepts:
            self._list(block)
            self._dispatch()
        else:
            self._accepting -= 1
        job.on_end(End.DONE, job.duration)


class Cluster:
    """Virtual time, and the pools."""

    #: After which a lost worker is noticed, in s: Parsl with our heartbeats, measured 26 s.
    heartbeat = 30.0

    def __init__(self, pools: Mapping[str, PoolSettings], *, seed: int) -> None:
        self.now = 0.0
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._number = 0
        self.pools = {
            name: Pool(name, settings, self, np.random.default_rng((seed, 100, number)))
            for number, (name, settings) in enumerate(sorted(pools.items()))
        }
        self.series: list[dict[str, Any]] = []
        for pool in self.pools.values():
            pool.fill()

    def after(self, delay: float, act: Callable[[], None]) -> None:
        """Does something later."""
        self.at(self.now + delay, act)

    def at(self, time: float, act: Callable[[], None]) -> None:
        """Does something at a time, which is not before now."""
        self._number += 1
        heapq.heappush(self._events, (max(time, self.now), self._number, act))

    def advance(self) -> None:
        """Goes to the next event."""
        self.now, _, act = heapq.heappop(self._events)
        act()

    def sample_every(self, interval: float, more: Callable[[], Mapping[str, Any]]) -> None:
        """Records the integrals of each pool from time to time, and whatever ``more`` says."""

        def sample() -> None:
            row: dict[str, Any] = {"time": self.now, **more()}
            for name, pool in self.pools.items():
                pool.settle()
                row[name] = (pool.busy_time, pool.accepting_time, pool.paid_time)
            self.series.append(row)
            self.after(interval, sample)

        sample()
