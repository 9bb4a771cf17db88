"""The sections of the configuration about the hub's protocol and the hub that hf:// names."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from protos.domain.addresses import is_loopback, is_unspecified
from protos.domain.settings import published_port, setting


@dataclass(frozen=True, slots=True)
class HubSection:
    """``[hub]``: the registry by the Hugging Face hub's protocol, for the keys of accounts."""

    #: Whether to listen.
    enabled: bool = setting(False)
    #: Address to listen on.
    host: str = setting("127.0.0.1")
    #: TCP port to listen on.
    port: int = published_port(7405)
    #: Origin that clients use, such as https://hub.example; empty: the one of their requests.
    advertise: str = setting("")
    #: Certificate chain in PEM; empty: the coordinator's authority issues one for host and
    #: advertise. A relative path starts at the folder of the configuration file.
    certificate_file: str = setting("")
    #: Its private key in PEM.
    key_file: str = setting("")
    #: Speak HTTP without TLS; on loopback only, such as behind a proxy on this host.
    plain_http: bool = setting(False)
    #: Connections at once.
    max_connections: int = setting(256, at_least=1)


@dataclass(frozen=True, slots=True)
class UpstreamSection:
    """``[upstream]``: the hub that hf:// names."""

    #: Origin of the hub.
    endpoint: str = setting("https://huggingface.co")
    #: The endpoint itself may be at a private address, and may be plain HTTP. What it leads to
    #: stays refused unless it is public.
    allow_private_endpoint: bool = setting(False)
    #: Authorities in PEM for the hub's certificate; empty: those of the system.
    ca_file: str = setting("")
    #: How often tracked repositories are looked at.
    poll_s: float = setting(900.0, at_least=1)


def check_hub(hub: HubSection) -> list[str]:
    """Return mistakes between keys that are valid one by one."""
    problems = []
    if bool(hub.certificate_file) != bool(hub.key_file):
        problems.append("hub.key_file: is needed with certificate_file, and only with it")
    if hub.plain_http and hub.certificate_file:
        problems.append("hub.plain_http: is true, and certificate_file is given")
    if hub.plain_http and not is_loopback(hub.host):
        problems.append(
            f"hub.plain_http: keys would cross the network in the clear at {hub.host}; listen on"
            " 127.0.0.1, or leave it out"
        )
    if hub.enabled and not hub.advertise and is_unspecified(hub.host):
        problems.append(f"hub.advertise: is required when hub.host is {hub.host}")
    if hub.advertise and (problem := origin_problem(hub.advertise)):
        problems.append(f"hub.advertise: {problem}")
    return problems


def check_upstream(upstream: UpstreamSection) -> list[str]:
    """Return mistakes between keys that are valid one by one."""
    if problem := origin_problem(upstream.endpoint):
        return [f"upstream.endpoint: {problem}"]
    if not upstream.endpoint.startswith("https://") and not upstream.allow_private_endpoint:
        return ["upstream.endpoint: is plain HTTP; allow_private_endpoint = true allows that"]
    return []


def origin_problem(text: str) -> str:
    """Return what is wrong with an origin, scheme://host[:port]; empty if nothing."""
    try:
        parts = urlsplit(text)
        port_is_right = parts.port is None or parts.port > 0
    except ValueError:
        port_is_right = False
        parts = urlsplit("")
    plain = not (parts.query or parts.fragment or parts.username or parts.password)
    if (
        parts.scheme not in ("http", "https")
        or not parts.hostname
        or parts.path not in ("", "/")
        or not plain
        or not port_is_right
    ):
        return f"{text!r} is no origin, such as https://hub.example or http://127.0.0.1:8080"
    return ""
