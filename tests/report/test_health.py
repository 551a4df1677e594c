"""What somebody should look at is said, and nothing else."""

from datetime import UTC, datetime, timedelta

import pytest

from alpot.campaign import events
from alpot.campaign.events import Task
from alpot.campaign.subject import Kind
from alpot.errors import CampaignFailed, ConfigError, FailureClass
from alpot.report.page.health import health
from alpot.report.page.material import gather
from alpot.report.page.properties import properties
from alpot.store.ledger import Event, Ledger
from alpot.store.property_file import PropertyFile, write_property_file

WELL = "Nothing that anybody would have to look at."


def write(directory, *timed_events, began_s_ago=0.0):
    """Events at so many seconds after the beginning."""
    start = datetime.now(UTC) - timedelta(seconds=began_s_ago)
    with Ledger(directory.ledger) as ledger:
        for second, event in timed_events:
            time = (start + timedelta(seconds=second)).isoformat()
            ledger.append(Event(kind=event.kind, payload=event.payload, time=time))


def explored(n_found):
    task = Task("explore-000001", Kind.EXPLORE, {"generation": None, "starts": n_found})
    found = [{"id": f"explore-000001/{n}", "key": f"k{n}", "score": 1.0, "reason": "initial"} for n in range(n_found)]
    return (1, events.task_started(task)), (2, events.task_finished(task, {"candidates": found}, 1.0))


def label(number):
    return Task(f"label-{number:06d}", Kind.LABEL, {"candidate": f"explore-000001/{number}"})


def finished(number):
    made = {"candidate": f"explore-000001/{number}", "key": f"k{number}", "outcome": "labelled"}
    return events.task_finished(label(number), made | {"path": "p", "checksum": "0", "seconds": 1.0}, 1.0)


OPENED = (0, events.opened(config="c0ffee", host="here", pid=1, version="0"))


def test_a_healthy_campaign(make):
    controller = make("Story", max_labels=12)
    controller.run()
    assert WELL not in health(gather(controller.directory))  # a property is out of tolerance
    assert "Outside of their tolerance: C11." in health(gather(controller.directory))


def test_a_new_campaign_is_healthy(create):
    assert WELL in health(gather(create()))


@pytest.mark.parametrize(("age", "is_stalled"), [(600.0, False), (3000.0, False), (5000.0, True)])
def test_a_task_that_hangs(create, age, is_stalled):
    """The longest label took 1,200 s; three times that is suspicious."""
    directory = create()
    story = (OPENED, *explored(2), (10, events.task_started(label(0))), (1210, finished(0)))
    write(directory, *story, (1220, events.task_started(label(1))), began_s_ago=1220 + age)
    with directory.lock():
        said = health(gather(directory))
    assert ("A label task has been running for" in said) == is_stalled
    assert (WELL in said) != is_stalled
    if is_stalled:
        assert "running for 1:23:2" in said and "the longest before took 0:20:00" in said


@pytest.mark.parametrize(("n_failed", "is_told"), [(2, False), (12, True)])
def test_many_failures(create, n_failed, is_told):
    story = [OPENED, *explored(20)]
    for number in range(20):
        story.append((10 + number, events.task_started(label(number))))
        if number < n_failed:
            failed = events.task_failed(label(number), FailureClass.NOT_CONVERGED, "no")
            story += [(10 + number, failed), (10 + number, events.task_started(label(number).again()))]
        story.append((10 + number, finished(number)))
    directory = create()
    write(directory, *story)
    with directory.lock():
        said = health(gather(directory))
    assert (f"{100 * n_failed / (20 + n_failed):.0f} % of the attempts at labels failed" in said) == is_told


def test_a_failed_campaign(make):
    controller = make("Fragile")
    with pytest.raises(CampaignFailed):
        controller.run()
    said = health(gather(controller.directory))
    assert "The campaign is failed" in said and "Attempts at train tasks failed: 3 bug." in said


