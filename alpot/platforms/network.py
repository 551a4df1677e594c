"""The address at which workers on other machines reach this one: a single interface, never all of them."""

from __future__ import annotations

import ipaddress
import socket

import psutil

from alpot.errors import ConfigError


def reachable_address(interface: str | None) -> str:
    """The IPv4 address of a network interface of this machine.

    Args:
        interface: its name; None: the one that the host name stands for.

    Raises:
        ConfigError: there is no such interface, or the host name stands for this machine alone.
    """
    known = {
        name: next((entry.address for entry in entries if entry.family == socket.AF_INET), None)
        for name, entries in psutil.net_if_addrs().items()
    }
    choices = ", ".join(f"{name} ({address})" for name, address in sorted(known.items()) if address)
    if interface is not None:
        address = known.get(interface)
        if address is None:
            raise ConfigError(
                f"resources.interface is {interface!r}, but this machine has no such interface with an IPv4 address;"
                f" it has: {choices}"
            )
        return address
    host = socket.gethostname()
    try:
        address = socket.gethostbyname(host)
    except OSError as error:
        raise ConfigError(f"the host name {host!r} has no address ({error}); {_cure(choices)}") from error
    if ipaddress.ip_address(address).is_loopback:
        raise ConfigError(f"the host name {host!r} stands for {address}, which no node can reach; {_cure(choices)}")
    return address


def _cure(choices: str) -> str:
    return f"set resources.interface to the interface that the nodes reach: {choices}"
