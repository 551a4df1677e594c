"""Makes files visible only when they are whole and on disk; every file of a campaign is written through here.

A file is written under a temporary name in its own folder, fsynced, renamed, and the folder is fsynced. A reader
sees the old file, the new file or none, after ``kill -9`` and after a power cut too. Temporary names begin with a dot
and contain ``.tmp``; one that a killed process left behind is litter and never looked at. Nothing is made that the
group or others may write to, whatever the umask: who can write into a campaign decides what runs in it.
"""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from alpot.errors import StorageError

_FILE_MODE = 0o644
_FOLDER_MODE = 0o755

_CURES = {
    errno.ENOSPC: "free some space, then run the same command again",
    errno.EDQUOT: "your quota is used up: free some space, then run the same command again",
    errno.EFBIG: "the file would be larger than the limit set for this process (see `ulimit -f`)",
    errno.EROFS: "the file system is read-only: use a folder that can be written to",
    errno.EACCES: "the permissions of the folder do not allow it: change them or use another folder",
    errno.EPERM: "does the file system know hard links? A campaign needs one that does",
    errno.EOPNOTSUPP: "does the file system know hard links? A campaign needs one that does",
    errno.EIO: "the disk or the network file system has a fault: check it before going on",
}


def storage_error(action: str, path: Path, cause: OSError) -> StorageError:
    """A ``StorageError`` that says what failed, on which path, why, and what to do."""
    reason = cause.strerror or str(cause)
    cure = _CURES.get(cause.errno or 0)
    return StorageError(f"cannot {action} {path}: {reason}" + (f"; {cure}" if cure else ""))


def publish(path: Path, content: bytes) -> None:
    """Writes ``content`` to ``path`` atomically and durably; an existing file is replaced.

    Missing folders are made. When this returns, the file survives a power cut.

    Raises:
        StorageError: it could not be written; what was at ``path`` before is untouched and no temporary file is left.
    """
    with _whole_file(path) as temporary:
        _write_durably(temporary, content)
        temporary.replace(path)


def publish_new(path: Path, content: bytes) -> bool:
    """Like ``publish``, but the first writer wins: a file that is there already is left as it is.

    Two attempts at one task may finish at the same time; the ledger holds the checksum of one file only, hence that
    file must never be exchanged. A hard link, unlike a rename, refuses an existing target.

    Returns:
        Whether this call made the file; False if it was there already.
    """
    with _whole_file(path) as temporary:
        _write_durably(temporary, content)
        try:
            os.link(temporary, path)
        except FileExistsError:
            return False
        finally:
            temporary.unlink()
    return True


def publish_with(path: Path, write: Callable[[Path], None]) -> None:
    """Like ``publish`` for libraries that write files themselves: ``write`` gets a temporary path to fill.

    The temporary name has the suffix of ``path``, for libraries that look at it. An exception of ``write`` that is
    not an ``OSError`` is passed on as it is; the temporary file is removed in every case.
    """
    with _whole_file(path) as temporary:
        write(temporary)
        temporary.chmod(temporary.stat().st_mode & _FILE_MODE)
        _sync(temporary)
        temporary.replace(path)


def published(folder: Path, pattern: str) -> list[Path]:
    """The files in a folder that match, in order, without the temporary ones of writers that were killed."""
    return sorted(path for path in folder.glob(pattern) if not path.name.startswith("."))


def set_aside(path: Path) -> Path:
    """Renames a damaged file to ``<name>.damaged-<random>`` and returns the new path: paid work is never deleted."""
    target = path.with_name(f"{path.name}.damaged-{secrets.token_hex(4)}")
    try:
        path.rename(target)
        _sync(path.parent)
    except OSError as error:
        raise storage_error("set aside the damaged file", path, error) from error
    return target


def move_into(path: Path, folder: Path) -> Path:
    """Renames a file or folder into another folder under a name that is not taken there, durably.

    Returns:
        Its new path: its name and a random suffix.
    """
    make_folder(folder)
    target = folder / f"{path.name}.{secrets.token_hex(4)}"
    try:
        path.rename(target)
        _sync(folder)
        _sync(path.parent)
    except OSError as error:
        raise storage_error(f"move to {folder}", path, error) from error
    return target


def read_bytes(path: Path) -> bytes:
    """The content of a file; ``StorageError`` if it cannot be read, or is a device or a pipe."""
    try:
        if path.exists() and not path.is_file():
            raise StorageError(f"cannot read {path}: it is not a regular file")
        return path.read_bytes()
    except OSError as error:
        raise storage_error("read", path, error) from error


def sha256(path: Path) -> str:
    """The SHA-256 checksum of a file's content, in hexadecimal."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise storage_error("read", path, error) from error


def make_folder(path: Path) -> None:
    """Makes a folder and its missing parents durably: each new name is fsynced in the folder that holds it."""
    try:
        _make_folder(path)
    except OSError as error:
        raise storage_error("make the folder", path, error) from error


def _make_folder(path: Path) -> None:
    if path.is_dir():
        return
    _make_folder(path.parent)
    path.mkdir(mode=_FOLDER_MODE, exist_ok=True)
    _sync(path.parent)


@contextmanager
def _whole_file(path: Path) -> Iterator[Path]:
    """Gives a temporary path beside ``path``; afterwards syncs the folder, or removes the temporary and complains."""
    temporary = path.with_name(f".{path.stem}.{os.getpid()}-{secrets.token_hex(4)}.tmp{path.suffix}")
    try:
        _make_folder(path.parent)
        yield temporary
        _sync(path.parent)
    except OSError as error:
        raise storage_error("write", path, error) from error
    finally:
        # After success the temporary name is gone already; a removal that fails must not hide the first error.
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def _write_durably(path: Path, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _FILE_MODE)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync(path: Path) -> None:
    """Flushes a file, or the names in a folder, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
