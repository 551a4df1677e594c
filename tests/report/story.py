"""The fake subject of tests/campaign, with everything that the real one tells: errors, curves, properties, failures."""

import math
from pathlib import Path

from fake_subject import FakeSubject
from portrait import assessment

from alpot.errors import FailureClass, ReferenceError
from alpot.store.assessment_file import write_assessment_file
from alpot.store.directory import CampaignDirectory
from alpot.store.json_files import publish_json
from alpot.store.property_file import PropertyFile, write_property_file

CONFIG = """
seed = 7
[material]
elements = ["Al"]
[reference]
code = "emt"
[stopping]
max_labels = 40
force_error = 0.05
"""
EVIL = '<script>alert("1")</script>[/bold]$x^{$\x1b[2J & \'"'


class Story(FakeSubject):
    def __init__(self, directory: Path) -> None:
        self.directory = CampaignDirectory(directory)
        self.settings = {"worse": [3]}

    def explore(self, task_id, rng, spec):
        summary = super().explore(task_id, rng, spec)
        if spec["generation"] is None:
            return summary | {"walkers": 0}
        time = summary["simulated_time"]
        samplers = [
            {"table": 0, "walkers": 3, "found": 3, "simulated_time": time / 4},
            {"table": 1, "walkers": 1, "found": 0, "simulated_time": 3 * time / 4},
        ]
        return summary | {"endings": {"uncertain": 3, "finished": 1}, "samplers": samplers}

    def label(self, task_id, rng, spec):
        if spec["candidate"] == "explore-000001/2":
            message = "two atoms are 0.9 Å apart"
            raise ReferenceError(message, failure=FailureClass.UNPHYSICAL_GEOMETRY, evidence="SCF cycle 1: diverged")
        return super().label(task_id, rng, spec)

    def train(self, task_id, rng, spec):
        summary = super().train(task_id, rng, spec)
        size = 0.3 / spec["generation"]
        curve = [
            {
                "epoch": epoch,
                "training_loss": [size + 9.0 / (1 + epoch) + rng.random() / 9 for _ in range(4)],
                "validation_loss": [size + 9.9 / (1 + epoch) + rng.random() / 5 for _ in range(4)],
                "learning_rate": [1e-3] * 4,
            }
            for epoch in range(40)
        ]
        publish_json(self.directory.model_path(spec["generation"]) / "learning_curve.json", {"epochs": curve})
        errors = {
            f"{role}_{quantity}": factor * scale * size
            for role, factor in (("train", 0.3), ("validate", 0.4), ("test", 0.45))
            for quantity, scale in (("force", 1.0), ("energy", 0.1))
        }
        return summary | {"metrics": {**errors, "epochs": 40, "retrained": []}}

    def assess(self, task_id, rng, spec):
        summary = super().assess(task_id, rng, spec)
        error = 0.2 / spec["generation"]
        rows = [
            {
                "property": "lattice",
                "system": "fcc Al",
                "name": "lattice constant",
                "unit": "Å",
                "value": 4.0012,
                "std": 0.0021,
                "reference": 3.9943,
                "difference": 0.0069,
                "tolerance": "±0.3 %",
                "ok": True,
                "error": None,
            },
            {
                "property": "elastic",
                "system": "fcc Al",
                "name": "C11",
                "unit": "GPa",
                "value": 31.4,
                "std": 2.2,
                "reference": 36.0,
                "difference": -4.6,
                "tolerance": "±10 %",
                "ok": False,
            },
            {"property": "vacancy", "system": "fcc Al", "name": "vacancy", "unit": "eV", "error": "did not relax"},
        ]
        summary |= {"force_error": error, "force_error_high": 1.15 * error}
        summary |= {"energy_error": error / 20, "calibration": 1.4}
        summary |= {"force_bound": {"slope": 2.5, "floor": 0.012, "confidence": 0.9, "n_frames": 24}}
        if spec["incumbent"] is not None:
            summary |= {"coverage": 0.875, "coverage_of": spec["incumbent"], "coverage_atoms": 64, "coverage_frames": 2}
        return summary | {"properties": rows if spec["final"] else []}


