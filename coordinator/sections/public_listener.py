"""What the sections of listeners for customers have in common."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from protos.domain.addresses import is_loopback, is_unspecified
from protos.domain.settings import published_port, setting


@dataclass(frozen=True, slots=True)
class PublicListener:
    """A listener that customers reach by HTTPS."""

    #: Whether to listen.
    enabled: bool = setting(False)
    #: Address to listen on.
    host: str = setting("127.0.0.1")
    #: TCP port to listen on.
    port: int = published_port(443)
    #: Origin that customers use, such as https://api.example; empty: host and port as listened on.
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


def check_public_listener(name: str, section: PublicListener) -> list[str]:
    """Return mistakes between keys of the section ``name`` that are valid one by one."""
    problems = []
    if bool(section.certificate_file) != bool(section.key_file):
        problems.append(f"{name}.key_file: is needed with certificate_file, and only with it")
    if section.plain_http and section.certificate_file:
        problems.append(f"{name}.plain_http: is true, and certificate_file is given")
    if section.plain_http and not is_loopback(section.host):
        problems.append(
            f"{name}.plain_http: keys and tokens would cross the network in the clear at"
            f" {section.host}; listen on 127.0.0.1, or leave it out"
        )
    if section.enabled and not section.advertise and is_unspecified(section.host):
        problems.append(f"{name}.advertise: is required when {name}.host is {section.host}")
    if section.advertise and (problem := origin_problem(section.advertise)):
        problems.append(f"{name}.advertise: {problem}")
    return problems


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
