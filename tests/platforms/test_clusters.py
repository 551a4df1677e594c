"""Job scripts of clusters as they would be submitted, and what is refused before anything is."""

import json
import re
import shlex
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from alpot.campaign.subject import Kind
from alpot.config import Pool, Resources
from alpot.config_file import parse_campaign
from alpot.errors import ConfigError, UsageError
from alpot.platforms.registry import open_platform
from alpot.store.directory import CampaignDirectory

MINIMAL = '[material]\nelements = ["Al"]\n[reference]\ncode = "emt"\n'
SIGN = {"slurm": "#SBATCH", "pbs": "#PBS", "lsf": "#BSUB"}
LABEL = {"partition": "cpu", "account": "phys", "walltime": "04:00:00", "blocks": [0, 3], "memory": 8}


def scripts(platform: str, folder: Path, **pools: dict) -> dict[str, str]:
    """Job scripts by pool."""
    opened = open_platform(Resources.model_validate({"platform": platform, "interface": "lo"} | pools))
    files = opened.dry_run(CampaignDirectory(folder / "campaign"))
    assert not (folder / "campaign").exists()  # a rehearsal leaves nothing behind
    return {name.split(".")[1]: text for name, text in files}


def options(script: str) -> list[str]:
    """What is said to the scheduler, all of it before the first command."""
    lines = [line for line in script.splitlines() if line]
    sign = next(sign for sign in SIGN.values() if f"\n{sign} " in script)
    commands = next(number for number, line in enumerate(lines) if not line.startswith("#"))
    assert not any(line.startswith(sign) for line in lines[commands:])
    return [line.removeprefix(sign).strip() for line in lines[1:commands]]


def environment(script: str) -> dict[str, str]:
    """Variables that a script exports, as a shell reads them."""
    found = re.findall(r"^export (\w+)=(.*)$", script, re.MULTILINE)
    return {name: "".join(shlex.split(value)) if "$" not in value else value for name, value in found}


def test_slurm(tmp_path):
    gpu = {"partition": "gpu", "gpus_per_worker": 1, "workers_per_node": 4, "qos": "high", "constraint": "a100&ib"}
    label = LABEL | {"ranks": 16, "threads_per_rank": 2, "scheduler_options": ["--mail-type=END"]}
    files = scripts("slurm", tmp_path, explore=gpu, label=label)
    asked = options(files["label"])
    assert {"--partition=cpu", "--account=phys", "--time=240", "--nodes=1", "--mem=8g"} <= set(asked)
    assert {"--cpus-per-task=32", "--mail-type=END"} <= set(asked)
    assert "--drain_period=10800" in files["label"]  # a quarter of the walltime is kept free for the last label
    assert {"--gres=gpu:4", "--qos=high", "--constraint=a100&ib", "--time=60"} <= set(options(files["explore"]))
    assert "--available-accelerators 0 1 2 3\n" in files["explore"] and "--drain_period=3300" in files["explore"]
    assert json.loads(environment(files["explore"])["ALPOT_LAUNCHER"]) == []


def test_pbs(tmp_path):
    label = LABEL | {"nodes": 2, "workers_per_node": 2, "ranks": 4, "gpus_per_worker": 1}
    (script,) = scripts("pbs", tmp_path, label=label).values()
    asked = options(script)
    assert {"-q cpu", "-A phys", "-l walltime=04:00:00"} <= set(asked)
    assert "-l select=2:ncpus=8:mpiprocs=8:ompthreads=1:ngpus=2:mem=8gb" in asked
    assert "mpiexec --bind-to none  -n $WORKERCOUNT" in script and "WORKERCOUNT=2" in script
    assert json.loads(environment(script)["ALPOT_LAUNCHER"]) == ["mpiexec", "-n", "{ranks}"]
    assert environment(script)["ALPOT_RANKS"] == "4"


def test_lsf(tmp_path):
    label = LABEL | {"nodes": 2, "workers_per_node": 2, "ranks": 4, "gpus_per_worker": 1}
    (script,) = scripts("lsf", tmp_path, label=label).values()
    wanted = {"-W 240", "-q cpu", "-P phys", "-n 16", '-R "span[ptile=8]"', '-gpu "num=2"', '-R "rusage[mem=8GB/host]"'}
    assert wanted <= set(options(script))
    assert "jsrun -n 2 -r 1" in script


