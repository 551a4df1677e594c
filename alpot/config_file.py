"""Reads and writes ``campaign.toml``, so that whatever is wrong in it is told in sentences that help.

The settings themselves are in ``alpot.config``; the template and the schema are generated from them and cannot drift.
"""

from __future__ import annotations

import json
import re
import textwrap
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic import ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from alpot.config import Campaign, Material, Table
from alpot.config.spelling import did_you_mean
from alpot.errors import ConfigError

_COMMENT_WIDTH = 100
_SHOWN_VALUE = 80
#: Python's TOML reader takes minutes for files of megabytes that are made for it, and for keys of a thousand parts.
_LARGEST_FILE = 1_000_000
_LONGEST_LINE = 2_000
#: What we write we must be able to read: values and pieces of texts in one line, in characters; some take six.
_FOLDED_LINE = 1_000
_PIECE = 250
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")


def read_campaign(path: Path) -> Campaign:
    """Reads a campaign file.

    Raises:
        ConfigError: it cannot be read or is not valid; the message lists everything that is wrong at once.
    """
    return parse_campaign(read_text(path), str(path))


def read_text(path: Path) -> str:
    """The content of a campaign file; ``ConfigError`` if it cannot be read or is too large to be one."""
    if path.exists() and not path.is_file():
        raise ConfigError(f"cannot read the campaign file {path}: it is not a regular file")
    try:
        with path.open("rb") as file:
            content = file.read(_LARGEST_FILE + 1)
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not a text file in UTF-8: {error.reason} at byte {error.start}") from error
    except OSError as error:
        raise ConfigError(f"cannot read the campaign file {path}: {error.strerror}") from error
    if len(content) > _LARGEST_FILE:
        raise ConfigError(f"{path} is larger than {_LARGEST_FILE} bytes; that is no campaign file")
    return text


def parse_campaign(text: str, source: str) -> Campaign:
    """Reads the content of a campaign file; ``source`` is its name for messages.

    Raises:
        ConfigError: it is not valid.
    """
    return _validated(_parsed(text, source), source)


def parse_for_labels(text: str, source: str, elements: Sequence[str]) -> Campaign:
    """Reads the content of a campaign file of which only ``[reference]`` and ``[resources]`` matter.

    Args:
        text: the content. The table ``[material]`` may be missing.
        source: its name for messages.
        elements: chemical symbols to be labelled; the material that is returned has these.

    Raises:
        ConfigError: it is not valid.
    """
    material = {"elements": list(elements)}
    campaign = _validated({"material": material} | _parsed(text, source), source)
    return campaign.model_copy(update={"material": _validated_material(material, source)})


def _parsed(text: str, source: str) -> dict[str, Any]:
    for number, line in enumerate(text.split("\n"), start=1):
        if len(line) > _LONGEST_LINE:
            raise ConfigError(
                f"{source}, line {number}, has {len(line)} characters; {_LONGEST_LINE} are allowed. Break the line"
            )
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{source} is not valid TOML: {error}{_quoted_line(text, error)}") from error
    except (RecursionError, ValueError) as error:  # Python refuses integers of more than 4300 digits
        raise ConfigError(f"{source} is not valid TOML: nested too deeply, or a number is too long") from error
    return data


def _validated(data: Mapping[str, Any], source: str) -> Campaign:
    try:
        return Campaign.model_validate(data)
    except ValidationError as error:
        raise ConfigError(_explain(error, Campaign, source)) from error


def _validated_material(data: Mapping[str, Any], source: str) -> Material:
    try:
        return Material.model_validate(data)
    except ValidationError as error:
        raise ConfigError(_explain(error, Material, source)) from error


def json_schema() -> dict[str, Any]:
    """The JSON schema of a campaign file, with descriptions and units."""
    return Campaign.model_json_schema()


def _quoted_line(text: str, error: tomllib.TOMLDecodeError) -> str:
    """The line that a syntax error is in; Python before 3.14 tells its number only in the message."""
    lines = text.splitlines() or [""]
    match = re.search(r"at line (\d+)", str(error))
    number = int(match[1]) if match else len(lines)
    return f"\n  line {number}: {lines[number - 1].strip()}" if number <= len(lines) else ""


