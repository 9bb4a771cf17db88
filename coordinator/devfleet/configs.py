"""The configuration files of a laptop's fleet: what an operator would write, written."""

from __future__ import annotations

import json

from coordinator.devfleet.layout import AgentFacts, FleetFacts, FleetLayout, write_private

_LOOPBACK = "127.0.0.1"
#: Its small model has been taught tool calls in this form, and seldom makes any.
_TOOL_PARSER = "hermes"
#: Placement by price alone, which is easier to follow.
_EDGE_FILL_RATIO = 0.0
#: A laptop's streams are short, and whoever stops a fleet is waiting.
_DRAIN_TIMEOUT_MS = 5_000
#: A coordinator on the same machine is back as soon as it can be.
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
        }
    )
    write_private(layout.coordinator_config, text)


def write_agent_config(layout: FleetLayout, facts: FleetFacts, agent: AgentFacts) -> None:
    """Write the agent's TOML file."""
    engine: dict[str, object] = {"kind": agent.engine_kind}
    if agent.engine_kind == "external":
        engine["url"] = agent.engine_url
    if agent.engine_kind == "vllm":
        engine["venv"] = facts.engine_venv
        engine["max_context_tokens"] = 2_048
        engine["tool_parser"] = _TOOL_PARSER
    text = _toml(
        {
            "node": {"state_dir": str(layout.agent_state(agent.node))},
            "coordinator": {
                "enrolment_address": f"{_LOOPBACK}:{facts.enrolment_port}",
                "fleet_address": f"{_LOOPBACK}:{facts.fleet_port}",
                "reconnect_max_ms": _RECONNECT_MAX_MS,
            },
            "client": {"host": _LOOPBACK, "port": agent.client_port},
            "peer": {"host": _LOOPBACK, "port": agent.peer_port},
            "metrics": {"host": _LOOPBACK, "port": agent.metrics_port},
            "engine": engine,
            "router": {"edge_fill_ratio": _EDGE_FILL_RATIO},
            "limits": {"drain_timeout_ms": _DRAIN_TIMEOUT_MS},
        }
    )
    write_private(layout.agent_config(agent.node), text)


def write_profile(layout: FleetLayout, facts: FleetFacts) -> None:
    """Write the profile that ``edgeforge`` finds by itself."""
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
    # JSON's texts, numbers and booleans are TOML's too.
    return f"{key} = {json.dumps(value, ensure_ascii=True)}\n"
