"""Who sent a request: what is believed, and from whom."""

from __future__ import annotations

import pytest

from orric.edge.config import EdgeConfig
from orric.edge.sender import Sender, Senders, grouped
from orric.exceptions import EdgeError


@pytest.mark.parametrize(
    ("peer", "forwarded", "client", "expected"),
    [
        ("192.0.2.1", "203.0.113.9", "camera-1", Sender("192.0.2.1", True)),
        ("10.0.0.1", None, None, Sender("10.0.0.1", True)),
        ("10.0.0.1", "203.0.113.9", "camera-1", Sender("203.0.113.9", True, "camera-1")),
        ("10.0.0.1", "198.51.100.7, 203.0.113.9, 10.0.0.2", None, Sender("203.0.113.9", True)),
        ("10.0.0.1", "203.0.113.9, nonsense", None, Sender("10.0.0.1", True)),
        ("10.0.0.1", "10.0.0.3:4711", None, Sender("10.0.0.3", True)),
        ("10.0.0.1", "[2001:db8::5]:4711", None, Sender("2001:db8::/64", True)),
        ("::ffff:10.0.0.1", "203.0.113.9", None, Sender("203.0.113.9", True)),
        ("10.0.0.1", None, "a\x00b", Sender("10.0.0.1", True)),
        ("10.0.0.1", None, "x" * 65, Sender("10.0.0.1", True)),
        ("10.0.0.1", None, "größe", Sender("10.0.0.1", True)),
        ("10.0.0.1", None, "chosen, camera-1", Sender("10.0.0.1", True)),
    ],
)
def test_forwarded_addresses_and_names_are_believed_from_proxies_alone(peer, forwarded, client, expected) -> None:
    assert Senders(["10.0.0.0/8"]).sender(peer, True, forwarded, client) == expected


def test_addresses_of_one_host_are_one() -> None:
    assert grouped("2001:db8::1") == grouped("2001:db8::2") != grouped("2001:db8:0:1::1")
    assert grouped("192.0.2.1") != grouped("192.0.2.2")
    assert grouped("fe80::1%eth0") == grouped("fe80::2") == "fe80::/64"
    assert {grouped(one) for one in ("127.0.0.1", "127.8.9.1", "::1", "::ffff:127.0.0.2")} == {"loopback"}


def test_proxies_are_addresses_or_networks(write) -> None:
    assert EdgeConfig.load(write(server__trusted_proxies=["10.0.0.1", "fd00::/8"]), {})
    with pytest.raises(EdgeError, match=r"'localhost'.*give addresses or networks"):
        EdgeConfig.load(write(server__trusted_proxies=["localhost"]), {})
