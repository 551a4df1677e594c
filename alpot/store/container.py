"""Packs arrays into HDF5 files that say what they are and notice every flipped or missing byte.

The HDF5 part is preceded by a user block of 512 bytes (HDF5 tools skip it) of plain text: the kind of file, the
format's version, and the SHA-256 of all that follows. It is checked before the HDF5 library sees the bytes, because
that library may crash on damaged metadata, and its own checksums do not cover everything. Files are built in memory and
published whole: HDF5 that runs out of disk while writing leaves wreckage.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
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
#: What h5py, numpy, json and ASE raise on content that nobody wrote with good intentions.
MALFORMED = (AttributeError, LookupError, MemoryError, OSError, RuntimeError, TypeError, ValueError)

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
    data = _sound_bytes(path, kind)
    with understood(path), h5py.File(h5py.h5f.open_file_image(data[_HEADER_BYTES:])) as file:
        arrays: dict[str, np.ndarray] = {}
        texts: dict[str, list[str]] = {}

        def take(name: str, item: h5py.Dataset | h5py.Group) -> None:
            if isinstance(item, h5py.Dataset):
                _refuse_tricks(name, item, len(data))
                if h5py.check_string_dtype(item.dtype) is None:
                    arrays[name] = item[...]
                else:
                    texts[name] = item.asstr()[...].tolist()

        file.visititems(take)
        attributes = {name: str(value) for name, value in file.attrs.items()}
    checksum = hashlib.sha256(data).hexdigest()
    return Content(kind=kind, arrays=arrays, texts=texts, attributes=attributes, checksum=checksum)


def verify(path: Path, kind: str) -> str:
    """Checks every byte of a file without looking at what it holds.

    Returns:
        SHA-256 of the whole file in hexadecimal.

    Raises:
        StorageError: as ``unpack``.
    """
    return hashlib.sha256(_sound_bytes(path, kind)).hexdigest()


def _sound_bytes(path: Path, kind: str) -> bytes:
    data = files.read_bytes(path)
    if not data.startswith(_MAGIC):
        raise StorageError(f"{path} is damaged or was not written by alpot: its first bytes are {data[:8]!r}")
    found, version, digest = _parse_header(path, data[:_HEADER_BYTES])
    if hashlib.sha256(memoryview(data)[_HEADER_BYTES:]).hexdigest() != digest:
        raise StorageError(f"{path} is damaged: its content does not have the checksum that its header states")
    if version != str(FORMAT_VERSION):
        raise StorageError(f"{path} has format version {version}, this alpot reads version {FORMAT_VERSION}")
    if found != kind:
        raise StorageError(f"{path} holds {found}, not {kind}")
    return data


@contextmanager
def understood(path: Path) -> Iterator[None]:
    """Makes a ``StorageError`` of whatever goes wrong while the content of a file is interpreted."""
    try:
        yield
    except MALFORMED as error:
        raise StorageError(f"{path} is not what alpot writes: {type(error).__name__}: {error}") from error


def _refuse_tricks(name: str, dataset: h5py.Dataset, n_bytes: int) -> None:
    """Refuses a dataset that ``pack`` does not write; HDF5 knows such that read other files, or fill the memory."""
    is_known = dataset.dtype.kind in "biuf" or h5py.check_string_dtype(dataset.dtype) is not None
    is_inside = dataset.chunks is None and not dataset.is_virtual and dataset.external is None
    if not (is_known and is_inside and dataset.shape is not None and dataset.nbytes <= n_bytes):
        raise ValueError(f"{name} ({dataset.dtype}, {dataset.shape}) is not a plain array")


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
