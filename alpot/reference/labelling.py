"""Makes one label: runs a reference under a time limit and lets nothing pass that is not a sound result."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from types import FrameType

import numpy as np
import psutil
from ase import Atoms

from alpot.config import Reference
from alpot.errors import FailureClass, ReferenceError
from alpot.reference.failures import as_reference_error, evidence
from alpot.reference.launcher import allotted_cores
from alpot.reference.protocol import ReferenceCalculator, ReferenceResult

#: The alarm rings again after so many seconds, in case the code swallowed the first one.
_REPEAT_S = 1.0
#: File in the scratch directory with what programs wrote to standard error.
_STANDARD_ERROR = "standard_error.txt"


class _TimeIsUp(BaseException):
    """Not an ``Exception``, so that a code's own ``except Exception`` does not swallow it."""


def label(
    reference: ReferenceCalculator,
    settings: Reference,
    atoms: Atoms,
    directory: Path,
    *,
    not_finite: FailureClass = FailureClass.BAD_OUTPUT,
) -> ReferenceResult:
    """Computes and checks one label.

    The time limit is kept by an alarm signal, which only the main thread can receive: elsewhere the walltime of the
    job is the only limit. Programs that the calculation started are killed with it. What they write to standard error
    is kept in ``directory`` (main thread only), for it often says why they failed.

    Args:
        reference: where truth comes from.
        settings: the table ``[reference]``; its ``time_limit`` and ``max_force`` are used.
        atoms: the frame; it is not changed.
        directory: an existing directory for scratch files.
        not_finite: class of a result that is NaN or infinite; where a code without iterations gives one, it is the
            frame's fault.

    Returns:
        The sound result; ``details["wall_s"]`` says how long it took, ``details["core_seconds"]`` what it cost: as the
        reference says, or else time × cores of the worker.

    Raises:
        ReferenceError: there is no label; ``failure`` names the class, ``evidence`` shows the last lines of output,
            ``core_seconds`` says what was spent.
    """
    _check_frame(atoms)
    cores = allotted_cores()
    begin = time.monotonic()
    try:
        result = _computed(reference, settings, atoms, directory, not_finite)
    except ReferenceError as error:
        if error.core_seconds is None:
            error.core_seconds = round(cores * (time.monotonic() - begin), 6)
        raise
    seconds = time.monotonic() - begin
    cost = {"core_seconds": round(cores * seconds, 6)}
    return replace(result, details={**cost, **result.details, "wall_s": round(seconds, 4)})


def _computed(
    reference: ReferenceCalculator, settings: Reference, atoms: Atoms, directory: Path, not_finite: FailureClass
) -> ReferenceResult:
    try:
        with _standard_error_kept(directory), _time_limit(settings.time_limit):
            result = reference.compute(atoms.copy(), directory)
    except _TimeIsUp as stop:
        raise ReferenceError(
            f"reference {reference.name!r} was ended after {settings.time_limit:g} s, the limit in"
            f" reference.time_limit, with {len(atoms)} atoms; raise the limit or use smaller frames",
            failure=FailureClass.WALLTIME,
            evidence=evidence(stop, directory),
        ) from stop
    except ReferenceError:
        raise
    except Exception as error:
        raise as_reference_error(error, directory, name=reference.name) from error
    return _checked(result, len(atoms), reference.name, settings.max_force, not_finite)


def _check_frame(atoms: Atoms) -> None:
    problem = None
    if len(atoms) == 0:
        problem = "it has no atoms"
    elif not (np.isfinite(atoms.positions).all() and np.isfinite(atoms.cell.array).all()):
        problem = "positions or cell are not finite"
    elif atoms.pbc.any() and np.any(atoms.pbc & (atoms.cell.lengths() < 1e-6)):
        problem = f"it is periodic (pbc {atoms.pbc.tolist()}) along a cell vector of no length"
    if problem:
        raise ReferenceError(f"the frame cannot be labelled: {problem}", failure=FailureClass.UNPHYSICAL_GEOMETRY)


def _checked(
    result: ReferenceResult, n_atoms: int, name: str, max_force: float, not_finite: FailureClass
) -> ReferenceResult:
    """Refuses what is not a label; normalises the types of what is."""
    forces = np.asarray(result.forces, dtype=np.float64)
    stress = None if result.stress is None else np.asarray(result.stress, dtype=np.float64)
    energy = float(result.energy)
    if forces.shape != (n_atoms, 3):
        raise _bad_output(name, f"forces of shape {forces.shape}, not ({n_atoms}, 3)")
    if stress is not None and stress.shape != (6,):
        raise _bad_output(name, f"a stress of shape {stress.shape}, not (6,)")
    if not np.isfinite(energy):
        raise _bad_output(name, f"the energy {energy}", not_finite)
    if not np.isfinite(forces).all():
        atom = int(np.argwhere(~np.isfinite(forces))[0, 0])
        raise _bad_output(name, f"the force {forces[atom].tolist()} on atom {atom}", not_finite)
    if stress is not None and not np.isfinite(stress).all():
        raise _bad_output(name, f"the stress {stress.tolist()}", not_finite)
    sizes = np.linalg.norm(forces, axis=1)
    if not sizes.max() <= max_force:
        raise ReferenceError(
            f"reference {name!r}: the force on atom {int(sizes.argmax())} is {sizes.max():.4g} eV/Å, above"
            f" reference.max_force = {max_force:g} eV/Å; such a frame is not worth learning",
            failure=FailureClass.UNPHYSICAL_GEOMETRY,
        )
    return replace(result, energy=energy, forces=forces, stress=stress)


def _bad_output(name: str, seen: str, failure: FailureClass = FailureClass.BAD_OUTPUT) -> ReferenceError:
    return ReferenceError(f"reference {name!r} gave {seen}; no label", failure=failure)


@contextmanager
def _standard_error_kept(directory: Path) -> Iterator[None]:
    """Sends standard error of this process and of its programs to a file; does nothing outside the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    usual = os.dup(2)
    try:
        with (directory / _STANDARD_ERROR).open("ab") as file:
            os.dup2(file.fileno(), 2)
        yield
    finally:
        os.dup2(usual, 2)
        os.close(usual)


@contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    """Raises ``_TimeIsUp`` in the body after ``seconds``; does nothing outside the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    is_armed = True
    others = set(psutil.Process().children(recursive=True))

    def ring(_signal: int, _frame: FrameType | None) -> None:
        if is_armed:
            # Before the exception: once a launcher such as mpirun is gone, its ranks are nobody's children.
            _end_programs(others)
            raise _TimeIsUp

    previous = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds, _REPEAT_S)
    try:
        yield
    finally:
        is_armed = False
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, previous)


def _end_programs(others: set[psutil.Process]) -> None:
    """Kills the processes below this one that the calculation started, wherever they work, and none of ``others``."""
    for process in psutil.Process().children(recursive=True):
        if process not in others:
            with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                process.kill()
