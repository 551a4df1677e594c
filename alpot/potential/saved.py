"""Potentials on disk: weights as safetensors, and a card that a person can read.

A potential is a folder with ``weights.safetensors`` and ``card.json``; nothing in it is code. The card holds the
checksum of the weights and of itself and is read only if it is byte by byte what would be written, so that every
flipped byte is noticed. Nothing is allocated by what a file claims before it was compared with what is there.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, get_args

import safetensors.torch
import torch
from ase.calculators.calculator import BaseCalculator
from safetensors import SafetensorError

from alpot import __version__
from alpot.errors import NonFiniteError, PotentialError
from alpot.potential.baseline import Baseline, built_in, describe
from alpot.potential.calibration import ErrorBound
from alpot.potential.descriptor import AevSettings
from alpot.potential.ensemble import Ensemble
from alpot.potential.networks import LARGEST_WEIGHT, Activation, are_sound
from alpot.potential.neurochem import is_neurochem_folder, read_neurochem
from alpot.potential.plain_files import read_plain
from alpot.store.files import publish

WEIGHTS, CARD = "weights.safetensors", "card.json"
FORMAT = 1
#: Of a potential with a baseline: whoever does not know of those must not take the correction for the whole.
_FORMAT_WITH_BASELINE = 2
#: Bytes; potentials and cards are far smaller, and what is larger is not read at all.
_MOST_IN_CARD, _MOST_IN_WEIGHTS = 2**20, 2**32
#: What comes of names, types and sizes that are not what they should be.
_MISFITS = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError, RuntimeError, SafetensorError)


@dataclass(frozen=True, kw_only=True)
class Card:
    """What a person wants to know of a potential.

    Attributes:
        elements: chemical symbols.
        level_of_theory: settings of the reference method whose labels it was trained on, and their hash.
        baseline: likewise of the method to which it is the correction; None for a potential that gives the whole.
        n_labels: number of labels it was trained on.
        errors: root-mean-square errors by name; energies in eV/atom, forces in eV/Å.
        calibration: factor from the standard deviation of the members' forces to the expected force error (68 % of
            errors are smaller): what error bars of properties are widened by.
        force_bound: bounds the norm of the force error of an atom in eV/Å, from the norm of its ``forces_std``. It was
            learned from ``n_frames`` labels; with 0 it is assumed, and nothing is known of its truth.
        energy_bound: likewise the error of the energy in eV/atom, from the members' standard deviation in eV/atom.
        training: settings of the training.
        generation: number of the training in its campaign.
        provenance: hash of the labels that it was trained on, and whatever else tells where it comes from.
        isolated_atoms: energy of the isolated atom by the reference method in eV, by element, as far as known; the
            zero of cohesive energies. The potential itself does not know it: it was not trained on isolated atoms.
        cost_exponent: one of its labels costs as much as this power of the number of atoms.
    """

    elements: tuple[str, ...]
    level_of_theory: dict[str, Any] = field(default_factory=dict)
    baseline: dict[str, Any] | None = None
    n_labels: int = 0
    errors: dict[str, float] = field(default_factory=dict)
    calibration: float = 1.0
    force_bound: ErrorBound = field(default_factory=ErrorBound)
    energy_bound: ErrorBound = field(default_factory=ErrorBound)
    training: dict[str, Any] = field(default_factory=dict)
    generation: int | None = None
    provenance: dict[str, Any] = field(default_factory=dict)
    isolated_atoms: dict[str, float] = field(default_factory=dict)
    cost_exponent: float = 1.0


def save_potential(folder: Path, ensemble: Ensemble, card: Card) -> None:
    """Write a potential; the card comes last, so that a folder with a card is whole. It names the ensemble's baseline.

    Raises:
        NonFiniteError: a number on the card is NaN or infinite; nothing was written.
        StorageError: a file cannot be written.
    """
    tensors = {name: tensor.contiguous().cpu() for name, tensor in ensemble.state_dict().items()}
    tensors["self_energies"] = torch.from_numpy(ensemble.self_energies)
    weights = safetensors.torch.save(tensors)
    try:
        text = _card_text(card, ensemble, hashlib.sha256(weights).hexdigest())
    except ValueError as error:
        raise NonFiniteError(
            f"{folder / CARD}: cannot be written, a number on it is NaN or infinite: {error}"
        ) from error
    publish(folder / WEIGHTS, weights)
    publish(folder / CARD, text)


def _card_text(card: Card, ensemble: Ensemble, weights_sha256: str) -> bytes:
    baseline = ensemble.baseline
    content = {
        "format": FORMAT if baseline is None else _FORMAT_WITH_BASELINE,
        "alpot": __version__,
        **asdict(replace(card, baseline=None if baseline is None else baseline.level)),
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
    content = json.loads(json.dumps(content, allow_nan=False))
    return _text_of({**content, "provenance_hash": _hash_of(content)})


def _text_of(content: dict[str, Any]) -> bytes:
    return json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False).encode() + b"\n"


def _hash_of(content: dict[str, Any]) -> str:
    """SHA-256 of what a card says, as read from JSON; the hash of the weights is part of it."""
    said = {name: value for name, value in content.items() if name != "provenance_hash"}
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def load_potential(folder: Path, baseline: Baseline | BaseCalculator | None = None) -> tuple[Ensemble, Card]:
    """Open a folder written by ``save_potential``, or one of published NeuroChem weights.

    Args:
        folder: of the potential.
        baseline: to which it is the correction, as its card says: a level of theory, which must be that of the card, or
            an ASE calculator, which is taken at its word. Not needed where it is EMT, Lennard-Jones or
            ZBL.

    Raises:
        PotentialError: the folder is neither, or it is damaged, or its baseline is missing or another one.
        NonFiniteError: weights are NaN, infinite or beyond all bounds.
    """
    if not folder.is_dir():
        raise PotentialError(f"{folder}: there is no such folder; a potential is a folder with {WEIGHTS} and {CARD}")
    if not (folder / CARD).is_file():
        if is_neurochem_folder(folder):
            ensemble = read_neurochem(folder)
            _refuse_unsound(ensemble, folder)
            card = Card(elements=ensemble.elements, provenance={"format": "NeuroChem", "name": folder.name})
            ensemble.baseline = _baseline_of(card, baseline, folder)
            return ensemble, card
        raise PotentialError(
            f"{folder}: neither a potential of ours ({WEIGHTS} and {CARD}) nor a folder of NeuroChem weights"
            " (*.params, sae*.dat, train*/); `alpot export DIR FOLDER` writes a potential from a campaign"
        )
    content = _read_card(folder / CARD)
    weights = read_plain(folder / WEIGHTS, _MOST_IN_WEIGHTS)
    _check(folder / WEIGHTS, weights, content["weights_sha256"])
    try:
        card, ensemble = _card_of(content), _build(content, weights)
    except _MISFITS as error:
        raise PotentialError(f"{folder}: {CARD} and {WEIGHTS} do not fit together: {error}") from error
    _refuse_unsound(ensemble, folder / WEIGHTS)
    ensemble.baseline = _baseline_of(card, baseline, folder)
    return ensemble, card


def _baseline_of(card: Card, given: Baseline | BaseCalculator | None, folder: Path) -> Baseline | None:
    level = card.baseline
    if level is None:
        if given is not None:
            raise PotentialError(f"{folder}: this potential has no baseline; load it without one")
        return None
    if isinstance(given, BaseCalculator):
        return Baseline(level, lambda: given)
    if not isinstance(given, Baseline | None):
        raise PotentialError(f"{folder}: the baseline must be an ASE calculator, and is {given!r}")
    if given is not None and given.identity != level["hash"]:
        raise PotentialError(
            f"{folder}: this potential is the correction to {describe(level)}, level of theory {level['hash']}, and"
            f" cannot be used with {given}, {given.identity}"
        )
    known = given or built_in(level)
    if known is None:
        raise PotentialError(
            f"{folder}: this potential is the correction to {describe(level)}, which is not built in: open it with the"
            " same ASE calculator, alpot.load(folder, baseline=calculator)"
        )
    return known


def verify_card(path: Path) -> None:
    """Checks a card by itself; ``PotentialError`` if it is damaged."""
    _read_card(path)


def _check(path: Path, content: bytes, checksum: str) -> None:
    if hashlib.sha256(content).hexdigest() != checksum:
        raise PotentialError(f"{path}: damaged: its checksum is not the one in {CARD}; copy the folder again")


def _read_card(path: Path) -> dict[str, Any]:
    data = read_plain(path, _MOST_IN_CARD)
    try:
        content = json.loads(data.decode("utf-8"), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise PotentialError(f"{path}: cannot be read as JSON: {error}") from error
    if not isinstance(content, dict) or "weights_sha256" not in content or content.get("format") != _format(content):
        raise PotentialError(
            f"{path}: not a card of format {FORMAT} or {_FORMAT_WITH_BASELINE}; this alpot is version {__version__}"
        )
    try:
        is_ours = content.get("provenance_hash") == _hash_of(content) and data == _text_of(content)
    except (ValueError, RecursionError) as error:
        raise PotentialError(f"{path}: not a card that alpot has written: {error}") from error
    if not is_ours:
        raise PotentialError(
            f"{path}: damaged or edited: its content does not match its provenance_hash; copy the folder again"
        )
    return content


def _format(content: dict[str, Any]) -> int:
    return FORMAT if content.get("baseline") is None else _FORMAT_WITH_BASELINE


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a number")


def _build(content: dict[str, Any], weights: bytes) -> Ensemble:
    if int.from_bytes(weights[:8], "little") > _MOST_IN_CARD:
        raise ValueError("the header of the weights is larger than any potential needs")
    tensors = safetensors.torch.load(weights)
    architecture, elements = content["architecture"], tuple(content["elements"])
    hidden = tuple(architecture["hidden"])
    if len(tensors) != 2 * len(elements) * (len(hidden) + 1) + 4 or len(set(elements)) != len(elements):
        raise ValueError(f"{len(tensors)} tensors are not those of networks of {len(hidden)} hidden layers")
    if architecture["activation"] not in get_args(Activation):
        raise ValueError(f"the activation {architecture['activation']!r} is none of {get_args(Activation)}")
    aev = AevSettings(**{name: _numbers(value) for name, value in architecture["descriptor"].items()})
    dtype = {"float32": torch.float32, "float64": torch.float64}[architecture["dtype"]]
    with torch.device("meta"):  # takes no memory, whatever sizes the card states
        ensemble = Ensemble(elements, aev, architecture["members"], hidden, architecture["activation"]).to(dtype)
    expected = {name: (tensor.shape, dtype) for name, tensor in ensemble.state_dict().items()}
    expected["self_energies"] = (torch.Size([len(elements)]), torch.float64)
    for name, (shape, kind) in expected.items():
        if (found := tensors[name]).shape != shape or found.dtype != kind:
            raise ValueError(f"{name} is {found.dtype} {tuple(found.shape)} and should be {kind} {tuple(shape)}")
    ensemble.to_empty(device="cpu")
    ensemble.self_energies = tensors.pop("self_energies").numpy().copy()
    ensemble.load_state_dict(tensors)
    return ensemble


def _numbers(value: Any) -> Any:
    """A number, or several as a tuple: JSON has none, and the settings are compared and hashed."""
    if isinstance(value, list):
        return tuple(_numbers(part) for part in value)
    if not isinstance(value, int | float):
        raise TypeError(f"{value!r} is not a number")
    return value


def _card_of(content: dict[str, Any]) -> Card:
    names = Card.__dataclass_fields__
    known: dict[str, Any] = {name: value for name, value in content.items() if name in names}
    known |= {name: _bound_of(known[name]) for name in ("force_bound", "energy_bound") if name in known}
    card = Card(**{**known, "elements": tuple(known["elements"])})
    match card.baseline:
        case None | {"code": str(), "hash": str()}:
            pass
        case _:
            raise ValueError(f"the baseline {card.baseline!r} has no code or no hash")
    if not -10.0 < card.cost_exponent < 10.0:
        raise ValueError(f"cost_exponent is {card.cost_exponent}, and no power of that kind")
    if not card.calibration > 0.0:
        raise ValueError(f"calibration is {card.calibration}, and must be above 0")
    return card


def _bound_of(content: dict[str, Any]) -> ErrorBound:
    bound = ErrorBound(**content)
    sizes = (bound.slope, bound.floor)
    if not (min(sizes) >= 0.0 and max(sizes) < float("inf") and 0.0 < bound.confidence < 1.0 and bound.n_frames >= 0):
        raise ValueError(f"{bound} is no bound on errors")
    return bound


def _refuse_unsound(ensemble: Ensemble, path: Path) -> None:
    """Models that could only give nonsense do not run on."""
    sound = [are_sound(p.detach()) for networks in ensemble.networks for p in networks.parameters()]
    if bad := (~torch.stack(sound).all(dim=0)).nonzero()[:, 0].tolist():
        raise NonFiniteError(
            f"{path}: weights of members {bad} are NaN, infinite or beyond {LARGEST_WEIGHT:g}: they cannot be used;"
            " train them again"
        )
    scales = torch.cat([ensemble.feature_scale.flatten(), ensemble.energy_scale])
    others = torch.cat([scales, ensemble.feature_mean.flatten(), torch.from_numpy(ensemble.self_energies)])
    if not (others.isfinite().all() and (scales > 0.0).all()):
        raise NonFiniteError(
            f"{path}: scales of features or energies, or energies of the elements, are NaN, infinite or not positive:"
            " the potential cannot be used; train it again"
        )
