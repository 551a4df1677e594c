"""A controller in a process of its own: a campaign of the cheap subject on the laptop, with the real Parsl."""

from __future__ import annotations

import os
import sys
import threading
import time
from pathlib import Path

from alpot.campaign.controller import Controller
from alpot.campaign.policy import PolicySettings
from alpot.config import Resources
from alpot.platforms.registry import open_platform
from alpot.store.directory import CampaignDirectory

WORKERS = 2


def _follow(suite: int) -> None:
    """A suite that was interrupted must not leave campaigns behind that nobody ends."""
    while os.getppid() == suite:
        time.sleep(1.0)
    os._exit(1)


if __name__ == "__main__":
    threading.Thread(target=_follow, args=(os.getppid(),), daemon=True).start()
    platform = open_platform(Resources(workers=WORKERS))
    settings = PolicySettings(
        slots=platform.slots,
        pool_of=platform.pool_of,
        initial_labels=8,
        labels_per_generation=8,
        waiting_candidates=12,
        attempts=3,
        max_labels=100_000,
        max_failures=1_000,
    )
    outcome = Controller(
        CampaignDirectory.open(Path(sys.argv[1])), settings, platform, "crash.cheap_subject:CheapSubject"
    ).run()
    print(outcome.status)
