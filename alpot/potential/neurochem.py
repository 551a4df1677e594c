"""Reads published ANI potentials in the NeuroChem format, such as ANI-Al.

torchani can read them too, but it evaluates part of the file as Python; here the file is only parsed.
"""

from __future__ import annotations

import bz2
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from ase import units
from ase.data import atomic_numbers
from numpy.typing import NDArray

from alpot.errors import PotentialError
from alpot.potential.descriptor import AevSettings
from alpot.potential.ensemble import Ensemble
from alpot.potential.plain_files import read_plain

#: NeuroChem's codes of the activations: CELU(0.1) in hidden layers, none in the last.
_CELU, _LINEAR = 9, 6
#: Bytes; what is larger is not read at all, nor unpacked.
_MOST_TEXT, _MOST_BINARY = 2**20, 2**28
#: Parameter names of NeuroChem and ours.
_SCALARS = {
    "Rcr": "radial_cutoff",
    "EtaR": "radial_eta",
    "Rca": "angular_cutoff",
    "EtaA": "angular_eta",
    "Zeta": "angular_zeta",
}
_LISTS = {"ShfR": "radial_shifts", "ShfA": "angular_shifts", "ShfZ": "angle_sections"}


@dataclass(frozen=True)
class _Layer:
    """One layer as float64 arrays: weights (n_out, n_in), biases (n_out,)."""

    weights: NDArray[np.float64]
    biases: NDArray[np.float64]
    activation: int


def is_neurochem_folder(folder: Path) -> bool:
    """Whether a folder holds NeuroChem files: symmetry functions, self energies and at least one network."""
    return bool(list(folder.glob("*.params")) and list(folder.glob("sae*.dat")) and list(folder.glob("train*")))


def read_neurochem(folder: Path) -> Ensemble:
    """Read an ensemble in float64; energies are converted from Hartree to eV.

    Raises:
        PotentialError: a file is missing or not as expected.
    """
    parameter_files = sorted(folder.glob("*.params"))
    if len(parameter_files) != 1:
        raise PotentialError(f"{folder}: expected one *.params file, found {len(parameter_files)}")
    aev, elements = _read_parameters(parameter_files[0])
    folders = sorted(folder.glob("train*"), key=lambda path: int(re.sub(r"\D", "", path.name) or 0))
    members = [
        [_read_network(member / "networks" / f"ANN-{element}.nnf") for element in elements] for member in folders
    ]
    if not members:
        raise PotentialError(f"{folder}: there is no train*/networks folder with the members' networks")
    hidden = tuple(len(layer.biases) for layer in members[0][0][:-1])
    expected = [aev.n_features(len(elements)), *hidden, 1]
    for member, networks in zip(folders, members, strict=True):
        for element, layers in zip(elements, networks, strict=True):
            widths = [layers[0].weights.shape[1], *(len(layer.biases) for layer in layers)]
            if widths != expected:
                raise PotentialError(
                    f"{member}: the network of {element} has layers of widths {widths}; the descriptor and the other"
                    f" networks need {expected}"
                )
    ensemble = Ensemble(elements, aev, len(members), hidden, "celu").double()
    for m, networks in enumerate(members):
        for target, layers in zip(ensemble.networks, networks, strict=True):
            with torch.no_grad():
                for depth, layer in enumerate(layers):
                    target.weights[depth][m] = torch.from_numpy(layer.weights.T.copy())
                    target.biases[depth][m, 0] = torch.from_numpy(layer.biases)
    ensemble.energy_scale.fill_(units.Hartree)
    energy_files = sorted(folder.glob("sae*.dat"))
    if len(energy_files) != 1:
        raise PotentialError(f"{folder}: expected one sae*.dat file, found {len(energy_files)}")
    ensemble.self_energies = _read_self_energies(energy_files[0], elements) * units.Hartree
    return ensemble


