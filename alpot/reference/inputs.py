"""Files that belong to a level of theory: found relative to the campaign file, known by their content.

The level of theory must not depend on where a potential file lies, but must change when a byte of it changes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from alpot.errors import ConfigError

#: An argument that begins so names a file or folder beside the campaign file; a rule that nobody meets by accident.
_PREFIXES = ("./", "../")


def find_input(value: str, base_directory: Path, *, argument: str) -> Path:
    """The absolute path of a file or folder that an argument of the reference names.

    Raises:
        ConfigError: it does not exist.
    """
    if not isinstance(value, str) or not value:
        raise ConfigError(f"reference.arguments.{argument} = {value!r} must be the name of a file or folder")
    path = base_directory / Path(value).expanduser()
    if not path.exists():
        raise ConfigError(
            f"reference.arguments.{argument} = {value!r}: there is no {path}; give a path that is absolute or relative"
            f" to the campaign file's folder {base_directory}"
        )
    return path.resolve()


def content_hash(path: Path) -> str:
    """``sha256:...`` of a file's bytes, or of names and bytes of all files in a folder (in order of their names)."""
    if path.is_file():
        with path.open("rb") as file:
            return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()
    whole = hashlib.sha256()
    for member in sorted(p for p in path.rglob("*") if p.is_file()):
        whole.update(f"{member.relative_to(path).as_posix()}\0{content_hash(member)}\n".encode())
    return "sha256:" + whole.hexdigest()


def with_inputs(arguments: Mapping[str, Any], base_directory: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Resolves every argument (lists and tables included) that begins with ``./`` or ``../`` to a file.

    Returns:
        The arguments with absolute paths, and the same with hashes of the contents in place of the paths.
    """
    found: dict[str, Any] = {}
    described: dict[str, Any] = {}
    for key, value in arguments.items():
        found[key], described[key] = _resolve(value, base_directory, key)
    return found, described


def _resolve(value: Any, base_directory: Path, argument: str) -> tuple[Any, Any]:
    if isinstance(value, str) and value.startswith(_PREFIXES):
        path = find_input(value, base_directory, argument=argument)
        return str(path), content_hash(path)
    if isinstance(value, Mapping):
        pairs = {key: _resolve(item, base_directory, f"{argument}.{key}") for key, item in value.items()}
        return {key: pair[0] for key, pair in pairs.items()}, {key: pair[1] for key, pair in pairs.items()}
    if isinstance(value, (list, tuple)):
        items = [_resolve(item, base_directory, argument) for item in value]
        return [item[0] for item in items], [item[1] for item in items]
    return value, value
