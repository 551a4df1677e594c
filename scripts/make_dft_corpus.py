"""Runs density-functional codes into trouble on purpose, and keeps what they write for the tests of the readers.

    PYTHONPATH=. python scripts/make_dft_corpus.py [CODE ...]

Each case says what was asked for (the declared frame and settings), runs the real program with that or with something
else, perhaps kills it or tampers with its files, and says what a campaign must make of the output: believe it, or name
this failure. The outputs go to ``tests/reference/corpus/<code>/<case>/``, the verdicts, as they are demanded here, into
``corpus.json`` beside them. Nothing is recorded when a verdict is not the demanded one.
"""

from __future__ import annotations

import gzip
import json
import os
import platform
import re
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from ase import Atoms

from alpot.config import Dft, Reference
from alpot.errors import FailureClass
from alpot.reference.box import with_box
from alpot.reference.dft import DftReference, RunFailed, judged
from alpot.reference.dft_code import Calculation
from alpot.reference.kpoints import kpoint_grid
from alpot.reference.ladder import Ladder, merged
from alpot.reference.program import STANDARD_ERROR, run_program
from alpot.reference.registry import open_reference
from tests.reference.dft_codes import rattled
from tests.reference.dft_corpus import ROOT, numbers_of

NOT_CONVERGED, BAD_OUTPUT = FailureClass.NOT_CONVERGED, FailureClass.BAD_OUTPUT
KILLED = FailureClass.OUT_OF_MEMORY  # nobody else kills without a word
UNKNOWN, NODE_LOST = FailureClass.UNKNOWN, FailureClass.NODE_LOST
UNPHYSICAL = FailureClass.UNPHYSICAL_GEOMETRY
MISSING = FailureClass.MISSING_PROGRAM


@dataclass(frozen=True, kw_only=True)
class Bench:
    """How a code is run cheaply, and how it is brought into trouble.

    Attributes:
        dft, arguments: cheap settings.
        pseudopotentials: what the corpus declares, files beside ``corpus.json`` or names.
        few_steps: arguments with which it runs out of electron steps.
        other_levels: changes to ``dft`` that its output shows.
        regions: where its output tells energy and forces, as regular expressions.
        results: the file in which its results are, if that is not its standard output.
        of_nan: the verdict on a frame that is none.
        own: cases that only this code has.
    """

    dft: dict[str, Any]
    arguments: dict[str, Any] = field(default_factory=dict)
    pseudopotentials: dict[str, str] = field(default_factory=dict)
    few_steps: dict[str, Any]
    other_levels: dict[str, dict[str, Any]]
    regions: dict[str, str]
    results: str | None = None
    of_nan: tuple[FailureClass, str | None] = (FailureClass.UNKNOWN, None)
    own: Callable[[], list[Case]] = list


@dataclass(frozen=True, kw_only=True)
class Case:
    """One output; what is not given is as in the bench.

    Attributes:
        name: what is wrong.
        verdict: None where it must be believed; else the class of failure.
        symptom: its symptom, where that is not the class itself.
        frame, dft, arguments: what is declared.
        ran_frame, ran_dft, ran_arguments: what is run, where that is something else.
        tamper: changes the inputs in a directory.
        after: changes the outputs in a directory.
        prefix: comes before the command.
        kill: share of the usual log after which it is killed, and the signal.
        status: exit status that a launcher would make of it, instead of its own.
    """

    name: str
    verdict: FailureClass | None
    symptom: str | None = None
    frame: Atoms = field(default_factory=lambda: rattled(2))
    dft: dict[str, Any] = field(default_factory=dict)
    arguments: dict[str, Any] = field(default_factory=dict)
    ran_frame: Atoms | None = None
    ran_dft: dict[str, Any] = field(default_factory=dict)
    ran_arguments: dict[str, Any] = field(default_factory=dict)
    tamper: Callable[[Path], None] | None = None
    after: Callable[[Path, Path], None] | None = None
    prefix: Sequence[str] = ()
    kill: tuple[float, signal.Signals] | None = None
    status: int | None = None


