"""Who may ask for what: the token, the host that was meant, and pages of other origins."""

from __future__ import annotations

import hmac
import socket
from ipaddress import ip_address

from orric.edge.config import Server
from orric.edge.protocol import HEADER_LENGTH
from orric.edge.request import RefusedError, Request

LENGTH_NAME = HEADER_LENGTH.encode()
# A page of another origin may send neither of these, nor a header of a name of its own, without asking first; and the
# daemon, asked, allows nothing.
BROWSER = b"Mozilla/"
KINDS = ("application/json", "application/octet-stream")


def refused(token: str | None, given: str | None) -> tuple[int, str] | None:
    """Say whether a request may change something: None, or the status and the reason why not.

    Args:
        token: The daemon's.
        given: The request's authorization header.
    """
    if token is None:
        return 403, "no token is configured, so nothing can be changed"
    if not carries(token, given):
        return 401, "give the token as 'Authorization: Bearer TOKEN'"
    return None


def carries(token: str | None, given: str | None) -> bool:
    """Whether an authorization header holds the token; never where none is configured."""
    scheme, _, value = (given or "").partition(" ")
    fits = hmac.compare_digest(value.strip().encode(), (token or "").encode())
    return token is not None and scheme.lower() == "bearer" and fits


class Guards:
    """Refuses what no client of this daemon sends: requests for other hosts, and those of other origins' pages.

    A name that somebody else owns may be made to point here, and a page of it then reads and sends as if it were ours:
    so only names that are ours are answered. Addresses need no such name, so all are.

    Args:
        server: What is configured.
    """

    def __init__(self, server: Server) -> None:
        own = socket.gethostname().lower()
        self._hosts = {"localhost", own, f"{own}.local", server.host.lower(), *(one.lower() for one in server.hosts)}
        self._any = "*" in server.hosts
        # What was found fine is remembered: clients send the same line again and again.
        self._known: set[bytes] = set()

    def check(self, request: Request) -> None:
        """Let a request pass.

        Raises:
            RefusedError: It is for another host, of a page of another origin, or of a type that any page may send.
        """
        authority = request.authority
        if authority not in self._known:
            self._check_host(authority, request.is_new)
            # None at all, which requests of HTTP/1.0 may have, is fine for no others.
            if authority and len(self._known) < 100:
                self._known.add(authority)
        if request.method not in (b"GET", b"HEAD"):
            self._check_origin(request)

    def _check_host(self, authority: bytes, needed: bool) -> None:
        if not authority:
            if needed:
                raise RefusedError("malformed", 400, "the Host header is missing")
            return
        name = _host(authority.decode("latin-1"))
        if self._any or name in self._hosts or name.endswith(".localhost") or _is_address(name):
            return
        shown = name[:60] if name.isascii() and name.isprintable() else "that"
        raise RefusedError("host", 421, f"{shown!r} is no host of this server; name it in server.hosts if it is")

    def _check_origin(self, request: Request) -> None:
        headers = request.headers
        origin = headers.get(b"origin")
        if origin is not None and origin.partition(b"://")[2].lower() != request.authority.lower():
            raise RefusedError("origin", 403, "pages of other origins may not send")
        if origin is None and headers.get(b"sec-fetch-site", b"none").lower() not in (b"none", b"same-origin"):
            raise RefusedError("origin", 403, "pages of other origins may not send")
        if not request.announces_body:
            return
        kind = headers.get(b"content-type")
        if kind is None:
            # A browser may leave it out, too, but never who it is; Triton's client sends none of either.
            if LENGTH_NAME in headers or (origin is None and not headers.get(b"user-agent", b"").startswith(BROWSER)):
                return
        elif kind.decode("latin-1").partition(";")[0].strip().lower() in KINDS:
            return
        raise RefusedError("content_type", 415, f"the content type of a body is {' or '.join(KINDS)}")


def _host(authority: str) -> str:
    """Return the host of an authority, without port and in small letters."""
    if authority.startswith("["):
        return authority[1:].partition("]")[0]
    return authority.partition(":")[0].rstrip(".").lower()


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True
