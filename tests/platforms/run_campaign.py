"""A controller in a process of its own: runs a campaign of the fake subject on the laptop."""

import json
import sys
from pathlib import Path

from fake_campaign import SUBJECT, policy

from alpot.campaign.controller import Controller
from alpot.config import Resources
from alpot.platforms.registry import open_platform
from alpot.store.directory import CampaignDirectory

if __name__ == "__main__":
    directory = CampaignDirectory.open(Path(sys.argv[1]))
    platform = open_platform(Resources(workers=2))
    outcome = Controller(directory, policy(platform, **json.loads(sys.argv[2])), platform, SUBJECT).run()
    sys.stdout.write(f"{outcome.status}\n")
