"""The candidates of a campaign: which wait for their label and in which order, and what has become of the others.

A part of ``State`` (``alpot.campaign.state``), which says what has happened.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from alpot.campaign.subject import Candidate, ScoreSummary


@dataclass
class Waiting:
    """A candidate in the queue.

    Attributes:
        candidate: what waits.
        generation: the model that ranked it among the others; None if none has.
        turn: its number among all that came into the queue.
        reference: hash of the settings that it was given with; empty if it was found, or in older ledgers.
    """

    candidate: Candidate
    generation: int | None
    turn: int = 0
    reference: str = ""

    @property
    def rank(self) -> tuple[int, float, int]:
        """The smallest is labelled first: those apart, audit, what teaches most for its cost, what came first."""
        group = 0 if self.candidate.apart else 1 if self.candidate.audit else 2
        return (group, -self.candidate.score / self.candidate.cost, self.turn)

    def is_outdated(self, promoted: int | None) -> bool:
        """Whether the promoted generation should rank it among the others before it is labelled.

        Audit candidates, and those apart, are labelled whatever a model thinks of them.
        """
        if self.candidate.audit or self.candidate.apart:
            return False
        return promoted is not None and (self.generation or 0) < promoted


@dataclass
class Candidates:
    """All candidates; each is in one of three queues, or done with.

    Attributes:
        waiting: candidates ready to be labelled, by id.
        stale: candidates that wait for the judgement of the promoted generation, by id.
        labelling: candidates whose label task was started, by id.
        dropped: number of candidates dropped, by reason.
        rejected: number of candidates that cannot be labelled, by reason.
        keys: of all structures ever seen, with those of the labels that the user brought.
        apart_open: candidates for labels that are kept apart and that are neither labelled nor given up, by id.
        spent: explorations whose candidates are all settled; their frames are not needed any more.
    """

    waiting: dict[str, Waiting] = field(default_factory=dict)
    stale: dict[str, Waiting] = field(default_factory=dict)
    labelling: dict[str, Waiting] = field(default_factory=dict)
    dropped: Counter[str] = field(default_factory=Counter)
    rejected: Counter[str] = field(default_factory=Counter)
    keys: set[str] = field(default_factory=set)
    apart_open: set[str] = field(default_factory=set)
    spent: set[str] = field(default_factory=set, compare=False)
    _unsettled: Counter[str] = field(default_factory=Counter, repr=False)
    _queue: list[tuple[tuple[int, float, int], str]] = field(default_factory=list, repr=False, compare=False)
    _turns: int = 0

    @property
    def next(self) -> Candidate | None:
        """The candidate to be labelled next."""
        while self._queue:
            (_, _, turn), identifier = self._queue[0]
            entry = self.waiting.get(identifier)
            if entry is not None and entry.turn == turn:
                return entry.candidate
            heapq.heappop(self._queue)  # it left the queue by another door
        return None

    def counts(self, identifier: str) -> bool:
        """Whether the label of a candidate counts towards the budget."""
        return identifier not in self.apart_open

    def undecided(self, queue: Mapping[str, Waiting]) -> int:
        """How many of ``waiting`` or ``labelling`` may become labels to train on or for the audit."""
        return len(queue) - sum(identifier in queue for identifier in self.apart_open)

    @staticmethod
    def ranked(queue: Mapping[str, Waiting]) -> list[str]:
        """Those of ``waiting`` or ``labelling`` that are chosen by rank: the audit's and those apart are not."""
        return [name for name, entry in queue.items() if not (entry.candidate.audit or entry.candidate.apart)]

    # ------------------------------------------------------------------------------------------ they come in

    def add(self, found: Sequence[Candidate], promoted: int | None) -> None:
        """What an exploration found; equal structures are taken in once.

        Explorations know nothing of each other, so that scores of theirs are no order: what is found is ranked among
        all that waits, as soon as there is a model.

        Args:
            found: all that one exploration has found.
            promoted: the generation that is promoted by now.
        """
        for candidate in found:
            self._unsettled[_exploration(candidate)] += 1
        for candidate in found:
            if candidate.key in self.keys:
                self.dropped["duplicate"] += 1
                self._settle(candidate)
                continue
            self.keys.add(candidate.key)
            if candidate.apart:
                self.apart_open.add(candidate.id)
            self._queue_or_judge(Waiting(candidate, None), promoted)

    def give(self, candidates: Iterable[Candidate], reference: str) -> None:
        """Candidates that nobody had to find; ``reference``: hash of the settings by which they are to be labelled."""
        for candidate in candidates:
            self._unsettled[_exploration(candidate)] += 1
            self.spent.discard(_exploration(candidate))  # the same structures may be given again, by the same name
            self.keys.add(candidate.key)
            self._enqueue(Waiting(candidate, None, reference=reference))

    # ----------------------------------------------------------------------------------------- they are judged

    def outdate(self, promoted: int) -> None:
        """A generation was promoted, which will judge those that wait."""
        for identifier in [name for name, entry in self.waiting.items() if entry.is_outdated(promoted)]:
            self.stale[identifier] = self.waiting.pop(identifier)
        self._line_up()

    def judge(self, identifiers: Iterable[str], summary: ScoreSummary, promoted: int | None) -> None:
        """Stale candidates have a new score, or are dropped because the model knows them already.

        Those that were waiting beside them may have a new score, too: each label makes others worth less.

        Args:
            identifiers: those that were judged.
            summary: what the model thinks of them.
            promoted: the generation that is promoted by now.
        """
        certain = frozenset(summary.certain)
        for identifier in identifiers:
            if (entry := self.stale.pop(identifier, None)) is None:
                continue  # its frame was lost meanwhile
            if identifier in certain:
                self.dropped["certain"] += 1
                self._settle(entry.candidate)
                continue
            entry.candidate.score = summary.scores.get(identifier, entry.candidate.score)
            entry.generation = summary.generation
            self._queue_or_judge(entry, promoted)
        for identifier, score in summary.scores.items():
            if identifier in self.waiting:
                self.waiting[identifier].candidate.score = score
        self._line_up()

    def keep_scores(self, identifiers: Iterable[str]) -> None:
        """Stale candidates wait behind those that were ranked, in the order of the scores that they have."""
        for identifier in identifiers:
            if (entry := self.stale.pop(identifier, None)) is not None:
                entry.candidate.score = -1.0 / max(entry.candidate.score, 1e-9)
                self._enqueue(entry)

    # -------------------------------------------------------------------------------------------- they leave

    def begin(self, identifier: str) -> None:
        """The label task of a candidate was started."""
        # In a ledger of an older alpot, what the promoted generation had found was labelled as it came.
        entry = self.waiting.pop(identifier, None) or self.stale.pop(identifier)
        self.labelling[identifier] = entry

    def finish(self, identifier: str) -> Candidate:
        """A candidate got its label."""
        candidate = self._end(identifier)
        self._settle(candidate)
        return candidate

    def reject(self, identifier: str, reason: str) -> None:
        """A candidate cannot be labelled.

        It is never settled: its frame stays, for somebody who wants to know why.
        """
        self._end(identifier)
        self.rejected[reason] += 1

    def withdraw(self, identifier: str) -> None:
        """A candidate, waiting or being labelled, is not wanted any more; the same structure may be given again."""
        entry = self.waiting.pop(identifier, None) or self.labelling.pop(identifier)
        self.keys.discard(entry.candidate.key)
        self.dropped["withdrawn"] += 1
        self._settle(entry.candidate)

    def lose_frames(self, explorations: Collection[str]) -> None:
        """The frames of explorations are gone, so that those of their candidates that wait cannot be labelled."""
        for queue in (self.waiting, self.stale):
            for identifier in [name for name, entry in queue.items() if _exploration(entry.candidate) in explorations]:
                self._settle(queue.pop(identifier).candidate)
                self.apart_open.discard(identifier)
                self.dropped["damaged"] += 1

    def _end(self, identifier: str) -> Candidate:
        self.apart_open.discard(identifier)
        return self.labelling.pop(identifier).candidate

    def _settle(self, candidate: Candidate) -> None:
        """Nothing will be done with a candidate any more."""
        name = _exploration(candidate)
        self._unsettled[name] -= 1
        if self._unsettled[name] == 0:
            del self._unsettled[name]
            self.spent.add(name)

    # -------------------------------------------------------------------------------------------- the queue

    def _queue_or_judge(self, entry: Waiting, promoted: int | None) -> None:
        if entry.is_outdated(promoted):
            self.stale[entry.candidate.id] = entry
        else:
            self._enqueue(entry)

    def _line_up(self) -> None:
        """Make the queue anew; former places of those in it would pile up."""
        self._queue = [(entry.rank, identifier) for identifier, entry in self.waiting.items()]
        heapq.heapify(self._queue)

    def _enqueue(self, entry: Waiting) -> None:
        self._turns += 1
        entry.turn = self._turns
        self.waiting[entry.candidate.id] = entry
        heapq.heappush(self._queue, (entry.rank, entry.candidate.id))


def _exploration(candidate: Candidate) -> str:
    """The task that found a candidate; its frames lie in one file."""
    return candidate.id.rpartition("/")[0]
