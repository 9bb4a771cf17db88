"""Conversion of enumerations to and from their numbers on the wire."""

from __future__ import annotations

from protos.domain import customers as c
from protos.domain import resources as d
from protos.domain.errors import InvalidRequest
from protos.domain.resources import ResourceType
from protos.domain.routing_table import RefusalReason
from protos.v1 import fleet_pb2
from protos.v1 import resources_pb2 as r

TYPE_TO_WIRE = {
    ResourceType.TOPOLOGY: r.RESOURCE_TYPE_TOPOLOGY,
    ResourceType.DEPLOYMENTS: r.RESOURCE_TYPE_DEPLOYMENTS,
    ResourceType.CREDENTIALS: r.RESOURCE_TYPE_CREDENTIALS,
    ResourceType.PRICES: r.RESOURCE_TYPE_PRICES,
    ResourceType.DESIRED: r.RESOURCE_TYPE_DESIRED,
}
TYPE_FROM_WIRE = {wire: domain for domain, wire in TYPE_TO_WIRE.items()}

TIER_TO_WIRE = {
    d.Tier.EDGE: r.TIER_EDGE,
    d.Tier.REGIONAL: r.TIER_REGIONAL,
    d.Tier.CENTRAL: r.TIER_CENTRAL,
}
HEALTH_TO_WIRE = {
    d.NodeHealth.READY: r.NODE_HEALTH_READY,
    d.NodeHealth.SUSPECT: r.NODE_HEALTH_SUSPECT,
    d.NodeHealth.UNROUTABLE: r.NODE_HEALTH_UNROUTABLE,
    d.NodeHealth.DEAD: r.NODE_HEALTH_DEAD,
}
INTENT_TO_WIRE = {
    d.NodeIntent.ACTIVE: r.NODE_INTENT_ACTIVE,
    d.NodeIntent.CORDONED: r.NODE_INTENT_CORDONED,
    d.NodeIntent.DRAINING: r.NODE_INTENT_DRAINING,
    d.NodeIntent.RETIRED: r.NODE_INTENT_RETIRED,
}
ACCOUNT_STATE_TO_WIRE = {
    c.AccountState.ACTIVE: r.ACCOUNT_STATE_UNSPECIFIED,
    c.AccountState.GRACE: r.ACCOUNT_STATE_GRACE,
    c.AccountState.LIMITED: r.ACCOUNT_STATE_LIMITED,
    c.AccountState.SUSPENDED: r.ACCOUNT_STATE_SUSPENDED,
}
ACCOUNT_STATE_FROM_WIRE = {wire: domain for domain, wire in ACCOUNT_STATE_TO_WIRE.items()}
SOURCE_TO_WIRE = {
    d.ModelSource.MANAGED: r.MODEL_SOURCE_MANAGED,
    d.ModelSource.EXTERNAL: r.MODEL_SOURCE_EXTERNAL,
}
SLA_TO_WIRE = {
    d.SlaTier.REALTIME: r.SLA_TIER_REALTIME,
    d.SlaTier.INTERACTIVE: r.SLA_TIER_INTERACTIVE,
    d.SlaTier.STANDARD: r.SLA_TIER_STANDARD,
}
REPLICA_TO_WIRE = {
    d.ReplicaState.PULLING: r.REPLICA_STATE_PULLING,
    d.ReplicaState.STARTING: r.REPLICA_STATE_STARTING,
    d.ReplicaState.READY: r.REPLICA_STATE_READY,
    d.ReplicaState.FAILED: r.REPLICA_STATE_FAILED,
    d.ReplicaState.STOPPING: r.REPLICA_STATE_STOPPING,
    d.ReplicaState.COLD: r.REPLICA_STATE_COLD,
}
RESIDENCY_TO_WIRE = {
    d.Residency.DEVICE: r.RESIDENCY_DEVICE,
    d.Residency.HOST_MEMORY: r.RESIDENCY_HOST_MEMORY,
    d.Residency.DISK: r.RESIDENCY_DISK,
    d.Residency.PEER: r.RESIDENCY_PEER,
    d.Residency.ORIGIN: r.RESIDENCY_ORIGIN,
}
HOLD_TO_WIRE = {
    d.Hold.HOT: r.HOLD_HOT,
    d.Hold.DISK: r.HOLD_DISK,
    d.Hold.ON_DEMAND: r.HOLD_ON_DEMAND,
}
REFUSAL_TO_WIRE = {
    RefusalReason.GAP: fleet_pb2.NACK_REASON_GAP,
    RefusalReason.DIGEST: fleet_pb2.NACK_REASON_DIGEST,
    RefusalReason.STALE: fleet_pb2.NACK_REASON_STALE,
    RefusalReason.TOO_LARGE: fleet_pb2.NACK_REASON_TOO_LARGE,
    RefusalReason.SHRUNK: fleet_pb2.NACK_REASON_SHRUNK,
    RefusalReason.MALFORMED: fleet_pb2.NACK_REASON_MALFORMED,
}
TIER_FROM_WIRE = {wire: domain for domain, wire in TIER_TO_WIRE.items()}
HEALTH_FROM_WIRE = {wire: domain for domain, wire in HEALTH_TO_WIRE.items()}
INTENT_FROM_WIRE = {wire: domain for domain, wire in INTENT_TO_WIRE.items()}
SOURCE_FROM_WIRE = {wire: domain for domain, wire in SOURCE_TO_WIRE.items()}
SLA_FROM_WIRE = {wire: domain for domain, wire in SLA_TO_WIRE.items()}
REPLICA_FROM_WIRE = {wire: domain for domain, wire in REPLICA_TO_WIRE.items()}
#: Rows of earlier versions have neither: what they name is in an engine, and hot.
RESIDENCY_FROM_WIRE = {wire: domain for domain, wire in RESIDENCY_TO_WIRE.items()} | {
    r.RESIDENCY_UNSPECIFIED: d.Residency.DEVICE
}
HOLD_FROM_WIRE = {wire: domain for domain, wire in HOLD_TO_WIRE.items()} | {
    r.HOLD_UNSPECIFIED: d.Hold.HOT
}
REFUSAL_FROM_WIRE = {wire: domain for domain, wire in REFUSAL_TO_WIRE.items()}


