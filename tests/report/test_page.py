import json
import re
import shlex
from html.parser import HTMLParser
from importlib.metadata import version

import plotly.graph_objects
import pytest
from portrait import assessment
from story import EVIL

from alpot.errors import StorageError
from alpot.report.figures import log_axis
from alpot.report.history import Generation
from alpot.report.page import report_files, write_report
from alpot.report.page.learned import coverage_figures, map_figure
from alpot.report.page.material import Epoch
from alpot.report.page.money import label_figure
from alpot.report.page.quality import error_figure, learning_figure
from alpot.report.page.validation import validation_page
from alpot.store import files
from alpot.store.assessment_file import write_assessment_file
from alpot.store.json_files import publish_json
from alpot.store.property_file import PropertyFile, PropertyResult, PropertyRow

VOID = {"meta", "br"}
FILES = {"index.html", "generations.csv", "properties.csv", "curves.csv", "labels_by_reason.csv", "audit_frames.csv"}
FILES |= {"failures.csv", "metrics.jsonl"}
RUNS = re.compile(r"<script>.*?</script>", re.S)


class Page(HTMLParser):
    """Checks that every element is closed, and collects what a browser would see and run."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.words = ""
        self.code: list[str] = []
        self.blocks: list[str] = []
        self._kind = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag == "script":
            self._kind = dict(attrs).get("type", "")
            assert dict(attrs).keys() <= {"type"} and self._kind in ("", "application/json")
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        raise AssertionError(f"<{tag}/>")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "script":
            (self.blocks if self._kind else self.code).append(data)
        else:
            self.words += data

    @property
    def figures(self):
        return [block for block in map(json.loads, self.blocks) if isinstance(block, dict)]


def report(directory) -> tuple[str, Page]:
    path = write_report(directory)
    assert path == directory.report / "index.html"
    assert {entry.name for entry in directory.report.iterdir()} == FILES  # no temporary file is left
    text = path.read_text(encoding="utf-8")
    return text, Page(text)


def assert_self_contained(page: Page) -> None:
    assert not {"link", "img", "iframe", "object", "form", "base"} & set(page.tags)
    assert len(page.code) in (0, 2)  # plotly's and ours
    assert (len(page.code) == 2) == bool(page.blocks)
    for name, value in page.attributes:
        assert name not in ("src", "srcset", "action") and not name.startswith("on")
        if name == "href":
            assert value.startswith("#") or value in FILES or re.fullmatch(r"https://doi\.org/10\.\S+", value)


def test_the_page_of_a_finished_campaign(make):
    controller = make()
    controller.run()
    text, page = report(controller.directory)
    assert_self_contained(page)
    for words in (
        "the budget of 40 labels is spent",
        "1 of 2 within tolerance",
        "Outside of their tolerance: C11.",
        "4.0012 ± 0.0021",
        "did not relax",
        "two atoms are 0.9 Å apart",
        "SCF cycle 1: diverged",
        str(controller.directory.model_path(5)),
        'code = "emt"',
        "1 unphysical geometry",
        "8 networks 96–96–64",
        "Exploration by table of starts",
        "1: packing",
    ):
        assert words in page.words, words
    assert [figure["name"] for figure in page.figures] == ["Force error", "Last training", "Labels", "Utilisation"]
    assert "prefers-color-scheme: dark" in text and "width=device-width" in text


def test_the_page_of_a_campaign_with_everything(make):
    controller = make("Portrayed")
    controller.run()
    _, page = report(controller.directory)
    assert_self_contained(page)
    names = [figure["name"] for figure in page.figures]
    assert names == [
        *("Force error", "Energy parity", "Force parity", "Error against uncertainty", "Last training"),
        *("cold curve, fcc Al", "phonons, fcc Al", "lattice constant, fcc Al", "C11, fcc Al"),
        *("Map of configuration space", "Density and temperature", "Density and energy"),
        *("Labels", "Cost of labels", "Utilisation"),
    ]
    for words in ("4.0495 ± 0.0003 experiment, 298 K", "Someone (1999)", "worst predicted", "Al32"):
        assert words in page.words, words
    assert ("href", "https://doi.org/10.1103/PhysRevB.42.8573") in page.attributes
    assert page.words.count("Save as SVG") == len(names) and page.attributes.count(("role", "img")) == len(names) + 1


def test_plotly_knows_every_word_of_every_figure(make):
    """plotly.js passes over what it does not know; its Python side refuses it."""
    controller = make("Portrayed")
    controller.run()
    _, page = report(controller.directory)
    for figure in page.figures:
        spelled = re.sub(r'"var\(--sequence\)"', '"Viridis"', json.dumps(figure))
        spelled = json.loads(re.sub(r"var\(--[a-z0-9-]+\)", "#000000", spelled))
        plotly.graph_objects.Figure(data=spelled["data"], layout=spelled["layout"])


def test_the_page_of_a_new_campaign(create):
    text, page = report(create())
    assert_self_contained(page)
    assert "nothing has run yet" in page.words and not page.code and len(text) < 30_000


def test_the_page_of_a_running_campaign(make):
    controller = make(max_labels=12)

    def write(state):
        if state.seq % 5 == 1:  # drawing takes its time
            assert_self_contained(report(controller.directory)[1])

    controller.on_change = write
    controller.run()
    assert controller.on_change is not None  # it never failed


@pytest.mark.parametrize("subject", ["EvilStory", "EvilPortrayed"])
def test_malicious_strings_are_shown_not_obeyed(make, subject):
    name = "<img src=x onerror=alert(1)>&\"'"
    controller = make(subject, name=name)
    config = controller.directory.config
    config.write_text(config.read_text() + "\n# </pre><script>alert(2)</script>\n")
    controller.run()
    text, page = report(controller.directory)
    assert_self_contained(page)
    data = re.sub(r'<script type="application/json">[^<]*</script>', "", RUNS.sub("", text))
    assert "<script" not in data and "<img" not in data
    assert name in page.words
    assert page.words.count('<script>alert("1")</script>') >= 6  # reasons, failures, rejections, properties
    assert "</pre><script>alert(2)</script>" in page.words
    for figure in page.figures:  # plotly reads some HTML: nothing of it may be left
        if figure["name"] not in EVIL:
            assert "<script" not in json.dumps([figure["data"], figure["layout"]])


def test_only_what_looks_like_a_doi_is_a_link(make):
    controller = make("EvilPortrayed")
    controller.run()
    _, page = report(controller.directory)
    assert not any("doi.org" in value for name, value in page.attributes if name == "href")


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
    assert {entry.name for entry in path.parent.iterdir()} == FILES


def test_a_damaged_assessment_is_left_out_and_told_of(make):
    controller = make("Portrayed", max_labels=12)
    controller.run()
    path = controller.directory.assessment_path(controller.state.promoted)
    path.write_bytes(path.read_bytes().replace(b"0.1", b"0.2", 1))
    page = Page(report_files(controller.directory)["index.html"])
    assert "Some figures are missing" in page.words and "damaged or was edited" in page.words
    assert "Map of configuration space" not in [figure["name"] for figure in page.figures]


def test_an_assessment_of_nothing_is_a_page(make):
    controller = make(max_labels=12)
    controller.run()
    empty = assessment(controller.state.promoted, n_audit=0, n_map=0, n_hard=0)
    write_assessment_file(controller.directory, empty.model_copy(update={"sigma_bins": []}))
    assert_self_contained(report(controller.directory)[1])
    one = assessment(controller.state.promoted, n_audit=1, n_map=1, n_hard=1)
    write_assessment_file(controller.directory, one)
    assert_self_contained(report(controller.directory)[1])


def figures_with_learning_curve(make, write):
    controller = make(max_labels=12)
    controller.run()
    path = controller.directory.model_path(controller.state.generations) / "learning_curve.json"
    path.unlink()
    write(path)
    return [figure["name"] for figure in report(controller.directory)[1].figures]


@pytest.mark.parametrize("content", [None, "", "[]", "{", '{"epochs": []}'])
def test_a_learning_curve_that_is_damaged_is_left_out(make, content):
    names = figures_with_learning_curve(make, lambda path: content is None or path.write_text(content))
    assert "Last training" not in names and "Force error" in names


RAGGED = [{"epoch": n, "training_loss": [1.0] * n, "validation_loss": [1.0]} for n in range(3)]


@pytest.mark.parametrize("epochs", [[], {"a": 1}, [1, 2, 3], [{"epoch": 0}], RAGGED])
def test_a_learning_curve_that_makes_no_sense_is_left_out(make, epochs):
    names = figures_with_learning_curve(make, lambda path: publish_json(path, {"epochs": epochs}))
    assert "Last training" not in names


# ------------------------------------------------------------------------------------------------------ figures


def test_figures_of_nothing():
    assert error_figure([], 0.1) is None and label_figure([], 10.0) is None and learning_figure([]) is None
    unassessed = Generation(number=1, labels=10, path="p", elapsed_s=1.0, seconds=1.0)
    assert error_figure([unassessed], None) is None


def test_a_single_generation_is_a_figure():
    one = Generation(number=1, labels=10, path="p", elapsed_s=1.0, seconds=1.0, audit_force=0.1, promoted=False)
    (trace,) = error_figure([one], None).traces
    assert trace["x"] == [10] and trace["y"] == [100.0] and trace["marker"]["symbol"] == ["circle-open"]


def test_errors_against_the_bound_of_the_generation_and_how_often_it_held(make):
    controller = make("Portrayed")
    controller.run()
    _, page = report(controller.directory)
    (figure,) = [figure for figure in page.figures if figure["name"] == "Error against uncertainty"]
    (drawn,) = [trace for trace in figure["data"] if trace["name"] == "90 % bound: 2.50 × (σ + 12 meV/Å)"]
    # In meV/Å, along a line that the floor bends.
    assert drawn["y"] == pytest.approx([2.5 * (sigma + 12.0) for sigma in drawn["x"]]) and len(drawn["x"]) > 2
    assert "with 90 % confidence, learned from 24 audit labels" in page.words
    assert "Bounds held for 88 % of" in page.words


def test_many_labels_of_many_reasons_stay_a_small_figure():
    times = [(float(second), f"reason {second % 11}") for second in range(30000)]
    figure = label_figure(times, 30001.0)
    assert len(figure.traces) == 6 and figure.traces[-1]["name"].startswith("other")
    assert sum(trace["y"][-1] for trace in figure.traces) == 30000
    assert len(json.dumps(figure.traces)) < 30_000


def test_a_learning_curve_with_gaps_and_a_member_trained_again():
    nan, inf = float("nan"), float("inf")
    curve = [
        {"epoch": epoch, "training_loss": [2.0 - epoch / 9, nan], "validation_loss": [inf, nan if epoch == 3 else 1.0]}
        for epoch in range(9)
    ]
    again = [{"epoch": epoch, "training_loss": [0.1, 9.0], "validation_loss": [0.1, 9.0]} for epoch in range(5)]
    figure = learning_figure([Epoch(**line) for line in curve + again])
    assert "9 epochs" in figure.description
    json.dumps(figure.traces, allow_nan=False)


@pytest.mark.parametrize(("last", "dtick"), [(1, 1), (3, 1), (60, None)])
def test_the_bars_of_generations_have_whole_numbers(last, dtick):
    seen = assessment(last, n_audit=0, n_map=400)
    bars = [figure.layout["coloraxis"]["colorbar"] for figure in (map_figure(seen), coverage_figures(seen.map)[1])]
    assert [bar.get("dtick") for bar in bars] == [dtick, dtick]
    assert all(bar["tickformat"] == "d" for bar in bars)
    assert "tickformat" not in coverage_figures(seen.map)[0].layout["coloraxis"]["colorbar"]  # energies


@pytest.mark.parametrize(
    ("values", "ticks"),
    [
        ((4.0, 300.0), "5 10 20 50 100 200"),
        ((0.0003, 20000.0), "0.001 0.01 0.1 1 10 100 1000 10000"),
        ((2.5, 6.0), "3 4 5 6"),
    ],
)
def test_logarithmic_axes_have_whole_numbers(values, ticks):
    drawn = log_axis("error", values)
    inside = [
        text for at, text in zip(drawn["tickvals"], drawn["ticktext"], strict=True) if values[0] <= at <= values[1]
    ]
    assert " ".join(inside) == ticks


def test_a_short_logarithmic_axis_is_plotlys():
    assert log_axis("error", (1.2, 1.4)) == {"title": {"text": "error"}, "type": "log"}


def test_the_settings_say_what_is_assessed_and_when_it_ends(create):
    config = """
        [material]
        elements = ["Al"]
        [reference]
        code = "emt"
        [assessment]
        properties = ["lattice", "vacancy_migration"]
        each_generation = ["elastic"]
        compare_reference = true
        hold_back = true
        [stopping]
        good_generations = 3
    """
    directory = create("a campaign; with spaces", config)
    page = Page(report_files(directory)["index.html"])
    assert "all properties within tolerance for 3 generations in a row" in page.words
    assert (
        "lattice, vacancy migration at the end; elastic of each generation; compared with the reference; no promotion"
        " if one falls out of tolerance" in page.words
    )
    assert f"phonopy {version('phonopy')}" in page.words


def test_the_command_that_exports_can_be_pasted(make):
    controller = make("Story", name="it's mine; really", max_labels=12)
    controller.run()
    words = Page(report_files(controller.directory)["index.html"]).words
    command = words[words.index("alpot export") : words.index(" potential/")]
    assert shlex.split(command) == ["alpot", "export", str(controller.directory.path)]


@pytest.mark.parametrize("std", [0.002, None])
def test_the_page_of_alpot_validate_says_things_once(std):
    entry = PropertyRow(property="lattice", system="fcc Al", name="lattice constant", unit="Å", value=4.05, std=std)
    result = PropertyResult(property="lattice", system="fcc Al", rows=(entry,))
    words = Page(validation_page(PropertyFile(potential="ANI-Al", reference="emt", results=(result,)))).words
    assert words.count("ANI-Al") == 3  # the window's title, the heading, the table's caption for screen readers
    assert words.count("Physical properties") == 2 and "Beside emt" in words and "The table" in words
    assert ("members" in words) == (std is not None)
