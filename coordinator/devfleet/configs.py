"""Writes the configuration files of a local fleet."""

from __future__ import annotations

import json

from coordinator.devfleet.delay_config import DelayConfig, Listener
from coordinator.devfleet.distances import round_trip_ms
from coordinator.devfleet.layout import AgentFacts, FleetFacts, FleetLayout, write_private
from coordinator.devfleet.sites import FIVE_SITES

_LOOPBACK = "127.0.0.1"
#: The small model was trained with tool calls in this form, and seldom makes any.
_TOOL_PARSER = "hermes"
#: Memory of a CPU engine's KV cache, so that three engines fit into a laptop.
_KV_CACHE_GIB = 1
#: Short, since a user waits for the fleet to stop and its streams are short.
_DRAIN_TIMEOUT_MS = 5_000
#: Short, since the coordinator is on the same machine.
_RECONNECT_MAX_MS = 2_000


def write_coordinator_config(layout: FleetLayout, facts: FleetFacts) -> None:
    """Write ``coordinator.toml``."""
    text = _toml(
        {
            "coordinator": {"state_dir": str(layout.coordinator_state), "name": "laptop"},
            "fleet": {"host": _LOOPBACK, "port": facts.fleet_port},
            "admin": {"host": _LOOPBACK, "port": facts.admin_port},
            "enrolment": {"host": _LOOPBACK, "port": facts.enrolment_port},
            "http": {"host": _LOOPBACK, "port": facts.http_port},
            **({"api": _api(facts)} if facts.api_port else {}),
        }
    )
    write_private(layout.coordinator_config, text)


def _api(facts: FleetFacts) -> dict[str, object]:
    """Return the customers' API: whoever is on this machine may sign up."""
    return {
        "enabled": True,
        "host": _LOOPBACK,
        "port": facts.api_port,
        "plain_http": True,
        "signup": "open",
    }


def write_agent_config(layout: FleetLayout, facts: FleetFacts, agent: AgentFacts) -> None:
    """Write the agent's TOML file."""
    engine: dict[str, object] = {"kind": agent.engine_kind}
    if agent.engine_kind == "external":
        engine["url"] = agent.engine_url
    if agent.engine_kind == "vllm":
        engine["venv"] = facts.engine_venv
        engine["max_context_tokens"] = 2_048
        engine["tool_parser"] = _TOOL_PARSER
        engine["kv_cache_gib"] = _KV_CACHE_GIB
        engine["cpu_bind"] = agent.cpu_bind
    text = _toml(
        {
            "node": {"state_dir": str(layout.agent_state(agent.node))},
            "coordinator": {
                "enrolment_address": f"{_LOOPBACK}:{facts.enrolment_port}",
                "fleet_address": f"{_LOOPBACK}:{facts.fleet_port}",
                "reconnect_max_ms": _RECONNECT_MAX_MS,
            },
            "client": {"host": _LOOPBACK, "port": agent.client_port},
            "peer": {
                "host": _LOOPBACK,
                "port": agent.peer_port,
                "advertise_port": agent.relay_port,
                "source_address": agent.source_address,
            },
            "metrics": {"host": _LOOPBACK, "port": agent.metrics_port},
            "engine": engine,
            "router": {"edge_fill_ratio": facts.edge_fill_ratio},
            "limits": {"drain_timeout_ms": _DRAIN_TIMEOUT_MS},
        }
    )
    write_private(layout.agent_config(agent.node), text)


def write_relay_config(layout: FleetLayout, facts: FleetFacts) -> None:
    """Write the delay relay's configuration: every agent by its address, every distance."""
    pops = {site.node: site.pop for site in FIVE_SITES}
    nodes = [agent.node for agent in facts.agents]
    config = DelayConfig(
        control_socket=str(layout.relay_socket),
        sources={agent.source_address: agent.node for agent in facts.agents},
        round_trips_ms={
            source: {
                destination: round_trip_ms(pops[source], pops[destination])
                for destination in nodes
                if destination != source
            }
            for source in nodes
        },
        listeners=[
            Listener(agent.node, agent.relay_port, agent.peer_port) for agent in facts.agents
        ],
    )
    write_private(layout.relay_config, config.dumps())


def write_profile(layout: FleetLayout, facts: FleetFacts) -> None:
    """Write the profile that ``edgeforge`` uses by default."""
    folder = layout.operator_profile.parent.relative_to(layout.root)
    values = {
        "admin_address": f"{_LOOPBACK}:{facts.admin_port}",
        "ca_file": str(folder / "ca.pem"),
        "cert_file": str(folder / "cert.pem"),
        "key_file": str(folder / "key.pem"),
    }
    write_private(layout.profile, "".join(_line(key, value) for key, value in values.items()))


def _toml(sections: dict[str, dict[str, object]]) -> str:
    lines = []
    for name, values in sections.items():
        lines.append(f"[{name}]\n")
        lines += [_line(key, value) for key, value in values.items()]
        lines.append("\n")
    return "".join(lines)


def _line(key: str, value: object) -> str:
    # JSON's strings, numbers and booleans are valid TOML.
    return f"{key} = {json.dumps(value, ensure_ascii=True)}\n"