def resource_type_to_wire(resource_type: ResourceType) -> r.ResourceType.ValueType:
    return TYPE_TO_WIRE[resource_type]


def resource_type_from_wire(value: r.ResourceType.ValueType) -> ResourceType:
    """Raises: InvalidRequest for a type this version does not know."""
    try:
        return TYPE_FROM_WIRE[value]
    except KeyError:
        raise InvalidRequest(f"unknown resource type {value}") from None


def tier_to_wire(tier: d.Tier) -> r.Tier.ValueType:
    return TIER_TO_WIRE[tier]


def tier_from_wire(value: r.Tier.ValueType) -> d.Tier:
    """Raises: InvalidRequest for an unspecified tier."""
    try:
        return TIER_FROM_WIRE[value]
    except KeyError:
        raise InvalidRequest("tier must be edge, regional or central") from None


def replica_state_to_wire(state: d.ReplicaState) -> r.ReplicaState.ValueType:
    return REPLICA_TO_WIRE[state]


def replica_state_from_wire(value: r.ReplicaState.ValueType) -> d.ReplicaState:
    """Raises: InvalidRequest for a state this version does not know."""
    try:
        return REPLICA_FROM_WIRE[value]
    except KeyError:
        raise InvalidRequest(f"unknown replica state {value}") from None


def residency_to_wire(residency: d.Residency) -> r.Residency.ValueType:
    return RESIDENCY_TO_WIRE[residency]


def residency_from_wire(value: r.Residency.ValueType) -> d.Residency:
    """Raises: InvalidRequest for a residency this version does not know."""
    try:
        return RESIDENCY_FROM_WIRE[value]
    except KeyError:
        raise InvalidRequest(f"unknown residency {value}") from None


def model_source_from_wire(value: r.ModelSource.ValueType) -> d.ModelSource:
    """Raises: InvalidRequest for an unspecified source."""
    try:
        return SOURCE_FROM_WIRE[value]
    except KeyError:
        raise InvalidRequest("model source must be managed or external") from None


def model_source_to_wire(source: d.ModelSource) -> r.ModelSource.ValueType:
    return SOURCE_TO_WIRE[source]


def refusal_to_wire(reason: RefusalReason) -> fleet_pb2.NackReason.ValueType:
    return REFUSAL_TO_WIRE[reason]


def refusal_from_wire(value: fleet_pb2.NackReason.ValueType) -> RefusalReason:
    return REFUSAL_FROM_WIRE.get(value, RefusalReason.MALFORMED)
