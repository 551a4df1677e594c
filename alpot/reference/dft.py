"""Makes a reference of a density-functional code: runs it, believes it or not, and tries again in other ways."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import BaseCalculator
from ase.units import Rydberg

from alpot.config import Dft
from alpot.errors import FOR_THE_USER, ConfigError, FailureClass, ReferenceError, UsageError
from alpot.reference.box import with_box
from alpot.reference.dft_code import Calculation, DftCode, OutputError, Reading, at_zero_smearing, smearing_of
from alpot.reference.failures import evidence, of_exit_status
from alpot.reference.kpoints import kpoint_grid
from alpot.reference.ladder import Ladder, Rung, Trouble, dotted_keys, is_below, merged, without
from alpot.reference.launcher import allotted_cores, allotted_ranks, with_launcher
from alpot.reference.program import STANDARD_ERROR, Run, run_program
from alpot.reference.protocol import ReferenceResult
from alpot.reference.reference_calculator import ReferenceAsCalculator

#: Å; a density is a good beginning for atoms that have moved by less (scripts/bench_density_restart.py).
_NEAR = 0.1
#: eV; who gives less has thought of Rydberg or Hartree.
_LOWEST_CUTOFF = 60.0
#: eV/Å; the mean of all forces is nothing but error. The largest that a sound output of our corpus has, with settings
#: that are far too cheap, is 0.001.
_NET_FORCE = 0.1
#: Bytes at the end of each of a code's logs that are searched for symptoms.
_BYTES_READ = 2**21
#: Bytes that are left on a disk which is as good as full.
_FULL_DISK = 2**16


class RunFailed(Exception):
    """One run did not give a label; ``trouble`` says why."""

    def __init__(self, trouble: Trouble, message: str, cause: BaseException, directory: Path) -> None:
        super().__init__(message)
        self.trouble = trouble
        self.message = message
        self.cause = cause
        self.directory = directory


@dataclass(frozen=True, kw_only=True)
class _Way:
    """In which way a calculation is tried; the fields are those of ``Rung``, and the density to start from."""

    change: Mapping[str, Any] = field(default_factory=dict)
    before: Mapping[str, Any] = field(default_factory=dict)
    before_bands: float = 1.0
    bands: float = 1.0
    ranks: float = 1.0
    start: Path | None = None

    @property
    def prepared(self) -> _Way:
        """The way of the preparatory run."""
        return replace(self, change=merged(self.change, self.before), bands=self.bands * self.before_bands)

    def after(self, step: Rung) -> _Way:
        """The way that one rung further leads."""
        return _Way(
            change=merged(self.change, step.change),
            before=step.before,
            before_bands=step.before_bands,
            bands=self.bands * step.bands,
            ranks=self.ranks * step.ranks,
        )


@dataclass
class _Course:
    """What one label has taken so far.

    Attributes:
        runs: what each run took.
        climbed: what was tried after what, for the record.
    """

    runs: list[Run] = field(default_factory=list)
    climbed: list[dict[str, Any]] = field(default_factory=list)

    def costs(self) -> dict[str, Any]:
        """Core-seconds (time on all cores that were held), CPU seconds, and memory in MB."""
        memory = [run.peak_memory_MB for run in self.runs if run.peak_memory_MB is not None]
        return {
            "core_seconds": round(sum(run.wall_s for run in self.runs) * allotted_cores(), 3),
            "cpu_seconds": round(sum(run.cpu_s for run in self.runs), 3),
            **({"peak_memory_MB": max(memory)} if memory else {}),
        }


@dataclass
class DftReference:
    """A reference that computes with a density-functional code; see ``alpot.reference.protocol``.

    Attributes:
        code: the code.
        dft: the level of theory in physical terms.
        arguments: what is passed on in the code's own words.
        described: the same with hashes in place of files.
        base_directory: folder of the campaign file.
        densities: folder in which the density of each calculation is kept, for the next one to start from it if that
            is of nearly the same frame; None: all start from the beginning.
            What is computed then depends on what was computed before, within the tolerance of self-consistency.
        is_cheap: never.
    """

    code: DftCode
    dft: Dft
    arguments: Mapping[str, Any]
    described: Mapping[str, Any]
    base_directory: Path
    densities: Path | None = None
    is_cheap: bool = False
    _kept: tuple[Atoms, Path] | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        for key in dotted_keys(self.arguments):
            setter = next((by for owned, by in self.code.owned.items() if is_below(key, (owned,))), None)
            if setter is not None:
                raise ConfigError(f"reference.arguments sets {key}, which {setter} decides; set that instead")
        if self.code.is_periodic and self.dft.cutoff is None:
            raise ConfigError(f"reference.code = {self.name!r} needs reference.dft.cutoff in eV, e.g. cutoff = 400.0")
        if self.dft.cutoff is not None and self.dft.cutoff < _LOWEST_CUTOFF:
            raise ConfigError(
                f"reference.dft.cutoff = {self.dft.cutoff:g}: it is in eV, and no code converges anything below"
                f" {_LOWEST_CUTOFF:g} eV; {self.dft.cutoff:g} Ry are {self.dft.cutoff * Rydberg:.0f} eV"
            )
        kind, _ = smearing_of(self.dft, self.code.smearing_default)
        if kind == "none" and self.dft.smearing_width is not None:
            raise ConfigError(
                f"reference.dft.smearing_width = {self.dft.smearing_width:g} has no effect: {self.name!r} smears"
                f" nothing with material = {self.dft.material!r}; name a reference.dft.smearing, or remove the width"
            )
        if not self.code.is_periodic and self.dft.cutoff is not None:
            raise ConfigError(f"reference.dft.cutoff has no meaning for reference.code = {self.name!r}; remove it")

    @property
    def name(self) -> str:
        """How the campaign file calls the code."""
        return self.code.name

    def settings(self) -> dict[str, Any]:
        """The level of theory: the code, its settings, pseudopotentials by their content; not how it converges."""
        said = self.dft.model_dump(
            mode="json", exclude={"program", "pseudopotential_folder", "pseudopotentials", "material"}
        )
        kind, width = smearing_of(self.dft, self.code.smearing_default)
        meant = {"kpoint_density": self.dft.kpoints_per_length, "smearing": kind, "smearing_width": width}
        return {
            "code": self.name,
            "version": self.code.level_version,
            "dft": said | meant,
            "pseudopotentials": {element: self._pseudopotential(element)[1] for element in self.dft.pseudopotentials},
            "arguments": without(self.described, self.code.free),
            "energy": "free energy F = E - TS, of which the forces are derivatives",
        }

    def check(self, elements: Sequence[str]) -> None:
        """Looks for program, pseudopotentials and elements; see ``ReferenceCalculator.check``."""
        for element in elements:
            self._pseudopotential(element)
        self._program()
        self.code.check(self.dft)
        with tempfile.TemporaryDirectory(prefix="alpot-check-") as scratch:
            positions = [(3.0 * i, 0, 0) for i in range(len(elements))]
            frame = Atoms(elements, positions=positions, cell=[12] * 3, pbc=self.code.is_periodic)
            self.code.write(self.calculation(frame, Path(scratch)))

    def compute(self, atoms: Atoms, directory: Path) -> ReferenceResult:
        """Computes one frame, climbing the ladder as far as it takes; see ``ReferenceCalculator.compute``."""
        course = _Course()
        calculation, reading = self._climb(atoms, directory, course)
        self._refuse_net_force(reading, course)
        if self.densities is not None and self.code.restart:
            self._keep(calculation, self.densities)
        self._discard(directory)
        has_stress = bool(atoms.pbc.all()) and reading.stress is not None
        return ReferenceResult(
            energy=reading.energy,
            forces=reading.forces,
            stress=reading.stress if has_stress else None,
            details={**course.costs(), **self._facts(calculation, reading), "ladder": course.climbed},
        )

    def calculator(self, directory: Path) -> BaseCalculator:
        """An ASE calculator that starts from the density of its last calculation where that helps."""
        return ReferenceAsCalculator(replace(self, densities=directory / "density"), directory)

    def _refuse_net_force(self, reading: Reading, course: _Course) -> None:
        net = np.linalg.norm(reading.forces.mean(axis=0))
        if not net <= _NET_FORCE:
            raise ReferenceError(
                f"reference {self.name!r}: the mean of the forces is {net:.2g} eV/Å, where it should be 0, above"
                f" {_NET_FORCE:g}: the grid is too coarse; raise"
                f" {'reference.dft.cutoff' if self.code.is_periodic else 'it in reference.arguments'}",
                failure=FailureClass.BAD_OUTPUT,
                is_final=True,
                core_seconds=course.costs()["core_seconds"],
            )

    # ---------------------------------------------------------------------------------------------- the ladder

    def _climb(self, atoms: Atoms, directory: Path, course: _Course) -> tuple[Calculation, Reading]:
        way, rung = _Way(start=self._start(with_box(atoms))), -1
        while True:
            try:
                if way.before:
                    prepared = self.calculation(atoms, _next(directory, course), way.prepared)
                    self._run(prepared, way, course)
                    way = replace(way, start=prepared.directory)
                calculation = self.calculation(atoms, _next(directory, course), way)
                return calculation, self._run(calculation, way, course)
            except RunFailed as failure:
                self._discard(directory)  # or the rungs of large frames fill the disk
                trouble = failure.trouble
                if way.start is not None and not way.before:
                    course.climbed.append({"after": trouble.symptom, "why": "start from atomic densities instead"})
                    way = replace(way, start=None)
                    continue
                found = self.ladder.next_rung(trouble, rung, ranks=allotted_ranks(way.ranks))
                if found is None:
                    raise self._given_up(failure, course) from failure.cause
                rung, step = found, self.ladder.rung[found]
                way = way.after(step)
                course.climbed.append({"after": trouble.symptom, **step.record()})

    def _run(self, calculation: Calculation, way: _Way, course: _Course) -> Reading:
        directory = calculation.directory
        directory.mkdir(parents=True, exist_ok=True)
        self.code.write(calculation)
        output = directory / self.code.output
        command = self.code.command(calculation, self._program())
        if not self.code.starts_ranks:
            command = with_launcher(command, share=way.ranks)
        run = run_program(command, directory, output)
        course.runs.append(run)
        return judged(self.code, self.ladder, calculation, run.status)

    def _given_up(self, failure: RunFailed, course: _Course) -> ReferenceError:
        tried = f", in {len(course.climbed) + 1} ways" if course.climbed else ""
        # What the user has to mend, and may mend only if it is named.
        is_to_mend = failure.trouble.failure in FOR_THE_USER and failure.trouble.said
        said = f"; it says: {failure.trouble.said}" if is_to_mend else ""
        return ReferenceError(
            f"reference {self.name!r} failed ({failure.trouble.symptom}{tried}): {failure.message}{said}",
            failure=failure.trouble.failure,
            evidence="\n".join([*map(_told, course.climbed), evidence(failure.cause, failure.directory)]),
            is_final=failure.trouble.failure in _CERTAIN,
            core_seconds=course.costs()["core_seconds"],
        )

    def _program(self) -> str:
        """The full path of the code's program; ``UsageError`` if it is not there."""
        program = self.dft.program or self.code.program
        found = shutil.which(program)
        if found is None:
            raise UsageError(
                f"reference {self.name!r} needs the program {program!r}, which is not on the PATH; install it with"
                f" `{self.code.install}`, or say where it is in reference.dft.program"
            )
        return found

    @cached_property
    def ladder(self) -> Ladder:
        """What is tried when a run fails."""
        return Ladder.of(self.name)

    # --------------------------------------------------------------------------------------------- one calculation

    def calculation(self, atoms: Atoms, directory: Path, way: _Way | None = None) -> Calculation:
        """A calculation of a frame as its code is asked for it; nothing is written yet."""
        way = way or _Way()
        if atoms.pbc.any() and not self.code.is_periodic:
            raise ReferenceError(
                f"{self.name} computes without periodic boundaries; the frame has pbc {atoms.pbc.tolist()}",
                failure=FailureClass.UNPHYSICAL_GEOMETRY,
            )
        boxed = with_box(atoms)
        return Calculation(
            atoms=boxed,
            directory=directory,
            dft=self.dft,
            pseudopotentials={element: self._pseudopotential(element)[0] for element in sorted(set(atoms.symbols))},
            arguments=merged(self.arguments, way.change),
            kpoints=kpoint_grid(boxed, self.dft.kpoints_per_length),
            bands=way.bands,
            ranks=allotted_ranks(way.ranks),
            start_from=way.start,
        )

    def _pseudopotential(self, element: str) -> tuple[str, str]:
        if element not in self._found:
            self._found[element] = self.code.find_pseudopotential(element, self.dft, self.base_directory)
        return self._found[element]

    @cached_property
    def _found(self) -> dict[str, tuple[str, str]]:
        return {}

    def _facts(self, calculation: Calculation, reading: Reading) -> dict[str, Any]:
        """What is worth keeping with the label; energies in eV, moments in Bohr magnetons, charges in e."""
        facts = {"energy": "free_energy", **reading.facts}
        if reading.smearing_energy is not None:
            kind, width = calculation.smearing(self.code.smearing_default)
            zero = at_zero_smearing(reading.energy, reading.smearing_energy, kind)
            facts |= {"smearing": kind, "smearing_width_eV": width, "energy_at_zero_smearing": zero}
        if reading.magnetic_moment is not None:
            facts["magnetic_moment"] = reading.magnetic_moment
        if reading.magnetic_moments is not None:
            facts["magnetic_moments"] = reading.magnetic_moments.tolist()
        if reading.charges is not None:
            facts |= {"charges": reading.charges.tolist(), "charges_method": reading.charges_method}
        return facts

    # ------------------------------------------------------------------------------------------------ the density

    def _start(self, atoms: Atoms) -> Path | None:
        if self._kept is None:
            return None
        former, directory = self._kept
        is_near = (
            any((directory / name).exists() for name in self.code.restart)
            and len(former) == len(atoms)
            and (former.numbers == atoms.numbers).all()
            and (former.pbc == atoms.pbc).all()
            and np.allclose(former.cell.array, atoms.cell.array, rtol=0, atol=1e-6)
            and np.linalg.norm(former.positions - atoms.positions, axis=1).max() < _NEAR
        )
        return directory if is_near else None

    def _keep(self, calculation: Calculation, place: Path) -> None:
        self._kept = None
        with suppress(OSError):  # a beginning for the next calculation is not worth the label of this one
            shutil.rmtree(place, ignore_errors=True)
            place.mkdir(parents=True)
            for name in self.code.restart:
                if (calculation.directory / name).exists():
                    shutil.move(calculation.directory / name, place / name)
            self._kept = (calculation.atoms, place)

    def _discard(self, directory: Path) -> None:
        """Removes what is large of all runs."""
        for run in directory.glob("run-*"):
            for name in self.code.restart:
                path = run / name
                if path.is_dir():
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    path.unlink(missing_ok=True)