# ------------------------------------------------------------------------------------------------ the template

_REPLACE = "# REPLACE: this key is needed and has no default; remove the # and fill in the value."


def template(elements: Sequence[str]) -> str:
    """A commented campaign file for these elements that says what the defaults are.

    If ASE's EMT knows all elements, the file is valid as it is. Otherwise the reference's code is left for the user
    to fill in, and the file is refused until that was done.

    Raises:
        ConfigError: the elements are not valid.
    """
    material = _validated_material({"elements": list(elements)}, "new campaign")
    required = {"material": material, "elements": material.elements, "code": _embedded_reference(elements)}
    lines = _comment(
        "A campaign of alpot. Keys are shown with their defaults and may be left out, except elements and code."
        " Keys that are commented out are not set. Check this file with `alpot check`."
    )
    return "\n".join([*lines, *_table_lines(Campaign, None, "", required, {})]) + "\n"


def _embedded_reference(elements: Sequence[str]) -> str | None:
    from ase.calculators.emt import parameters

    return "emt" if set(elements) <= set(parameters) else None


def _table_lines(
    model: type[Table],
    values: Table | None,
    name: str,
    required: Mapping[str, Any],
    explained: dict[type[Table], str],
) -> Iterator[str]:
    """The lines of one table: plain keys first, as TOML wants it, then the tables inside."""
    tables: list[tuple[str, FieldInfo, Any]] = []
    for key, field in model.model_fields.items():
        value = required.get(key) if field.is_required() else field.get_default(call_default_factory=True)
        if values is not None:
            value = getattr(values, key)
        if _tables_in(field.annotation):
            tables.append((key, field, value))
        else:
            yield from _key_lines(key, field, value)
    for key, field, value in tables:
        path = f"{name}.{key}" if name else key
        if field.description:
            yield ""
            yield from _comment(field.description)
        if value is None and not field.is_required():
            yield from _absent_table_lines(_tables_in(field.annotation)[0], path, explained)
            continue
        many = isinstance(value, tuple)
        for item in value if many else (value,):
            table = type(item) if isinstance(item, Table) else _tables_in(field.annotation)[0]
            yield from ("", f"[[{path}]]" if many else f"[{path}]", *_comment(table.__doc__ or ""))
            yield from _table_lines(table, item, path, required, explained)


def _absent_table_lines(table: type[Table], path: str, explained: dict[type[Table], str]) -> Iterator[str]:
    """The commented lines of a table that is not there by default; its keys are explained once."""
    yield f"# [{path}]"
    if table in explained:
        yield f"# Keys as in [{explained[table]}]."
        return
    explained[table] = path
    yield from _comment(table.__doc__ or "")
    for line in _table_lines(table, None, path, {}, explained):
        if line == _REPLACE:
            yield "# This key is needed where the table is there."
            continue
        yield line if not line or line.startswith("#") else f"# {line}"


def _key_lines(key: str, field: FieldInfo, value: Any) -> Iterator[str]:
    if field.description:
        yield ""
        yield from _comment(field.description)
    allowed = _allowed_words(field.annotation)
    if len(allowed) > 1:
        yield from _comment("Allowed: " + ", ".join(allowed))
    if value is None and field.is_required():
        yield _REPLACE
        yield f'# {key} = "..."'
    elif value is None:
        yield f"# {key} = (not set)"
    else:
        yield f"{key} = {_toml(value)}"


def _comment(text: str) -> list[str]:
    return textwrap.wrap(text, _COMMENT_WIDTH, initial_indent="# ", subsequent_indent="# ")


