"""Potentials on disk: weights as safetensors, and a card that a person can read.

A potential is a folder with ``weights.safetensors`` and ``card.json``; nothing in it is code.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError

from alpot import __version__
from alpot.errors import PotentialError
from alpot.potential.descriptor import AevSettings
from alpot.potential.ensemble import Ensemble
from alpot.potential.neurochem import is_neurochem_folder, read_neurochem
from alpot.store.files import publish

WEIGHTS, CARD = "weights.safetensors", "card.json"
FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class Card:
    """What a person wants to know of a potential.

    Attributes:
        elements: chemical symbols.
        level_of_theory: settings of the reference method whose labels it was trained on, and their hash.
        n_labels: number of labels it was trained on.
        errors: root-mean-square errors by name; energies in eV/atom, forces in eV/Å.
        calibration: factor from the standard deviation of the members' forces to the expected force error.
        training: settings of the training.
        generation: number of the training in its campaign.
        provenance: hash of the labels that it was trained on, and whatever else tells where it comes from.
    """

    elements: tuple[str, ...]
    level_of_theory: dict[str, Any] = field(default_factory=dict)
    n_labels: int = 0
    errors: dict[str, float] = field(default_factory=dict)
    calibration: float = 1.0
    training: dict[str, Any] = field(default_factory=dict)
    generation: int | None = None
    provenance: dict[str, Any] = field(default_factory=dict)


def save_potential(folder: Path, ensemble: Ensemble, card: Card) -> None:
    """Write a potential; the card comes last, so that a folder with a card is whole.

    Raises:
        StorageError: a file cannot be written.
    """
    tensors = {name: tensor.contiguous().cpu() for name, tensor in ensemble.state_dict().items()}
    tensors["self_energies"] = torch.from_numpy(ensemble.self_energies)
    weights = safetensors.torch.save(tensors)
    publish(folder / WEIGHTS, weights)
    _publish_card(folder, card, ensemble, hashlib.sha256(weights).hexdigest())


def _publish_card(folder: Path, card: Card, ensemble: Ensemble, weights_sha256: str) -> None:
    content = {
        "format": FORMAT,
        "alpot": __version__,
        **asdict(card),
        "architecture": {
            "descriptor": asdict(ensemble.aev),
            "members": ensemble.n_members,
            "hidden": ensemble.hidden,
            "activation": ensemble.activation,
            "dtype": str(ensemble.dtype).removeprefix("torch."),
        },
        "units": {"energy": "eV", "length": "Å", "forces": "eV/Å", "stress": "eV/Å³", "errors": "eV/atom and eV/Å"},
        "weights_sha256": weights_sha256,
    }
    content["provenance_hash"] = _hash_of(json.loads(json.dumps(content)))
    publish(folder / CARD, json.dumps(content, indent=2, ensure_ascii=False).encode() + b"\n")


def _hash_of(content: dict[str, Any]) -> str:
    """SHA-256 of what a card says, as read from JSON; the hash of the weights is part of it."""
    said = {name: value for name, value in content.items() if name != "provenance_hash"}
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def load_potential(folder: Path) -> tuple[Ensemble, Card]:
    """Open a folder written by ``save_potential``, or one of published NeuroChem weights.

    Raises:
        PotentialError: the folder is neither, or it is damaged.
    """
    if not folder.is_dir():
        raise PotentialError(f"{folder}: there is no such folder; a potential is a folder with {WEIGHTS} and {CARD}")
    if not (folder / CARD).is_file():
        if is_neurochem_folder(folder):
            ensemble = read_neurochem(folder)
            return ensemble, Card(elements=ensemble.elements, provenance={"format": "NeuroChem", "name": folder.name})
        raise PotentialError(
            f"{folder}: neither a potential of ours ({WEIGHTS} and {CARD}) nor a folder of NeuroChem weights"
            " (*.params, sae*.dat, train*/); `alpot export DIR FOLDER` writes a potential from a campaign"
        )
    content = _read_card(folder / CARD)
    try:
        weights = (folder / WEIGHTS).read_bytes()
    except OSError as error:
        raise PotentialError(f"{folder / WEIGHTS}: cannot be read: {error.strerror}") from error
    if hashlib.sha256(weights).hexdigest() != content["weights_sha256"]:
        raise PotentialError(
            f"{folder / WEIGHTS}: damaged: its checksum is not the one in {CARD}; copy the folder again"
        )
    try:
        return _build(content, weights), _card_of(content)
    except (AttributeError, KeyError, TypeError, ValueError, RuntimeError, SafetensorError) as error:
        raise PotentialError(f"{folder}: {CARD} and {WEIGHTS} do not fit together: {error}") from error


def _read_card(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise PotentialError(f"{path}: cannot be read as JSON: {error}") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT or "weights_sha256" not in content:
        raise PotentialError(f"{path}: not a card of format {FORMAT}; this alpot is version {__version__}")
    if content.get("provenance_hash") != _hash_of(content):
        raise PotentialError(
            f"{path}: damaged or edited: its content does not match its provenance_hash; copy the folder again"
        )
    return content


def _build(content: dict[str, Any], weights: bytes) -> Ensemble:
    tensors = safetensors.torch.load(weights)
    architecture = content["architecture"]
    # JSON has no tuples, and the settings are compared and hashed.
    descriptor: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in architecture["descriptor"].items()
    }
    aev = AevSettings(**descriptor)
    ensemble = Ensemble(
        content["elements"], aev, architecture["members"], architecture["hidden"], architecture["activation"]
    )
    ensemble.to({"float32": torch.float32, "float64": torch.float64}[architecture["dtype"]])
    ensemble.self_energies = tensors.pop("self_energies").numpy().copy()
    ensemble.load_state_dict(tensors)
    return ensemble


def _card_of(content: dict[str, Any]) -> Card:
    names = Card.__dataclass_fields__
    known: dict[str, Any] = {name: value for name, value in content.items() if name in names}
    return Card(**{**known, "elements": tuple(known["elements"])})
