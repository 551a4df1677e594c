"""Stops a process before each of its system calls that changes files, and kills it there, or lets the call fail.

The kernel does the watching (a seccomp filter stops the process, ptrace holds it), so the program under test is the
one that users run: nothing in it is replaced, and what libraries do by themselves, SQLite above all, is seen as well.
Children and threads are followed. Linux on x86-64 only.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import re
import signal
import struct
import sys
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path

#: Calls that change files: number, name, and which argument is the path (-1: argument 0 is an open file).
_CALLS = {
    1: ("write", -1),
    2: ("open", 0),
    18: ("pwrite64", -1),
    20: ("writev", -1),
    74: ("fsync", -1),
    75: ("fdatasync", -1),
    76: ("truncate", 0),
    77: ("ftruncate", -1),
    82: ("rename", 1),
    83: ("mkdir", 0),
    84: ("rmdir", 0),
    86: ("link", 1),
    87: ("unlink", 0),
    88: ("symlink", 1),
    257: ("openat", 1),
    258: ("mkdirat", 1),
    263: ("unlinkat", 1),
    264: ("renameat", 3),
    265: ("linkat", 3),
    285: ("fallocate", -1),
    316: ("renameat2", 3),
}
#: Calls that need space on the disk.
TAKES_SPACE = frozenset({"write", "pwrite64", "writev", "open", "openat", "mkdir", "mkdirat", "link", "linkat",
                         "rename", "renameat", "renameat2", "fallocate", "fsync", "fdatasync"})  # fmt: skip
WRITES = frozenset({"write", "pwrite64"})
_OPENS = {2: 1, 257: 2}  # number: which argument holds the flags
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC

_TRACEME, _PEEK, _CONT, _GETREGS, _SETREGS, _SETOPTIONS = 0, 2, 7, 12, 13, 0x4200
_OPTIONS = 0x100000 | 0x80 | 0x2 | 0x4 | 0x8  # EXITKILL, TRACESECCOMP, TRACEFORK, TRACEVFORK, TRACECLONE
_EVENT_SECCOMP = 7
_REGISTERS = [
    "r15",
    "r14",
    "r13",
    "r12",
    "rbp",
    "rbx",
    "r11",
    "r10",
    "r9",
    "r8",
    "rax",
    "rcx",
    "rdx",
    "rsi",
    "rdi",
    "orig_rax",
    "rip",
    "cs",
    "eflags",
    "rsp",
    "ss",
]
_ARGUMENTS = ("rdi", "rsi", "rdx", "r10", "r8", "r9")


class _Registers(ctypes.Structure):
    _fields_ = [(name, ctypes.c_ulonglong) for name in (*_REGISTERS, "fs_base", "gs_base", "ds", "es", "fs", "gs")]


class Fate(Enum):
    """What becomes of the process at an operation."""

    GO_ON = auto()
    KILL = auto()  #: before the operation
    TEAR = auto()  #: half of the bytes are written, then it is killed
    NO_SPACE = auto()  #: the operation fails with ENOSPC


@dataclass(frozen=True)
class Operation:
    """A system call that is about to change a file.

    Attributes:
        call: its name.
        path: the file, relative to the watched folder.
        in_child: whether a process that the watched one has forked makes it.
    """

    call: str
    path: str
    in_child: bool

    def __str__(self) -> str:
        return f"{self.call} {re.sub(r'[0-9]+-[0-9a-f]{8}', '*', self.path)}"


Decide = Callable[[Operation], Fate]


def why_not() -> str:
    """Why processes cannot be watched here; empty if they can."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return f"system calls are watched on Linux on x86-64 only, not on {sys.platform} {platform.machine()}"
    return ""


def watch(body: Callable[[], int], folder: Path, decide: Decide) -> int:
    """Runs ``body`` in a forked process and asks ``decide`` before each of its changes to files below ``folder``.

    The calling process must have no other children meanwhile.

    Returns:
        What ``body`` returned; -9 if the process was killed.
    """
    child = os.fork()
    if child == 0:
        _run(body)
    return _Watch(child, f"{folder}/", decide).to_the_end()


def _run(body: Callable[[], int]) -> None:
    code = 70
    try:
        _ptrace(_TRACEME, 0)
        os.kill(os.getpid(), signal.SIGSTOP)
        _install_filter()
        code = body()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


