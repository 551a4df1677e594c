import re
from io import StringIO

import pytest
from rich.console import Console

from alpot.campaign.state import State
from alpot.errors import CampaignFailed
from alpot.report.live import LiveProgress, notable
from alpot.report.status import Phase, campaign_status
from alpot.report.tables import status_panel, status_view
from alpot.store.ledger import Ledger

ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def watch(controller, *, terminal: bool, width: int = 100) -> str:
    stream = StringIO()
    console = Console(file=stream, force_terminal=terminal, width=width, height=60)
    with LiveProgress(controller.directory, console) as progress:
        controller.on_change = progress
        controller.run()
    assert controller.on_change is progress  # the display never failed
    return stream.getvalue()


def drawn(status, width: int = 100) -> str:
    console = Console(file=StringIO(), width=width)
    console.print(status_view(status))
    return console.file.getvalue()


def test_on_a_terminal_the_last_picture_stays(make):
    shown = watch(make(), terminal=True)
    assert "\x1b[?25h" in shown  # the cursor is back
    last = ESCAPES.sub("", shown).split("╭─")[-1]
    for text in ("generation 5", "40 of 40 calculations", "9 audit", "21 uncertain", "18/24/27", "budget of 40 labels"):
        assert text in last, text
    assert "0 running" in last


def test_without_a_terminal_plain_lines(make):
    lines = watch(make(), terminal=False).splitlines()
    assert not any("\x1b" in line for line in lines)
    told = [line.split("] ", 1)[1] for line in lines]
    assert told[0] == "campaign: begins; the budget is 40 calculations"
    assert "generation 1 trained on 7 labels, test force error 135 meV/Å" in told
    assert "generation 1 promoted; audit errors 200 meV/Å, 10 meV/atom on 2 labels" in told
    assert any(line.startswith("generation 3 not promoted") for line in told)
    assert told[-1] == "finished: the budget of 40 labels is spent"
    assert len(lines) < 20  # out of some two hundred events


def test_labels_are_told_of_by_fifties(make):
    controller = make(max_labels=120, max_generations=2, labels_per_generation=1000, initial_labels=110)
    told = watch(controller, terminal=False)
    assert len(re.findall(r"\b50 labels|\b100 labels", told)) == 2


def test_a_continued_campaign_says_so(make):
    controller = make()
    stop = controller.directory.request_stop
    controller.on_change = lambda state: stop() if state.dataset.training.size == 9 else None
    controller.run()
    told = watch(controller, terminal=False)
    assert re.search(r"campaign: continues with \d+ labels, generation 1", told)


def test_a_failed_campaign_ends_the_display(make):
    controller = make("Fragile")
    stream = StringIO()
    with (
        pytest.raises(CampaignFailed),
        LiveProgress(controller.directory, Console(file=stream, width=200)) as controller.on_change,
    ):
        controller.run()
    told = stream.getvalue()
    assert told.count("train-000001 failed (bug): ValueError: the loss is not finite") == 1
    assert re.search(r"failed: training .* the loss is not finite", told)


def test_an_interrupted_controller(make):
    controller = make()
    stream = StringIO()
    progress = LiveProgress(controller.directory, Console(file=stream, width=200))

    def interrupt(state: State) -> None:
        progress(state)
        if state.dataset.training.size == 3:
            raise KeyboardInterrupt

    controller.on_change = interrupt
    with pytest.raises(KeyboardInterrupt), progress:
        controller.run()
    assert "interrupted: the controller ended before the campaign did" in stream.getvalue()


@pytest.mark.parametrize("terminal", [True, False])
def test_what_a_campaign_writes_cannot_steer_the_terminal(make, terminal):
    shown = watch(make("EvilStory"), terminal=terminal)
    assert "\x1b[2J" not in shown.replace("\x1b[2K", "")
    assert "[/bold]" in shown  # shown as it is, not read as markup


@pytest.mark.parametrize("width", [40, 60, 80, 200])
def test_every_width_is_drawable(make, width):
    controller = make()
    controller.run()
    picture = drawn(campaign_status(controller.directory), width)
    assert max(len(line) for line in picture.splitlines()) <= width
    if width >= 80:
        for text in ("22.5/30/33.8", "promoted", "last failure: label-000010", "lattice constant (Å)", "−12.78 %"):
            assert text in picture, text


def test_a_new_campaign_is_drawable(create):
    picture = drawn(campaign_status(create()))
    assert "no generation yet" in picture and "0 of 40 calculations" in picture


def test_the_clock_ticks_between_events(create):
    status = campaign_status(create())
    console = Console(file=StringIO(), width=100)
    console.print(status_panel(status, since_s=3725.0))
    assert "1:02:05" in console.file.getvalue()


def test_nothing_new_is_not_notable(make):
    controller = make()
    controller.run()
    status = campaign_status(controller.directory)
    assert notable(status, status) == []
    assert notable(status.model_copy(update={"phase": Phase.ENDING}), status)[-1].startswith("finished")


def test_each_event_is_read_once(make, monkeypatch):
    """The work per event must not grow with the ledger: the display is called by the controller itself."""
    read = []
    events = Ledger.events

    def counting(self, after=0):
        for event in events(self, after):
            if self.read_only:
                read.append(event.seq)
            yield event

    monkeypatch.setattr(Ledger, "events", counting)
    controller = make()
    watch(controller, terminal=False)
    assert read == list(range(1, controller.state.seq + 1))