def generations(*assessments):
    """Each trained and assessed, with what its assessment says."""
    for number, said in enumerate(assessments, 1):
        train = Task(f"train-{number:06d}", Kind.TRAIN, {"generation": number, "parent": None})
        yield 10 * number, events.task_started(train)
        made = {"generation": number, "path": f"models/gen-{number:04d}", "checksum": "0" * 64}
        yield 10 * number + 1, events.task_finished(train, made, 1.0)
        assess = Task(f"assess-{number:06d}", Kind.ASSESS, {"generation": number, "final": False, "unseen": 0})
        yield 10 * number + 2, events.task_started(assess)
        yield 10 * number + 3, events.task_finished(assess, {"generation": number} | said, 1.0)


PROMOTED, REFUSED = ({"promote": promote, "force_error": 0.1, "energy_error": 0.01} for promote in (True, False))


@pytest.mark.parametrize(
    ("last", "why"),
    [
        (REFUSED, "The last generation, 2, was not promoted: on audit labels it is worse than generation 1."),
        (
            REFUSED | {"held_back": ["C11"]},
            "The last generation, 2, was held back: C11 is out of tolerance, which generation 1 has within it.",
        ),
        (
            REFUSED | {"held_back": ["C11", "C44"]},
            "The last generation, 2, was held back: C11, C44 are out of tolerance, which generation 1 has within it.",
        ),
        ({"promote": False}, "The last generation, 2, was not promoted: it has no finite errors on audit labels."),
    ],
)
def test_why_the_last_generation_was_not_promoted(create, last, why):
    directory = create()
    write(directory, OPENED, *generations(PROMOTED, last))
    assert why in health(gather(directory))


@pytest.mark.parametrize(
    ("share", "atoms", "frames", "is_told"),
    [(0.75, 200, 6, True), (0.85, 200, 6, False), (0.75, 200, 4, False), (0.75, 140, 6, False)],
)
def test_bounds_that_do_not_hold(create, share, atoms, frames, is_told):
    """Twice so many atoms and labels; below 300 or 10 of them, or above 80 %, chance may be to blame."""
    directory = create()
    tested = {"coverage": share, "coverage_of": 1, "coverage_atoms": atoms, "coverage_frames": frames}
    write(directory, OPENED, *generations(PROMOTED, PROMOTED | tested, PROMOTED | tested))
    said = health(gather(directory))
    told = "Bounds on force errors should hold for 90 % of all atoms, but held for only 75 % of 400 atoms in 12 audit"
    assert (told in said) == is_told == ("Bounds on force errors" in said)


def row(value, **known):
    return {"property": "elastic", "system": "fcc Al", "name": "C11", "unit": "GPa", "value": value} | known


def test_properties_are_those_of_the_promoted_generation(create):
    directory = create()
    good, bad = PROMOTED | {"properties": [row(114.0, ok=True)]}, REFUSED | {"properties": [row(80.0, ok=False)]}
    write(directory, OPENED, *generations(good, bad))
    for generation, value in ((1, 114.0), (2, 80.0)):
        result = {"property": "elastic", "system": "fcc Al", "rows": [row(value)]}
        found = PropertyFile.model_validate({"potential": f"generation {generation}", "results": [result]})
        write_property_file(directory.properties_path(generation), found)
    material = gather(directory)
    assert material.status.properties_of == 1 and [entry.value for entry in material.status.properties] == [114.0]
    assert material.properties.potential == "generation 1"
    assert "Outside of their tolerance" not in health(material)
    assert "Of generation 1, which is promoted." in properties(material)


def test_properties_of_another_generation_are_said_to_be(create):
    directory = create()
    bad = REFUSED | {"properties": [row(80.0, ok=False), row(None, name="C44", error="did not relax")]}
    write(directory, OPENED, *generations(PROMOTED, bad))
    material = gather(directory)
    assert "Outside of their tolerance for generation 2: C11." in health(material)
    assert "Could not be measured for generation 2: C44." in health(material)
    assert "Of generation 2, the last that was measured; the promoted one, 1, was not." in properties(material)


def test_a_campaign_file_that_is_no_text(create):
    directory = create()
    directory.config.write_bytes(b'name = "Alumin\xf6"')
    with pytest.raises(ConfigError, match=r"campaign.toml is not a text file in UTF-8: invalid .* at byte"):
        gather(directory)
