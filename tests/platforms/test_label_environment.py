"""Checks on a login node see the programs that label workers will have."""

import os
import shutil

from alpot.config import Resources
from alpot.platforms.label_environment import label_environment


def test_programs_that_worker_init_brings_are_found(tmp_path):
    program = tmp_path / "bin" / "pw-of-a-module.x"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    lines = [f'export PATH="{program.parent}:$PATH"', "echo modules talk on standard output", "export QE_TEST=' a=b '"]
    resources = Resources.model_validate({"platform": "slurm", "label": {"worker_init": lines}, "train": {}})
    before = dict(os.environ)
    with label_environment(resources):
        assert shutil.which(program.name) == str(program)
        assert os.environ["QE_TEST"] == " a=b "
    assert dict(os.environ) == before and shutil.which(program.name) is None


def test_pools_that_compute_labels_besides(tmp_path):
    resources = Resources.model_validate({"platform": "slurm", "train": {"worker_init": ["export OF_TRAIN=1"]}})
    with label_environment(resources):
        assert os.environ["OF_TRAIN"] == "1"


def test_lines_that_fail_change_nothing(caplog):
    resources = Resources.model_validate(
        {"platform": "pbs", "label": {"worker_init": ["echo no such module >&2; exit 3"]}}
    )
    before = dict(os.environ)
    with label_environment(resources):
        assert dict(os.environ) == before
    assert "no such module" in caplog.text
