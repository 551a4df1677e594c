"""A campaign directory that others may write to is refused, and alpot makes none."""

import os

import pytest

from alpot.errors import CampaignDirectoryError
from alpot.store import permissions
from alpot.store.directory import CampaignDirectory
from alpot.store.files import publish, publish_with
from alpot.store.labels import write_label
from alpot.store.permissions import refuse_writable_by_others

ENTRIES = ["", "campaign.toml", "campaign.source.json", "ledger.sqlite", "models", "labels", "dataset", "tasks"]


@pytest.fixture
def no_umask():
    former = os.umask(0)
    yield
    os.umask(former)


@pytest.fixture
def directory(tmp_path):
    return CampaignDirectory.create(tmp_path / "run", b"seed = 1\n", tmp_path / "al.toml")


def test_whatever_the_umask_nothing_is_writable_by_others(no_umask, directory, make_label):
    write_label(directory.label_path("ab" * 32), make_label())
    publish_with(directory.path / "models" / "gen-0001" / "w", lambda path: path.write_bytes(b"1"))
    publish(directory.path / "tasks" / "label" / "label-000001" / "result.json", b"{}")
    for path in (directory.path, *directory.path.rglob("*")):
        assert path.stat().st_mode & 0o022 == 0, path
    refuse_writable_by_others(directory.path)


@pytest.mark.parametrize("entry", ENTRIES)
def test_writable_by_everybody(directory, entry):
    path = directory.path / entry
    path.chmod(path.stat().st_mode | 0o1002)  # the sticky bit does not help
    with pytest.raises(CampaignDirectoryError, match=r"may be written by everybody \(mode 1..[67]\).*chmod -R go-w"):
        refuse_writable_by_others(directory.path)
    path.chmod(path.stat().st_mode & ~0o022)
    refuse_writable_by_others(directory.path)


def test_writable_by_a_group(directory, monkeypatch):
    directory.config.chmod(0o664)
    monkeypatch.setattr(permissions, "_is_private", lambda group: group == directory.config.stat().st_gid)
    refuse_writable_by_others(directory.path)
    monkeypatch.setattr(permissions, "_is_private", lambda _group: False)
    with pytest.raises(CampaignDirectoryError, match=r"campaign\.toml may be written by the group .*--trust-directory"):
        refuse_writable_by_others(directory.path)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_owners_and_groups_of_the_system(directory):
    directory.ledger.chmod(0o664)
    refuse_writable_by_others(directory.path)  # the group root is private to root
    os.chown(directory.ledger, 0, 54321)
    with pytest.raises(CampaignDirectoryError, match=r"ledger\.sqlite may be written by the group number 54321"):
        refuse_writable_by_others(directory.path)
    os.chown(directory.ledger, 54321, 0)
    with pytest.raises(CampaignDirectoryError, match=r"written by the user with the number 54321, who owns it"):
        refuse_writable_by_others(directory.path)


def test_a_link_counts_as_what_it_points_to(directory, tmp_path):
    (directory.path / "models").rmdir()
    (tmp_path / "scratch").mkdir()
    (tmp_path / "scratch").chmod(0o777)
    (directory.path / "models").symlink_to(tmp_path / "scratch")
    with pytest.raises(CampaignDirectoryError, match="models may be written by everybody"):
        refuse_writable_by_others(directory.path)
