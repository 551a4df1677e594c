"""Packs arrays into HDF5 files that say what they are and notice every flipped or missing byte.

The HDF5 part is preceded by a user block of 512 bytes (HDF5 tools skip it) of plain text: the kind of file, the
format's version, and the SHA-256 of all that follows. It is checked before the HDF5 library sees the bytes, because
that library may crash on damaged metadata, and its own checksums do not cover everything. Files are built in memory and
published whole: HDF5 that runs out of disk while writing leaves wreckage.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

import alpot.store.files as files
from alpot.errors import StorageError

#: Raised by hand when the layout changes; files of another version are refused.
FORMAT_VERSION = 1
_HEADER_BYTES = 512
_MAGIC = b"alpot "

#: A column of a file: its values (numbers, or a list of strings) and their unit ("" for none).
Column = tuple[np.ndarray | Sequence[str], str]


@dataclass(frozen=True, kw_only=True)
class Content:
    """What a file holds.

    Attributes:
        kind: what the file is, e.g. ``"labels"``.
        arrays: its numerical columns.
        texts: its columns of strings.
        attributes: short facts about the whole file.
        checksum: SHA-256 of the whole file in hexadecimal, as ``files.sha256`` gives it.
    """

    kind: str
    arrays: dict[str, np.ndarray]
    texts: dict[str, list[str]]
    attributes: dict[str, str]
    checksum: str


def pack(kind: str, columns: Mapping[str, Column], attributes: Mapping[str, str]) -> bytes:
    """The bytes of a file with these columns."""
    body = hdf5_image(columns, {"kind": kind, **attributes})
    return _header(kind, str(FORMAT_VERSION), hashlib.sha256(body).hexdigest()) + body


def is_container(path: Path) -> bool:
    """Whether a file was written by ``pack``, judged by its first bytes."""
    try:
        with path.open("rb") as file:
            return file.read(len(_MAGIC)) == _MAGIC
    except OSError as error:
        raise files.storage_error("read", path, error) from error


def unpack(path: Path, kind: str) -> Content:
    """Reads a file of the given kind.

    Raises:
        StorageError: it is missing, of another kind, of another version, or damaged.
    """
    data = files.read_bytes(path)
    if not data.startswith(_MAGIC):
        raise StorageError(f"{path} is damaged or was not written by alpot: its first bytes are {data[:8]!r}")
    found, version, digest = _parse_header(path, data[:_HEADER_BYTES])
    body = data[_HEADER_BYTES:]
    if hashlib.sha256(body).hexdigest() != digest:
        raise StorageError(f"{path} is damaged: its content does not have the checksum that its header states")
    if version != str(FORMAT_VERSION):
        raise StorageError(f"{path} has format version {version}, this alpot reads version {FORMAT_VERSION}")
    if found != kind:
        raise StorageError(f"{path} holds {found}, not {kind}")
    with h5py.File(h5py.h5f.open_file_image(body)) as file:
        arrays, texts = {}, {}
        for name, dataset in file.items():
            if h5py.check_string_dtype(dataset.dtype) is None:
                arrays[name] = dataset[...]
            else:
                texts[name] = dataset.asstr()[...].tolist()
        attributes = {name: str(value) for name, value in file.attrs.items()}
    checksum = hashlib.sha256(data).hexdigest()
    return Content(kind=found, arrays=arrays, texts=texts, attributes=attributes, checksum=checksum)


def hdf5_image(columns: Mapping[str, Column], attributes: Mapping[str, str]) -> bytes:
    """A plain HDF5 file in memory; a column name may contain ``/`` to lie in a group."""
    with h5py.File("in memory", "w", driver="core", backing_store=False) as file:
        for name, (values, unit) in columns.items():
            numeric = isinstance(values, np.ndarray)
            dataset = (
                file.create_dataset(name, data=values)
                if numeric
                else file.create_dataset(name, data=list(values), dtype=h5py.string_dtype())
            )
            if unit:
                dataset.attrs["unit"] = unit
        file.attrs.update(attributes)
        file.flush()
        return bytes(file.id.get_file_image())


def json_texts(values: Sequence[Mapping[str, Any]], path: Path) -> list[str]:
    """Dictionaries as JSON, one text each; ``StorageError`` names the file if one is not JSON-able."""
    try:
        return [json.dumps(value, allow_nan=False, ensure_ascii=False, sort_keys=True) for value in values]
    except (TypeError, ValueError) as error:
        raise StorageError(f"cannot write {path}: a provenance is not JSON: {error}") from error


def _header(kind: str, version: str, digest: str) -> bytes:
    text = f"alpot {kind}\nversion {version}\nsha256 {digest}\n"
    return text.encode("utf-8").ljust(_HEADER_BYTES, b"\n")


def _parse_header(path: Path, header: bytes) -> tuple[str, str, str]:
    lines = [line.partition(" ")[2] for line in header.decode("utf-8", errors="replace").split("\n")[:3]]
    kind, version, digest = [*lines, "", "", ""][:3]
    if header != _header(kind, version, digest):
        raise StorageError(f"{path} is damaged: its header cannot be read")
    return kind, version, digest
