"""The section of the configuration about the customers' API."""

from __future__ import annotations

from dataclasses import dataclass

from coordinator.hub_sections import origin_problem
from protos.domain.addresses import is_loopback, is_unspecified
from protos.domain.settings import published_port, setting

SIGN_UP_MODES = ("closed", "invite", "open")


@dataclass(frozen=True, slots=True)
class ApiSection:
    """``[api]``: what customers do themselves, over HTTP with tokens of members."""

    #: Whether to listen.
    enabled: bool = setting(False)
    #: Address to listen on.
    host: str = setting("127.0.0.1")
    #: TCP port to listen on.
    port: int = published_port(7406)
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
    #: Who may make an account: nobody, holders of an operator's invitation, or anybody.
    signup: str = setting("closed", choices=SIGN_UP_MODES)


def check_api(api: ApiSection) -> list[str]:
    """Return mistakes between keys that are valid one by one."""
    problems = []
    if bool(api.certificate_file) != bool(api.key_file):
        problems.append("api.key_file: is needed with certificate_file, and only with it")
    if api.plain_http and api.certificate_file:
        problems.append("api.plain_http: is true, and certificate_file is given")
    if api.plain_http and not is_loopback(api.host):
        problems.append(
            f"api.plain_http: tokens would cross the network in the clear at {api.host}; listen on"
            " 127.0.0.1, or leave it out"
        )
    if api.enabled and not api.advertise and is_unspecified(api.host):
        problems.append(f"api.advertise: is required when api.host is {api.host}")
    if api.advertise and (problem := origin_problem(api.advertise)):
        problems.append(f"api.advertise: {problem}")
    return problems
