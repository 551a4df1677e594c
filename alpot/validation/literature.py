"""Published values, measured or computed by others, that a table of properties sets beside a potential's own.

They lie in ``reference_data/``, one TOML file per element, and each says where it was published and in what kind of
text it was seen. What could not be sourced is missing there: an empty cell is better than a number from memory.
"""

from __future__ import annotations

import tomllib
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, ValidationError, model_validator
from pydantic_core import ErrorDetails

from alpot.config.spelling import did_you_mean
from alpot.config.table import Element, Positive, Table
from alpot.errors import UsageError

#: As printed in tables; those of :class:`~alpot.validation.properties.PropertyValue`, so that values can be compared.
Unit = Literal["", "Å", "eV", "meV/atom", "eV/atom", "GPa", "THz", "J/m²", "mJ/m²", "1e-6/K", "g/cm³", "10⁻⁹ m²/s", "K"]
Text = Annotated[str, Field(min_length=1)]

#: A wheel has the files beside this module (``force-include`` in pyproject.toml), a checkout at its root.
_PACKAGED = Path(__file__).parent / "reference_data"
_CHECKOUT = Path(__file__).parents[2]


class Published(Table):
    """One published number."""

    property: Text = Field(description="the property that gives such a value, by its name in the suite")
    name: Text = Field(description="what was measured or computed, as that property calls it")
    value: float = Field(description="in `unit`")
    unit: Unit
    uncertainty: Positive | None = Field(None, description="as published, one standard error unless `note` differs")
    kind: Literal["experiment", "dft"]
    method: str = Field("", description="the density functional; or how it was measured, where that matters")
    temperature: float = Field(ge=0, description="K; 0 for static lattices, and for what was extrapolated to 0 K")
    doi: str = Field(pattern=r"^10\.\d{4,9}/\S+$")
    source: Text = Field(description="authors, journal volume, page (year)")
    seen_in: Text = Field(description="in what kind of text the number was read")
    note: str = Field("", description="what one has to know to compare with it")

    @model_validator(mode="after")
    def _names_its_functional(self) -> Self:
        if self.kind == "dft" and not self.method:
            raise ValueError("a computed value needs `method`, the density functional")
        return self


class _File(Table):
    element: Element
    value: tuple[Published, ...]

    @model_validator(mode="after")
    def _says_everything_once(self) -> Self:
        times = Counter(
            f"{v.name} of {v.property} ({v.kind}, {v.method or 'no method'}, {v.temperature:g} K, {v.doi})"
            for v in self.value
        )
        if twice := [entry for entry, count in times.items() if count > 1]:
            raise ValueError(f"there more than once: {'; '.join(twice)}")
        return self


def literature(element: str) -> tuple[Published, ...]:
    """All published values for an element, in the order of its file; none where there is no file for it.

    Args:
        element: chemical symbol.

    Raises:
        UsageError: the files of published values are missing, or one is damaged; the message names entry and key.
    """
    return _library(_folder()).get(element, ())


def published_for(element: str, property: str, name: str) -> tuple[Published, ...]:
    """The published values to compare one number of a property with.

    Args:
        element: chemical symbol.
        property: the property's name in the suite, such as ``elastic``.
        name: what the property calls the number, such as ``C11``.

    Raises:
        UsageError: the files of published values are missing, or one is damaged.
    """
    return tuple(value for value in literature(element) if (value.property, value.name) == (property, name))


def read_literature(path: Path) -> tuple[str, tuple[Published, ...]]:
    """The element that a file of published values is about, and the values.

    Raises:
        UsageError: the file cannot be read, or says what it may not; all that is wrong is listed at once.
    """
    try:
        content = tomllib.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:  # no such file; neither UTF-8 nor TOML
        raise UsageError(f"cannot read the published values in {path}: {error}") from error
    try:
        file = _File.model_validate(content)
    except ValidationError as error:
        sentences = (_sentence(details, content) for details in error.errors(include_url=False))
        raise UsageError("\n".join([f"the published values in {path} are not valid:", *sentences])) from error
    return file.element, file.value


def _folder() -> Path:
    # Beside the package there may be anything: only a checkout has the file that names the project.
    is_checkout = (_CHECKOUT / "pyproject.toml").is_file()
    return _CHECKOUT / "reference_data" if is_checkout and not _PACKAGED.is_dir() else _PACKAGED


@cache
def _library(folder: Path) -> dict[str, tuple[Published, ...]]:
    if not folder.is_dir():
        raise UsageError(f"the published values that come with alpot are not at {folder}: install alpot again")
    return dict(read_literature(path) for path in sorted(folder.glob("*.toml")))


def _sentence(details: ErrorDetails, content: dict[str, object]) -> str:
    """One thing that is wrong: in which entry, at which key, and what was seen."""
    match details["loc"]:
        case ("value", int(number), *keys):
            entries = content["value"]
            entry = entries[number] if isinstance(entries, list) else None
            called = f" ({entry.get('name', 'no name')})" if isinstance(entry, dict) else ""
            place = f"entry {number + 1}{called}"
        case keys:
            place = "the file"
    key = ".".join(map(str, keys))
    message = details["msg"].removeprefix("Value error, ")
    if details["type"] == "extra_forbidden":
        message = f"there is no such key;{did_you_mean(key, Published.model_fields)}".rstrip(";")
    seen = "" if details["type"] == "missing" or not key else f" (seen: {details['input']!r})"
    return f"  - {place}{f', key {key}' if key else ''}: {message}{seen}"
