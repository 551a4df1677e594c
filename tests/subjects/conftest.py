import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))

from tiny_campaign import controller_of, new_campaign

from alpot.store.directory import CampaignDirectory
from alpot.store.ledger import Ledger


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    """More make tensors of this size slower."""
    torch.set_num_threads(1)


@pytest.fixture(autouse=True, scope="package")
def without_waiting_for_the_disk() -> Iterator[None]:
    """What a power cut leaves behind is tested in tests/store."""
    prepare = Ledger._prepare

    def prepare_fast(self):
        prepare(self)
        self._connection.execute("PRAGMA synchronous = OFF")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Ledger, "_prepare", prepare_fast)
        patch.setattr(os, "fsync", lambda _: None)
        yield


@pytest.fixture(scope="package")
def finished(tmp_path_factory, without_waiting_for_the_disk) -> CampaignDirectory:
    """A campaign that ran to its end; tests read it only."""
    directory = new_campaign(tmp_path_factory.mktemp("finished") / "tiny")
    assert controller_of(directory).run().status == "finished"
    return directory


@pytest.fixture
def campaign(finished: CampaignDirectory, tmp_path: Path) -> CampaignDirectory:
    """A copy of the finished campaign, to do with as a test likes."""
    shutil.copytree(finished.path, tmp_path / "tiny")
    shutil.copy(finished.source, tmp_path / "tiny.toml")
    directory = CampaignDirectory.open(tmp_path / "tiny")
    directory.replace_config(directory.config.read_bytes(), tmp_path / "tiny.toml")
    return directory