@pytest.mark.parametrize("platform", ["slurm", "pbs", "lsf"])
def test_every_job(platform, tmp_path):
    lines = ["module load 'qe 7.3' && echo \"$HOME\"", "ulimit -s unlimited"]
    (script,) = scripts(platform, tmp_path, label=LABEL | {"worker_init": lines, "threads_per_rank": 3}).values()
    assert "\n" + "\n".join(lines) + "\n" in script  # verbatim
    assert environment(script)["OMP_NUM_THREADS"] == "3"
    assert "export ALPOT_JOB_END=$(( $(date +%s) + 14400 ))" in script
    command = next(line for line in script.splitlines() if line.startswith("process_worker_pool.py"))
    assert " -a 127.0.0.1 " in command and re.search(r"--cert_dir \S+/logs/parsl/000/label/certificates ", command)


def test_pools_and_slots():
    node = {"workers_per_node": 2, "nodes": 3, "blocks": [0, 4]}
    platform = open_platform(Resources.model_validate({"platform": "slurm", "explore": {}, "label": node}))
    assert platform.slots == {"explore": 1, "label": 24}
    assert platform.pool_of == dict.fromkeys(Kind, "explore") | {Kind.LABEL: "label", Kind.MEASURE: "label"}
    alone = open_platform(Resources.model_validate({"platform": "pbs", "label": node | {"launcher": "single"}}))
    assert alone.slots == {"label": 8}  # one group of workers for all nodes of a block
    assert set(alone.pool_of.values()) == {"label"}


def test_ranks_over_all_nodes_of_a_block(tmp_path):
    label = LABEL | {"nodes": 4, "launcher": "single", "ranks": 128}
    (script,) = scripts("slurm", tmp_path, label=label).values()
    launcher = json.loads(environment(script)["ALPOT_LAUNCHER"])
    assert {"--nodes=4", "--ntasks={ranks}", "--ntasks-per-node={ranks_per_node}"} <= set(launcher)
    assert [environment(script)[name] for name in ("ALPOT_RANKS", "ALPOT_NODES")] == ["128", "4"]
    assert not any("nodelist" in argument for argument in launcher)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('platform = "slurm"', "needs at least one of the tables [resources.explore], [resources.label]"),
        ('platform = "slurm"\nworkers = 2\n[resources.label]', "resources.workers is 2, but that is for the laptop"),
        ('platform = "pbs"\n[resources.label]\nqos = "high"', "resources.label.qos is 'high', which pbs does not know"),
        ('platform = "lsf"\n[resources.train]\nconstraint = "a"', "resources.train.constraint is 'a', which lsf does"),
    ],
)
def test_what_a_platform_refuses(text, complaint):
    config = parse_campaign(f"{MINIMAL}[resources]\n{text}", "al.toml")
    with pytest.raises(ConfigError, match=re.escape(complaint)):
        open_platform(config.resources)


def test_a_path_that_a_shell_would_misread(tmp_path):
    platform = open_platform(Resources(platform="slurm", interface="lo", label=Pool()))
    with pytest.raises(UsageError, match="a b' cannot be used on a cluster: its path may have only"):
        platform.dry_run(CampaignDirectory(tmp_path / "a b"))


KEYS = ("partition", "account", "qos", "constraint")
EVIL = st.one_of(st.text(max_size=20), st.from_regex(r"[-a-z0-9&|\[\]$`;\"'\\ #\n]{1,12}", fullmatch=True))


@settings(max_examples=150, deadline=None)
@given(key=st.sampled_from(KEYS), value=EVIL)
def test_a_name_is_refused_or_arrives_as_it_is(key, value, tmp_path_factory):
    try:
        Pool.model_validate({key: value})
    except ValidationError as error:
        assert key in str(error)
        return
    (script,) = scripts("slurm", tmp_path_factory.getbasetemp(), label={key: value}).values()
    assert options(script).count(f"--{key}={value}") == 1
    if key != "constraint":  # whose operators only stand in the scheduler's own lines
        assert shlex.split(value) == [value]


@settings(max_examples=150, deadline=None)
@given(value=EVIL.map(lambda text: f"--{text}"))
def test_an_option_is_refused_or_is_one_line(value, tmp_path_factory):
    try:
        Pool.model_validate({"scheduler_options": [value]})
    except ValidationError as error:
        assert "scheduler_options" in str(error) and not value.isprintable()
        return
    (script,) = scripts("slurm", tmp_path_factory.getbasetemp(), label={"scheduler_options": [value]}).values()
    assert f"#SBATCH {value}" in script.splitlines()
