"""Checks messages from agents and converts them to domain values."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from google.protobuf.message import DecodeError

from coordinator.core.claims import MAX_COMPLAINTS
from coordinator.core.demand import MAX_DEPLOYMENTS
from coordinator.core.node_orders import NodeCondition, NodeFault
from coordinator.core.push_session import Acked, Holding, Nacked
from coordinator.core.table_builder import ReplicaReport
from coordinator.store.records import NodeRegistration
from protos.domain.addresses import host_problem, is_unspecified, url_problem
from protos.domain.errors import InvalidRequest
from protos.domain.hardware import NodeHardware
from protos.domain.routing_table import TableVersion, digest_from_bytes
from protos.v1 import fleet_pb2
from protos.wire import (
    SCHEMA,
    profile_from_wire,
    refusal_from_wire,
    replica_state_from_wire,
    residency_from_wire,
    resource_type_from_wire,
)

if TYPE_CHECKING:
    from protos.domain.resources import ResourceType

ENGINE_KINDS = ("vllm", "external", "none")
#: Models and adapters of one node: what the plan may order, twice over.
MAX_REPLICAS = 384
#: Bytes that a figure of a node may name: 1 PiB.
MAX_BYTES = 1 << 50
_MAX_ADAPTERS = 4_096
_MAX_RANK = 4_096
_MAX_ENGINES = 64
ACCELERATOR_KINDS = ("", "cuda", "rocm", "cpu")
MAX_PEERS = 8_192
MAX_ACCELERATORS = 64
MAX_FAULTS = 128
_MAX_VERSION_CHARS = 64
_MAX_ID_CHARS = 128
MAX_DETAIL_CHARS = 300
#: Longer than every name that the registry accepts.
MAX_MODEL_CHARS = 512


def agent_message(data: bytes) -> fleet_pb2.AgentMessage:
    """Parse a message. Raises: InvalidRequest."""
    try:
        return fleet_pb2.AgentMessage.FromString(data)
    except DecodeError as error:
        raise InvalidRequest("the message cannot be read") from error


def registration_of(hello: fleet_pb2.Hello) -> NodeRegistration:
    """Return a node's registration. Raises: InvalidRequest naming the first mistake."""
    if hello.schema < SCHEMA:
        raise InvalidRequest(
            f"the agent understands rows of schema {hello.schema}, these are of schema {SCHEMA}",
            "upgrade the agent",
        )
    _check(0 < len(hello.boot_id) <= _MAX_ID_CHARS, "boot_id is empty or too long")
    _check_address("peer_host", host_problem(hello.peer_host))
    _check(not is_unspecified(hello.peer_host), f"peer_host {hello.peer_host} cannot be dialled")
    _check(0 < hello.peer_port < 65_536, f"peer_port {hello.peer_port} is no port")
    _check_address("client_url", url_problem(hello.client_url))
    _check(hello.engine_kind in ENGINE_KINDS, f"engine_kind is none of {', '.join(ENGINE_KINDS)}")
    _check(_is_text(hello.agent_version, _MAX_VERSION_CHARS), "agent_version is empty or too long")
    return NodeRegistration(
        node_id=hello.node_id,
        peer_host=hello.peer_host,
        peer_port=hello.peer_port,
        client_url=hello.client_url,
        engine_kind=hello.engine_kind,
        profile=profile_from_wire(hello.profile),
        agent_version=hello.agent_version,
        hardware=hardware_of(hello),
    )


def hardware_of(hello: fleet_pb2.Hello) -> NodeHardware:
    """Return what a node says its host can hold, within bounds; an older agent says nothing.

    Raises: InvalidRequest.
    """
    kind, version = hello.accelerator_kind, hello.engine_version
    _check(kind in ACCELERATOR_KINDS, "accelerator_kind is none of cuda, rocm, cpu")
    _check(not version or _is_text(version, _MAX_VERSION_CHARS), "engine_version is too long")
    return NodeHardware(
        accelerator_kind=kind,
        weights_memory_bytes=min(hello.weights_memory_bytes, MAX_BYTES),
        engine_version=version,
        max_adapters=min(hello.max_adapters, _MAX_ADAPTERS),
        max_adapter_rank=min(hello.max_adapter_rank, _MAX_RANK),
        max_engines=min(hello.max_engines, _MAX_ENGINES),
    )


