"""The smallest campaign that does everything: EMT aluminum, a few atoms, a few labels, seconds."""

import sys
from pathlib import Path
from typing import Any

from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT

sys.path.insert(0, str(Path(__file__).parents[1] / "campaign"))  # the platform without processes

from fake_campaign import InProcess

from alpot.campaign.controller import Controller
from alpot.campaign.settings import policy_settings
from alpot.campaign.state import State
from alpot.config_file import parse_campaign, read_campaign
from alpot.reference import level_of_theory, open_reference
from alpot.store.assessment_file import AssessmentFile, read_assessment_file
from alpot.store.directory import CampaignDirectory
from alpot.store.labels import Label, label_key
from alpot.store.ledger import Ledger
from alpot.subjects.launch import SUBJECT

MAX_LABELS = 20
TINY = f"""\
seed = 1

[material]
elements = ["Al"]

[[material.starts]]
kind = "crystal"
prototypes = ["fcc", "bcc"]
atoms = [4, 8]
density = [2.6, 3.0]
strain = 0.03
rattle = [0.0, 0.2]
vacancy_chance = 0.0
interstitial_chance = 0.0

[exploration]
walkers = 4
walkers_per_task = 4
timestep = 3.0
max_time = 0.06
temperature_start = [300.0, 800.0]
temperature_end = [300.0, 800.0]
temperature_amplitude = [0.0, 0.0]
max_force_error = 0.2
mean_force_error = 0.1
audit_share = 0.25

[reference]
code = "emt"

[potential]
members = 2
hidden = [8]

[potential.descriptor]
radial_cutoff = 5.0
radial_shifts = 8
angular_cutoff = 3.5
angular_shifts = 2
angle_sections = 4
angular_zeta = 14.0

[training]
initial_labels = 10
labels_per_generation = 5
blocks = 4
validation_blocks = 1
test_blocks = 1
batch_frames = 4
max_epochs = 4
schedule = "one-cycle"
learning_rate = 1e-2

[assessment]
properties = ["lattice"]
compare_reference = true

[stopping]
max_labels = {MAX_LABELS}

[resources]
workers = 2
device = "cpu"
"""


def changed(*changes: tuple[str, str], text: str = TINY) -> str:
    """The campaign file with parts replaced; each must be there exactly once."""
    for old, new in changes:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return text


def new_campaign(path: Path, *changes: tuple[str, str]) -> CampaignDirectory:
    """A campaign directory in which nothing has run; its campaign file is beside it."""
    source = path.with_suffix(".toml")
    source.write_text(changed(*changes))
    return CampaignDirectory.create(path, source.read_bytes(), source)


def rewrite(directory: CampaignDirectory, *changes: tuple[str, str]) -> None:
    """Changes the campaign file inside a directory, which users cannot do so easily."""
    directory.replace_config(changed(*changes).encode(), directory.source)


def controller_of(directory: CampaignDirectory, **more: Any) -> Controller:
    """A controller with one slot, in this process."""
    platform = InProcess()
    settings = policy_settings(read_campaign(directory.config), platform)
    return Controller(directory, settings, platform, SUBJECT, **more)


def state_of(directory: CampaignDirectory) -> State:
    """What its ledger tells."""
    with Ledger(directory.ledger, read_only=True) as ledger:
        return State.replay(ledger.events())


def last_assessment(directory: CampaignDirectory) -> AssessmentFile:
    """That of the promoted generation, which is assessed once more at the end, with all labels."""
    found = read_assessment_file(directory, state_of(directory).promoted)
    assert found is not None
    return found


def emt_level() -> str:
    """The level of theory of the tiny campaign."""
    return level_of_theory(open_reference(parse_campaign(TINY, "tiny").reference, base_directory=Path()))


def emt_labels(count: int, seed: int = 7) -> list[Label]:
    """Labels of rattled fcc cells, as a user would bring them."""
    level = emt_level()
    labels = []
    for number in range(count):
        atoms = bulk("Al", cubic=True)
        atoms.rattle(0.1, seed=seed + number)
        results = with_emt(atoms).calc
        labels.append(
            Label(
                key=label_key(atoms, level),
                atoms=Atoms(atoms),
                energy=results.get_property("free_energy", atoms),
                forces=results.get_property("forces", atoms),
                stress=results.get_property("stress", atoms),
                level_of_theory=level,
            )
        )
    return labels


def with_emt(atoms: Atoms) -> Atoms:
    """A copy with a fresh EMT."""
    copy = atoms.copy()
    copy.calc = EMT(asap_cutoff=False)
    return copy
