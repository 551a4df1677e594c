import time

from alpot.campaign.state import State
from alpot.report.refresh import PageRefresher


def wait_for(holds, seconds=60.0) -> bool:
    end = time.monotonic() + seconds
    while not (found := holds()) and time.monotonic() < end:
        time.sleep(0.05)
    return found


def test_a_page_is_written_while_the_controller_goes_on(make):
    controller = make(max_labels=12)
    controller.run()
    path = controller.directory.report / "index.html"
    assert not path.exists()
    with PageRefresher(controller.directory, interval_s=0.0) as refresh:
        began = time.monotonic()
        refresh(State())
        assert time.monotonic() - began < 1.0  # a page takes longer
        assert wait_for(path.exists)
        first = path.stat().st_mtime_ns

        def is_newer() -> bool:
            refresh(State())
            return path.stat().st_mtime_ns > first

        assert not is_newer()  # the pause after a writing is ten times as long as the writing
    assert "the budget of 12 labels is spent" in path.read_text()


def test_not_before_the_interval_is_over(make):
    controller = make(max_labels=12)
    with PageRefresher(controller.directory, interval_s=3600.0) as controller.on_change:
        controller.run()
    assert list(controller.directory.report.iterdir()) == []


def test_a_writing_under_way_is_ended(make):
    controller = make(max_labels=12)
    controller.run()
    with PageRefresher(controller.directory, interval_s=0.0) as refresh:
        refresh(State())
    time.sleep(0.5)
    assert not (controller.directory.report / "index.html").exists()


def test_a_page_that_cannot_be_written_disturbs_nobody(make):
    controller = make(max_labels=12)
    controller.directory.config.unlink()
    with PageRefresher(controller.directory, interval_s=0.0) as refresh:
        refresh(State())
        assert wait_for(lambda: refresh._process.poll() is not None)
        refresh(State())
    assert list(controller.directory.report.iterdir()) == []
