"""The page in a real browser: drawn without an error or a request, for eyes, keyboards, screen readers, phones."""

import os
import re
import shutil
import time
from itertools import pairwise
from pathlib import Path

import pytest
from fake_campaign import InProcess, policy
from large import write_ledger
from portrait import assessment
from story import CONFIG

from alpot.campaign.controller import Controller
from alpot.report.page import write_report
from alpot.report.status import campaign_status
from alpot.report.tables import generation_cells, property_cells
from alpot.report.wording import duration, milli
from alpot.store.assessment_file import write_assessment_file
from alpot.store.directory import CampaignDirectory

SCREENS = {"laptop": (1280, 900), "phone": (390, 844)}
#: WCAG 2.2, success criterion 1.4.3.
CONTRAST = 4.5


def chromium() -> str:
    """Where it is; skips the test where it is not, fails where all programs must be."""
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        reason = "chromium is not installed: apt-get install chromium"
        if "ALPOT_REQUIRE_PROGRAMS" in os.environ:
            pytest.fail(reason)
        pytest.skip(reason)
    return path


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api")
    path = chromium()
    with playwright.sync_playwright() as run:
        opened = run.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield opened
        opened.close()


def campaign(folder: Path, subject: str) -> CampaignDirectory:
    directory = CampaignDirectory.create(folder / subject, CONFIG.encode(), folder / "campaign.toml")
    platform = InProcess()
    Controller(directory, policy(platform), platform, f"story:{subject}").run()
    write_report(directory)
    return directory


@pytest.fixture(scope="module")
def directory(tmp_path_factory) -> CampaignDirectory:
    return campaign(tmp_path_factory.mktemp("browser"), "Portrayed")


