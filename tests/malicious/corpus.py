"""Files that somebody made to do harm: to run code, to reach outside their folder, or to use up memory or time.

``write_corpus`` makes them. What would run code leaves a canary, a file that must never appear. Checksums are right
wherever a format has them: whoever means harm computes them too.
"""

import bz2
import hashlib
import io
import json
import os
import pickle
import sqlite3
import struct
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
import safetensors.numpy
import torch
from ase import Atoms

from alpot.campaign import events
from alpot.potential.saved import FORMAT, _hash_of
from alpot.store import container
from alpot.store.directory import CampaignDirectory
from alpot.store.labels import Label, label_key, pack_labels
from alpot.store.ledger import Event, LabelRow, Ledger

LEVEL = "0123456789abcdef"
#: Numbers that would need terabytes.
HUGE = 10**12
#: Nesting that exhausts Python's stack.
DEEP = 100_000

TOML = """\
[material]
elements = ["Al"]

[reference]
code = "emt"
"""


class Case(NamedTuple):
    """One file, and who reads it (see ``reading.READERS``)."""

    name: str
    reader: str
    path: Path


class Bomb:
    """Unpickled, it leaves the canary."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return os.system, (f"touch {self.canary}",)


def write_corpus(folder: Path, canary: Path) -> list[Case]:
    """Writes all files into ``folder``; they would make ``canary``."""
    cases: list[Case] = []
    for group in (_campaign_files, _pickles, _containers, _labelled, _potentials, _structures, _campaigns, _eam):
        for number, (name, reader, content) in enumerate(group(canary)):
            place = folder / group.__name__.strip("_") / str(number)
            place.mkdir(parents=True)
            path = place / name.split(": ")[0]
            if isinstance(content, bytes):
                path.write_bytes(content)
            else:
                content(path)
            cases.append(Case(name, reader, path))
    return cases


Made = Iterator[tuple[str, str, bytes | Callable[[Path], object]]]


# ------------------------------------------------------------------------------------------------ campaign files


def _campaign_files(canary: Path) -> Made:
    def toml(why: str, text: str) -> tuple[str, str, bytes]:
        return f"campaign.toml: {why}", "campaign", text.encode()

    def reference(code: str, arguments: str) -> str:
        return TOML.replace('"emt"', f'"{code}"') + f"arguments = {{{arguments}}}\n"

    yield toml("an integer of a million digits", TOML + f"max_force = 1{'0' * 999_000}\n")
    yield toml("a hexadecimal integer of 5000 digits", f"seed = 0x{'f' * 1900}\nseed2 = 1\n" + TOML)
    yield toml("a huge integer as a count", TOML + f"[stopping]\nmax_labels = {'9' * 1900}\n")
    yield toml("a huge float", TOML + "max_force = 1e999\n")
    yield toml("NaN", TOML + "max_force = nan\n")
    yield toml("arrays in arrays", f"a = {'[' * DEEP}\n")
    yield toml("arrays in arrays, over many lines", "a = " + "[\n" * 50_000 + "]\n" * 50_000)
    yield toml("tables in tables", f"a = {'{b=' * DEEP}\n")
    yield toml("a dotted key of 100,000 parts", ".".join("a" * DEEP) + " = 1\n")
    yield toml("a dotted key of 900 parts", TOML + "arguments." + ".".join("a" * 900) + " = 1\n")
    yield toml("a key of 100 MB", "a" * 100_000_000 + " = 1\n")
    yield toml("a string of 100 MB", TOML + 'arguments = {a = "' + "a" * 10_000_000 + '"}\n')
    yield toml("megabytes of lines", "# nothing\n" * 1_000_000)
    yield toml("50,000 elements", "[material]\nelements = [\n" + '"Al",\n' * 50_000 + "]\n")
    yield toml("control characters in a name", TOML + 'time_limit = "\\u001b[2J\\u0007"\n')
    yield "campaign.toml: not text", "campaign", b"\x80\x04\x95" + pickle.dumps(Bomb(canary))
    yield "campaign.toml: no end", "campaign", lambda path: path.symlink_to("/dev/zero")
    yield "campaign.toml: a pipe that nobody writes to", "campaign", os.mkfifo
    yield "x.h5: a pipe that nobody writes to", "label", os.mkfifo
    yield "campaign.toml: a folder", "campaign", lambda path: path.mkdir()
    command = f"command = 'touch {canary}'"
    yield toml("a function of the system as a reference", reference("os:system", command))
    yield toml("a class that is no calculator", reference("subprocess:Popen", f"args = ['touch', '{canary}']"))
    yield toml("eval as a reference", reference("builtins:eval", ""))
    yield toml("a plain function as a reference", reference("subprocess:check_call", f"args = ['touch', '{canary}']"))
    yield toml("another function of the system", reference("pty:spawn", f"argv = ['touch', '{canary}']"))
    yield toml("labels from outside, by ..", TOML.replace('["Al"]', '["Al"]\ninitial_labels = ["../../../etc/passwd"]'))
    yield toml("labels from a device", TOML.replace('["Al"]', '["Al"]\ninitial_labels = ["/dev/zero"]'))
    yield toml("a start with a NUL in its name", TOML + '[[material.starts]]\nkind = "file"\npath = "a\\u0000b"\n')
    yield toml("labels with a NUL in the name", TOML.replace('["Al"]', '["Al"]\ninitial_labels = ["a\\u0000.xyz"]'))
    yield toml("a file of the reference from a device", reference("eam", "potential = '/dev/zero'"))


# ----------------------------------------------------------------------------------------- pickles in disguise


def _pickles(canary: Path) -> Made:
    bomb = pickle.dumps(Bomb(canary))
    buffer = io.BytesIO()
    torch.save(Bomb(canary), buffer)
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("../../../escaped.npy", b"x")
        file.writestr("bomb.npy", bytes(50_000_000))
    objects = io.BytesIO()
    np.savez(objects, positions=np.array([Bomb(canary)], dtype=object))
    array = io.BytesIO()
    np.save(array, np.array([Bomb(canary)], dtype=object), allow_pickle=True)
    contents = {
        "torch": buffer.getvalue(),
        "pickle": bomb,
        "npz": objects.getvalue(),
        "npy": array.getvalue(),
        "zip": archive.getvalue(),
    }
    readers = ("label", "frames", "checkpoint", "ledger", "labelled", "structure", "eam", "campaign")
    names = {"labelled": "x.h5", "structure": "x.traj", "eam": "x.alloy", "campaign": "campaign.toml"}
    for kind, content in contents.items():
        for reader in readers:
            yield f"{names.get(reader, 'x.h5')}: {kind} read as {reader}", reader, content
        for suffix in (
            ".pt",
            ".npz",
            ".npy",
            ".pckl",
            ".pkl",
            ".json",
            ".db",
            ".xyz",
            ".bundle",
            ".cif",
            ".gpw",
            ".nc",
        ):
            yield f"x{suffix}: {kind} as a structure", "structure", content
        yield f"model: {kind} as weights", "potential", _potential_folder(weights=content)
        yield f"model: {kind} as a card", "potential", _potential_folder(card=content)


# ------------------------------------------------------------------------------------------------ our containers


def _label() -> Label:
    atoms = Atoms("Al2", positions=[[0, 0, 0], [0, 0, 2.8]], cell=[9, 9, 9], pbc=True)
    return Label(key=label_key(atoms, LEVEL), atoms=atoms, energy=1.0, forces=np.zeros((2, 3)), level_of_theory=LEVEL)


def _signed(kind: str, change: Callable[[h5py.File], object], base: bytes) -> bytes:
    """A container whose content was changed, and whose checksum is right all the same."""
    buffer = io.BytesIO(base[512:])
    with h5py.File(buffer, "r+") as file:
        change(file)
    return _seal(kind, buffer.getvalue())


def _seal(kind: str, body: bytes) -> bytes:
    return container._header(kind, str(container.FORMAT_VERSION), hashlib.sha256(body).hexdigest()) + body


def _replace(name: str, **options: Any) -> Callable[[h5py.File], object]:
    def change(file: h5py.File) -> None:
        del file[name]
        file.create_dataset(name, **options)

    return change


def _link(name: str, target: Any) -> Callable[[h5py.File], object]:
    def change(file: h5py.File) -> None:
        if name in file:
            del file[name]
        file[name] = file if target is None else target

    return change


def _virtual(file: h5py.File) -> None:
    del file["forces"]
    layout = h5py.VirtualLayout(shape=(2, 3), dtype="f8")
    layout[:] = h5py.VirtualSource("/etc/passwd", "forces", shape=(2, 3))
    file.create_virtual_dataset("forces", layout)


def _hdf5_tricks() -> Iterator[tuple[str, Callable[[h5py.File], object]]]:
    """Changes that a reader of the datasets ``forces`` (2, 3), ``offsets``, ``key`` ... must not fall for."""
    pair = np.dtype([("a", "f8"), ("b", h5py.vlen_dtype("f8"))])
    bomb = {"shape": (HUGE // 10**4, 3), "dtype": "f8", "compression": "gzip", "chunks": (10**6, 3)}
    yield "a huge shape without data", _replace("forces", shape=(HUGE, 3), dtype="f8", chunks=(1000, 3))
    yield "a compression bomb", _replace("forces", **bomb)
    yield "an external file", _replace("forces", shape=(2, 3), dtype="f8", external=[("/etc/passwd", 0, 48)])
    yield "a virtual dataset", _virtual
    yield "an external link", _link("forces", h5py.ExternalLink("/etc/passwd", "/forces"))
    yield "a broken soft link", _link("forces", h5py.SoftLink("/nowhere"))
    yield "a soft link to itself", _link("forces", h5py.SoftLink("/forces"))
    yield "a group that contains itself", _link("loop", None)
    yield "a group where a dataset belongs", lambda file: (file.pop("forces"), file.create_group("forces"))
    yield "a compound with variable lengths", _replace("forces", shape=(2,), dtype=pair)
    yield "object references", _replace("forces", shape=(2, 3), dtype=h5py.ref_dtype)
    yield "strings where numbers belong", _replace("forces", data=["a", "b"], dtype=h5py.string_dtype())
    yield "opaque bytes", _replace("forces", data=np.zeros((2, 3), dtype="V8"))
    yield "complex numbers", _replace("forces", data=np.zeros((2, 3), dtype=complex))
    yield "NaN", _replace("forces", data=np.full((2, 3), np.nan))
    yield "no such column", lambda file: file.pop("forces")
    yield "an empty dataspace", _replace("forces", data=h5py.Empty("f8"))
    yield "a scalar", _replace("forces", data=1.0)


def _containers(_canary: Path) -> Made:
    good = pack_labels([_label()], Path("x"))
    for why, change in _hdf5_tricks():
        yield f"x.h5: label, {why}", "label", _signed("labels", change, good)
    columns: dict[str, tuple[Any, ...]] = {
        "offsets": ([0, HUGE], [0, -5], [2, 0], [[0, 2]], [0.0, 1.5], [0], []),
        "numbers": ([10**6, 13], [-7, 13], [13]),
        "cell": (np.full((1, 3, 3), np.inf), np.zeros((1, 2))),
        "pbc": ([[1, 1]],),
        "energy": ([np.inf], [[1.0, 2.0]]),
        "stress": (np.zeros((1, 9)),),
    }
    for name, variants in columns.items():
        for values in variants:
            change = _replace(name, data=np.asarray(values))
            yield f"x.h5: label, {name} {np.asarray(values).tolist()}", "label", _signed("labels", change, good)
    texts = {
        "key": ["../../../../tmp/x", "/etc/passwd", "\x00", ""],
        "provenance": ["not JSON", "[" * DEEP, '{"a": ' * DEEP, "1" * 10_000, "[]", "NaN"],
    }
    for name, given in texts.items():
        for text in given:
            data = _replace(name, data=[text.replace("\x00", " ")], dtype=h5py.string_dtype())
            yield f"x.h5: label, {name} {text[:20]!r}", "label", _signed("labels", data, good)
            if name == "provenance":
                frames = container.pack("frames", _frame_columns(text), {})
                yield f"x.h5: frames, {name} {text[:20]!r}", "frames", frames
    yield "x.h5: no level of theory", "label", _signed("labels", lambda file: file.attrs.pop("level_of_theory"), good)
    yield "x.h5: not HDF5 behind the header", "label", _seal("labels", b"\x89HDF\r\n\x1a\n" + bytes(range(256)) * 64)
    for seed in range(8):
        body = bytearray(good[512:])
        for place in np.random.default_rng(seed).integers(8, len(body), 20):
            body[place] ^= 0xFF
        yield f"x.h5: label, metadata spoilt {seed}", "label", _seal("labels", bytes(body))
    saved = container.pack("checkpoint", {"facts": (["[" * DEEP], "")}, {"belongs_to": "x"})
    yield "x.h5: checkpoint, deep facts", "checkpoint", saved
    yield "x.h5: checkpoint without facts", "checkpoint", container.pack("checkpoint", {}, {"belongs_to": "x"})
    yield "x.h5: checkpoint of nobody", "checkpoint", container.pack("checkpoint", {"facts": (["{}"], "")}, {})


def _frame_columns(provenance: str) -> dict[str, Any]:
    from alpot.store.frames import structure_columns

    return {**structure_columns([_label().atoms]), "provenance": ([provenance], "")}


# --------------------------------------------------------------------------------------------- labels of users


def _ani(change: Callable[[h5py.File], object] | None = None) -> bytes:
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        file["species"] = np.array([13, 13])
        file["coordinates"] = np.zeros((1, 2, 3)) + np.arange(2)[None, :, None]
        file["energies"] = np.zeros(1)
        file["forces"] = np.zeros((1, 2, 3))
        if change:
            change(file)
    return buffer.getvalue()


def _labelled(_canary: Path) -> Made:
    for why, change in _hdf5_tricks():
        yield f"x.h5: ANI, {why}", "labelled", _ani(change)
    bomb = {"shape": (10**6, 10**5, 3), "dtype": "f8", "compression": "gzip", "chunks": (10, 1000, 3)}
    for name in ("coordinates", "energies", "species"):
        yield f"x.h5: ANI, huge {name}", "labelled", _ani(_replace(name, **bomb))
    yield "x.h5: ANI, unit of bytes", "labelled", _ani(lambda f: f["energies"].attrs.create("unit", b"\xff\xfe"))
    yield "x.h5: ANI, unit is an array", "labelled", _ani(lambda f: f["energies"].attrs.create("unit", [1, 2]))
    yield "x.h5: ANI, elements of negative number", "labelled", _ani(_replace("species", data=[-3, 10**6]))
    yield "x.h5: ANI, species of bytes", "labelled", _ani(_replace("species", data=np.array([b"\xff", b"\xfe"])))

    def nested(file: h5py.File) -> None:
        group = file
        for _ in range(3000):
            group = group.create_group("g")

    yield "x.h5: ANI, groups in groups", "labelled", _ani(nested)

    frame = 'Properties=species:S:1:pos:R:3:REF_forces:R:3 REF_energy=1.0 pbc="F F F"'
    line = "Al 0 0 0 0 0 0\n"
    texts = {
        "a count of atoms beyond memory": f"{HUGE}\n{frame}\n{line}",
        "a count of atoms of 10,000 digits": f"{'9' * 10_000}\n{frame}\n{line}",
        "a negative count": f"-1\n{frame}\n{line}",
        "a column of a trillion numbers": f"1\n{frame.replace('forces:R:3', f'forces:R:{HUGE}')}\n{line}",
        "a column of an unknown type": f"1\n{frame.replace('forces:R', 'forces:Z')}\n{line}",
        "a column twice": f"1\n{frame.replace('REF_forces', 'pos')}\n{line}",
        "a column with a private name": f"1\n{frame.replace('REF_forces', '__class__')}\n{line}",
        "NaN": f"1\n{frame}\n{line.replace('0 0 0 0', '0 0 0 nan')}",
        "infinite energy": f"1\n{frame.replace('1.0', 'inf')}\n{line}",
        "energy that is a list": f"1\n{frame.replace('1.0', '[1, 2]')}\n{line}",
        "energy that is code": f"1\n{frame.replace('1.0', '__import__(1)')}\n{line}",
        "deep JSON": f"1\n{frame} a={'[' * DEEP}\n{line}",
        "JSON of ASE objects": f'1\n{frame} a=_JSON {{"__ase_objtype__":"cell","array":[[1]]}}\n{line}',
        "a lattice of text": f'1\n{frame} Lattice="a b c d e f g h i"\n{line}',
        "no properties at all": "1\n\nAl 0 0 0\n",
        "an element that is none": f"1\n{frame}\n{line.replace('Al', '../x')}",
        "a level of theory that is a table": f'1\n{frame} level_of_theory="{{}}"\n{line}',
        "many quotes": f"1\n{frame} " + "'\"\\" * 20_000 + f"\n{line}",
        "many frames of nothing": "0\n\n" * 1000,
    }
    for why, text in texts.items():
        yield f"x.xyz: {why}", "labelled", text.encode()
        yield f"x.extxyz: {why}, as a start", "structure", text.encode()
    yield "x.xyz: a device", "labelled", lambda path: path.symlink_to("/dev/zero")
    yield "x.h5: a device", "labelled", lambda path: path.symlink_to("/dev/zero")
    yield "x.h5: a loop of links", "labelled", lambda path: path.symlink_to(path)


# -------------------------------------------------------------------------------------------------- potentials


def _tensors(header: bytes, data: bytes = b"", length: int | None = None) -> bytes:
    """A safetensors file."""
    return struct.pack("<Q", len(header) if length is None else length) + header + data


def _card(weights: bytes, **changes: Any) -> bytes:
    descriptor = {
        **{"radial_cutoff": 5.0, "radial_eta": 16.0, "radial_shifts": [1.0], "angular_cutoff": 3.5},
        **{"angular_eta": 4.0, "angular_zeta": 32.0, "angular_shifts": [1.0], "angle_sections": [1.0]},
    }
    architecture = {"descriptor": descriptor, "members": 2, "hidden": [2], "activation": "silu", "dtype": "float32"}
    content = {"format": FORMAT, "elements": ["Al"], "architecture": architecture, **changes}
    content["weights_sha256"] = hashlib.sha256(weights).hexdigest()
    content["provenance_hash"] = _hash_of(json.loads(json.dumps(content)))
    return json.dumps(content).encode()


def _potential_folder(*, weights: bytes = b"", card: bytes | None = None, **changes: Any) -> Callable[[Path], object]:
    def make(folder: Path) -> None:
        folder.mkdir()
        (folder / "weights.safetensors").write_bytes(weights)
        (folder / "card.json").write_bytes(_card(weights, **changes) if card is None else card)

    return make


def _potentials(canary: Path) -> Made:
    shape = {"dtype": "F32", "shape": [HUGE, HUGE], "data_offsets": [0, 4]}
    overlap = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
    empty = safetensors.numpy.save({"self_energies": np.zeros(1)})
    weights = {
        "no header": b"",
        "a header beyond the file": _tensors(b"{}", length=2**63),
        "a header of 100 MB": _tensors(b" " * 101_000_000),
        "deep JSON": _tensors(b"[" * DEEP),
        "a huge shape": _tensors(json.dumps({"self_energies": shape}).encode(), bytes(4)),
        "overlapping tensors": _tensors(json.dumps({"a": overlap, "b": overlap}).encode(), bytes(4)),
        "offsets outside": _tensors(json.dumps({"a": {**overlap, "data_offsets": [-8, 4]}}).encode(), bytes(4)),
        "an unknown type": _tensors(json.dumps({"a": {**overlap, "dtype": "OBJ"}}).encode(), bytes(4)),
        "a name that leads outside": _tensors(json.dumps({"../../x": overlap}).encode(), bytes(4)),
    }
    for why, content in weights.items():
        yield f"model: weights with {why}", "potential", _potential_folder(weights=content)
    cards = {
        "deep JSON": b'{"a": ' * DEEP,
        "a huge integer": b'{"format": ' + b"9" * 100_000 + b"}",
        "a list": b"[]",
        "NaN": b'{"format": NaN}',
        "not text": b"\xff\xfe\x00",
    }
    for why, content in cards.items():
        yield f"model: card with {why}", "potential", _potential_folder(weights=empty, card=content)
    good = json.loads(_card(empty))["architecture"]
    changes: dict[str, dict[str, Any]] = {
        "a trillion members": {"architecture": {**good, "members": HUGE}},
        "minus one member": {"architecture": {**good, "members": -1}},
        "a layer of a trillion": {"architecture": {**good, "hidden": [10**6, 10**6]}},
        "a type that is a path": {"architecture": {**good, "dtype": "../../x"}},
        "an activation that is code": {"architecture": {**good, "activation": "os.system"}},
        "shifts that are NaN": {"architecture": {**good, "descriptor": {**good["descriptor"], "radial_eta": None}}},
        "a million shifts": {
            "architecture": {**good, "descriptor": {**good["descriptor"], "radial_shifts": [1.0] * 10**6}}
        },
        "an infinite cutoff": {"architecture": {**good, "descriptor": {**good["descriptor"], "radial_cutoff": 1e308}}},
        "elements that are paths": {"elements": ["../../x"]},
        "elements that are a number": {"elements": 13},
        "a calibration that is text": {"calibration": "x"},
        "no architecture": {"architecture": None},
    }
    for why, change in changes.items():
        yield f"model: card with {why}", "potential", _potential_folder(weights=empty, **change)
    yield "model: neither", "potential", lambda path: path.mkdir()
    yield "model: weights are a device", "potential", _device_weights
    for why, parameters, network in _neurochem(canary):
        yield f"model: NeuroChem with {why}", "potential", _neurochem_folder(parameters, network)


def _device_weights(folder: Path) -> None:
    _potential_folder()(folder)
    (folder / "weights.safetensors").unlink()
    (folder / "weights.safetensors").symlink_to("/dev/zero")


def _neurochem(canary: Path) -> Iterator[tuple[str, str, bytes]]:
    good = (
        "Rcr = 5.0\nRca = 3.5\nEtaR = [16]\nEtaA = [8]\nZeta = [32]\nShfR = [1]\nShfA = [1]\nShfZ = [1]\nAtyp = [Al]\n"
    )
    layer = "layer [\n nodes={0};\n activation=6;\n blocksize={1};\n weights=FILE:{2}[1];\n biases=FILE:{2}[1];\n]\n$\n"

    def packed(text: str) -> bytes:
        return b"=\n" + bz2.compress(text.encode())

    code = f"__import__('os').system('touch {canary}')"
    yield "code among the parameters", good.replace("[16]", f"[{code}]"), packed("")
    yield "code as the elements", good.replace("[Al]", f"[{code}]"), packed("")
    yield "a compression bomb", good, b"=\n" + bz2.compress(bytes(10**8)) * 60
    yield "layers of a trillion", good, packed(layer.format(HUGE, HUGE, "w"))
    yield "a path to elsewhere", good, packed(layer.format(1, 1, "../../../etc/passwd"))
    yield "a device", good, packed(layer.format(1, 1, "zero"))
    yield "nothing compressed", good, b"=\nplain"
    yield "infinite numbers", good.replace("5.0", "1e999"), packed(layer.format(1, 1, "w"))


def _neurochem_folder(parameters: str, network: bytes) -> Callable[[Path], object]:
    def make(folder: Path) -> None:
        networks = folder / "train0" / "networks"
        networks.mkdir(parents=True)
        (folder / "x.params").write_text(parameters)
        (folder / "sae_linfit.dat").write_text("Al,0=-1.0\n")
        (networks / "ANN-Al.nnf").write_bytes(network)
        (networks / "w").write_bytes(bytes(4))
        (networks / "zero").symlink_to("/dev/zero")

    return make


# --------------------------------------------------------------------------------- structures in ASE's formats


def _structures(canary: Path) -> Made:
    laughs = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 10))
    entities = {
        "a billion laughs": f'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY l0 "ha">{laughs}]><modeling>&l9;</modeling>',
        "an entity from a file": '<?xml version="1.0"?><!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]>'
        "<modeling>&e;</modeling>",
    }
    for why, text in entities.items():
        for name in ("vasprun.xml", "x.xsd", "x.vtu", "input.xml", "x.xml"):
            yield f"{name}: {why}", "structure", text.encode()
    yield "x.json: deep JSON", "structure", b'{"1": ' * DEEP
    yield "x.json: an object of ASE", "structure", b'{"1": {"__ase_objtype__": "os.system"}, "ids": [1], "nextid": 2}'
    yield "x.py: code", "structure", f"import os; os.system('touch {canary}')".encode()
    yield "x.traj: a huge offset", "structure", b"- of Ulm" + bytes(16) + struct.pack("<qqq", 3, 2**62, 2**62)
    yield "x.db: SQL", "structure", b"SQLite format 3\x00" + bytes(1000)
    yield "POSCAR: a trillion atoms", "structure", f"x\n1\n1 0 0\n0 1 0\n0 0 1\nAl\n{HUGE}\nDirect\n0 0 0\n".encode()
    yield "x.cif: loops without end", "structure", b"data_x\n" + b"loop_\n" * 10_000
    yield "x.xyz: a count of atoms", "structure", f"{HUGE}\n\nAl 0 0 0\n".encode()
    yield "x.gen: a count of atoms", "structure", f"{HUGE} C\nAl\n1 1 0 0 0\n".encode()
    yield "x.cube: a count of points", "structure", f"a\nb\n1 0 0 0\n{'100000 0 0 0' + chr(10)}".encode() * 3
    yield "x.xyz@eval: an index in the name", "structure", b"1\n\nAl 0 0 0\n"
    yield "x.bundle: a bundle of pickles", "structure", lambda path: _bundle(path, canary)


def _bundle(folder: Path, canary: Path) -> None:
    folder.mkdir()
    (folder / "metadata.json").write_text('{"format": "BundleTrajectory", "version": 1, "backend": "pickle"}')
    (folder / "frames").write_text("1\n")
    (folder / "F0").mkdir()
    (folder / "F0" / "smalldata.pickle").write_bytes(pickle.dumps(Bomb(canary)))


# ------------------------------------------------------------------------------------------- whole directories


def _campaigns(canary: Path) -> Made:
    def of(change: Callable[[CampaignDirectory], object]) -> Callable[[Path], object]:
        def make(path: Path) -> None:
            source = path.with_suffix(".toml")
            source.write_text(TOML)
            change(CampaignDirectory.create(path, TOML.encode(), source))

        return make

    def ledger_row(path: str, key: str = "a" * 64) -> Callable[[Path], object]:
        def change(directory: CampaignDirectory) -> None:
            with Ledger(directory.ledger) as ledger:
                row = LabelRow(key=key, path=path, checksum="0" * 64)
                ledger.append(events.labels_imported([key], [], [], []), [row])

        return of(change)

    def event(kind: str, payload: str) -> Callable[[Path], object]:
        def change(directory: CampaignDirectory) -> None:
            with Ledger(directory.ledger) as ledger:
                ledger._encode = lambda _: payload  # type: ignore[method-assign]
                ledger.append(Event(kind=kind, payload={}))

        return of(change)

    def text(name: str, content: str) -> Callable[[Path], object]:
        return of(lambda directory: (directory.path / name).write_text(content))

    for path in ("../../x.h5", "/etc/passwd", "/dev/zero", "labels", "ledger.sqlite", "a\x00b", ""):
        yield f"c: label row {path!r}", "export", ledger_row(path)
        yield f"c: label row {path!r} of a fork", "fork", ledger_row(path)
    yield "c: key of a label", "status", ledger_row("x.h5", "../../x")
    for payload in ("[" * DEEP, "[]", "null", "9" * 10_000, "{}", '{"kind": "label"}', "NaN"):
        for kind in ("task_started", "task_finished", "opened", "labels_imported"):
            yield f"c: {kind} {payload[:20]!r}", "status", event(kind, payload)
    yield "c: an event of another kind", "status", event("__class__", "{}")
    yield "c: a view instead of a table", "status", of(_view)
    for name in ("campaign.source.json", "dataset/imported.json", "controller-000001.json"):
        for content in ("[" * DEEP, "[]", "null", "9" * 10_000, '{"source": 1, "text": 2}', "\x00"):
            yield f"c: {name} {content[:20]!r}", "prepare", text(name, content)
    rows = {"rows": [{"key": "a" * 64, "path": "../../x.h5", "checksum": "0"}], "audit": [], "shards": ["../../x.h5"]}
    yield "c: imported labels from outside", "prepare", text("dataset/imported.json", json.dumps(rows))
    for content in ("[" * DEEP, "[]", "null", "{}", '{"status": "finished", "attempt": 1}', "9" * 10_000):
        yield f"c: result.json {content[:20]!r}", "result", of(lambda d, content=content: _result(d, content))
    for name in ("label.h5", "../../../x", "/etc/passwd", "x/../../y", "\x00", ".", ""):
        yield f"name: {name!r} as an id", "id", name.encode()
    yield "c: campaign.toml is a device", "status", of(lambda d: (d.config.unlink(), d.config.symlink_to("/dev/zero")))


def _view(directory: CampaignDirectory) -> None:
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i, '', 'opened', '{}', x'' FROM n"
    with sqlite3.connect(directory.ledger) as connection:
        connection.execute("DROP TABLE events")
        connection.execute(f"CREATE VIEW events (seq, time, kind, payload, chain) AS {endless}")
    connection.close()


def _result(directory: CampaignDirectory, content: str) -> None:
    folder = directory.path / "tasks" / "label" / "label-000001"
    folder.mkdir(parents=True)
    (folder / "result.json").write_text(content)


# ---------------------------------------------------------------------------------------------- EAM potentials


def _eam(_canary: Path) -> Made:
    head = "a\nb\nc\n1 Al\n"
    for why, text in {
        "tables of a trillion": f"{head}{HUGE} 0.1 {HUGE} 0.1 5.0\n13 26.98 4.05 fcc\n0 0 0\n",
        "a trillion elements": f"a\nb\nc\n{HUGE} Al\n100 0.1 100 0.1 5.0\n",
        "negative tables": f"{head}-5 0.1 -5 0.1 5.0\n13 26.98 4.05 fcc\n0 0 0\n",
        "nothing": "",
        "NaN": f"{head}2 nan 2 nan nan\n13 26.98 4.05 fcc\n0 0\n0 0\n0 0\n",
    }.items():
        yield f"x.alloy: {why}", "eam", text.encode()
