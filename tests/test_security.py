"""Nothing unsafe is called or loaded: what the code says, and what becomes of files that somebody made to do harm."""

import ast
import json
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
FILES = sorted(path for folder in ("alpot", "scripts", "workflows") for path in (ROOT / folder).rglob("*.py"))
TREES = {path.relative_to(ROOT).as_posix(): ast.parse(path.read_text("utf-8")) for path in FILES}

# ------------------------------------------------------------------------------------------ what the code says

#: They run what they read, or start what they are told to.
FORBIDDEN_MODULES = {
    *("pickle", "cPickle", "_pickle", "dill", "cloudpickle", "shelve", "marshal", "joblib", "yaml", "ruamel"),
    *("code", "codeop", "commands", "pty", "jsonpickle", "xmlrpc", "imp", "telnetlib"),
    # Python's XML readers follow entities, defusedxml refuses them; what ASE reads with those is in the corpus below.
    *("xml", "lxml"),
}
FORBIDDEN_CALLS = {
    *("eval", "exec", "compile", "__import__", "execfile"),
    *("os.system", "os.popen", "os.chdir", "contextlib.chdir", "os.umask", "tempfile.mktemp", "runpy.run_path"),
    *("subprocess.getoutput", "subprocess.getstatusoutput", "asyncio.create_subprocess_shell"),
    *("torch.load", "torch.jit.load", "torch.hub.load", "numpy.load", "np.load", "np.fromregex", "pandas.read_pickle"),
}
#: What a keyword must never be, whatever the function.
FORBIDDEN_KEYWORDS = {"shell": True, "allow_pickle": True, "weights_only": False, "verify": False}
#: Options that make a function whose other forms are forbidden harmless.
EXCUSED = {"torch.load": ("weights_only", True), "np.load": ("allow_pickle", False)}


def imported(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def unsafe_calls(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func)
        options = {k.arg: k.value.value for k in node.keywords if isinstance(k.value, ast.Constant)}
        computed = {k.arg for k in node.keywords if k.arg in FORBIDDEN_KEYWORDS and k.arg not in options}
        option, value = EXCUSED.get(name, ("", None))
        if name in FORBIDDEN_CALLS and not (option and options.get(option) is value):
            yield f"line {node.lineno}: {name}"
        for keyword, bad in FORBIDDEN_KEYWORDS.items():
            if options.get(keyword) is bad or keyword in computed:
                yield f"line {node.lineno}: {name}({keyword}=...)"


@pytest.mark.parametrize("path", TREES)
def test_nothing_unsafe_is_called(path):
    assert sorted(FORBIDDEN_MODULES & {name.split(".")[0] for name in imported(TREES[path])}) == []
    assert list(unsafe_calls(TREES[path])) == []


@pytest.mark.parametrize(
    "text",
    [
        "torch.load(f)",
        "torch.load(f, weights_only=False)",
        "torch.load(f, weights_only=flag)",
        "np.load(f)",
        "np.load(f, allow_pickle=True)",
        "subprocess.run(line, shell=True)",
        "subprocess.Popen(line, shell=flag)",
        "os.system(line)",
        "eval(text)",
        "tempfile.mktemp()",
    ],
)
def test_the_search_finds_what_it_looks_for(text):
    assert list(unsafe_calls(ast.parse(text)))


@pytest.mark.parametrize("text", ["torch.load(f, weights_only=True)", "subprocess.run(['ls'], shell=False)"])
def test_the_search_lets_pass_what_is_safe(text):
    assert not list(unsafe_calls(ast.parse(text)))


# -------------------------------------------------------------------------------------- files made to do harm

#: s; a file is refused long before, but the machine may be busy.
PATIENCE_S = 5.0
#: MB of memory that reading one file may take in all; the libraries take 230.
LARGEST_MB = 1000
#: What is made where the file is accepted, because there is no harm in it.
HARMLESS = {"campaign.toml: a huge integer as a count"}


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory) -> list[dict[str, Any]]:
    """What reading each file of the corpus came to, see ``tests/malicious/reading.py``."""
    folder = tmp_path_factory.mktemp("malicious")
    done = subprocess.run(
        [sys.executable, ROOT / "tests" / "malicious" / "reading.py", folder],
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_the_corpus_is_there(outcomes):
    assert len(outcomes) > 400
    assert sum(outcome["kind"] == "refused" for outcome in outcomes) > 300


def test_no_file_runs_code(outcomes):
    assert [outcome["name"] for outcome in outcomes if outcome["canary"]] == []


def test_every_file_is_read_or_refused_by_name(outcomes):
    """No traceback of a library, no process that was killed by the limits of memory and time."""
    bad = {o["name"]: o["detail"] for o in outcomes if o["kind"] not in ("refused", "read")}
    assert bad == {}


def test_refusals_take_little_time_and_memory(outcomes):
    costly = [o for o in outcomes if o["seconds"] > PATIENCE_S or o["peak_MB"] > LARGEST_MB]
    assert [(o["name"], o["seconds"], o["peak_MB"]) for o in costly] == []


def test_refused_files_leave_nothing_behind(outcomes):
    made = {o["name"]: o["made"] for o in outcomes if o["made"]}
    assert [name for name in made if not name.endswith(tuple(HARMLESS))] == []


# ----------------------------------------------------------------------------------- directories of other people


@pytest.fixture
def directory(tmp_path) -> Path:
    from alpot.store.directory import CampaignDirectory

    source = tmp_path / "c.toml"
    source.write_text('[material]\nelements = ["Al"]\n\n[reference]\ncode = "emt"\n')
    return CampaignDirectory.create(tmp_path / "c", source.read_bytes(), source).path


@pytest.mark.parametrize("verb", ["run", "reload", "repair"])
def test_a_directory_that_others_may_write_to_is_refused(verb, directory):
    from alpot.errors import CampaignDirectoryError
    from alpot.subjects.launch import prepare
    from alpot.subjects.mending import mend
    from alpot.subjects.requests import request_reload

    does = {"run": prepare, "reload": request_reload, "repair": mend}[verb]
    directory.chmod(directory.stat().st_mode | stat.S_IWOTH)
    before = sorted(directory.rglob("*"))
    with pytest.raises(CampaignDirectoryError, match="--trust-directory"):
        does(directory)
    assert sorted(directory.rglob("*")) == before
    does(directory, trust_directory=True)


def test_reading_does_not_need_trust(directory):
    """Who looks at somebody else's campaign runs nothing of it."""
    from alpot.report.status import campaign_status
    from alpot.store.directory import CampaignDirectory

    directory.chmod(0o777)
    assert campaign_status(CampaignDirectory.open(directory)).labels.done == 0
