"""Host names: which one the server listens on, which base URLs use, which `Host` is allowed."""

from __future__ import annotations

import ipaddress
import re

_HOST = re.compile(r"(?P<name>\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+)(:\d{1,5})?")
_LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach the host."""
    address = _address(host)
    return host == "localhost" if address is None else address.is_loopback


def public_host(host: str) -> str:
    """The host by which a client on this machine reaches a server that listens on `host`."""
    address = _address(host)
    if address is None or not address.is_unspecified:
        return host
    return "127.0.0.1" if address.version == 4 else "::1"


def in_url(host: str) -> str:
    """The host as it is written in a URL."""
    return f"[{host}]" if ":" in host else host


class HostCheck:
    """Decides which `Host` headers are answered.

    A web page can make a browser on this machine send requests to a loopback address under the
    page's own name (DNS rebinding), so only the server's own names are answered. A server that
    listens on all addresses cannot know its names and accepts every well-formed one.
    """

    def __init__(self, host: str, public: str | None) -> None:
        address = _address(host)
        self._any = address is not None and address.is_unspecified
        self._names = {name.lower() for name in (host, public, *_LOOPBACK_NAMES) if name}

    def allows(self, header: bytes) -> bool:
        """Whether the header's value is well-formed and names this server."""
        match = _HOST.fullmatch(header.decode("latin-1"))
        if match is None:
            return False
        return self._any or match["name"].strip("[]").lower() in self._names


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None