def holdings_of(have: Iterable[fleet_pb2.Have]) -> dict[ResourceType, Holding]:
    """Return what an agent holds; types unknown here (a newer agent's) are left out."""
    holdings = {}
    for one in have:
        try:
            holdings[resource_type_from_wire(one.type)] = holding_of(one)
        except InvalidRequest:
            continue
    return holdings


def holding_of(have: fleet_pb2.Have) -> Holding:
    """Return one table's identity."""
    return Holding(TableVersion(have.epoch, have.version), digest_from_bytes(have.digest))


def acked_of(ack: fleet_pb2.Ack) -> Acked:
    """Raises: InvalidRequest."""
    at = TableVersion(ack.epoch, ack.version)
    return Acked(resource_type_from_wire(ack.type), ack.nonce, at)


def nacked_of(nack: fleet_pb2.Nack) -> Nacked:
    """Raises: InvalidRequest."""
    return Nacked(
        type=resource_type_from_wire(nack.type),
        nonce=nack.nonce,
        reason=refusal_from_wire(nack.reason),
        detail=printable(nack.error, MAX_DETAIL_CHARS),
        have=holding_of(nack.have),
    )


def reports_of(status: fleet_pb2.Status) -> tuple[ReplicaReport, ...]:
    """Return a node's report of its replicas. Raises: InvalidRequest over the limits."""
    _check(len(status.replicas) <= MAX_REPLICAS, f"more than {MAX_REPLICAS} replicas")
    return tuple(
        ReplicaReport(
            printable(one.model, MAX_MODEL_CHARS),
            replica_state_from_wire(one.state),
            one.generation,
            printable(one.adapter, MAX_MODEL_CHARS),
            residency_from_wire(one.residency),
        )
        for one in status.replicas
    )


def demands_of(status: fleet_pb2.Status) -> list[tuple[str, float]]:
    """Return what clients ask of a node: requests per minute by deployment.

    Raises: InvalidRequest over the limits.
    """
    _check(len(status.demand) <= MAX_DEPLOYMENTS, f"more than {MAX_DEPLOYMENTS} demands")
    return [(one.deployment, one.requests_per_minute) for one in status.demand]


def condition_of(status: fleet_pb2.Status) -> NodeCondition:
    """Return a node's report of its own condition. Raises: InvalidRequest over the limits."""
    _check(len(status.accelerators) <= MAX_ACCELERATORS, f"more than {MAX_ACCELERATORS} GPUs")
    _check(len(status.faults) <= MAX_FAULTS, f"more than {MAX_FAULTS} faults")
    return NodeCondition(
        draining=status.draining,
        draining_reason=printable(status.draining_reason, MAX_DETAIL_CHARS),
        faults=tuple(
            NodeFault(printable(one.detail, MAX_DETAIL_CHARS), one.fatal, one.latched)
            for one in status.faults
        ),
        engine_in_flight=status.engine_in_flight_requests,
        accelerators=tuple(printable(one.name, _MAX_ID_CHARS) for one in status.accelerators),
        disk_quota_bytes=min(status.disk.quota_bytes, MAX_BYTES),
    )


def complaints_of(status: fleet_pb2.Status) -> dict[str, int]:
    """Return of which nodes it says that they claimed impossible counts of tokens, and how often.

    Raises: InvalidRequest over the limits.
    """
    told = status.usage_complaints
    _check(len(told) <= MAX_COMPLAINTS, f"more than {MAX_COMPLAINTS} complaints")
    return {one.node_id: one.answers for one in told}


def reachable_of(status: fleet_pb2.Status) -> dict[str, bool]:
    """Return which peers answered the node's probes. Raises: InvalidRequest over the limits."""
    _check(len(status.peers) <= MAX_PEERS, f"more than {MAX_PEERS} peers")
    return {peer.node_id: peer.reachable for peer in status.peers}


def printable(text: str, max_chars: int) -> str:
    """Return ``text`` cut to ``max_chars``, with what is not printable replaced by ``?``."""
    return "".join(char if char.isprintable() else "?" for char in text[:max_chars])


def _check(right: bool, mistake: str) -> None:
    if not right:
        raise InvalidRequest(f"hello or status: {mistake}")


def _check_address(what: str, problem: str) -> None:
    _check(not problem, f"{what}: {problem}")


def _is_text(text: str, max_chars: int) -> bool:
    return 0 < len(text) <= max_chars and text.isprintable() and " " not in text