def good_cases() -> list[Case]:
    """What must be believed."""
    slab = rattled(2)
    slab.pbc = (True, True, False)
    return [
        Case(name="al1", verdict=None, frame=rattled(1)),
        Case(name="al2", verdict=None),
        Case(name="al4", verdict=None, frame=rattled(4)),
        Case(name="al8", verdict=None, frame=rattled(8), dft={"kpoint_density": 4.0}),
        Case(name="gamma", verdict=None, frame=rattled(4), dft={"kpoint_density": 0.1}),
        Case(name="slab", verdict=None, frame=slab, dft={"kpoint_density": 4.0}),
        Case(name="atom", verdict=None, frame=Atoms("Al", positions=[(0, 0, 0)])),
        Case(name="spin", verdict=None, dft={"spin": "collinear", "magnetic_moments": {"Al": 1.0}}),
        Case(name="fermi-dirac", verdict=None, dft={"smearing": "fermi-dirac"}),
        Case(name="no-smearing", verdict=None, dft={"smearing": "none"}),
    ]


def bad_cases(bench: Bench) -> list[Case]:
    """What every code can be brought into."""
    displaced, stretched, permuted, nan = rattled(2), rattled(2), rattled(4), rattled(2)
    displaced.positions[0, 1] += 0.05
    stretched.set_cell(stretched.cell.array * 1.01, scale_atoms=False)
    permuted.positions = permuted.positions[[1, 0, 2, 3]]
    nan.positions[0, 0] = float("nan")
    killed = [
        Case(name=f"killed-{percent:02d}", verdict=KILLED, kill=(percent / 100, signal.SIGKILL))
        for percent in (5, 25, 50, 75, 95)
    ]
    levels = [
        Case(name=f"other-{name}", verdict=BAD_OUTPUT, ran_dft=change) for name, change in bench.other_levels.items()
    ]
    second = [
        Case(name="no-second-file", verdict=BAD_OUTPUT, after=_without_witness),
        Case(name="empty-second-file", verdict=BAD_OUTPUT, after=_emptied_witness),
        Case(name="half-second-file", verdict=BAD_OUTPUT, after=_halved_witness),
    ]
    return [
        Case(name="few-steps", verdict=NOT_CONVERGED, symptom="scf_not_converged", ran_arguments=bench.few_steps),
        *killed,
        Case(name="killed-50-unnoticed", verdict=BAD_OUTPUT, kill=(0.5, signal.SIGKILL), status=0),
        Case(name="log-cut-at-95", verdict=BAD_OUTPUT, after=_cut_log(0.95)),
        Case(name="segmentation-fault", verdict=UNKNOWN, kill=(0.6, signal.SIGSEGV)),
        Case(name="terminated", verdict=NODE_LOST, kill=(0.6, signal.SIGTERM)),
        Case(name="file-size-limit", verdict=UNKNOWN, prefix=["prlimit", "--fsize=6000"]),
        Case(name="displaced", verdict=BAD_OUTPUT, ran_frame=displaced),
        Case(name="other-cell", verdict=BAD_OUTPUT, ran_frame=stretched),
        Case(name="permuted", verdict=BAD_OUTPUT, frame=rattled(4), ran_frame=permuted),
        Case(name="other-size", verdict=BAD_OUTPUT, ran_frame=rattled(4)),
        Case(name="nan-positions", verdict=bench.of_nan[0], symptom=bench.of_nan[1], ran_frame=nan),
        *levels,
        Case(name="log-of-other-frame", verdict=BAD_OUTPUT, after=_with_log_of(rattled(2, seed=2), {})),
        Case(name="log-of-other-cutoff", verdict=BAD_OUTPUT, after=_with_log_of(rattled(2), {"cutoff": 180.0})),
        Case(name="log-of-unconverged", verdict=NOT_CONVERGED, symptom="scf_not_converged", after=_log_of_few_steps),
        Case(name="two-runs-in-one-log", verdict=BAD_OUTPUT, after=_twice),
        Case(name="two-frames-in-one-log", verdict=BAD_OUTPUT, after=_with_log_added),
        Case(name="nan-energy", verdict=BAD_OUTPUT, after=_overwritten("energy", "NaN")),
        Case(name="nan-forces", verdict=BAD_OUTPUT, after=_overwritten("forces", "NaN")),
        Case(name="stars", verdict=BAD_OUTPUT, after=_overwritten("forces", "********")),
        Case(name="empty-log", verdict=BAD_OUTPUT, after=_emptied_log),
        *(second if bench.results is None else []),
    ]


