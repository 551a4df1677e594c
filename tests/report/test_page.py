import re
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser

import pytest

from alpot.errors import StorageError
from alpot.report.charts import SERIES, Epoch, error_chart, label_chart, learning_chart
from alpot.report.history import Generation
from alpot.report.page import write_report
from alpot.store import files
from alpot.store.json_files import publish_json

VOID = {"meta", "br"}


class Page(HTMLParser):
    """Checks that every element is closed, and collects what a browser would see."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.words = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words += data


def report(directory) -> tuple[str, Page]:
    path = write_report(directory)
    assert path == directory.report / "index.html"
    assert [entry.name for entry in directory.report.iterdir()] == ["index.html"]  # no temporary file is left
    text = path.read_text(encoding="utf-8")
    return text, Page(text)


def assert_self_contained(page: Page) -> None:
    assert not {"script", "link", "img", "iframe", "object", "form", "base"} & set(page.tags)
    for name, value in page.attributes:
        assert name not in ("src", "srcset", "action") and not name.startswith("on")
        if name in ("href", "xlink:href"):
            assert value.startswith("#")
        assert "url(" not in value.replace("url(#", "")


def test_the_page_of_a_finished_campaign(make):
    controller = make()
    controller.run()
    text, page = report(controller.directory)
    assert_self_contained(page)
    for words in (
        "the budget of 40 labels is spent",
        "1 of 2 within tolerance",
        "4.0012 ± 0.0021",
        "did not relax",
        "two atoms are 0.9 Å apart",
        "SCF cycle 1: diverged",
        str(controller.directory.model_path(5)),
        'code = "emt"',
        "1 unphysical geometry",
        "8 networks 96–96–64",
    ):
        assert words in page.words, words
    assert page.tags.count("svg") == 3
    assert "prefers-color-scheme: dark" in text and "width=device-width" in text
    assert "#0103" not in text and "#0102" not in text  # all stand-in colours were replaced


def test_the_page_of_a_new_campaign(create):
    _, page = report(create())
    assert_self_contained(page)
    assert "nothing has run yet" in page.words and "svg" not in page.tags


def test_the_page_of_a_running_campaign(make):
    controller = make(max_labels=12)

    def write(state):
        if state.seq % 5 == 1:  # drawing takes its time
            assert_self_contained(report(controller.directory)[1])

    controller.on_change = write
    controller.run()
    assert controller.on_change is not None  # it never failed


def test_malicious_strings_are_shown_not_obeyed(make):
    name = "<img src=x onerror=alert(1)>&\"'"
    controller = make("EvilStory", name=name)
    config = controller.directory.config
    config.write_text(config.read_text() + "\n# </pre><script>alert(2)</script>\n")
    controller.run()
    text, page = report(controller.directory)
    assert_self_contained(page)
    assert "<script" not in text and "<img" not in text
    assert name in page.words
    assert page.words.count('<script>alert("1")</script>') >= 6  # reasons, failures, rejections, properties
    assert "</pre><script>alert(2)</script>" in page.words


def test_a_page_that_cannot_be_written_leaves_the_old_one(make, monkeypatch):
    controller = make(max_labels=12)
    controller.run()
    path = write_report(controller.directory)
    before = path.read_bytes()

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(StorageError, match="No space left"):
        write_report(controller.directory)
    assert path.read_bytes() == before
    assert [entry.name for entry in path.parent.iterdir()] == ["index.html"]


def page_with_learning_curve(make, write):
    controller = make(max_labels=12)
    controller.run()
    path = controller.directory.model_path(controller.state.generations) / "learning_curve.json"
    path.unlink()
    write(path)
    _, page = report(controller.directory)
    return page


@pytest.mark.parametrize("content", [None, "", "[]", "{", '{"epochs": []}'])
def test_a_learning_curve_that_is_damaged_is_left_out(make, content):
    page = page_with_learning_curve(make, lambda path: content is None or path.write_text(content))
    assert page.tags.count("svg") == 2


RAGGED = [{"epoch": n, "training_loss": [1.0] * n, "validation_loss": [1.0]} for n in range(3)]


@pytest.mark.parametrize("epochs", [[], {"a": 1}, [1, 2, 3], [{"epoch": 0}], RAGGED])
def test_a_learning_curve_that_makes_no_sense_is_left_out(make, epochs):
    page = page_with_learning_curve(make, lambda path: publish_json(path, {"epochs": epochs}))
    assert page.tags.count("svg") == 2


# ------------------------------------------------------------------------------------------------------- charts


def points(svg: str) -> int:
    return len(re.findall(r"[ML] [-0-9.]+ [-0-9.]+", svg))


def test_charts_of_nothing():
    assert error_chart([], 0.1) is None and label_chart([], 10.0) is None and learning_chart([]) is None
    unassessed = Generation(number=1, labels=10, path="p", elapsed_s=1.0, seconds=1.0)
    assert error_chart([unassessed], None) is None


def test_a_single_generation_is_a_chart():
    one = Generation(number=1, labels=10, path="p", elapsed_s=1.0, seconds=1.0, audit_force=0.1, promoted=False)
    chart = error_chart([one], None)
    assert len(chart.legend) == 1
    ElementTree.fromstring(chart.svg)


def test_many_labels_of_many_reasons_stay_a_small_chart():
    times = [(float(second), f"reason {second % 11}") for second in range(30000)]
    chart = label_chart(times, 30001.0)
    assert len(chart.legend) == SERIES and chart.legend[-1][0].startswith("other")
    assert sum(int(name.split("(")[1].rstrip(")").replace(",", "")) for name, _ in chart.legend) == 30000
    assert len(chart.svg) < 100_000


def test_a_learning_curve_with_gaps_and_a_member_trained_again():
    nan, inf = float("nan"), float("inf")
    curve = [
        {"epoch": epoch, "training_loss": [2.0 - epoch / 9, nan], "validation_loss": [inf, nan if epoch == 3 else 1.0]}
        for epoch in range(9)
    ]
    again = [{"epoch": epoch, "training_loss": [0.1, 9.0], "validation_loss": [0.1, 9.0]} for epoch in range(5)]
    chart = learning_chart([Epoch(**line) for line in curve + again])
    assert "9 epochs" in chart.description and "nan" not in chart.svg.lower()
    ElementTree.fromstring(chart.svg)
