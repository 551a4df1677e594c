"""What the tests of the command line share."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.command_line import Run, Said

HERE = Path(__file__).parent


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Among several processes, the whole campaigns (beside this file) come first: the last to begin should be short."""
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: item.path.parent != HERE)


@pytest.fixture
def verb(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Said]:
    """Runs a verb in this process, through the entry point, hence with exit codes and messages as a user sees them."""
    from alpot import cli

    def run(*arguments: object) -> Said:
        monkeypatch.setattr(sys, "argv", ["alpot", *map(str, arguments)])
        with pytest.raises(SystemExit) as exit_:
            cli.main()
        output = capsys.readouterr()
        return Said(int(exit_.value.code or 0), output.out, output.err)

    return run


@pytest.fixture
def launch(tmp_path: Path) -> Iterator[Callable[..., Run]]:
    """Starts a verb in a process of its own, in the test's folder; nothing of it outlives the test."""
    runs: list[Run] = []

    def begin(*arguments: object, **environment: str) -> Run:
        runs.append(Run(*arguments, cwd=tmp_path, environment=environment))
        return runs[-1]

    yield begin
    for run in runs:
        run.clear()