# ------------------------------------------------------------------------------------------------- what is done after


def _log(directory: Path) -> Path:
    return directory / (_current.bench.results or _current.reference.code.output)


def _witnesses(directory: Path) -> list[Path]:
    return [directory / name for name in _current.reference.code.witness if name != _current.bench.results]


def _with_log_of(frame: Atoms, dft: dict[str, Any]) -> Callable[[Path, Path], None]:
    def put(directory: Path, scratch: Path) -> None:
        _current.run(Case(name="", verdict=None, ran_frame=frame, ran_dft=dft), scratch)
        shutil.copy(_log(scratch), _log(directory))

    return put


def _log_of_few_steps(directory: Path, scratch: Path) -> None:
    _current.run(Case(name="", verdict=None, ran_arguments=_current.bench.few_steps), scratch)
    shutil.copy(_log(scratch), _log(directory))


def _twice(directory: Path, scratch: Path) -> None:
    _log(directory).write_bytes(_log(directory).read_bytes() * 2)


def _with_log_added(directory: Path, scratch: Path) -> None:
    _current.run(Case(name="", verdict=None, ran_frame=rattled(2, seed=2)), scratch)
    _log(directory).write_bytes(_log(scratch).read_bytes() + _log(directory).read_bytes())


def _overwritten(what: str, word: str) -> Callable[[Path, Path], None]:
    """Overwrites numbers in place with ``word``, as a program does whose numbers are none."""

    def mask(region: re.Match[str]) -> str:
        return re.sub(r"-?\d*\.\d+(e[-+]?\d+)?", lambda number: word.rjust(len(number[0])), region[0])

    def overwrite(directory: Path, scratch: Path) -> None:
        for path in (_log(directory), *_witnesses(directory)):
            if b"\0" not in path.read_bytes():
                path.write_text(re.sub(_current.bench.regions[what], mask, path.read_text(), flags=re.MULTILINE))

    return overwrite


def _cut_log(share: float) -> Callable[[Path, Path], None]:
    def cut(directory: Path, scratch: Path) -> None:
        content = _log(directory).read_bytes()
        _log(directory).write_bytes(content[: int(share * len(content))])

    return cut


def _emptied_log(directory: Path, scratch: Path) -> None:
    _log(directory).write_bytes(b"")


def _without_witness(directory: Path, scratch: Path) -> None:
    for path in _witnesses(directory):
        path.unlink()


def _emptied_witness(directory: Path, scratch: Path) -> None:
    for path in _witnesses(directory):
        path.write_bytes(b"")


def _halved_witness(directory: Path, scratch: Path) -> None:
    for path in _witnesses(directory):
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


# ------------------------------------------------------------------------------------------------- Quantum ESPRESSO


def _edit_input(old: str, new: str) -> Callable[[Path], None]:
    def edit(directory: Path) -> None:
        (path,) = directory.glob("*.pwi")
        text = path.read_text()
        if old not in text:
            raise ValueError(f"{old!r} is not in {path}")
        path.write_text(text.replace(old, new))

    return edit


def _pseudopotential(content: bytes | None) -> Callable[[Path], None]:
    def put(directory: Path) -> None:
        (link,) = directory.glob("*.UPF")
        link.unlink()
        if content is not None:
            link.write_bytes(content)

    return put


