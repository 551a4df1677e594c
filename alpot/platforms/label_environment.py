"""The environment that label workers of a cluster will have, for checks made before there is any job.

Modules that a pool loads in ``worker_init`` bring the programs of reference codes; on the login node they are not
loaded.
"""

from __future__ import annotations

import logging
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from alpot.config import Pool, Resources
from alpot.platforms.pools import pool_of_labels

logger = logging.getLogger(__name__)

_TIME_LIMIT_S = 60
_MARK = b"\0alpot-environment\0"


@contextmanager
def label_environment(resources: Resources) -> Iterator[None]:
    """Within it, this process has the variables that ``worker_init`` of the label pool sets; on a laptop, its own."""
    pools = {name: pool for name in ("explore", "label", "train") if (pool := getattr(resources, name)) is not None}
    lines = _lines(pools)
    if not lines:
        yield
        return
    former = dict(os.environ)
    os.environ.update(_environment_after(lines))
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(former)


def _lines(pools: dict[str, Pool]) -> tuple[str, ...]:
    return pools[pool_of_labels(pools)].worker_init if pools else ()


def _environment_after(lines: tuple[str, ...]) -> dict[str, str]:
    """The variables after a login shell has run these lines; those of this process where it cannot."""
    script = "\n".join([*lines, r"printf '\0alpot-environment\0'", "exec env -0"])
    try:
        done = subprocess.run(
            ["bash", "-l", "-c", script],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_TIME_LIMIT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        logger.warning("resources.label.worker_init cannot be tried here: %s", error)
        return {}
    _, mark, listed = done.stdout.rpartition(_MARK)
    if not mark:
        logger.warning(
            "resources.label.worker_init cannot be tried here: %s", done.stderr.decode(errors="replace").strip()
        )
        return {}
    pairs = (entry.partition("=") for entry in listed.decode(errors="surrogateescape").split("\0"))
    return {name: value for name, equals, value in pairs if name and equals}
