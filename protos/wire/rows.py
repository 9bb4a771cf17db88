"""Rows of the routing table and the bytes that carry them."""

from __future__ import annotations

from math import isfinite

from google.protobuf.message import DecodeError, Message

from protos.domain import customers as c
from protos.domain import resources as d
from protos.domain.errors import InvalidRequest
from protos.domain.resources import ResourceType
from protos.v1 import resources_pb2 as r
from protos.wire.customer_rows import decode_credentials, decode_prices, row_of_money
from protos.wire.enums import (
    HEALTH_FROM_WIRE,
    HEALTH_TO_WIRE,
    INTENT_FROM_WIRE,
    INTENT_TO_WIRE,
    REPLICA_FROM_WIRE,
    REPLICA_TO_WIRE,
    RESIDENCY_FROM_WIRE,
    RESIDENCY_TO_WIRE,
    SLA_FROM_WIRE,
    SLA_TO_WIRE,
    TIER_FROM_WIRE,
    TIER_TO_WIRE,
)
from protos.wire.registry_rows import (
    adapter_from_wire,
    adapter_to_wire,
    decode_desired,
    desired_adapter_to_wire,
    desired_to_wire,
    model_from_wire,
    model_to_wire,
)

#: Version of the row formats that this code writes and understands.
SCHEMA = 1


def encode_row(resource: d.Resource) -> bytes:
    """Return the bytes of the row that carries ``resource``."""
    return _row_of(resource).SerializeToString(deterministic=True)


def _row_of(resource: d.Resource) -> Message:
    match resource:
        case d.Pop():
            return r.TopologyRow(pop=pop_to_wire(resource))
        case d.Node():
            return r.TopologyRow(node=node_to_wire(resource))
        case d.Model():
            return r.DeploymentsRow(model=model_to_wire(resource))
        case d.Adapter():
            return r.DeploymentsRow(adapter=adapter_to_wire(resource))
        case d.Deployment():
            return r.DeploymentsRow(deployment=deployment_to_wire(resource))
        case d.Replica():
            return r.DeploymentsRow(replica=replica_to_wire(resource))
        case c.ApiKey() | c.ForeignKey() | c.Account() | d.Price() | d.CardTerms():
            return row_of_money(resource)
        case d.DesiredReplica():
            return r.DesiredRow(replica=desired_to_wire(resource))
        case d.DesiredAdapter():
            return r.DesiredRow(adapter=desired_adapter_to_wire(resource))


def decode_row(resource_type: ResourceType, payload: bytes) -> d.Resource | None:
    """Return the resource in ``payload``, or None for a kind this version does not know.

    Raises: InvalidRequest when the bytes or an enum in them are invalid.
    """
    try:
        return _ROW_DECODERS[resource_type](payload)
    except DecodeError as error:
        raise InvalidRequest(f"malformed {resource_type} row") from error
    except KeyError as error:
        raise InvalidRequest(f"{resource_type} row with unknown enum value {error}") from error


def _decode_topology(payload: bytes) -> d.Resource | None:
    row = r.TopologyRow.FromString(payload)
    match row.WhichOneof("resource"):
        case "pop":
            return pop_from_wire(row.pop)
        case "node":
            return node_from_wire(row.node)
    return None


def _decode_deployments(payload: bytes) -> d.Resource | None:
    row = r.DeploymentsRow.FromString(payload)
    match row.WhichOneof("resource"):
        case "model":
            return model_from_wire(row.model)
        case "deployment":
            return deployment_from_wire(row.deployment)
        case "replica":
            return replica_from_wire(row.replica)
        case "adapter":
            return adapter_from_wire(row.adapter)
    return None


_ROW_DECODERS = {
    ResourceType.TOPOLOGY: _decode_topology,
    ResourceType.DEPLOYMENTS: _decode_deployments,
    ResourceType.CREDENTIALS: decode_credentials,
    ResourceType.PRICES: decode_prices,
    ResourceType.DESIRED: decode_desired,
}


def pop_to_wire(pop: d.Pop) -> r.Pop:
    return r.Pop(
        id=pop.id,
        tier=TIER_TO_WIRE[pop.tier],
        zone=pop.zone,
        city=pop.city,
        latitude_deg=pop.latitude_deg,
        longitude_deg=pop.longitude_deg,
    )


def pop_from_wire(pop: r.Pop) -> d.Pop:
    return d.Pop(
        id=pop.id,
        tier=TIER_FROM_WIRE[pop.tier],
        zone=pop.zone,
        city=pop.city,
        latitude_deg=pop.latitude_deg,
        longitude_deg=pop.longitude_deg,
    )