def _espresso_cases() -> list[Case]:
    close, silicon = rattled(2), Path("/usr/share/espresso/pseudo/Si.pz-vbc.UPF").read_bytes()
    close.positions[1] = close.positions[0]
    return [
        Case(name="pbe0", verdict=None, frame=rattled(2), dft={"functional": "PBE0", "kpoint_density": 0.1}),
        Case(
            name="few-bands", verdict=NOT_CONVERGED, symptom="too_few_bands", ran_arguments={"system": {"nbnd": 2}},
        ),
        Case(name="no-pseudopotential", verdict=MISSING, symptom="pseudopotential", tamper=_pseudopotential(None)),
        Case(
            name="garbage-pseudopotential", verdict=MISSING, symptom="pseudopotential",
            tamper=_pseudopotential(b"<!DOCTYPE html><html>404 not found</html>\n"),
        ),
        Case(name="silicon-for-aluminum", verdict=BAD_OUTPUT, tamper=_pseudopotential(silicon)),
        Case(name="atoms-at-one-place", verdict=UNPHYSICAL, symptom="atoms_too_close", frame=close),
        Case(
            name="more-bands-than-waves", verdict=UNKNOWN, ran_arguments={"system": {"nbnd": 400}},
        ),
        Case(name="relaxation", verdict=BAD_OUTPUT, tamper=_edit_input("'scf'", "'relax'")),
        Case(name="not-self-consistent", verdict=BAD_OUTPUT, tamper=_edit_input("'scf'", "'md'\n   nstep = 2")),
        Case(name="no-forces", verdict=BAD_OUTPUT, tamper=_edit_input(".true.", ".false.")),
        Case(name="unknown-keyword", verdict=UNKNOWN, ran_arguments={"system": {"nonsense": 1}},
             tamper=_edit_input("&SYSTEM", "&SYSTEM\n   nonsense = 1")),
    ]  # fmt: skip


BENCHES = {
    "espresso": Bench(
        dft={
            "functional": "LDA", "cutoff": 200.0, "kpoint_density": 8.0, "smearing_width": 0.15,
            "pseudopotentials": {"Al": "Al.pz-vbc.UPF"},
        },
        pseudopotentials={"Al": "Al.UPF"},
        few_steps={"electrons": {"electron_maxstep": 2}},
        other_levels={
            "cutoff": {"cutoff": 180.0},
            "density-cutoff": {"density_cutoff": 900.0},
            "kpoints": {"kpoint_density": 5.0},
            "smearing": {"smearing": "gaussian"},
            "width": {"smearing_width": 0.16},
            "functional": {"functional": "PBE"},
            "charge": {"charge": 1.0},
            "spin": {"spin": "collinear"},
        },
        regions={"energy": r"^!.*$|<etot>.*?<", "forces": r"force =.*$|<forces(?s:.*?)</forces>"},
        own=_espresso_cases,
    ),
    "cp2k": Bench(
        dft={
            "cutoff": 1500.0, "kpoint_density": 6.0, "pseudopotentials": {"Al": "GTH-PBE"},
            "basis": {"Al": "SZV-MOLOPT-SR-GTH"},
        },
        arguments={"FORCE_EVAL": {"DFT": {"MGRID": {"REL_CUTOFF": "[Ry] 40"}, "QS": {"EPS_DEFAULT": 1e-10}}}},
        few_steps={"FORCE_EVAL": {"DFT": {"SCF": {"MAX_SCF": 3}}}},
        other_levels={"cutoff": {"cutoff": 1300.0}, "width": {"smearing_width": 0.12}, "charge": {"charge": 1.0}},
        regions={"energy": r"ENERGY\| Total.*$|E =.*$", "forces": r"^ +\d+ +\d+ +Al .*$|^ *Al .*$|^ *FORCES\|.*$"},
    ),
    "gpaw": Bench(
        dft={"cutoff": 150.0, "kpoint_density": 6.0, "functional": "LDA", "pseudopotentials": {"Al": "paw"}},
        few_steps={"maxiter": 3},
        other_levels={
            "cutoff": {"cutoff": 140.0},
            "kpoints": {"kpoint_density": 4.0},
            "width": {"smearing_width": 0.16},
            "functional": {"functional": "PBE"},
            "charge": {"charge": 1.0},
        },
        regions={"energy": r"^(Extrapolated|Free energy).*$", "forces": r"^ +\d+ Al .*$|\"forces\".*$"},
    ),
    "abinit": Bench(
        dft={
            "cutoff": 200.0, "kpoint_density": 7.0, "smearing": "fermi-dirac",
            "pseudopotentials": {"Al": "Pseudodojo_nc_sr_04_pbe_standard_psp8/Al.psp8"},
        },
        results="abinit.abo",
        of_nan=(NOT_CONVERGED, "kpoint_symmetry"),
        arguments={"fband": 2.0},
        few_steps={"nstep": 3},
        other_levels={
            "cutoff": {"cutoff": 180.0},
            "kpoints": {"kpoint_density": 5.0},
            "smearing": {"smearing": "gaussian"},
            "width": {"smearing_width": 0.16},
            "charge": {"charge": 1.0},
            "spin": {"spin": "collinear", "magnetic_moments": {"Al": 1.0}},
        },
        regions={"energy": r"^ *etotal +.*$|^total_energy_eV.*$", "forces": r"^ *fcart(?s:.*?)^ +[a-z]|^- \[.*$"},
    ),
}  # fmt: skip


