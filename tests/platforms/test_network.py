import socket

import pytest

from alpot.errors import ConfigError
from alpot.platforms.network import reachable_address


def test_a_named_interface():
    assert reachable_address("lo") == "127.0.0.1"
    with pytest.raises(ConfigError, match=r"'ib7', but this machine has no such interface .* lo \(127\.0\.0\.1\)"):
        reachable_address("ib7")


def test_the_host_name_must_stand_for_more_than_this_machine(monkeypatch):
    monkeypatch.setattr(socket, "gethostbyname", lambda name: "127.0.1.1")
    with pytest.raises(
        ConfigError, match=r"stands for 127\.0\.1\.1, .* set resources\.interface .* lo \(127\.0\.0\.1\)"
    ):
        reachable_address(None)
    monkeypatch.setattr(socket, "gethostbyname", lambda name: "10.1.2.3")
    assert reachable_address(None) == "10.1.2.3"


def test_a_host_name_without_an_address(monkeypatch):
    monkeypatch.setattr(socket, "gethostname", lambda: "no-such-host.invalid")
    with pytest.raises(ConfigError, match=r"'no-such-host\.invalid' has no address"):
        reachable_address(None)
