import errno
import subprocess
import sys
import time

import pytest
from fake_campaign import SUBJECT
from fake_subject import FakeSubject

from alpot.campaign import apps
from alpot.campaign.apps import published_result, run_task
from alpot.campaign.events import Task
from alpot.campaign.presence import at_work, wait_for_orphans
from alpot.campaign.subject import SUMMARIES, Kind, LabelSummary, TrainSummary
from alpot.errors import CampaignDirectoryError, ConfigError, StructureError, UsageError
from alpot.store.directory import CampaignDirectory
from alpot.store.files import storage_error
from alpot.store.json_files import read_json


@pytest.fixture
def directory(make_campaign):
    return make_campaign(config={"failures": FAILURES}).directory


FAILURES = [
    {"kind": "label", "match": "reference", "attempts": 1, "failure": "walltime"},
    {"kind": "label", "match": "nonsense", "attempts": 1, "failure": "nonsense"},
    {"kind": "label", "match": "interrupted", "attempts": 1, "failure": "interrupted"},
]


def run(directory: CampaignDirectory, task: Task, subject: str = SUBJECT) -> dict:
    result = run_task(subject, str(directory.path), task.dump())
    published = directory.task_path(task.kind, task.id) / "result.json"
    assert read_json(published) == result
    return result


def test_a_result_is_published(directory):
    task = Task("label-000001", Kind.LABEL, {"candidate": "c"}, attempt=2)
    result = run(directory, task)
    assert result["status"] == "finished" and result["attempt"] == 2
    assert LabelSummary.model_validate(result["summary"]).candidate == "c"
    assert published_result(directory, task) == result


def test_failures_are_results_too(directory):
    named = run(directory, Task("label-000001", Kind.LABEL, {"candidate": "reference"}))
    assert (named["failure"], named["message"], named["evidence"]) == ("walltime", "as told", "line 1\nline 2")
    other = run(directory, Task("label-000002", Kind.LABEL, {"candidate": "nonsense"}))
    assert (other["failure"], other["message"]) == ("bug", "ValueError: as told")
    assert 'raise ValueError("as told")' in other["evidence"]


def test_an_interruption_is_a_result_too(directory):
    result = run(directory, Task("label-000001", Kind.LABEL, {"candidate": "interrupted"}))
    assert result["status"] == "interrupted" and result["progress"] == 1.0


def test_a_damaged_result_is_none(directory, caplog):
    task = Task("label-000001", Kind.LABEL, {"candidate": "c"})
    run(directory, task)
    path = directory.task_path(task.kind, task.id) / "result.json"
    path.write_bytes(path.read_bytes().replace(b'"attempt": 1', b'"attempt": 2'))
    assert published_result(directory, task) is None
    assert str(path) in caplog.text


def test_a_failure_of_an_earlier_attempt_does_not_count(directory):
    task = Task("label-000001", Kind.LABEL, {"candidate": "nonsense"})
    run(directory, task)
    assert published_result(directory, task)["status"] == "failed"
    assert published_result(directory, task.again()) is None
    run(directory, task.again())
    assert published_result(directory, task.again().again())["status"] == "finished"


@pytest.mark.parametrize(
    ("summary", "complaint"),
    [
        ({"generation": 1, "scores": {"a": float("nan")}}, "scores.a"),
        ({"scores": {}}, "generation"),
        ({"generation": 1, "scores": {}, "extra": float("inf")}, "not JSON compliant"),
        ({"generation": 1, "scores": {}, "extra": object()}, "not JSON serializable"),
    ],
)
def test_a_summary_must_make_sense(directory, monkeypatch, summary, complaint):
    monkeypatch.setattr(FakeSubject, "score", lambda *_: summary)
    result = run(directory, Task("score-000001", Kind.SCORE, {"candidates": []}))
    assert result["failure"] == "bad_output" and complaint in result["message"]