# ------------------------------------------------------------------------------------------------- running


class Runner:
    """Runs the cases of one code."""

    def __init__(self, code: str) -> None:
        self.bench = BENCHES[code]
        self.code = code
        self.reference = self._reference({}, {})
        self.log_size = 0

    def _reference(self, dft: dict[str, Any], arguments: dict[str, Any]) -> DftReference:
        settings = Reference(
            code=self.code,
            dft=Dft(**{**self.bench.dft, **dft}),
            arguments=merged(self.bench.arguments, arguments),
        )
        reference = open_reference(settings, base_directory=Path.cwd())
        assert isinstance(reference, DftReference)
        return reference

    def calculation(self, frame: Atoms, dft: dict[str, Any], arguments: dict[str, Any], directory: Path) -> Calculation:
        """As the reference makes it."""
        reference = self._reference(dft, {})
        boxed = with_box(frame)
        return Calculation(
            atoms=boxed,
            directory=directory,
            dft=reference.dft,
            pseudopotentials={
                symbol: reference.code.find_pseudopotential(symbol, reference.dft, Path.cwd())[0]
                for symbol in sorted(set(boxed.symbols))
            },
            arguments=merged(self.bench.arguments, arguments),
            kpoints=kpoint_grid(boxed, reference.dft.kpoints_per_length),
        )

    def run(self, case: Case, directory: Path) -> int:
        """Runs a case; its exit status."""
        calculation = self.calculation(
            case.ran_frame or case.frame,
            {**case.dft, **case.ran_dft},
            merged(case.arguments, case.ran_arguments),
            directory,
        )
        code = self.reference.code
        code.write(calculation)
        if case.tamper is not None:
            case.tamper(directory)
        command = [*case.prefix, *code.command(calculation, shutil.which(code.program) or code.program)]
        output = directory / code.output
        if case.kill is None:
            return run_program(command, directory, output).status
        share, number = case.kill
        killer = threading.Thread(target=_kill, args=(output, share * self.log_size, number))
        killer.start()
        status = run_program(command, directory, output).status
        killer.join()
        # The last lines are written faster than anybody looks.
        if output.stat().st_size > share * self.log_size:
            os.truncate(output, int(share * self.log_size))
        return status


