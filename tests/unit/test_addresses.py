"""Whose request it is, behind proxies that are trusted and others."""

from __future__ import annotations

import pytest

from redisq.errors import InvalidSettings
from redisq.gateway.server.addresses import client_of, neighbourhood, networks, plain
from redisq.gateway.settings import GatewaySettings

PROXIES = networks("10.0.0.0/8, 2001:db8:f::/48")
CASES = [
    ("192.0.2.1", [b"198.51.100.1"], "192.0.2.1"),  # from nobody that is trusted
    ("10.0.0.1", [], "10.0.0.1"),
    ("10.0.0.1", [b"198.51.100.1"], "198.51.100.1"),
    ("10.0.0.1", [b"1.2.3.4, 198.51.100.1"], "198.51.100.1"),  # the client wrote what stands further left
    ("10.0.0.1", [b"1.2.3.4", b"198.51.100.1"], "198.51.100.1"),
    ("10.0.0.1", [b"198.51.100.1, 10.0.0.2"], "198.51.100.1"),
    ("10.0.0.1", [b"10.0.0.3, 10.0.0.2"], "10.0.0.3"),
    ("10.0.0.1", [b"198.51.100.1:4711"], "198.51.100.1"),
    ("10.0.0.1", [b"[2001:db8::1]:4711"], "2001:db8::1"),
    ("10.0.0.1", [b"2001:DB8:0::1"], "2001:db8::1"),
    ("2001:db8:f::1", [b"198.51.100.1"], "198.51.100.1"),
    ("::ffff:10.0.0.1", [b"::ffff:198.51.100.1"], "198.51.100.1"),
    ("10.0.0.1", [b"198.51.100.1, unknown"], "10.0.0.1"),
    ("10.0.0.1", [b"198.51.100.1, "], "10.0.0.1"),
    ("10.0.0.1", [b"x" * 100_000], "10.0.0.1"),
    ("10.0.0.1", [b"\xff\x00"], "10.0.0.1"),
    ("10.0.0.1", [b"1.2.3.4," * 10_000 + b"198.51.100.1"], "198.51.100.1"),
    ("10.0.0.1", [b"1.2.3.4," + b"10.0.0.2," * 10_000 + b"10.0.0.2"], "10.0.0.2"),  # a chain of any length
    ("", [b"198.51.100.1"], ""),
]


@pytest.mark.parametrize(("peer", "forwarded", "client"), CASES)
def test_the_client_is_the_rightmost_that_no_trusted_proxy_has(peer: str, forwarded: list[bytes], client: str) -> None:
    assert client_of(peer, forwarded, PROXIES) == client


def test_an_address_is_written_in_one_way() -> None:
    assert plain("::FFFF:192.0.2.1") == plain("192.0.2.1") == "192.0.2.1"
    assert plain("2001:DB8:0:0::1") == "2001:db8::1"
    assert plain("/run/socket") == "/run/socket"


def test_one_customer_is_one_neighbourhood() -> None:
    assert neighbourhood("2001:db8:1:2:3::4") == "2001:db8:1:2::/64"
    assert neighbourhood("::ffff:192.0.2.1") == "192.0.2.1"
    assert neighbourhood("nonsense") == "nonsense"


def test_networks_come_from_the_environment_with_commas_between(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDISQ_HTTP_TRUSTED_PROXIES", "10.0.0.0/8, ::1")
    assert [str(network) for network in GatewaySettings().trusted_proxies] == ["10.0.0.0/8", "::1/128"]
    monkeypatch.setenv("REDISQ_HTTP_TRUSTED_PROXIES", "10.0.0.1/8")
    with pytest.raises(InvalidSettings, match="REDISQ_HTTP_TRUSTED_PROXIES"):
        GatewaySettings()
