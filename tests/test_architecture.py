"""What ARCHITECTURE.md and README.md promise of the code, checked against the code."""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

from alpot.cli import app
from alpot.config_file import parse_campaign

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")
MODULES = {path.relative_to(ROOT).as_posix(): ast.parse(path.read_text("utf-8")) for path in ROOT.glob("alpot/**/*.py")}

#: Which rooms a room may use besides itself; everybody may use ``errors``. The order is that of the imports: a room
#: uses those above it only, and only those that are named.
MAY_USE = {
    "config": set(),
    "config_file": {"config"},
    "store": {"config"},
    "potential": {"config", "store", "__version__"},
    "structures": {"config", "store"},
    "reference": {"config", "store", "potential"},
    "exploration": {"config", "store", "potential", "structures"},
    "validation": {"config", "store", "potential", "structures"},
    "campaign": {"config", "store"},
    "platforms": {"config", "store", "campaign"},
    "report": {"config", "config_file", "store", "campaign"},
    "subjects": {
        "__version__",
        *("config", "config_file", "store", "potential", "structures", "reference", "exploration", "validation"),
        *("campaign", "platforms", "report"),
    },
    "cli": {"config_file", "store", "subjects", "report", "__version__"},
    "__init__": {"potential"},
    "__main__": {"cli"},
    "errors": set(),
}


def room_of(name: str) -> str:
    """``alpot/store/files.py`` and ``alpot.store.files`` are of the room ``store``."""
    return re.split(r"[./]", name.removesuffix(".py"))[1]


def imported(tree: ast.AST) -> Iterator[str]:
    """Dotted names of all that a module imports, wherever in it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide which room is used"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", MODULES)
def test_imports_run_one_way(path):
    room = room_of(path)
    used = {room_of(name) for name in imported(MODULES[path]) if name.startswith("alpot.")}
    assert used - {room, "errors"} <= MAY_USE[room]


def test_the_order_of_the_rooms_has_no_cycle():
    above = {"errors", "__version__"}
    for room, used in MAY_USE.items():
        if room not in ("__init__", "__main__"):  # the first imports the calculator only when a potential is asked for
            assert used <= above, room
            above.add(room)


def test_the_campaign_knows_no_atoms():
    heavy = {"ase", "torch", "torchani", "h5py", "numpy", "vesin"}
    for path, tree in MODULES.items():
        if room_of(path) == "campaign":
            assert not heavy & {name.split(".")[0] for name in imported(tree)}, path


@pytest.mark.parametrize(
    ("module", "heavy"),
    [("alpot", "torch parsl ase h5py torchani"), ("alpot.campaign.policy", "torch parsl ase h5py torchani numpy")],
)
def test_light_modules_load_nothing_heavy(module, heavy):
    code = f"import sys, {module}; print(*sorted(set({heavy.split()}) & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_only_the_store_opens_ledger_and_containers():
    for path, tree in MODULES.items():
        if room_of(path) != "store":
            assert not {"sqlite3", "h5py"} & {name.split(".")[0] for name in imported(tree)}, path


# ------------------------------------------------------------------------------------- documented and fully typed

Function = ast.FunctionDef | ast.AsyncFunctionDef


def public(body: list[ast.stmt], owner: str) -> Iterator[tuple[str, ast.ClassDef | Function]]:
    """Public classes, functions and methods of a module; what is nested in functions is nobody else's business."""
    for node in body:
        if isinstance(node, ast.ClassDef | Function) and not node.name.startswith("_"):
            yield f"{owner}.{node.name}", node
            if isinstance(node, ast.ClassDef):
                yield from public(node.body, f"{owner}.{node.name}")


PUBLIC = [item for path, tree in MODULES.items() for item in public(tree.body, path)]


def is_property_of_a_protocol(name: str) -> bool:
    """A protocol's properties are its attributes, and its own docstring describes them."""
    owner = dict(PUBLIC).get(name.rpartition(".")[0])
    member = dict(PUBLIC)[name]
    is_property = isinstance(member, Function) and "property" in map(ast.unparse, member.decorator_list)
    return is_property and isinstance(owner, ast.ClassDef) and "Protocol" in map(ast.unparse, owner.bases)


def untyped(function: Function) -> list[str]:
    """Arguments without a type; ``return`` where that has none."""
    arguments = function.args
    all_arguments = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg]
    names = [a.arg for a in all_arguments if a is not None and a.annotation is None and a.arg not in ("self", "cls")]
    return names + (["return"] if function.returns is None else [])


def test_every_module_says_first_why_it_exists():
    assert [path for path, tree in MODULES.items() if not ast.get_docstring(tree)] == []


def test_public_functions_are_typed():
    functions = {name: node for name, node in PUBLIC if isinstance(node, Function)}
    assert len(functions) > 150  # the count sees them
    assert {name: untyped(node) for name, node in functions.items() if untyped(node)} == {}


def test_public_classes_and_functions_are_documented():
    silent = [name for name, node in PUBLIC if not ast.get_docstring(node)]
    assert [name for name in silent if not is_property_of_a_protocol(name)] == []


# ------------------------------------------------------------------------------------------------------ the README


def blocks(language: str) -> list[str]:
    """The code blocks of the README in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)


def verbs() -> set[str]:
    """The commands that typer knows."""
    return set(typer.main.get_command(app).commands)


def test_campaign_files_in_the_readme_are_valid():
    files = [block for block in blocks("toml") if "[material]" in block]
    assert files
    for text in files:
        parse_campaign(text, "README.md")


def test_other_tables_in_the_readme_fit_into_a_campaign_file():
    for block in blocks("toml"):
        data = tomllib.loads(block)
        if "reference" in data and "material" not in data:
            parse_campaign('[material]\nelements = ["Al"]\n' + block, "README.md")


def test_the_table_of_verbs_is_complete():
    assert set(re.findall(r"^\| `alpot ([a-z]+)", README, re.MULTILINE)) == verbs()


def test_commands_in_the_readme_exist():
    lines = [line for block in blocks("console") for line in block.splitlines()]
    assert lines
    for line in lines:
        program, *arguments = line.split()
        if program == "alpot":
            assert arguments[0] in verbs(), line
        elif "/" in program:
            assert (ROOT / program).is_file(), line
        elif program == "python":
            assert (ROOT / arguments[0]).is_file(), line


def test_python_in_the_readme_compiles():
    assert blocks("python")
    for block in blocks("python"):
        ast.parse(block)


@pytest.mark.parametrize("document", ["README.md", "ARCHITECTURE.md"])
def test_documents_name_files_that_exist(document):
    text = (ROOT / document).read_text("utf-8")
    folders = ("alpot", "tests", "scripts", "workflows", "reference_data")
    named = set(re.findall(rf"(?<![\w/])((?:{'|'.join(folders)})/[\w./-]*\w)", text))
    assert named
    # A clean checkout has no compiled code yet.
    lasting = {name.removesuffix("/__pycache__") for name in named}
    assert [name for name in sorted(lasting) if not (ROOT / name).exists()] == []