@pytest.fixture
def visit(browser):
    """Opens the report of a campaign; afterwards nothing may have been complained of, nor asked of anybody."""
    contexts, complaints, requests = [], [], []

    def visit(directory, screen="laptop", scheme="light", **options):
        width, height = SCREENS[screen]
        context = browser.new_context(
            viewport={"width": width, "height": height}, color_scheme=scheme, reduced_motion="reduce", **options
        )
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda said: said.type == "error" and complaints.append(said.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("dialog", lambda dialog: complaints.append(f"dialog {dialog.message}") or dialog.dismiss())
        page.on("request", lambda request: requests.append(request.url))
        page.goto((directory.report / "index.html").as_uri())
        return page

    yield visit
    for context in contexts:
        context.close()
    assert complaints == []
    assert all(re.fullmatch(r"(file://.*/report/index\.html|data:.*|blob:.*)", url, re.S) for url in requests), requests


def draw_all(page) -> int:
    """Scrolls through the page until every plot is drawn; how many there are."""
    plots = page.locator(".plot")
    for number in range(plots.count()):
        plots.nth(number).scroll_into_view_if_needed()
        page.wait_for_function("n => document.querySelectorAll('.plot')[n].matches('.js-plotly-plot')", arg=number)
    page.wait_for_function("[...document.querySelectorAll('.plot')].every(plot => plot.querySelector('svg'))")
    page.evaluate("scrollTo(0, 0)")
    return plots.count()


def keep(page, name: str) -> None:
    """A screenshot for people to look at."""
    if "ALPOT_ARTEFACTS" in os.environ:
        folder = Path(os.environ["ALPOT_ARTEFACTS"])
        folder.mkdir(parents=True, exist_ok=True)
        page.wait_for_timeout(500)
        page.screenshot(path=folder / f"report-{name}.png", full_page=True)


@pytest.mark.parametrize(
    ("screen", "scheme"),
    [
        ("laptop", "light"),
        pytest.param("laptop", "dark", marks=pytest.mark.slow),
        pytest.param("phone", "light", marks=pytest.mark.slow),
    ],
)
def test_every_plot_is_there_on_every_screen(visit, directory, screen, scheme):
    page = visit(directory, screen, scheme)
    assert draw_all(page) == 16
    assert page.evaluate("document.documentElement.scrollWidth") == SCREENS[screen][0]
    names = [name.strip() for name in page.locator("figure h3").all_inner_texts()]
    assert {"Energy parity", "Map of configuration space", "Utilisation", "cold curve, fcc Al"} <= set(names)
    points = page.evaluate(
        "name => [...document.querySelectorAll('figure')].find(f => f.querySelector('h3').textContent"
        " === name).querySelectorAll('.point').length",
        "Map of configuration space",
    )
    assert points == 800
    assert page.locator(".scene canvas").count() >= 1
    assert page.locator("text=WebGL is not supported").count() == 0
    keep(page, f"{screen}-{scheme}")


def rows(page, caption: str) -> list[list[str]]:
    cells = page.evaluate(
        "caption => [...document.querySelectorAll('table')].find(t => t.caption.textContent === caption)"
        ".querySelectorAll('tbody tr').values().map(tr => [...tr.cells].map(c => c.textContent)).toArray()",
        caption,
    )
    return cells


@pytest.mark.slow
def test_the_numbers_are_those_of_the_ledger(visit, directory):
    page, status = visit(directory), campaign_status(directory)
    best = next(g for g in status.generations if g.number == status.promoted)
    assert page.locator(".tile b").all_inner_texts() == [
        f"{status.labels.done:,}",
        str(status.promoted),
        milli(best.audit_force),
        milli(best.audit_energy),
        f"{status.exploration.simulated_ps:.1f} ps",
        duration(status.elapsed_s),
    ]
    assert rows(page, "Errors of each generation") == [list(generation_cells(g)) for g in status.generations]
    shown = [row for row in rows(page, f"Properties of generation {status.properties_of}") if len(row) > 1]
    assert [row[:6] for row in shown] == [list(property_cells(row)) for row in status.properties]
    spent = {row[0]: row for row in rows(page, "Labels and their cost by reason")}
    assert spent.keys() == status.spending.keys()
    for reason, costs in status.spending.items():
        assert spent[reason][1] == f"{costs.labels:,}" and spent[reason][4] == f"{costs.failures:,}"
    assert sum(costs.labels for costs in status.spending.values()) == status.labels.done
    curve = page.evaluate("JSON.parse(document.querySelector('figure script').textContent).data[0]")
    assert curve["x"] == [g.labels for g in status.generations]
    assert curve["y"] == pytest.approx([1000 * g.audit_force for g in status.generations])


@pytest.mark.slow
def test_dark_and_light_follow_the_reader(visit, directory):
    page = visit(directory)
    draw_all(page)
    seen = []
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        page.wait_for_timeout(700)  # plots are drawn again
        paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
        text = page.evaluate("getComputedStyle(document.querySelector('.xtick text')).fill")
        line = page.evaluate("getComputedStyle(document.querySelector('.js-line')).stroke")
        seen.append((paper, text, line))
        for name in ("--text", "--soft", "--accent", "--good", "--bad", "--warn"):
            for ground in ("--paper", "--card"):
                assert contrast(page, name, ground) >= CONTRAST, (scheme, name, ground)
    assert all(light != dark for light, dark in zip(*seen, strict=True))


def contrast(page, *names: str) -> float:
    """Of two colours of the style sheet, by WCAG 2.2."""
    light = []
    for name in names:
        value = page.evaluate("n => getComputedStyle(document.documentElement).getPropertyValue(n).trim()", name)
        channels = [int(value[place : place + 2], 16) / 255 for place in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        light.append(0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2])
    return (max(light) + 0.05) / (min(light) + 0.05)


@pytest.mark.slow
def test_a_phone_shows_names_and_numbers_side_by_side(visit, directory):
    page = visit(directory, "phone")
    place = """() => {
        const row = document.querySelector('#properties tbody tr:has(td:nth-of-type(3))');
        const [name, value] = [...row.cells].map(cell => cell.getBoundingClientRect());
        return [name.left, name.right, value.left, value.right];
    }"""
    left, right, begins, ends = page.evaluate(place)
    assert right <= begins and ends <= SCREENS["phone"][0]
    page.evaluate("document.querySelector('#properties > .scroll').scrollLeft = 200")
    after = page.evaluate(place)
    assert after[:2] == [left, right] and after[2] == begins - 200  # the name stays, whatever is beside it


@pytest.mark.slow
def test_the_keyboard_reaches_everything(visit, directory):
    page = visit(directory)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "To the content"
    assert page.evaluate("document.activeElement.getBoundingClientRect().left") >= 0
    reached = []
    for _ in range(400):
        page.keyboard.press("Tab")
        place = page.evaluate("[...document.querySelectorAll('*')].indexOf(document.activeElement)")
        if place in reached or page.evaluate("document.activeElement === document.body"):
            break
        reached.append(place)
        assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"
    wanted = page.evaluate(
        "[...document.querySelectorAll('*')].map((e, n) => [e, n]).filter(([e]) => e.checkVisibility() &&"
        " e.matches('a[href]:not(.skip), button, select, summary, [tabindex=\"0\"]')).map(([e, n]) => n)"
    )
    assert set(wanted) <= set(reached)


@pytest.mark.slow
def test_frames_are_chosen_with_the_keyboard(visit, directory):
    page = visit(directory)
    page.locator("#frame").focus()
    page.locator("#frame").scroll_into_view_if_needed()
    page.keyboard.press("ArrowDown")
    page.wait_for_function("document.querySelector('.said').textContent.startsWith('2. most uncertain')")
    page.locator("text=Next").press("Enter")
    page.wait_for_function("document.querySelector('.said').textContent.startsWith('3. worst predicted')")
    for _ in range(3):
        page.locator("text=Previous").press("Enter")
    page.wait_for_function("document.querySelector('.said').textContent.startsWith('6. ')")
    assert page.locator(".scene").get_attribute("aria-label").startswith("In three dimensions: 6. ")


@pytest.mark.slow
def test_a_screen_reader_can_make_sense_of_it(visit, directory):
    page = visit(directory)
    draw_all(page)
    assert page.get_attribute("html", "lang") == "en" and page.title()
    for landmark in ("main", "header", "footer", "nav[aria-label]"):
        assert page.locator(f"body > {landmark}").count() == 1, landmark
    levels = page.evaluate("[...document.querySelectorAll('h1, h2, h3, h4')].map(h => Number(h.tagName[1]))")
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    lacking = page.evaluate("""({
        images: document.querySelectorAll('.plot:not([role=img][aria-label])').length,
        inputs: [...document.querySelectorAll('select, input')].filter(e => !e.labels.length).length,
        buttons: [...document.querySelectorAll('button')].filter(e => !e.textContent.trim()).length,
        links: [...document.querySelectorAll('a')].filter(e => !e.textContent.trim()).length,
        captions: [...document.querySelectorAll('table')].filter(t => !t.caption).length,
        scopes: document.querySelectorAll('th:not([scope])').length,
        numbers: [...document.querySelectorAll('figure')].filter(f => !f.querySelector('details')).length,
        sections: [...document.querySelectorAll('section')].filter(s => !document.getElementById(
            s.getAttribute('aria-labelledby'))).length,
        targets: [...document.querySelectorAll('a[href^="#"]')].filter(a => !document.querySelector(
            a.getAttribute('href'))).length,
    })""")
    assert not any(lacking.values()), lacking
    ours = page.evaluate("[...document.querySelectorAll('[id]')].filter(e => !e.closest('.plot')).map(e => e.id)")
    assert len(ours) == len(set(ours))


@pytest.mark.slow
def test_without_scripts_there_are_still_all_tables(visit, directory):
    page = visit(directory, java_script_enabled=False)
    assert page.locator("text=Plots and 3-D frames need JavaScript").is_visible()
    assert page.locator("section > .scroll table").first.is_visible()
    assert page.locator(".plot:visible").count() == page.locator("button:visible").count() == 0
    page.locator("summary").first.click()
    assert page.locator("figure table").first.is_visible()


@pytest.mark.slow
def test_a_plot_can_be_saved(visit, directory, tmp_path):
    page = visit(directory)
    with page.expect_download() as saved:
        page.locator("figure", has_text="Force parity").locator(".save").click()
    path = tmp_path / saved.value.suggested_filename
    saved.value.save_as(path)
    assert path.name == "force-parity.svg" and "reference force (eV/Å)" in path.read_text()


def test_malicious_strings_run_nothing(visit, tmp_path):
    page = visit(campaign(tmp_path, "EvilPortrayed"))
    draw_all(page)
    page.locator("figure", has_text="Labels").first.locator("svg").first.hover()
    page.locator("text=Next").click()
    assert page.evaluate("document.querySelectorAll('main script:not([type])').length") == 0
    policy = page.get_attribute("meta[http-equiv=Content-Security-Policy]", "content")
    assert "script-src 'sha256-" in policy and "unsafe-eval" not in policy and policy.startswith("default-src 'none'")


@pytest.mark.slow
def test_a_hundred_thousand_labels(visit, create):
    directory = create()
    properties = [
        {"property": f"p{n}", "system": "fcc Al", "name": f"property {n}", "unit": "GPa", "value": 1.0 + n, "std": 0.1}
        for n in range(50)
    ]
    write_ledger(directory, 100_000, 50, properties)
    write_assessment_file(directory, assessment(50, n_audit=8000, n_map=100_000, n_hard=20, repeat=4))
    size = write_report(directory).stat().st_size
    assert size < 10e6
    seconds = []
    for _ in range(3):
        began = time.monotonic()
        page = visit(directory)
        seconds.append(time.monotonic() - began)
    assert min(seconds) < 3.0, seconds  # others may be at work on this machine
    draw_all(page)
    assert page.locator(".tile b").first.inner_text() == "100,000"
    keep(page, "large")
