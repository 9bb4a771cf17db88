"""Reads the agent's configuration file, and checks what keys say together.

``EDGEFORGE_AGENT__<SECTION>__<KEY>`` replaces ``key`` of ``[section]``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from agent.config import ENV_PREFIX, AgentConfig
from agent.own_address import own_address
from protos.domain.addresses import (
    address_problem,
    host_problem,
    is_loopback,
    is_unspecified,
    join_address,
    split_address,
    url_problem,
)
from protos.domain.errors import ConfigInvalid, InvalidRequest
from protos.domain.ids import check_zone
from protos.domain.settings import read_settings
from protos.host.config_file import mending_hint, read_config_file

#: An origin as browsers send it: scheme, host, port, in lower case. Source: RFC 6454, 6.1.
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://(?:[a-z0-9._-]+|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?")


def load_config(path: Path, environ: Mapping[str, str]) -> AgentConfig:
    """Read and check ``path``. Raises: ConfigInvalid naming every mistake."""
    parsed, hint = read_config_file(path), mending_hint(path)
    try:
        config = read_settings(AgentConfig, parsed, environ, ENV_PREFIX)
    except ConfigInvalid as error:
        raise ConfigInvalid(error.problems, hint) from error
    problems = _check_together(config)
    if problems:
        raise ConfigInvalid(problems, hint)
    return config


def _check_together(config: AgentConfig) -> list[str]:
    """Return what is wrong between keys that are right one by one."""
    problems = []
    if bool(config.client.cert_file) != bool(config.client.key_file):
        problems.append("client.cert_file and client.key_file: give both or neither")
    problems += [
        f"client.cors_origins: {origin!r} is not an origin such as https://app.example.com, nor *"
        for origin in config.client.cors_origins
        if origin != "*" and _ORIGIN.fullmatch(origin) is None
    ]
    if config.limits.max_body_bytes_in_flight < 4 * config.client.max_body_bytes:
        problems.append("limits.max_body_bytes_in_flight is below 4 times client.max_body_bytes")
    engine = config.engine
    if engine.kind == "external" and not engine.url.startswith(("http://", "https://")):
        problems.append(f"engine.url: {engine.url!r} is no http(s) URL, and kind is external")
    if config.coordinator.reconnect_max_ms < config.coordinator.reconnect_min_ms:
        problems.append("coordinator.reconnect_max_ms is below coordinator.reconnect_min_ms")
    if config.usage.quota_bytes < 8 * config.usage.segment_bytes:
        problems.append("usage.quota_bytes is below 8 times usage.segment_bytes")
    endpoint = config.telemetry.otlp_endpoint
    if endpoint and not endpoint.startswith(("http://", "https://")):
        problems.append(f"telemetry.otlp_endpoint: {endpoint!r} is no http(s) URL")
    if config.telemetry.zone:
        try:
            check_zone(config.telemetry.zone)
        except InvalidRequest as error:
            problems.append(f"telemetry.zone: {error}")
    return problems + _check_addresses(config)


def _check_addresses(config: AgentConfig) -> list[str]:
    """Return which addresses nobody could listen on or dial, with a value that works."""
    problems = []
    for name in ("enrolment_address", "fleet_address"):
        address = getattr(config.coordinator, name)
        if address and (problem := address_problem(address)):
            problems.append(f"coordinator.{name}: {problem}")
    hosts = {
        "client.host": config.client.host,
        "peer.host": config.peer.host,
        "metrics.host": config.metrics.host,
    }
    for key in ("advertise_host", "source_address"):
        if value := getattr(config.peer, key):
            hosts[f"peer.{key}"] = value
    wrong = {key: problem for key, host in hosts.items() if (problem := host_problem(host))}
    problems += [f"{key}: {problem}" for key, problem in wrong.items()]
    if "client.host" not in wrong:
        problems += _check_client_url(config)
    if "peer.host" not in wrong and "peer.advertise_host" not in wrong:
        problems += _check_peer_address(config)
    return problems


def _check_client_url(config: AgentConfig) -> list[str]:
    client = config.client
    if client.url:
        return [f"client.url: {problem}"] if (problem := url_problem(client.url)) else []
    if not is_unspecified(client.host):
        return []
    scheme = "https" if client.cert_file else "http"
    own = own_address(config.coordinator_address) or "HOST"
    value = f"{scheme}://{join_address(own, client.port)}"
    return [
        f"client.url: is required when client.host is {client.host}, since clients cannot dial"
        f' that: url = "{value}", or the name that clients use'
    ]


def _check_peer_address(config: AgentConfig) -> list[str]:
    host, _ = config.peer_address
    coordinator = config.coordinator_address
    if is_unspecified(host):
        value = own_address(coordinator) or "HOST"
        return [
            f"peer.advertise_host: is required when peer.host is {host}, since other agents"
            f' cannot dial that: advertise_host = "{value}"'
        ]
    if config.engine.kind == "none" or not is_loopback(host):
        return []
    parts = split_address(coordinator)
    own = None if parts is None or is_loopback(parts[0]) else own_address(coordinator)
    if own is None or is_loopback(own):
        return []
    return [
        f"peer.host: {host} can be dialled from this host only, but the coordinator is at"
        f' {coordinator}: host = "{own}", or set peer.advertise_host to how others reach it'
    ]
