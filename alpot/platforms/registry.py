"""Finds a platform by name: our own, and those of installed packages (entry points in the group ``alpot.platforms``).

A platform is a callable that takes the campaign file's table ``[resources]`` and returns an
``alpot.campaign.executor.Platform``.
"""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points

from alpot.campaign.executor import Platform
from alpot.config import Resources
from alpot.config.spelling import did_you_mean
from alpot.errors import ConfigError

GROUP = "alpot.platforms"

_OURS = (
    EntryPoint("laptop", "alpot.platforms.laptop:Laptop", GROUP),
    EntryPoint("slurm", "alpot.platforms.slurm:Slurm", GROUP),
    EntryPoint("pbs", "alpot.platforms.pbs:PBS", GROUP),
    EntryPoint("lsf", "alpot.platforms.lsf:LSF", GROUP),
    EntryPoint("parsl", "alpot.platforms.own_parsl:OwnParsl", GROUP),
)


def open_platform(settings: Resources) -> Platform:
    """The platform that the campaign file names.

    Raises:
        ConfigError: there is no such platform, or it cannot be imported.
    """
    known = {entry.name: entry for entry in (*entry_points(group=GROUP), *_OURS)}
    entry = known.get(settings.platform)
    if entry is None:
        raise ConfigError(
            f"resources.platform is {settings.platform!r}, which is not installed;"
            f"{did_you_mean(settings.platform, known)} known: {sorted(known)}"
        )
    try:
        factory = entry.load()
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"the platform {entry.name!r} ({entry.value}) cannot be imported: {error}") from error
    platform: Platform = factory(settings)
    return platform