def _toml(value: Any) -> str:
    """A value as TOML writes it."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{json.dumps(key)} = {_toml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    if isinstance(value, str | bool):
        return json.dumps(value, ensure_ascii=False)
    return repr(value) if isinstance(value, int | float) else str(value)


def written(tables: Mapping[str, Any]) -> str:
    """Tables as the text of a file: keys first, then the tables inside; ``None`` is what is not set.

    Args:
        tables: as of ``Campaign.model_dump``.
    """
    return "\n".join(_written_lines(tables, "")) + "\n"


def _written_lines(table: Mapping[str, Any], name: str) -> Iterator[str]:
    keys = {key: key if _BARE_KEY.fullmatch(key) else json.dumps(key) for key in table}
    for key, value in table.items():
        if value is not None and not isinstance(value, Mapping):
            yield f"{keys[key]} = {_folded(value)}"
    for key, value in table.items():
        if isinstance(value, Mapping):
            path = f"{name}.{keys[key]}" if name else keys[key]
            yield from ("", f"[{path}]", *_written_lines(value, path))


def _folded(value: Any) -> str:
    """A value as TOML writes it; a long list has one item a line, a long text its own lines."""
    text = _toml(value)
    if len(text) <= _FOLDED_LINE:
        return text
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{json.dumps(key)} = {_folded(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[\n" + "".join(f"{_folded(item)},\n" for item in value) + "]"
    return '"""\n' + "\n".join(map(_folded_line, value.split("\n"))) + '"""' if isinstance(value, str) else text


def _folded_line(line: str) -> str:
    """One line of a text in pieces: what follows a backslash at the end of a line goes on at the first non-blank."""
    pieces = (line[begin : begin + _PIECE] for begin in range(0, len(line), _PIECE))
    folded = "\\\n".join(json.dumps(piece, ensure_ascii=False)[1:-1] for piece in pieces)
    return folded.replace("\\\n ", "\\\n\\u0020")


# --------------------------------------------------------------------------------------------- the explanations


@dataclass(frozen=True, kw_only=True)
class _Place:
    """Where in the file an error is.

    Attributes:
        table: the model of the table.
        header: the table as TOML writes it, e.g. ``[exploration]``; empty at the top level.
        key: the key in that table; empty if the error concerns the table as a whole.
        item: what of the key's value is meant, e.g. ``number 2``.
        field: the key's definition.
    """

    table: type[Table]
    header: str
    key: str
    item: str
    field: FieldInfo | None

    def __str__(self) -> str:
        words = [f"table {self.header}" if self.header else "", f"key {self.key}" if self.key else "", self.item]
        return ", ".join(word for word in words if word)


def _explain(error: ValidationError, model: type[Table], source: str) -> str:
    """All errors of a file as one text."""
    sentences = []
    errors = error.errors(include_url=False)
    for details in errors:
        if details["type"] == "too_short" and any(_is_below(other["loc"], details["loc"]) for other in errors):
            continue  # Pydantic counts the good items only; what is wrong with the others is told anyway.
        place = _locate(model, details["loc"])
        sentences.append(f"{place}: {_sentence(place, details)}" if str(place) else _sentence(place, details))
    if len(sentences) == 1:
        return f"{source}: {sentences[0]}"
    return "\n".join([f"{source} has {len(sentences)} errors:", *(f"  - {sentence}" for sentence in sentences)])


def _is_below(location: tuple[int | str, ...], above: tuple[int | str, ...]) -> bool:
    return len(location) > len(above) and location[: len(above)] == above


def _locate(model: type[Table], location: tuple[int | str, ...]) -> _Place:
    """Follows pydantic's path, e.g. ``("material", "starts", 0, "packing", "atoms", 1)``, through the models."""
    table, header, key, field = model, "", "", None
    items: list[str] = []
    for part in location:
        kinds: list[type[Table]] = _tables_in(field.annotation) if field else []
        if kinds and isinstance(part, str):
            table = next((kind for kind in kinds if _tag(kind) == part), kinds[0])
            header, key, field, items = _header(header, key, items), "", None, []
            if len(kinds) > 1:  # This part is the tag, the value of `kind`; the key comes next.
                continue
        if isinstance(part, int):
            items.append(f"number {part + 1}")
        elif not key:
            key, field = part, table.model_fields.get(part)
        elif part != "[key]":
            items.append(f"entry {part}")
    if field and _tables_in(field.annotation):
        header, key, items = _header(header, key, items), "", []
    return _Place(table=table, header=header, key=key, item=", ".join(items), field=field)


