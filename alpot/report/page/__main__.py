"""Writes the report of a campaign once, with what time others leave: ``python -m alpot.report.page DIR``."""

import os
import sys
from pathlib import Path

from alpot.report.page.document import write_report
from alpot.store.directory import CampaignDirectory

if __name__ == "__main__":
    os.nice(19)
    write_report(CampaignDirectory.open(Path(sys.argv[1])))
