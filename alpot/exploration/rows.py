"""Tensors with one row per atom or per walker, in buffers that are kept while walkers come and go."""

from __future__ import annotations

from dataclasses import fields
from typing import Generic, TypeVar

from torch import Tensor

_Record = TypeVar("_Record")


class Rows(Generic[_Record]):
    """A dataclass of tensors that all have the same number of rows.

    Args:
        none: the record without any rows; gives shapes, types and device.

    Attributes:
        used: the rows in use, as views of the buffers; another object after each change of their number.
    """

    def __init__(self, none: _Record) -> None:
        self._type: type[_Record] = type(none)
        self._buffers = {field.name: getattr(none, field.name) for field in fields(none)}  # type: ignore[arg-type]
        self._n_rows = 0
        self.used = none

    def __len__(self) -> int:
        return self._n_rows

    def append(self, rows: _Record) -> None:
        """Copy rows behind those in use; the buffers double in size where they are full."""
        begin = self._n_rows
        for name, buffer in self._buffers.items():
            values: Tensor = getattr(rows, name)
            end = begin + len(values)
            if end > len(buffer):
                grown = buffer.new_empty((max(end, 2 * len(buffer)), *buffer.shape[1:]))
                grown[:begin] = buffer[:begin]
                self._buffers[name] = buffer = grown
            buffer[begin:end] = values
        self._use(end)

    def keep(self, rows: Tensor) -> None:
        """Drop all rows but some.

        Args:
            rows: (n_kept,) indices.
        """
        for buffer in self._buffers.values():
            buffer[: len(rows)] = buffer[rows]
        self._use(len(rows))

    def _use(self, n_rows: int) -> None:
        self._n_rows = n_rows
        self.used = self._type(**{name: buffer[:n_rows] for name, buffer in self._buffers.items()})