class _Watch:
    """Holds one process and its descendants."""

    def __init__(self, child: int, folder: str, decide: Decide) -> None:
        self.child, self.folder, self.decide = child, folder, decide
        self.alive = {child}
        self.processes: dict[int, int] = {}
        self.torn: int | None = None
        os.waitpid(child, 0)
        _ptrace(_SETOPTIONS, child, _OPTIONS)
        _ptrace(_CONT, child)

    def to_the_end(self) -> int:
        code = 0
        while self.alive:
            try:
                pid, status = os.waitpid(-1, 0x40000000)  # __WALL: threads too
            except ChildProcessError:
                break
            if os.WIFSTOPPED(status):
                self.alive.add(pid)
                self._stopped(pid, status)
                continue
            self.alive.discard(pid)
            if pid == self.child:
                code = -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
                for orphan in self.alive:  # threads end with it; processes that it has forked must not go on alone
                    _kill(orphan)
        return code

    def _stopped(self, pid: int, status: int) -> None:
        event, number = status >> 16, os.WSTOPSIG(status)
        try:
            if event == _EVENT_SECCOMP:
                self._at_operation(pid)
            else:
                is_delivered = event == 0 and number not in (signal.SIGSTOP, signal.SIGTRAP)
                _ptrace(_CONT, pid, number if is_delivered else 0)
        except ProcessLookupError:
            return  # it was killed meanwhile

    def _at_operation(self, pid: int) -> None:
        registers = _Registers()
        _ptrace(_GETREGS, pid, ctypes.addressof(registers))
        operation = self._operation(pid, registers)
        fate = Fate.GO_ON if operation is None else self.decide(operation)
        if self.torn == pid:
            fate = Fate.KILL
        if fate is Fate.KILL:
            return _kill(pid)
        if fate is Fate.TEAR:
            registers.rdx = max(1, registers.rdx // 2)
            self.torn = pid
            _ptrace(_SETREGS, pid, ctypes.addressof(registers))
        elif fate is Fate.NO_SPACE:
            registers.orig_rax = 2**64 - 1  # no call at all,
            registers.rax = 2**64 - errno.ENOSPC  # and this is its result
            _ptrace(_SETREGS, pid, ctypes.addressof(registers))
        return _ptrace(_CONT, pid)

    def _operation(self, pid: int, registers: _Registers) -> Operation | None:
        name, at = _CALLS[registers.orig_rax]
        if at < 0:
            path = str(Path(f"/proc/{pid}/fd/{registers.rdi}").readlink())
        else:
            path = _text(pid, getattr(registers, _ARGUMENTS[at]))
            if not path.startswith("/"):  # relative to an open folder, as rmtree does, or to the current one
                base = ctypes.c_int(registers.rdi).value if "at" in name else -1
                where = f"/proc/{pid}/fd/{base}" if base >= 0 else f"/proc/{pid}/cwd"
                path = f"{Path(where).readlink()}/{path}"
        if not path.startswith(self.folder):
            return None
        return Operation(name, path.removeprefix(self.folder), self._process_of(pid) != self.child)

    def _process_of(self, thread: int) -> int:
        if thread not in self.processes:
            status = Path(f"/proc/{thread}/status").read_text()
            self.processes[thread] = int(status.partition("Tgid:")[2].split()[0])
        return self.processes[thread]


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def _text(pid: int, address: int) -> str:
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:  # noqa: PTH123 - read at an address
        memory.seek(address)
        return memory.read(4096).split(b"\0", 1)[0].decode()


_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
_libc.ptrace.restype = ctypes.c_long


def _ptrace(request: int, pid: int, data: int = 0) -> None:
    if _libc.ptrace(request, pid, None, data) == -1:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _install_filter() -> None:
    """Makes the kernel stop this process at the calls in question, and nowhere else."""
    trace, allow = 0x7FF00000, 0x7FFF0000
    load, is_equal, has_bits, end = 0x20, 0x15, 0x45, 0x06
    program = [(load, 0, 0, 0)]
    for number in _CALLS:
        if number in _OPENS:  # if the number differs, skip the next three
            program += [(is_equal, 0, 4, number), (load, 0, 0, 16 + 8 * _OPENS[number]), (has_bits, 0, 1, _WRITING)]
            program += [(end, 0, 0, trace), (end, 0, 0, allow)]
        else:
            program += [(is_equal, 0, 1, number), (end, 0, 0, trace)]
    program.append((end, 0, 0, allow))
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in program))
    header = ctypes.create_string_buffer(struct.pack("HxxxxxxQ", len(program), ctypes.addressof(code)))
    if _libc.prctl(38, 1, 0, 0, 0) or _libc.prctl(22, 2, ctypes.c_void_p(ctypes.addressof(header)), 0, 0):
        raise OSError(ctypes.get_errno(), "seccomp is not allowed here")