def measured(directory: CampaignDirectory, generation: int, result: dict) -> None:
    """The file of properties: its rows are in the ledger, too."""
    results = [{"property": "lattice", "rows": [], **result}]
    found = PropertyFile.model_validate({"potential": f"generation {generation}", "results": results})
    write_property_file(directory.properties_path(generation), found)


class EvilStory(Story):
    """Writes things that must be shown as they are, and nothing else."""

    def explore(self, task_id, rng, spec):
        summary = super().explore(task_id, rng, spec)
        for candidate in summary["candidates"]:
            candidate["reason"] = EVIL
        return summary | {"endings": {EVIL: 2}}

    def label(self, task_id, rng, spec):
        if spec["candidate"] == "explore-000001/1":
            raise ReferenceError(EVIL, failure=FailureClass.BAD_OUTPUT, evidence=EVIL)
        if spec["candidate"] == "explore-000001/3":
            return super().label(task_id, rng, spec) | {"outcome": "rejected", "reason": EVIL}
        return super().label(task_id, rng, spec)

    def assess(self, task_id, rng, spec):
        summary = super().assess(task_id, rng, spec)
        names = ("system", "name", "unit", "tolerance", "error")
        return summary | {"properties": [row | dict.fromkeys(names, EVIL) for row in summary["properties"]]}


class Fragile(Story):
    """Its trainings fail."""

    def train(self, task_id, rng, spec):
        raise ValueError("the loss is not finite")


class Portrayed(Story):
    """Tells all that a page can show: costs, properties of each generation, curves, an assessment file."""

    def label(self, task_id, rng, spec):
        summary = super().label(task_id, rng, spec)
        seconds = 30.0 + 200.0 * rng.random()
        return summary | {"atoms": 30 + rng.randrange(60), "seconds": seconds, "core_seconds": 4 * seconds}

    def assess(self, task_id, rng, spec):
        summary = super().assess(task_id, rng, spec | {"final": True})
        generation = spec["generation"]
        write_assessment_file(self.directory, assessment(generation))
        published = {"value": 4.0495, "uncertainty": 0.0003, "kind": "experiment", "temperature": 298.0}
        published |= {"source": "Someone, Some Journal 1, 2 (1999)", "doi": "10.1103/PhysRevB.42.8573"}
        for row in summary["properties"]:
            if row.get("value"):
                row["value"] += 0.1 / generation
        summary["properties"][0]["published"] = [published]
        at = [0.1 * number for number in range(60)]
        cold = {"name": "cold curve", "x": at, "x_label": "V/V₀", "y_label": "energy (eV/atom)"}
        bands = {"name": "phonons", "x": at, "x_label": "wave vector", "y_label": "frequency (THz)"}
        bands |= {"ticks": [[0.0, "Γ"], [3.0, "X"], [5.9, "L"]]}
        sides = {
            side: [
                cold | {"lines": {"cold curve": [(x - shift) ** 2 for x in at]}},
                bands | {"lines": {f"branch {n}": [(n + shift) * abs(math.sin(x)) for x in at] for n in range(3)}},
            ]
            for side, shift in (("curves", 3.0), ("reference_curves", 3.1))
        }
        measured(self.directory, generation, {"system": "fcc Al", "remarks": ["All modes are stable."], **sides})
        return summary


class EvilPortrayed(EvilStory):
    """The same, with words that must be shown as they are."""

    def assess(self, task_id, rng, spec):
        summary = super().assess(task_id, rng, spec | {"final": True})
        write_assessment_file(self.directory, assessment(spec["generation"], text=EVIL))
        published = {
            "value": 1.0,
            "kind": EVIL,
            "source": EVIL,
            "temperature": 0.0,
            "doi": f'10.1234/x"onclick="alert(1)"{EVIL}',
        }
        for row in summary["properties"]:
            row["published"] = [published]
        curve = dict.fromkeys(("property", "system", "name", "x_label", "y_label"), EVIL)
        return summary | {
            "curves": [curve | {"x": [0.0, 1.0], "lines": {EVIL: [0.0, 1.0]}, "ticks": [[0.0, EVIL], [1.0, EVIL]]}]
        }
