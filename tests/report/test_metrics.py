import csv
import io
import json

import pytest
from portrait import assessment

from alpot.report.metrics import metrics_files, property_files
from alpot.report.page import report_files
from alpot.report.status import campaign_status
from alpot.store.assessment_file import read_assessment_file
from alpot.store.property_file import PropertyFile, PropertyResult, PropertyRow


def table(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_the_files_say_what_the_status_says(make):
    controller = make("Portrayed")
    controller.run()
    status, found = campaign_status(controller.directory), report_files(controller.directory)
    generations = table(found["generations.csv"])
    assert [int(row["generation"]) for row in generations] == [g.number for g in status.generations]
    assert [float(row["audit_force_eV/A"]) for row in generations] == [g.audit_force for g in status.generations]
    assert [float(row["test_energy_eV/atom"]) for row in generations] == [
        g.errors["test_energy"] for g in status.generations
    ]
    assert {(row["bound_slope"], row["bound_floor_eV/A"], row["bound_labels"]) for row in generations} == {
        ("2.5", "0.012", "24")
    }
    tested = [row for row in generations if row["coverage"]]
    assert tested and {row["coverage"] for row in tested} == {"0.875"}
    rows = [row for rows in status.properties_by_generation.values() for row in rows]
    assert [row["name"] for row in table(found["properties.csv"])] == [row.name for row in rows]
    assert len(rows) == 3 * len(status.generations)
    reasons = table(found["labels_by_reason.csv"])
    assert sum(int(row["labels"]) for row in reasons) == status.labels.done
    hours = sum(float(row["core_hours"]) for row in reasons)
    assert hours == pytest.approx(status.costs.label_core_hours)
    assert table(found["failures.csv"]) == [{"task": "label", "class": "unphysical_geometry", "attempts": "1"}]
    audit = read_assessment_file(controller.directory, status.promoted).audit
    assert [float(row["energy_error_eV/atom"]) for row in table(found["audit_frames.csv"])] == [
        frame.energy_error for frame in audit
    ]
    curves = table(found["curves.csv"])
    assert len(curves) == 60 * (1 + 1 + 3 + 3) and {row["of"] for row in curves} == {"potential", "reference"}


def test_one_line_of_json_per_generation(make):
    controller = make("Portrayed")
    controller.run()
    status = campaign_status(controller.directory)
    lines = [json.loads(line) for line in report_files(controller.directory)["metrics.jsonl"].splitlines()]
    assert [line["number"] for line in lines] == [g.number for g in status.generations]
    assert lines[-1]["audit_force"] == status.generations[-1].audit_force
    assert lines[-1]["properties"][0]["name"] == "lattice constant"
    hours = [line["core_hours"] for line in lines]
    assert hours == sorted(hours) and hours[0] > 0 and hours[-1] <= status.costs.label_core_hours


def test_a_new_campaign_has_titles_only(create):
    found = report_files(create())
    assert found["metrics.jsonl"] == ""
    assert all(content.count("\n") == 1 for name, content in found.items() if name.endswith(".csv"))


def test_no_cell_is_a_formula(create):
    """A spreadsheet computes what begins with =, and what it computes may fetch."""
    status = campaign_status(create())
    found = metrics_files(status, assessment(1, n_audit=3, text='=HYPERLINK("http://evil","x")'), None)
    assert all(row["reason"].startswith("'=") for row in table(found["audit_frames.csv"]))
    assert "-" in found["audit_frames.csv"]  # numbers are left as they are


def test_published_numbers_with_their_sources():
    one = {
        "value": -3.39,
        "kind": "experiment",
        "temperature": 0.0,
        "doi": "10.1103/PhysRevB.1.2",
        "source": "=A (1999)",
    }
    two = one | {"value": -3.43, "doi": "10.1103/PhysRevB.3.4", "source": "B, C (2001)"}
    row = {"property": "lattice", "system": "fcc Al", "name": "energy", "unit": "eV/atom"}
    rows = [PropertyRow(**row, published=found) for found in ((), (one,), (one, two))]
    found = PropertyFile(
        potential="p", results=(PropertyResult(property="lattice", system="fcc Al", rows=tuple(rows)),)
    )
    none, single, both = table(property_files(found)["properties.csv"])
    assert none["published"] == none["published_source"] == ""
    assert float(single["published"]) == -3.39  # a number stays one
    assert single["published_source"] == "'=A (1999), doi:10.1103/PhysRevB.1.2"
    assert both["published"] == "'-3.39; -3.43"  # a spreadsheet would subtract
    assert both["published_source"].endswith("; B, C (2001), doi:10.1103/PhysRevB.3.4")
