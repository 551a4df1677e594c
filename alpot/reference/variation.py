"""Puts other numbers into the settings of a reference: what a convergence study varies.

A setting is named by its path below the table ``[reference]``, e.g. ``dft.cutoff`` or ``arguments.rc``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from alpot.config import Dft, Reference
from alpot.config.spelling import did_you_mean
from alpot.errors import ConfigError


def varied(settings: Reference, values: Mapping[str, float]) -> Reference:
    """The settings with other values.

    Args:
        settings: the table ``[reference]``.
        values: by path; a whole number stays one.

    Raises:
        ConfigError: there is no such key, or the value is not allowed.
    """
    if not values:
        return settings
    tables = settings.model_dump(exclude_unset=True)
    for path, value in values.items():
        *names, key = path.split(".")
        table = tables
        for name in names:
            table = table.setdefault(name, {})
            if not isinstance(table, dict):
                raise ConfigError(f"reference.{path} cannot be varied: {name} is {table!r}, not a table")
        table[key] = value
    try:
        return Reference.model_validate(tables)
    except ValidationError as error:
        details = error.errors(include_url=False)[0]
        path = ".".join(map(str, details["loc"]))
        reason = _no_such_key(path) if details["type"] == "extra_forbidden" else details["msg"]
        raise ConfigError(f"reference.{path} = {details['input']!r} is not allowed: {reason}") from error


def _no_such_key(path: str) -> str:
    known = [*Reference.model_fields, *(f"dft.{key}" for key in Dft.model_fields)]
    return f"there is no such key;{did_you_mean(path, known)} `alpot schema` lists all keys"


def value_of(settings: Reference, path: str) -> float | None:
    """The number that a setting has, None if it has none.

    Raises:
        ConfigError: it has another value than a number.
    """
    value: Any = settings
    for name in path.split("."):
        value = value.get(name) if isinstance(value, Mapping) else getattr(value, name, None)
    if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
        raise ConfigError(f"reference.{path} is {value!r}; only settings that are numbers can be varied")
    return value