def _kill(output: Path, size: float, number: signal.Signals) -> None:
    """Kills the program below this process that writes to ``output`` once that has so many bytes."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        if output.exists() and output.stat().st_size >= size:
            for child in psutil.Process().children(recursive=True):
                with suppress(psutil.Error):
                    if child.name() not in ("python", "python3", "setpriv"):
                        child.send_signal(number)
            return
        time.sleep(0.0005)


_current: Runner


def main(codes: Sequence[str]) -> int:
    """Makes the corpora of some codes."""
    global _current
    # Fortran keeps 8 kB of its output to itself: a killed program would leave nothing of a short log.
    os.environ |= {"GFORTRAN_UNBUFFERED_ALL": "1", "OMP_NUM_THREADS": "1"}
    n_wrong = 0
    for code in codes:
        _current = Runner(code)
        rows = []
        for case in [*good_cases(), *bad_cases(_current.bench), *_current.bench.own()]:
            row = make(_current, case)
            if row is None:
                n_wrong += 1
            else:
                rows.append(row)
        text = json.dumps({"cases": rows}, indent=None).replace('{"name"', '\n{"name"')
        (ROOT / code / "corpus.json").write_text(text + "\n")
        print(f"{code}: {len(rows)} cases")
    return 1 if n_wrong else 0


def make(runner: Runner, case: Case) -> dict[str, Any] | None:
    """Makes one case, and its row in ``corpus.json``; None, with a word, where the verdict is another one."""
    code = runner.reference.code
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as scratch:
        directory = Path(folder)
        status = runner.run(case, directory)
        status = status if case.status is None else case.status
        asked = runner.calculation(case.frame, case.dft, case.arguments, directory)
        if case.after is not None:
            case.after(directory, Path(scratch))
        failure, symptom, numbers, why = None, None, {}, "a label"
        try:
            numbers = numbers_of(judged(code, Ladder.of(runner.code), asked, status))
        except RunFailed as failed:
            failure, symptom, why = failed.trouble.failure, failed.trouble.symptom, failed.message
        expected = case.symptom or (None if case.verdict is None else case.verdict.value)
        print(f"{runner.code} {case.name}: status {status}, {symptom or 'believed'}: {why}", flush=True)
        if case.name == "al2":
            runner.log_size = (directory / code.output).stat().st_size
        if (failure, symptom) != (case.verdict, expected):
            print(f"    WRONG: {case.verdict}, {expected} is demanded")
            return None
        _keep(directory, ROOT / runner.code / case.name, [code.output, STANDARD_ERROR, *code.logs, *code.witness])
    frame = asked.atoms
    declared = {
        "frame": {
            "symbols": str(frame.symbols),
            "positions": frame.positions.tolist(),
            "cell": frame.cell.tolist(),
            "pbc": frame.pbc.tolist(),
        },
        "dft": {**runner.bench.dft, **case.dft},
        "arguments": dict(asked.arguments),
        "kpoints": list(asked.kpoints),
        "pseudopotentials": runner.bench.pseudopotentials
        or {key: text.replace(sys.prefix, "/environment") for key, text in asked.pseudopotentials.items()},
    }
    return {"name": case.name, "status": status, "failure": failure, "symptom": symptom, "declared": declared,
            "numbers": numbers}  # fmt: skip


def _keep(directory: Path, place: Path, names: Sequence[str]) -> None:
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    for name in names:
        if (directory / name).is_file():
            (place / f"{name}.gz").parent.mkdir(parents=True, exist_ok=True)
            content = (directory / name).read_bytes()
            for local, word in _local(directory).items():
                content = content.replace(local.encode(), word.encode())
            (place / f"{name}.gz").write_bytes(gzip.compress(content, mtime=0))


def _local(directory: Path) -> dict[str, str]:
    """What logs tell of this machine, and what stands there instead."""
    return {str(directory): "/run", sys.prefix: "/environment", platform.node(): "node"}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or list(BENCHES)))
