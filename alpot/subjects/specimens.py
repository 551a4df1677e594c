"""What the user names when properties are to be measured: a potential, or any calculator that can be a reference.

A source is data that travels to the workers, each of which opens a calculator of its own.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from ase.calculators.calculator import BaseCalculator
from pydantic import BaseModel, ConfigDict, Field

from alpot.campaign.state import State
from alpot.config import Reference
from alpot.config_file import read_campaign
from alpot.errors import UsageError
from alpot.potential.calculator import AlpotCalculator
from alpot.potential.neurochem import is_neurochem_folder
from alpot.potential.saved import CARD, WEIGHTS
from alpot.reference import level_of_theory, open_cheap, open_reference
from alpot.reference.inputs import content_hash
from alpot.store.directory import CampaignDirectory
from alpot.store.files import sha256
from alpot.store.ledger import Ledger


class PotentialSource(BaseModel):
    """A potential on disk: ours, or published NeuroChem weights.

    Attributes:
        name: for people.
        folder: of the potential, absolute.
        reference: of the campaign that it comes from: its cheap level may be what the potential corrects.
        base_directory: folder of that campaign's file.
    """

    model_config = ConfigDict(frozen=True)

    kind: Literal["potential"] = "potential"
    name: str
    folder: Path
    reference: Reference | None = None
    base_directory: Path = Path()

    @property
    def identity(self) -> str:
        """Hash of all that its answers depend on."""
        return potential_identity(self.folder)

    def open(
        self,
        scratch: Path,
        *,
        device: str = "cpu",
        mean_forces_only: bool = False,
        dtype: Literal["float32", "float64"] = "float64",
    ) -> AlpotCalculator:
        """The potential as a calculator; its baseline, if it has one that is not built in, works in ``scratch``.

        Raises:
            PotentialError: the folder is no potential.
        """
        cheap = open_cheap(self.reference, base_directory=self.base_directory) if self.reference else None
        baseline = cheap.baseline(scratch) if cheap else None
        return AlpotCalculator.load(
            self.folder, device=device, mean_forces_only=mean_forces_only, dtype=dtype, baseline=baseline
        )


class ReferenceSource(BaseModel):
    """Any calculator that a campaign file can name as its reference.

    Attributes:
        name: for people.
        reference: the table ``[reference]``.
        base_directory: file names in it are relative to this folder.
    """

    model_config = ConfigDict(frozen=True)

    kind: Literal["reference"] = "reference"
    name: str
    reference: Reference
    base_directory: Path

    @property
    def identity(self) -> str:
        """Hash of the level of theory."""
        return f"reference:{level_of_theory(open_reference(self.reference, base_directory=self.base_directory))}"

    def open(self, scratch: Path, **options: Any) -> BaseCalculator:
        """The reference as a calculator that works in ``scratch``; ``options`` are for potentials."""
        return open_reference(self.reference, base_directory=self.base_directory).calculator(scratch)


Source = Annotated[PotentialSource | ReferenceSource, Field(discriminator="kind")]


def potential_identity(folder: Path) -> str:
    """Hash of all that the answers of a potential depend on: its weights, and its card, which has baseline and errors.

    Args:
        folder: of the potential, ours or NeuroChem's.
    """
    own = [folder / WEIGHTS, folder / CARD]
    return ":".join(map(sha256, own)) if (folder / CARD).is_file() else content_hash(folder)


def find_source(text: str) -> Source:
    """What the user means.

    Args:
        text: a folder (a potential, published NeuroChem weights, or the directory of a campaign, whose promoted
            potential is meant), a campaign file (its reference is meant), or the name of a reference that needs no
            arguments, such as ``emt`` or ``package.module:Class``.

    Raises:
        UsageError: it is none of these.
    """
    path = Path(text).expanduser()
    if path.is_dir():
        return _promoted_of(path) if CampaignDirectory.is_campaign(path) else _potential(path)
    if path.is_file():
        config = read_campaign(path)
        base = path.absolute().parent
        return ReferenceSource(name=config.reference.code, reference=config.reference, base_directory=base)
    if "/" in text or path.suffix == ".toml":
        raise UsageError(
            f"there is no {text}; give a folder with a potential, the directory of a campaign, a campaign file, or the"
            " name of a reference such as emt"
        )
    source = ReferenceSource(name=text, reference=Reference(code=text), base_directory=Path.cwd())
    open_reference(source.reference, base_directory=source.base_directory)  # refuses what is not known
    return source


def _potential(folder: Path) -> PotentialSource:
    if not ((folder / CARD).is_file() or is_neurochem_folder(folder)):
        raise UsageError(
            f"{folder} is neither a potential (a folder with {WEIGHTS} and {CARD}, or with published NeuroChem weights)"
            " nor the directory of a campaign"
        )
    return PotentialSource(name=folder.resolve().name, folder=folder.resolve())


def _promoted_of(path: Path) -> PotentialSource:
    directory = CampaignDirectory.open(path)
    with Ledger(directory.ledger, read_only=True) as ledger:
        generation = State.replay(ledger.events()).promoted
    if generation is None:
        raise UsageError(f"the campaign in {directory.path} has no potential yet: no generation was promoted so far")
    folder = directory.model_path(generation)
    if not (folder / CARD).is_file():
        raise UsageError(f"{folder} is not there any more: alpot repair {directory.path} says what is lost")
    return PotentialSource(
        name=f"{directory.path.name}, generation {generation}",
        folder=folder,
        reference=read_campaign(directory.config).reference,
        base_directory=directory.source.parent,
    )
