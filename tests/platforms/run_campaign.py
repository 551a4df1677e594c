"""A controller in a process of its own: runs a campaign on any platform (see ``running.py``)."""

import json
import sys
from pathlib import Path

from fake_campaign import policy

from alpot.campaign.controller import Controller
from alpot.config import Resources
from alpot.platforms.registry import open_platform
from alpot.store.directory import CampaignDirectory

if __name__ == "__main__":
    directory = CampaignDirectory.open(Path(sys.argv[1]))
    platform = open_platform(Resources.model_validate(json.loads(sys.argv[3])))
    outcome = Controller(directory, policy(platform, **json.loads(sys.argv[2])), platform, sys.argv[4]).run()
    sys.stdout.write(f"{outcome.status}\n")
