from importlib.metadata import EntryPoint

import pytest

from alpot.campaign.subject import Kind
from alpot.config import Resources
from alpot.errors import ConfigError
from alpot.platforms import registry


def test_the_laptop_runs_everything_in_one_pool():
    platform = registry.open_platform(Resources(workers=3))
    assert platform.slots == {"workers": 3}
    assert {platform.pool_of[kind] for kind in Kind} == {"workers"}


def test_by_default_one_worker_per_core():
    assert registry.open_platform(Resources()).slots["workers"] >= 1


def test_an_unknown_platform():
    with pytest.raises(
        ConfigError, match=r"'labtop', which is not installed; did you mean 'laptop'\? known: \['laptop'"
    ):
        registry.open_platform(Resources(platform="labtop"))


class Elsewhere:
    def __init__(self, settings: Resources) -> None:
        self.slots = {"there": settings.workers}


def test_platforms_of_other_packages(monkeypatch):
    ours = [EntryPoint("elsewhere", f"{__name__}:Elsewhere", registry.GROUP)]
    broken = [EntryPoint("broken", "no_such_module:Platform", registry.GROUP)]
    monkeypatch.setitem(__import__("sys").modules, __name__, __import__("types").SimpleNamespace(Elsewhere=Elsewhere))
    monkeypatch.setattr(registry, "entry_points", lambda group: ours + broken)
    assert registry.open_platform(Resources(platform="elsewhere", workers=5)).slots == {"there": 5}
    with pytest.raises(ConfigError, match=r"'broken' \(no_such_module:Platform\) cannot be imported"):
        registry.open_platform(Resources(platform="broken"))
