"""Rules for hosts and ``host:port`` addresses in configurations and registrations. Pure."""

from __future__ import annotations

import ipaddress
import re
import urllib.parse

#: A name in DNS or /etc/hosts; underscores occur in names of containers.
_NAME = re.compile(r"(?=.{1,253}\Z)[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?")
_MAX_URL_CHARS = 2_048


def is_unspecified(host: str) -> bool:
    """Return whether ``host`` means every address of a machine, so that nobody can dial it."""
    address = _ip(host)
    return address is not None and address.is_unspecified


def is_loopback(host: str) -> bool:
    """Return whether ``host`` can be dialled from its own machine only."""
    address = _ip(host)
    return address.is_loopback if address is not None else host == "localhost"


def join_address(host: str, port: int) -> str:
    """Return ``host:port``, with brackets around an IPv6 address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def split_address(text: str) -> tuple[str, int] | None:
    """Return host, without brackets, and port of ``host:port``; None if it is no such text."""
    host, _, port_text = text.rpartition(":")
    if not (port_text.isascii() and port_text.isdecimal() and 0 < int(port_text) < 65_536):
        return None
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
        if not isinstance(_ip(host), ipaddress.IPv6Address):
            return None
    elif ":" in host:
        return None
    return (host, int(port_text)) if host_problem(host) == "" else None


def host_problem(host: str) -> str:
    """Return what is wrong with a host to listen on or to dial, with the right value; or ""."""
    if host.startswith("[") and host.endswith("]"):
        return f"{host!r} has brackets, which belong before a port only: write {host[1:-1]!r}"
    if _ip(host) is not None or _NAME.fullmatch(host) is not None:
        return ""
    if (parts := split_host(host)) is not None:
        return f"{host!r} has a port: write {parts!r}, and the port in its own key"
    return f"{host[:80]!r} is neither an IP address nor a host name"


def split_host(text: str) -> str | None:
    """Return the host of ``host:port``; None if ``text`` is no such address."""
    host, colon, port = text.rpartition(":")
    return host if colon and port.isdecimal() and host and _NAME.fullmatch(host) else None


def address_problem(text: str) -> str:
    """Return what is wrong with ``host:port`` that others dial, with the right form; or ""."""
    parts = split_address(text)
    if parts is None:
        host, _, port = text.rpartition(":")
        if isinstance(_ip(host), ipaddress.IPv6Address) and port.isdecimal():
            return f"{text!r} is not host:port: write an IPv6 address as [{host}]:{port}"
        return f"{text[:80]!r} is not host:port"
    if is_unspecified(parts[0]):
        return f"{text!r} cannot be dialled: name one address or host name of this machine"
    return ""


def url_problem(text: str) -> str:
    """Return what is wrong with the base URL that clients use; or ""."""
    if not (0 < len(text) <= _MAX_URL_CHARS and text.isprintable() and " " not in text):
        return "it is empty, too long or has characters that a URL cannot have"
    try:
        parts = urllib.parse.urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        return f"{text[:80]!r} is no URL: {error}"
    if parts.scheme not in ("http", "https") or not host or port == 0:
        return f"{text[:80]!r} is no http(s) URL"
    if parts.username is not None or parts.query or parts.fragment:
        return f"{text[:80]!r} has more than scheme, host, port and path"
    if problem := host_problem(host):
        return problem
    return f"{text[:80]!r} cannot be dialled: name one host" if is_unspecified(host) else ""


def _ip(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None