@pytest.mark.parametrize("subject", ["no_such_module:Subject", "fake_subject:Nothing", "fake_subject", ""])
def test_a_subject_that_cannot_be_imported(directory, subject):
    result = run(directory, Task("label-000001", Kind.LABEL, {"candidate": "c"}), subject)
    assert result["status"] == "failed" and f"cannot import the subject {subject!r}" in result["message"]


@pytest.mark.parametrize(
    ("error", "failure"),
    [
        (ConfigError, "wrong_input"),
        (UsageError, "missing_program"),
        (StructureError, "bug"),
        (CampaignDirectoryError, "bug"),
    ],
)
def test_what_only_the_user_can_mend_is_no_bug(directory, monkeypatch, error, failure):
    """For example a pseudopotential that is not there on the worker; no other label would fare better."""
    monkeypatch.setattr(FakeSubject, "score", lambda *_: (_ for _ in ()).throw(error("Al.UPF is not there")))
    result = run(directory, Task("score-000001", Kind.SCORE, {"candidates": []}))
    assert result["failure"] == failure and "Al.UPF is not there" in result["message"]


def test_memory_errors_are_recognised(directory, monkeypatch):
    OutOfMemoryError = type("OutOfMemoryError", (RuntimeError,), {})
    for error in (MemoryError, OutOfMemoryError):
        monkeypatch.setattr(FakeSubject, "score", lambda *_, error=error: (_ for _ in ()).throw(error("full")))
        result = run(directory, Task("score-000001", Kind.SCORE, {"candidates": []}))
        assert result["failure"] == "out_of_memory"


@pytest.mark.parametrize("wrapped", [True, False])
def test_a_full_disk_is_the_fault_of_the_machine(directory, monkeypatch, wrapped):
    def fill(*_):
        full = OSError(errno.ENOSPC, "No space left on device")
        if wrapped:
            raise storage_error("write", directory.path, full) from full
        raise full

    monkeypatch.setattr(FakeSubject, "score", fill)
    result = run(directory, Task("score-000001", Kind.SCORE, {"candidates": []}))
    assert result["failure"] == "disk_full" and "No space left" in result["message"]


def test_a_result_that_cannot_be_published_is_told_all_the_same(directory, monkeypatch, caplog):
    def full(path, content):
        raise storage_error("write", path, OSError(errno.ENOSPC, "No space left on device"))

    monkeypatch.setattr(apps, "publish_json", full)
    task = Task("label-000001", Kind.LABEL, {"candidate": "c"})
    assert run_task(SUBJECT, str(directory.path), task.dump())["status"] == "finished"
    assert "cannot be published" in caplog.text


def test_summaries_say_all_or_nothing():
    with pytest.raises(ValueError, match="needs path and checksum"):
        LabelSummary(candidate="c", key="k", outcome="labelled")
    with pytest.raises(ValueError, match="needs a reason"):
        LabelSummary(candidate="c", key="k", outcome="rejected")
    with pytest.raises(ValueError, match="keys"):
        TrainSummary(generation=1, path="m", checksum="0", compacted=[{"path": "s", "checksum": "0", "keys": []}])
    assert set(SUMMARIES) == set(Kind)


def test_waits_for_orphans_at_work(directory):
    code = (
        "import sys, time; from pathlib import Path; from alpot.campaign.presence import at_work;"
        "from alpot.store.directory import CampaignDirectory\n"
        "with at_work(CampaignDirectory(Path(sys.argv[1]))): print('at work', flush=True); time.sleep(60)"
    )
    with at_work(directory), at_work(directory):
        pass  # several workers do not disturb each other
    with subprocess.Popen([sys.executable, "-c", code, str(directory.path)], stdout=subprocess.PIPE) as orphan:
        assert orphan.stdout.readline() == b"at work\n"
        killer = subprocess.Popen(["/bin/sh", "-c", f"sleep 0.3; kill -9 {orphan.pid}"])
        started = time.monotonic()
        wait_for_orphans(directory)
        assert time.monotonic() - started > 0.2
        killer.wait()
