"""The user's own Parsl configuration: code that is run when it is named, hashed, and checked before it may listen."""

import hashlib
import json

import pytest
from running import SMALL, Run, assert_complete

from alpot.campaign.subject import Kind
from alpot.config import Resources
from alpot.errors import ConfigError
from alpot.platforms.registry import open_platform
from alpot.store.directory import CampaignDirectory

GOOD = """
import sys
from pathlib import Path

from parsl import Config
from parsl.executors import HighThroughputExecutor, MPIExecutor, ThreadPoolExecutor
from parsl.launchers import SimpleLauncher
from parsl.providers import LocalProvider

PROVIDER = {"launcher": SimpleLauncher(), "worker_init": f"export PATH={Path(sys.executable).parent}:$PATH"}

def executor(label, **options):
    provider = LocalProvider(init_blocks=1, max_blocks=1, **PROVIDER)
    chosen = {"address": "127.0.0.1", "max_workers_per_node": 2, "cores_per_worker": 1e-3} | options
    return HighThroughputExecutor(label=label, provider=provider, **chosen)

config = Config(executors=[executor("explore"), executor("label")], strategy_period=0.5)
"""


def opened(folder, text):
    path = folder / "my_parsl.py"
    path.write_text(text)
    return open_platform(Resources(platform="parsl", parsl_config=str(path)))


def test_pools_slots_and_the_hash_of_what_was_run(tmp_path):
    platform = opened(tmp_path, GOOD)
    assert platform.slots == {"explore": 2, "label": 2}
    assert platform.pool_of == dict.fromkeys(Kind, "explore") | {Kind.LABEL: "label", Kind.MEASURE: "label"}
    assert platform.provenance == {
        "parsl_config": str(tmp_path / "my_parsl.py"),
        "parsl_config_sha256": hashlib.sha256(GOOD.encode()).hexdigest(),
    }
    assert not list(tmp_path.glob("__pycache__"))
    assert [name for name, _ in platform.dry_run(CampaignDirectory(tmp_path))] == ["explore.txt", "label.txt"]


# Parsl looks at all networks of the machine where no address is given, and forgets to close what it looks with.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (('executor("label")', 'executor("label", encrypted=False)'), "'label' has encrypted=False: anybody"),
        (('executor("label")', 'executor("label", address=None)'), "address=None and would listen on every network"),
        (('executor("label")', 'executor("label", address="0.0.0.0")'), "address='0.0.0.0' and would listen"),
        (('executor("label")', 'ThreadPoolExecutor(label="label")'), "'label' is a ThreadPoolExecutor; only"),
        (
            ('executor("label")', 'MPIExecutor(label="label", provider=LocalProvider(**PROVIDER))'),
            "'label' is an MPIExecutor without encryption",
        ),
        (('executor("label")', 'executor("labels")'), "are labelled ['explore', 'labels']; allowed are explore, label"),
        (
            ("config = Config", "configuration = Config"),
            "must define `config`, a parsl.Config, but its `config` is None",
        ),
        (("config = Config", "1 / 0"), "cannot be run: "),
    ],
)
def test_what_is_refused(tmp_path, change, complaint):
    with pytest.raises(ConfigError) as caught:
        opened(tmp_path, GOOD.replace(*change))
    assert complaint in str(caught.value) and "my_parsl.py" in str(caught.value)


def test_only_a_file_that_is_named_is_run(tmp_path):
    with pytest.raises(ConfigError, match=r"needs resources\.parsl_config"):
        open_platform(Resources(platform="parsl"))
    with pytest.raises(ConfigError, match=r"'my_parsl.py'; it must be an absolute path"):
        open_platform(Resources(platform="parsl", parsl_config="my_parsl.py"))
    with pytest.raises(ConfigError, match=r"cannot read /no/such\.py: No such file"):
        open_platform(Resources(platform="parsl", parsl_config="/no/such.py"))


def test_a_file_that_everybody_may_write_to(tmp_path):
    path = tmp_path / "my_parsl.py"
    path.write_text("raise SystemExit('it was run')")
    path.chmod(0o666)
    with pytest.raises(ConfigError, match="everybody may write to"):
        open_platform(Resources(platform="parsl", parsl_config=str(path)))


@pytest.mark.slow
def test_a_campaign(tmp_path):
    (tmp_path / "my_parsl.py").write_text(GOOD)
    directory = CampaignDirectory.create(tmp_path / "campaign", json.dumps({}).encode(), tmp_path / "campaign.toml")
    run = Run(directory, SMALL, {"platform": "parsl", "parsl_config": str(tmp_path / "my_parsl.py")})
    try:
        assert run.end() == (0, "finished\n", "")
        assert_complete(directory)
    finally:
        run.clear()
