"""Has every file of the corpus read by the function that reads its kind, each in a process of its own.

Run as a program: ``python reading.py FOLDER`` makes the corpus there, and prints one line of JSON per file. A process
has few GB of memory and some seconds: what needs more is killed, and that is a result too.
"""

import json
import os
import resource
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parent))

from corpus import LEVEL, TOML, Case, write_corpus

from alpot.campaign.apps import published_result
from alpot.campaign.events import Task
from alpot.campaign.subject import Kind
from alpot.config import FileStarts, Material
from alpot.config_file import parse_campaign
from alpot.errors import AlpotError
from alpot.potential.calculator import AlpotCalculator
from alpot.reference.eam import open_eam
from alpot.report.status import campaign_status
from alpot.store.checkpoint import Checkpoint
from alpot.store.directory import CampaignDirectory
from alpot.store.formats import read_labelled
from alpot.store.frames import read_frames
from alpot.store.labels import read_label
from alpot.store.ledger import Ledger
from alpot.structures.files import draw_from_file
from alpot.subjects.exports import export_labels
from alpot.subjects.fork import fork
from alpot.subjects.imports import import_labels
from alpot.subjects.launch import prepare

#: Of address space, on top of what the libraries have taken already.
MEMORY = 4 * 2**30
SECONDS = 10


def _structure(path: Path) -> None:
    starts = FileStarts(path=path.name)
    draw_from_file(Material(elements=("Al",)), starts, np.random.default_rng(0), base_directory=path.parent)


def _result(path: Path) -> None:
    task = Task("label-000001", Kind.LABEL, {"candidate": "explore-000001/1"})
    result = published_result(CampaignDirectory(path), task)
    assert result is None or {"status", "attempt"} <= result.keys()


def _fork(path: Path) -> None:
    directory = CampaignDirectory.open(path)
    fork(directory, parse_campaign(TOML, "c"), TOML.encode(), path.with_suffix(".toml"), path.parent / "fork")


def _prepare(path: Path) -> None:
    launch = prepare(path)
    launch.directory.holder()
    import_labels(launch.directory, launch.config)


def _id(path: Path) -> None:
    try:
        CampaignDirectory(path.parent).candidates_path(path.read_text())
    except ValueError:  # an invariant of ours: ids are made by us, and this is the last line of defence
        return


def _ledger(path: Path) -> None:
    with Ledger(path, read_only=True) as ledger:
        list(ledger.events())


READERS: dict[str, Callable[[Path], object]] = {
    "campaign": prepare,
    "label": read_label,
    "frames": read_frames,
    "checkpoint": lambda path: Checkpoint(path).load("x"),
    "ledger": _ledger,
    "labelled": lambda path: read_labelled(path, LEVEL),
    "structure": _structure,
    "eam": lambda path: open_eam(base_directory=path.parent, potential=path.name),
    "potential": AlpotCalculator.load,  # which is ``alpot.load``; imported here once instead of in every child
    "status": lambda path: campaign_status(CampaignDirectory.open(path)),
    "export": lambda path: export_labels(path, path.parent / "labels.xyz"),
    "fork": _fork,
    "prepare": _prepare,
    "result": _result,
    "id": _id,
}


def read(case: Case) -> dict[str, object]:
    """Has one file read in a child process; says how that went."""
    before = _tree(case.path.parent)
    readable, writable = os.pipe()
    began = time.monotonic()
    child = os.fork()
    if child == 0:
        os.close(readable)
        outcome = _outcome(case)
        os.write(writable, json.dumps(outcome).encode()[:60_000])
        os._exit(0)
    os.close(writable)
    with os.fdopen(readable, "rb") as pipe:
        said = pipe.read()
    _, status, usage = os.wait4(child, 0)
    outcome = json.loads(said) if said else {"kind": "killed", "detail": f"wait status {status}"}
    made = sorted(_tree(case.path.parent) - before)
    return {
        "name": f"{case.path.parent.parent.name}/{case.path.parent.name} {case.name}",
        **outcome,
        "seconds": round(time.monotonic() - began, 2),
        "peak_MB": usage.ru_maxrss // 1024,
        "made": made,
    }


def _outcome(case: Case) -> dict[str, object]:
    """In the child: what the reader did."""
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + MEMORY, taken + MEMORY))
    signal.setitimer(signal.ITIMER_REAL, SECONDS)  # its default action ends the process, whatever it is busy with
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)
    os.dup2(quiet, 2)
    try:
        READERS[case.reader](case.path)
    except AlpotError as error:
        return {"kind": "refused", "detail": f"{type(error).__name__}: {error}"[:2000]}
    except BaseException:  # noqa: BLE001 - recorded, and the test fails
        return {"kind": "crashed", "detail": traceback.format_exc()[-2500:]}
    return {"kind": "read", "detail": ""}


def _tree(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def main(folder: Path) -> None:
    """Reads the whole corpus; what would be the proof of code that ran is ``folder/canary``."""
    torch.set_num_threads(1)
    canary = folder / "canary"
    for case in write_corpus(folder / "corpus", canary):
        sys.stdout.write(json.dumps({**read(case), "canary": canary.exists()}) + "\n")
        sys.stdout.flush()  # before the next child is forked, which would write it again
        canary.unlink(missing_ok=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
