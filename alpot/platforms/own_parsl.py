"""The platform ``parsl``: the user's own Parsl configuration, for places that nothing here knows.

The file is code and is run in the controller. It is loaded only when the campaign file names it, what is run is exactly
what was hashed, and the hash goes on record.
"""

from __future__ import annotations

import hashlib
import importlib.abc
import importlib.util
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from parsl import Config
from parsl.executors import HighThroughputExecutor, MPIExecutor
from parsl.executors.high_throughput.executor import DEFAULT_INTERCHANGE_LAUNCH_CMD

from alpot.config import Resources
from alpot.errors import ConfigError
from alpot.platforms.parsl_executor import ParslExecutor, Scaling, interchange_command, parsl_executor
from alpot.platforms.pools import NAMES, pool_of_kinds
from alpot.store.directory import CampaignDirectory

#: Addresses that stand for every interface of this machine; None is Parsl's default and means the same.
_EVERYWHERE = (None, "", "*", "0.0.0.0", "::")


class OwnParsl:
    """The platform ``parsl``; see ``alpot.campaign.executor.Platform``.

    Attributes:
        provenance: path and checksum of the file that was run.
    """

    def __init__(self, settings: Resources) -> None:
        path = _path(settings)
        content = _read(path)
        self.provenance: dict[str, Any] = {
            "parsl_config": str(path),
            "parsl_config_sha256": hashlib.sha256(content).hexdigest(),
        }
        self._config = _config(path, content)
        self._executors = [_checked(executor, path) for executor in self._config.executors]
        given = {executor.label for executor in self._executors}
        if not given or not given <= set(NAMES) or len(given) < len(self._executors):
            labels = [executor.label for executor in self._executors]
            raise ConfigError(f"{path}: the executors are labelled {labels}; allowed are {', '.join(NAMES)}, each once")
        self.pool_of = pool_of_kinds(given)
        self.slots = {executor.label: _slots(executor) for executor in self._executors}

    @contextmanager
    def executor(self, directory: CampaignDirectory, subject: str) -> Iterator[ParslExecutor]:
        """Starts workers; see ``alpot.campaign.executor.Platform``. Possible once, because Parsl's executors are."""
        for executor in self._executors:
            if list(executor.interchange_launch_cmd) == DEFAULT_INTERCHANGE_LAUNCH_CMD:
                executor.interchange_launch_cmd = interchange_command(os.getpid())
        scaling = Scaling(
            period=self._config.strategy_period,
            strategy=self._config.strategy,
            max_idletime=self._config.max_idletime,
        )
        with parsl_executor(self._executors, self.pool_of, directory, subject, scaling) as running:
            yield running

    def dry_run(self, directory: CampaignDirectory) -> list[tuple[str, str]]:
        """What would be started: Parsl's own description of each executor."""
        return [(f"{executor.label}.txt", f"{executor!r}\n") for executor in self._executors]


class _FromMemory(importlib.abc.SourceLoader):
    """Loads a module from bytes that were read before, so that nothing else can be run in their place."""

    def __init__(self, path: Path, content: bytes) -> None:
        self._path = path
        self._content = content

    def get_filename(self, fullname: str) -> str:
        """The name of the file, for messages."""
        return str(self._path)

    def get_data(self, path: str | bytes) -> bytes:
        """The content of the file."""
        return self._content


def _path(settings: Resources) -> Path:
    if settings.parsl_config is None:
        raise ConfigError(
            "resources.platform is 'parsl', which needs resources.parsl_config: the path of a Python file that defines"
            " `config`, a parsl.Config"
        )
    path = Path(settings.parsl_config).expanduser()
    if not path.is_absolute():
        raise ConfigError(
            f"resources.parsl_config is {settings.parsl_config!r}; it must be an absolute path or begin with ~/,"
            " because a campaign may be continued from anywhere"
        )
    return path


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_mode & stat.S_IWOTH:
                raise ConfigError(
                    f"resources.parsl_config: everybody may write to {path}, and it is code: chmod o-w it"
                )
            return file.read()
    except OSError as error:
        raise ConfigError(f"resources.parsl_config: cannot read {path}: {error.strerror}") from error


def _config(path: Path, content: bytes) -> Config:
    loader = _FromMemory(path, content)
    spec = importlib.util.spec_from_loader("alpot_parsl_config", loader, origin=str(path))
    assert spec is not None, "a loader was given"
    module: ModuleType = importlib.util.module_from_spec(spec)
    try:
        loader.exec_module(module)
    except Exception as error:
        raise ConfigError(f"{path} cannot be run: {type(error).__name__}: {error}") from error
    config = getattr(module, "config", None)
    if not isinstance(config, Config):
        raise ConfigError(f"{path} must define `config`, a parsl.Config, but its `config` is {config!r}")
    return config


def _checked(executor: Any, path: Path) -> HighThroughputExecutor:
    """Refuses what would listen to strangers, or could not be listened to at all."""
    where = f"{path}: the executor {executor.label!r}"
    if isinstance(executor, MPIExecutor):
        cure = "give HighThroughputExecutor(encrypted=True) with one worker per block and start ranks by worker_init"
        if not executor.encrypted:
            raise ConfigError(f"{where} is an MPIExecutor without encryption, Parsl's default; {cure}")
        raise ConfigError(f"{where} is an MPIExecutor, which refuses tasks that start their ranks themselves; {cure}")
    if not isinstance(executor, HighThroughputExecutor):
        raise ConfigError(
            f"{where} is a {type(executor).__name__}; only HighThroughputExecutor is allowed, whose channels are known"
            " to be encrypted"
        )
    if not executor.encrypted:
        raise ConfigError(f"{where} has encrypted=False: anybody on its network could run programs; set encrypted=True")
    if executor.address in _EVERYWHERE:
        raise ConfigError(
            f"{where} has address={executor.address!r} and would listen on every network of this machine; name one,"
            ' e.g. address=parsl.addresses.address_by_interface("ib0")'
        )
    if executor.provider is None or executor.enable_mpi_mode:
        raise ConfigError(f"{where} needs a provider, and no MPI mode")
    return executor


def _slots(executor: HighThroughputExecutor) -> int:
    provider: Any = executor.provider
    return max(1, int(provider.max_blocks * provider.nodes_per_block * executor.workers_per_node))
