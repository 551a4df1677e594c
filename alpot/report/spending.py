"""What labels were computed for: how many, and what they cost, by the reason of their candidates."""

from __future__ import annotations

from pydantic import BaseModel

from alpot.campaign.subject import LabelSummary


class Spending(BaseModel):
    """What candidates of one reason have led to.

    Attributes:
        labels: that were computed.
        core_seconds: of these, as far as it is on record.
        rejected: candidates that can have no label.
        failures: attempts that failed.
        failed_core_seconds: of these, as far as it is on record.
    """

    labels: int = 0
    core_seconds: float = 0.0
    rejected: int = 0
    failures: int = 0
    failed_core_seconds: float = 0.0

    def add_label(self, summary: LabelSummary) -> None:
        """Takes in a label task that finished."""
        if summary.outcome == "rejected":
            self.rejected += 1
            return
        self.labels += 1
        self.core_seconds += summary.core_seconds or 0.0

    def add_failure(self, core_seconds: float | None) -> None:
        """Takes in an attempt at a label that failed."""
        self.failures += 1
        self.failed_core_seconds += core_seconds or 0.0