def node_to_wire(node: d.Node) -> r.Node:
    return r.Node(
        id=node.id,
        pop_id=node.pop_id,
        peer_host=node.peer_host,
        peer_port=node.peer_port,
        client_url=node.client_url,
        health=HEALTH_TO_WIRE[node.health],
        intent=INTENT_TO_WIRE[node.intent],
        intent_reason=node.intent_reason,
    )


def node_from_wire(node: r.Node) -> d.Node:
    return d.Node(
        id=node.id,
        pop_id=node.pop_id,
        peer_host=node.peer_host,
        peer_port=node.peer_port,
        client_url=node.client_url,
        health=HEALTH_FROM_WIRE[node.health],
        intent=INTENT_FROM_WIRE[node.intent],
        intent_reason=node.intent_reason,
    )


def deployment_to_wire(deployment: d.Deployment) -> r.Deployment:
    return r.Deployment(
        name=deployment.name,
        account_id=deployment.account_id,
        model=deployment.model,
        adapter=deployment.adapter,
        ttft_budget_ms=deployment.ttft_budget_ms,
        sla_tier=SLA_TO_WIRE[deployment.sla_tier],
        residency_zones=deployment.residency_zones,
        strict=deployment.strict,
        continue_streams=deployment.continue_streams,
        node_ids=sorted(deployment.pins or ()),
        is_pinned=deployment.pins is not None,
        runtime=deployment.runtime,
        max_premium_percent=deployment.max_premium_percent,
        revision=deployment.revision,
        next=None if deployment.next is None else _next_to_wire(deployment.next),
    )


def deployment_from_wire(deployment: r.Deployment) -> d.Deployment:
    return d.Deployment(
        name=deployment.name,
        account_id=deployment.account_id,
        model=deployment.model,
        adapter=deployment.adapter,
        ttft_budget_ms=deployment.ttft_budget_ms,
        sla_tier=SLA_FROM_WIRE[deployment.sla_tier],
        residency_zones=tuple(deployment.residency_zones),
        strict=deployment.strict,
        continue_streams=deployment.continue_streams,
        pins=frozenset(deployment.node_ids) if deployment.is_pinned else None,
        runtime=deployment.runtime,
        max_premium_percent=deployment.max_premium_percent,
        revision=deployment.revision,
        next=_next_from_wire(deployment.next) if deployment.HasField("next") else None,
    )


def _next_to_wire(following: d.NextVersion) -> r.NextVersion:
    return r.NextVersion(
        model=following.model,
        adapter=following.adapter,
        residency_zones=following.residency_zones,
        node_ids=sorted(following.pins or ()),
        is_pinned=following.pins is not None,
    )


def _next_from_wire(following: r.NextVersion) -> d.NextVersion:
    return d.NextVersion(
        model=following.model,
        adapter=following.adapter,
        residency_zones=tuple(following.residency_zones),
        pins=frozenset(following.node_ids) if following.is_pinned else None,
    )


def profile_to_wire(profile: d.EngineProfile) -> r.EngineProfile:
    return r.EngineProfile(
        first_token_ms_p99=profile.first_token_ms_p99,
        prefill_ms_per_token=profile.prefill_ms_per_token,
        max_parallel=profile.max_parallel,
        tokens_per_s=profile.tokens_per_s,
        embeds=profile.embeds,
        lacks_tool_parser=profile.lacks_tool_parser,
        context_tokens=profile.context_tokens,
    )


def profile_from_wire(profile: r.EngineProfile) -> d.EngineProfile:
    """Raises: InvalidRequest for numbers unfit for predictions."""
    for value in (profile.first_token_ms_p99, profile.prefill_ms_per_token, profile.tokens_per_s):
        if not (isfinite(value) and value >= 0.0):
            raise InvalidRequest("an engine profile holds a negative or infinite number")
    return d.EngineProfile(
        first_token_ms_p99=profile.first_token_ms_p99,
        prefill_ms_per_token=profile.prefill_ms_per_token,
        max_parallel=profile.max_parallel,
        tokens_per_s=profile.tokens_per_s,
        embeds=profile.embeds,
        lacks_tool_parser=profile.lacks_tool_parser,
        context_tokens=profile.context_tokens,
    )


def replica_to_wire(replica: d.Replica) -> r.Replica:
    return r.Replica(
        node_id=replica.node_id,
        model=replica.model,
        state=REPLICA_TO_WIRE[replica.state],
        profile=profile_to_wire(replica.profile),
        generation=replica.generation,
        adapter=replica.adapter,
        residency=RESIDENCY_TO_WIRE[replica.residency],
    )


def replica_from_wire(replica: r.Replica) -> d.Replica:
    return d.Replica(
        node_id=replica.node_id,
        model=replica.model,
        state=REPLICA_FROM_WIRE[replica.state],
        profile=profile_from_wire(replica.profile),
        generation=replica.generation,
        adapter=replica.adapter,
        residency=RESIDENCY_FROM_WIRE[replica.residency],
    )
