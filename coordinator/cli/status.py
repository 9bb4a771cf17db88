"""``edgeforge status``: the fleet on one screen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from coordinator import clock
from coordinator.cli.common import JsonOption, admin
from coordinator.cli.node import alarms_of, certificate_days_of, link_of
from coordinator.cli.node_usage import usage_of
from coordinator.cli.output import enum_word
from coordinator.cli.validity import Validity, validity_of
from protos.output.terminal import print_json, print_line, print_table
from protos.v1 import admin_pb2, resources_pb2


@dataclass(frozen=True, slots=True)
class Overview:
    """What the coordinator answered, and who asked."""

    admin_address: str
    nodes: Sequence[admin_pb2.NodeInfo]
    deployments: Sequence[admin_pb2.DeploymentInfo]
    operators: admin_pb2.ListOperatorsResponse
    validity: Validity | None
    now_unix_ms: int

    @property
    def role(self) -> str:
        """The role of who asks."""
        own = [one for one in self.operators.operators if one.name == self.operators.caller]
        return own[0].role if own else "unknown"

    def health(self) -> dict[str, int]:
        """Return how many nodes are in each state, by name."""
        counts = Counter(_health(info) for info in self.nodes)
        return dict(sorted(counts.items()))

    def connected(self) -> int:
        """Return how many nodes are connected."""
        return sum(info.connected for info in self.nodes)

    def certificate_days(self) -> float | None:
        """Return how long the certificate of who asks is valid still."""
        return None if self.validity is None else self.validity.days_left(self.now_unix_ms)

    def as_json(self) -> dict[str, object]:
        """Return everything, for scripts."""
        return {
            "coordinator": self.admin_address,
            "operator": {
                "name": self.operators.caller,
                "role": self.role,
                "certificate_days": self.certificate_days(),
            },
            "health": self.health(),
            "connected": self.connected(),
            "cold_starts": self.cold_starts(),
            "nodes": [_node_json(info) for info in self._by_pop()],
            "deployments": [_deployment_json(info) for info in self.deployments],
        }

    def head(self) -> list[str]:
        """Return the lines above the tables."""
        days = self.certificate_days()
        until = "" if days is None else f", certificate {days:.0f} days"
        states = ", ".join(f"{count} {state}" for state, count in self.health().items())
        return [
            f"coordinator {self.admin_address}",
            f"you are {self.operators.caller} ({self.role}{until})",
            f"nodes {len(self.nodes)}: {states or 'none'}; {self.connected()} connected",
            *([f"cold starts, worst P99: {cold}"] if (cold := self.cold_starts_text()) else []),
        ]

    def cold_starts(self) -> dict[str, dict[str, float]]:
        """Return path -> how many there were, and the worst P99 of any node."""
        found: dict[str, dict[str, float]] = {}
        for one in (one for info in self.nodes for one in info.cold_starts):
            entry = found.setdefault(one.path, {"count": 0, "p99_ms": 0.0})
            entry["count"] += one.count
            entry["p99_ms"] = max(entry["p99_ms"], one.p99_ms)
        return dict(sorted(found.items()))

    def cold_starts_text(self) -> str:
        """Return the same on one line; empty: there were none."""
        return ", ".join(
            f"{path} {one['p99_ms']:.0f} ms ({one['count']:.0f})"
            for path, one in self.cold_starts().items()
        )

    def node_rows(self) -> list[tuple[object, ...]]:
        """Return a row for each node, by POP."""
        return [
            (
                info.node.pop_id,
                info.node.id,
                _health(info),
                link_of(info),
                info.engine_kind or "-",
                info.in_flight_requests,
                _p99(info),
                info.service.shed,
                _days(certificate_days_of(info)),
                "; ".join(alarms_of(info)) or "-",
            )
            for info in self._by_pop()
        ]

    def deployment_rows(self) -> list[tuple[object, ...]]:
        """Return a row for each deployment."""
        return [
            (
                info.deployment.name,
                info.deployment.model,
                f"{_ready(info)} of {len(info.replicas)}",
                f"{info.deployment.ttft_budget_ms} ms",
                ", ".join(info.node_ids) or "-",
            )
            for info in self.deployments
        ]

    def _by_pop(self) -> list[admin_pb2.NodeInfo]:
        return sorted(self.nodes, key=lambda info: (info.node.pop_id, info.node.id))


def status(json_output: JsonOption = False) -> None:
    """Show the fleet on one screen: nodes by POP, deployments, alarms, and who you are.

    Example: edgeforge status
    """
    with admin() as client:
        overview = Overview(
            client.profile.admin_address,
            client.call(lambda stub: stub.ListNodes, admin_pb2.ListNodesRequest()).nodes,
            client.call(
                lambda stub: stub.ListDeployments, admin_pb2.ListDeploymentsRequest()
            ).deployments,
            client.call(lambda stub: stub.ListOperators, admin_pb2.ListOperatorsRequest()),
            validity_of(client.profile.cert_file),
            clock.now_unix_ms(),
        )
    if json_output:
        print_json(overview.as_json())
        return
    for line in overview.head():
        print_line(line)
    print_line("")
    print_table(
        (
            *("pop", "node", "health", "link", "engine", "in flight", "p99", "shed"),
            *("certificate", "alarms"),
        ),
        overview.node_rows(),
        "no nodes yet; enrol one: edgeforge node token create --pop POP",
    )
    print_line("")
    print_table(
        ("deployment", "model", "ready", "budget", "pinned to"),
        overview.deployment_rows(),
        "no deployments yet; edgeforge deployment create makes one",
    )


def _health(info: admin_pb2.NodeInfo) -> str:
    return enum_word(resources_pb2.NodeHealth.Name(info.node.health), "NODE_HEALTH_")


def _p99(info: admin_pb2.NodeInfo) -> str:
    service = info.service
    return f"{service.ttft_ms_p99:.0f} ms" if service.first_tokens else "-"


def _days(days: float | None) -> str:
    return "-" if days is None else f"{days:.0f} days"


def _ready(info: admin_pb2.DeploymentInfo) -> int:
    return sum(one.state == resources_pb2.REPLICA_STATE_READY for one in info.replicas)


def _node_json(info: admin_pb2.NodeInfo) -> dict[str, object]:
    service = info.service
    return {
        "pop": info.node.pop_id,
        "node": info.node.id,
        "health": _health(info),
        "connected": info.connected,
        "link": link_of(info),
        "engine": info.engine_kind,
        "in_flight_requests": info.in_flight_requests,
        "ttft_ms_p99": service.ttft_ms_p99 if service.first_tokens else None,
        "shed": service.shed,
        "certificate_days": certificate_days_of(info),
        "usage": usage_of(info),
        "usage_oldest_s": info.usage.oldest_s if info.HasField("usage") else None,
        "alarms": alarms_of(info),
    }


def _deployment_json(info: admin_pb2.DeploymentInfo) -> dict[str, object]:
    return {
        "deployment": info.deployment.name,
        "model": info.deployment.model,
        "replicas": len(info.replicas),
        "replicas_ready": _ready(info),
        "ttft_budget_ms": info.deployment.ttft_budget_ms,
        "pinned_to": list(info.node_ids),
    }