def _header(outer: str, key: str, items: Sequence[str]) -> str:
    name = f"{outer.strip('[]')}.{key}" if outer else key
    return f"[[{name}]] {items[0]}" if items else f"[{name}]"


def _sentence(place: _Place, details: ErrorDetails) -> str:
    """What is wrong at a place and what would be right."""
    kind, value, context = details["type"], details["input"], details.get("ctx", {})
    if kind == "extra_forbidden":
        return _unknown_key(place, value)
    if kind == "missing":
        return f"is missing{_description(place)}"
    if kind.startswith("union_tag"):
        return _unknown_kind(place, value)
    if kind == "value_error":
        seen = f"{_shown(value)} is not allowed: " if place.key else ""
        return f"{seen}{context['error']}{_description(place)}"
    if kind in ("model_type", "model_attributes_type"):
        return f"must be a table, but is the value {_shown(value)}{_description(place)}"
    guess = _guess(value, _allowed_words(place.field.annotation)) if place.field else ""
    reason = details["msg"].replace("Input should", "it must").replace("Tuple should", "the list must")
    for python, toml in (("a valid tuple", "a list"), ("a valid dictionary", "a table"), (" after validation", "")):
        reason = reason.replace(python, toml)
    return f"{_shown(value)} is not allowed: {reason}{guess}{_description(place)}"


def _unknown_key(place: _Place, value: Any) -> str:
    names = list(place.table.model_fields)
    guess = _guess(place.key, names)
    elsewhere = [header for header, table in _all_tables(Campaign, "") if place.key in table.model_fields]
    if not guess and elsewhere:
        guess = f"; it belongs into {' or '.join(dict.fromkeys(elsewhere))}"
    what = "table" if isinstance(value, dict) else "key"
    end = "" if guess.endswith("?") else "."
    return f"there is no such {what} (its value: {_shown(value)}){guess}{end} Allowed are: {', '.join(names)}"


def _unknown_kind(place: _Place, value: Any) -> str:
    kinds = [_tag(kind) or "" for kind in _tables_in(place.field.annotation)] if place.field else []
    if not isinstance(value, dict) or "kind" not in value:
        return f"the key kind is missing; it must be one of: {', '.join(kinds)}"
    kind = value["kind"]
    return f"kind = {_shown(kind)} is not known; it must be one of: {', '.join(kinds)}{_guess(kind, kinds)}"


def _guess(word: Any, words: Sequence[str]) -> str:
    guess = did_you_mean(str(word), words)
    return f";{guess}" if guess else ""


def _description(place: _Place) -> str:
    description = place.field.description if place.field else None
    if place.field and not description and not place.key:
        description = _tables_in(place.field.annotation)[0].__doc__
    return f" ({description.rstrip('.')})" if description else ""


def _shown(value: Any) -> str:
    try:
        return textwrap.shorten(_toml(value), _SHOWN_VALUE)
    except TypeError:
        return repr(value)
    except (RecursionError, ValueError):  # an integer of more than 4300 digits cannot be written in decimals
        return "a value too large to be shown"


# ------------------------------------------------------------------------------------------- looking into models


def _tables_in(annotation: Any) -> list[type[Table]]:
    """The table models that an annotation mentions, however deep."""
    if isinstance(annotation, type) and issubclass(annotation, Table):
        return [annotation]
    return [table for argument in get_args(annotation) for table in _tables_in(argument)]


def _allowed_words(annotation: Any) -> list[str]:
    """The words among which a value must be chosen; empty if it is free."""
    if get_origin(annotation) is Literal:
        return [str(word) for word in get_args(annotation)]
    return [word for argument in get_args(annotation) for word in _allowed_words(argument)]


def _all_tables(model: type[Table], name: str) -> Iterator[tuple[str, type[Table]]]:
    yield f"[{name}]" if name else "the top level, above all tables", model
    for key, field in model.model_fields.items():
        for table in _tables_in(field.annotation):
            yield from _all_tables(table, f"{name}.{key}" if name else key)


def _tag(table: type[Table]) -> str | None:
    field = table.model_fields.get("kind")
    return field.default if field else None
