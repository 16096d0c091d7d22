"""Who sent a request: an address, a token, and the name that a trusted proxy gives."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

# Characters of a declared name, and of a list of hops, that are looked at; hops of such a list.
NAME_CHARACTERS, LIST_CHARACTERS, HOPS = 64, 2048, 32


@dataclass(frozen=True)
class Sender:
    """Whoever sent images, as far as the daemon can tell.

    Attributes:
        address: Of the peer, or, behind a trusted proxy, of the last hop that is none; see `grouped`.
        authenticated: Whether the request carried the daemon's token.
        client: The name that a trusted proxy declared, None without one.
    """

    address: str
    authenticated: bool = False
    client: str | None = None


class Senders:
    """Tells senders apart, and believes in forwarded addresses and names from trusted proxies alone.

    Args:
        trusted: Addresses and networks of the proxies.
    """

    def __init__(self, trusted: Iterable[str] = ()) -> None:
        self._trusted = tuple(ip_network(one, strict=False) for one in trusted)

    def trusts(self, peer: str) -> bool:
        """Whether a peer is a trusted proxy."""
        return bool(self._trusted) and _within(_parsed(peer), self._trusted)

    def sender(self, peer: str, authenticated: bool, forwarded: str | None, client: str | None) -> Sender:
        """Return who sent a request.

        Args:
            peer: Address at the other end of the connection.
            authenticated: Whether it carried the token.
            forwarded: Its X-Forwarded-For, the lines joined by commas.
            client: The name that its proxy gave it, where one is configured to; see `server.client_header`.
        """
        if not self.trusts(peer):
            return Sender(grouped(peer), authenticated)
        address = peer
        if forwarded is not None:
            hops = forwarded[-LIST_CHARACTERS:].split(",")[-HOPS:]
            for hop in reversed(hops):
                found = _parsed(_without_port(hop.strip()))
                if found is None:
                    break  # whoever reported this hop is the last that is known
                address = str(found)
                if not _within(found, self._trusted):
                    break
        named = client.strip() if client is not None else ""
        # A comma joins two lines, the first of which may be the client's own.
        fits = "," not in named and named.isascii() and named.isprintable() and 0 < len(named) <= NAME_CHARACTERS
        return Sender(grouped(address), authenticated, named if fits else None)


@lru_cache(maxsize=4096)
def grouped(address: str) -> str:
    """Return what one host commonly has whole: an IPv4 address, an IPv6 network of 64 bits, or all of loopback.

    That goes for the link's own addresses, too: whoever is on it may take any of them.
    """
    found = _parsed(address)
    if found is None:
        return address
    if found.is_loopback:
        return "loopback"
    if isinstance(found, IPv4Address):
        return str(found)
    return str(IPv6Network((int(found) >> 64 << 64, 64)))


def _parsed(address: str) -> IPv4Address | IPv6Address | None:
    """Return an address, one of IPv4 within IPv6 as the former; None where it is none."""
    try:
        found = ip_address(address)
    except ValueError:
        return None
    return found.ipv4_mapped or found if isinstance(found, IPv6Address) else found


def _within(address: IPv4Address | IPv6Address | None, networks: tuple[IPv4Network | IPv6Network, ...]) -> bool:
    return address is not None and any(address in network for network in networks)


def _without_port(hop: str) -> str:
    """Return a hop's address: [::1]:80, 10.0.0.1:80 and bare ones are all in use."""
    if hop.startswith("["):
        return hop[1:].partition("]")[0]
    return hop.partition(":")[0] if hop.count(":") == 1 else hop