#: Failures that another attempt with the same ladder would end in again.
_CERTAIN = frozenset({FailureClass.NOT_CONVERGED, FailureClass.UNPHYSICAL_GEOMETRY})


def judged(code: DftCode, ladder: Ladder, calculation: Calculation, status: int) -> Reading:
    """What a run says that has ended with this exit status.

    Raises:
        RunFailed: it is no label.
    """
    try:
        if status != 0:
            raise OutputError(f"the program ended with status {status}")
        return code.believe(calculation)
    except OutputError as error:
        said = _said(code, calculation.directory)
        found = ladder.diagnose(said, status=status, told=error.symptom)
        trouble = found or _unknown(status, calculation.directory)
        raise RunFailed(trouble, str(error), error, calculation.directory) from error


def _said(code: DftCode, directory: Path) -> list[str]:
    """The lines that a code and its launcher have written, as far as they can be looked through."""
    lines: list[str] = []
    for name in (STANDARD_ERROR, *code.logs, code.output):
        if (directory / name).is_file():
            with (directory / name).open("rb") as file:
                file.seek(max(0, (directory / name).stat().st_size - _BYTES_READ))
                lines += file.read().decode(errors="replace").splitlines()
    return lines


def _told(step: Mapping[str, Any]) -> str:
    """One step of a ladder as a line of evidence."""
    return f"--- after {step['after']}: {step['why']}"


def _next(directory: Path, course: _Course) -> Path:
    """The folder of the next run."""
    return directory / f"run-{len(course.runs)}"


def _unknown(status: int, directory: Path) -> Trouble:
    """What has happened where nothing was said: on a full disk a program cannot even say that."""
    failure = of_exit_status(status)
    if shutil.disk_usage(directory).free < _FULL_DISK:
        failure = FailureClass.NODE_LOST
    if failure is FailureClass.UNKNOWN and status == 0:
        failure = FailureClass.BAD_OUTPUT
    return Trouble(failure.value, failure)