def _read_parameters(path: Path) -> tuple[AevSettings, tuple[str, ...]]:
    entries = dict(re.findall(r"^\s*(\w+)\s*=\s*(.+?)\s*$", _read_text(path), flags=re.MULTILINE))
    try:
        scalars = {ours: float(entries[theirs].strip("[]")) for theirs, ours in _SCALARS.items()}
        lists = {ours: _numbers(entries[theirs]) for theirs, ours in _LISTS.items()}
        elements = tuple(part.strip() for part in entries["Atyp"].strip("[]").split(","))
    except (KeyError, ValueError) as error:
        raise PotentialError(f"{path}: not a NeuroChem parameter file: {error} is missing or not a number") from error
    if unknown := [element for element in elements if element not in atomic_numbers]:
        raise PotentialError(f"{path}: Atyp names {unknown}, which are not chemical symbols")
    return AevSettings(**scalars, **lists), elements  # type: ignore[arg-type]


def _read_text(path: Path) -> str:
    try:
        return read_plain(path, _MOST_TEXT).decode("ascii")
    except ValueError as error:
        raise PotentialError(f"{path}: cannot be read as text: {error}") from error


def _numbers(text: str) -> tuple[float, ...]:
    return tuple(float(part) for part in text.strip("[]").split(","))


def _read_network(path: Path) -> list[_Layer]:
    """Layers of one ``.nnf`` file: a text header, then a bzip2-compressed description that names the binary files."""
    try:
        content = read_plain(path, _MOST_TEXT)
        packed = bz2.BZ2Decompressor()
        description = packed.decompress(content[content.index(b"=") + 2 :], max_length=_MOST_TEXT).decode("ascii")
        if not packed.eof:
            raise ValueError("its description is cut off, or too long")
    except (OSError, ValueError) as error:  # bz2 says OSError where data are not its own
        raise PotentialError(f"{path}: cannot be read as a NeuroChem network: {error}") from error
    layers = []
    for block in re.findall(r"layer\s*\[(.*?)\]\s*;?\s*(?=layer|\$|\Z)", description, flags=re.DOTALL):
        fields = dict(re.findall(r"(nodes|activation|blocksize)\s*=\s*(\d+)", block))
        files = dict(re.findall(r"(weights|biases)\s*=\s*FILE:([\w.\-]+)", block))
        try:
            n_in, n_out = int(fields["blocksize"]), int(fields["nodes"])
            weights = _binary(path.parent / files["weights"], n_in * n_out).reshape(n_out, n_in)
            layers.append(_Layer(weights, _binary(path.parent / files["biases"], n_out), int(fields["activation"])))
        except (KeyError, ValueError) as error:
            raise PotentialError(f"{path}: layer {len(layers)} does not state {error}") from error
    codes = [layer.activation for layer in layers]
    if not layers or codes != [_CELU] * (len(codes) - 1) + [_LINEAR]:
        raise PotentialError(f"{path}: activations {codes}; only CELU (9) with a linear (6) last layer is supported")
    return layers


def _binary(path: Path, count: int) -> NDArray[np.float64]:
    if path.parent.resolve() != path.resolve().parent or not path.is_file():
        raise PotentialError(f"{path}: missing; the network's description names it")
    content = read_plain(path, _MOST_BINARY)
    if len(content) != 4 * count:
        raise PotentialError(f"{path}: holds {len(content) // 4} numbers, the network's description says {count}")
    return np.frombuffer(content, dtype="<f4").astype(np.float64)


def _read_self_energies(path: Path, elements: tuple[str, ...]) -> NDArray[np.float64]:
    lines = re.findall(r"^\s*(\w+),\d+\s*=\s*(\S+)", _read_text(path), re.MULTILINE)
    try:
        found = {symbol: float(value) for symbol, value in lines}
    except ValueError as error:
        raise PotentialError(f"{path}: a self energy is not a number: {error}") from error
    missing = [element for element in elements if element not in found]
    if missing:
        raise PotentialError(f"{path}: no self energy for {missing}")
    return np.array([found[element] for element in elements])
