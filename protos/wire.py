"""The only conversion between messages and domain types."""

from __future__ import annotations

from google.protobuf.message import DecodeError

from protos.domain import resources as d
from protos.domain.errors import InvalidRequest
from protos.domain.resources import ResourceType
from protos.domain.routing_table import (
    Delta,
    RefusalReason,
    Snapshot,
    Table,
    TableVersion,
    digest_from_bytes,
    digest_to_bytes,
)
from protos.v1 import fleet_pb2
from protos.v1 import resources_pb2 as r

#: Version of the row formats that this code writes and understands.
SCHEMA = 1

_TYPE_TO_WIRE = {
    ResourceType.TOPOLOGY: r.RESOURCE_TYPE_TOPOLOGY,
    ResourceType.DEPLOYMENTS: r.RESOURCE_TYPE_DEPLOYMENTS,
    ResourceType.CREDENTIALS: r.RESOURCE_TYPE_CREDENTIALS,
    ResourceType.PRICES: r.RESOURCE_TYPE_PRICES,
    ResourceType.DESIRED: r.RESOURCE_TYPE_DESIRED,
}
_TYPE_FROM_WIRE = {wire: domain for domain, wire in _TYPE_TO_WIRE.items()}

_TIER_TO_WIRE = {
    d.Tier.EDGE: r.TIER_EDGE,
    d.Tier.REGIONAL: r.TIER_REGIONAL,
    d.Tier.CENTRAL: r.TIER_CENTRAL,
}
_HEALTH_TO_WIRE = {
    d.NodeHealth.READY: r.NODE_HEALTH_READY,
    d.NodeHealth.SUSPECT: r.NODE_HEALTH_SUSPECT,
    d.NodeHealth.UNROUTABLE: r.NODE_HEALTH_UNROUTABLE,
    d.NodeHealth.DEAD: r.NODE_HEALTH_DEAD,
}
_INTENT_TO_WIRE = {
    d.NodeIntent.ACTIVE: r.NODE_INTENT_ACTIVE,
    d.NodeIntent.CORDONED: r.NODE_INTENT_CORDONED,
    d.NodeIntent.DRAINING: r.NODE_INTENT_DRAINING,
    d.NodeIntent.RETIRED: r.NODE_INTENT_RETIRED,
}
_SOURCE_TO_WIRE = {
    d.ModelSource.MANAGED: r.MODEL_SOURCE_MANAGED,
    d.ModelSource.EXTERNAL: r.MODEL_SOURCE_EXTERNAL,
}
_SLA_TO_WIRE = {
    d.SlaTier.REALTIME: r.SLA_TIER_REALTIME,
    d.SlaTier.INTERACTIVE: r.SLA_TIER_INTERACTIVE,
    d.SlaTier.STANDARD: r.SLA_TIER_STANDARD,
}
_REPLICA_TO_WIRE = {
    d.ReplicaState.PULLING: r.REPLICA_STATE_PULLING,
    d.ReplicaState.STARTING: r.REPLICA_STATE_STARTING,
    d.ReplicaState.READY: r.REPLICA_STATE_READY,
    d.ReplicaState.FAILED: r.REPLICA_STATE_FAILED,
    d.ReplicaState.STOPPING: r.REPLICA_STATE_STOPPING,
}
_REFUSAL_TO_WIRE = {
    RefusalReason.GAP: fleet_pb2.NACK_REASON_GAP,
    RefusalReason.DIGEST: fleet_pb2.NACK_REASON_DIGEST,
    RefusalReason.STALE: fleet_pb2.NACK_REASON_STALE,
    RefusalReason.TOO_LARGE: fleet_pb2.NACK_REASON_TOO_LARGE,
    RefusalReason.SHRUNK: fleet_pb2.NACK_REASON_SHRUNK,
    RefusalReason.MALFORMED: fleet_pb2.NACK_REASON_MALFORMED,
}
_TIER_FROM_WIRE = {wire: domain for domain, wire in _TIER_TO_WIRE.items()}
_HEALTH_FROM_WIRE = {wire: domain for domain, wire in _HEALTH_TO_WIRE.items()}
_INTENT_FROM_WIRE = {wire: domain for domain, wire in _INTENT_TO_WIRE.items()}
_SOURCE_FROM_WIRE = {wire: domain for domain, wire in _SOURCE_TO_WIRE.items()}
_SLA_FROM_WIRE = {wire: domain for domain, wire in _SLA_TO_WIRE.items()}
_REPLICA_FROM_WIRE = {wire: domain for domain, wire in _REPLICA_TO_WIRE.items()}
_REFUSAL_FROM_WIRE = {wire: domain for domain, wire in _REFUSAL_TO_WIRE.items()}


def encode_row(resource: d.Resource) -> bytes:
    """Return the bytes of the row that carries ``resource``."""
    match resource:
        case d.Pop():
            row = r.TopologyRow(pop=pop_to_wire(resource)).SerializeToString(deterministic=True)
        case d.Node():
            row = r.TopologyRow(node=node_to_wire(resource)).SerializeToString(deterministic=True)
        case d.Model():
            row = r.DeploymentsRow(model=model_to_wire(resource)).SerializeToString(
                deterministic=True
            )
        case d.Deployment():
            row = r.DeploymentsRow(deployment=deployment_to_wire(resource)).SerializeToString(
                deterministic=True
            )
        case d.Replica():
            row = r.DeploymentsRow(replica=replica_to_wire(resource)).SerializeToString(
                deterministic=True
            )
        case d.ApiKey():
            row = r.CredentialsRow(api_key=_api_key_to_wire(resource)).SerializeToString(
                deterministic=True
            )
        case d.Account():
            account = r.Account(id=resource.id, cache_salt=resource.cache_salt)
            row = r.CredentialsRow(account=account).SerializeToString(deterministic=True)
        case d.Price():
            row = r.PricesRow(price=price_to_wire(resource)).SerializeToString(deterministic=True)
        case d.DesiredReplica():
            row = r.DesiredRow(replica=_desired_to_wire(resource)).SerializeToString(
                deterministic=True
            )
    return row


def decode_row(resource_type: ResourceType, payload: bytes) -> d.Resource | None:
    """Return the resource in ``payload``, or None for a kind this version does not know.

    Raises: InvalidRequest when the bytes or an enum in them cannot be understood.
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
    return None


def _decode_credentials(payload: bytes) -> d.Resource | None:
    row = r.CredentialsRow.FromString(payload)
    match row.WhichOneof("resource"):
        case "api_key":
            key = row.api_key
            return d.ApiKey(
                id=key.id,
                digest=key.digest,
                account_id=key.account_id,
                deployments=tuple(key.deployments),
                expires_unix_ms=key.expires_unix_ms,
            )
        case "account":
            return d.Account(id=row.account.id, cache_salt=row.account.cache_salt)
    return None


def _decode_prices(payload: bytes) -> d.Resource | None:
    return price_from_wire(r.PricesRow.FromString(payload).price)


def _decode_desired(payload: bytes) -> d.Resource | None:
    replica = r.DesiredRow.FromString(payload).replica
    return d.DesiredReplica(
        model=replica.model,
        source=_SOURCE_FROM_WIRE[replica.source],
        files=tuple(model_file_from_wire(file) for file in replica.files),
        context_tokens=replica.context_tokens,
    )


_ROW_DECODERS = {
    ResourceType.TOPOLOGY: _decode_topology,
    ResourceType.DEPLOYMENTS: _decode_deployments,
    ResourceType.CREDENTIALS: _decode_credentials,
    ResourceType.PRICES: _decode_prices,
    ResourceType.DESIRED: _decode_desired,
}


def pop_to_wire(pop: d.Pop) -> r.Pop:
    return r.Pop(
        id=pop.id,
        tier=_TIER_TO_WIRE[pop.tier],
        zone=pop.zone,
        city=pop.city,
        latitude_deg=pop.latitude_deg,
        longitude_deg=pop.longitude_deg,
    )


def pop_from_wire(pop: r.Pop) -> d.Pop:
    return d.Pop(
        id=pop.id,
        tier=_TIER_FROM_WIRE[pop.tier],
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
        health=_HEALTH_TO_WIRE[node.health],
        intent=_INTENT_TO_WIRE[node.intent],
    )


def node_from_wire(node: r.Node) -> d.Node:
    return d.Node(
        id=node.id,
        pop_id=node.pop_id,
        peer_host=node.peer_host,
        peer_port=node.peer_port,
        client_url=node.client_url,
        health=_HEALTH_FROM_WIRE[node.health],
        intent=_INTENT_FROM_WIRE[node.intent],
    )


def model_to_wire(model: d.Model) -> r.Model:
    return r.Model(
        name=model.name,
        source=_SOURCE_TO_WIRE[model.source],
        family=model.family,
        size_class=model.size_class,
        context_tokens=model.context_tokens,
        weights_bytes=model.weights_bytes,
        manifest_sha256=model.manifest_sha256,
    )


def model_from_wire(model: r.Model) -> d.Model:
    return d.Model(
        name=model.name,
        source=_SOURCE_FROM_WIRE[model.source],
        family=model.family,
        size_class=model.size_class,
        context_tokens=model.context_tokens,
        weights_bytes=model.weights_bytes,
        manifest_sha256=model.manifest_sha256,
    )


def deployment_to_wire(deployment: d.Deployment) -> r.Deployment:
    return r.Deployment(
        name=deployment.name,
        account_id=deployment.account_id,
        model=deployment.model,
        adapter=deployment.adapter,
        ttft_budget_ms=deployment.ttft_budget_ms,
        sla_tier=_SLA_TO_WIRE[deployment.sla_tier],
        residency_zones=deployment.residency_zones,
        strict=deployment.strict,
    )


def deployment_from_wire(deployment: r.Deployment) -> d.Deployment:
    return d.Deployment(
        name=deployment.name,
        account_id=deployment.account_id,
        model=deployment.model,
        adapter=deployment.adapter,
        ttft_budget_ms=deployment.ttft_budget_ms,
        sla_tier=_SLA_FROM_WIRE[deployment.sla_tier],
        residency_zones=tuple(deployment.residency_zones),
        strict=deployment.strict,
    )


def profile_to_wire(profile: d.EngineProfile) -> r.EngineProfile:
    return r.EngineProfile(
        first_token_ms_p99=profile.first_token_ms_p99,
        prefill_ms_per_token=profile.prefill_ms_per_token,
        max_parallel=profile.max_parallel,
        tokens_per_s=profile.tokens_per_s,
    )


def profile_from_wire(profile: r.EngineProfile) -> d.EngineProfile:
    return d.EngineProfile(
        first_token_ms_p99=profile.first_token_ms_p99,
        prefill_ms_per_token=profile.prefill_ms_per_token,
        max_parallel=profile.max_parallel,
        tokens_per_s=profile.tokens_per_s,
    )


def replica_to_wire(replica: d.Replica) -> r.Replica:
    return r.Replica(
        node_id=replica.node_id,
        model=replica.model,
        state=_REPLICA_TO_WIRE[replica.state],
        profile=profile_to_wire(replica.profile),
        generation=replica.generation,
    )


def replica_from_wire(replica: r.Replica) -> d.Replica:
    return d.Replica(
        node_id=replica.node_id,
        model=replica.model,
        state=_REPLICA_FROM_WIRE[replica.state],
        profile=profile_from_wire(replica.profile),
        generation=replica.generation,
    )


def _api_key_to_wire(key: d.ApiKey) -> r.ApiKey:
    return r.ApiKey(
        id=key.id,
        digest=key.digest,
        account_id=key.account_id,
        deployments=key.deployments,
        expires_unix_ms=key.expires_unix_ms,
    )


def price_to_wire(price: d.Price) -> r.Price:
    return r.Price(
        size_class=price.size_class,
        tier=_TIER_TO_WIRE[price.tier],
        prompt_nano_usd_per_token=price.prompt_nano_usd_per_token,
        cached_nano_usd_per_token=price.cached_nano_usd_per_token,
        completion_nano_usd_per_token=price.completion_nano_usd_per_token,
        card_version=price.card_version,
    )


def price_from_wire(price: r.Price) -> d.Price:
    return d.Price(
        size_class=price.size_class,
        tier=_TIER_FROM_WIRE[price.tier],
        prompt_nano_usd_per_token=price.prompt_nano_usd_per_token,
        cached_nano_usd_per_token=price.cached_nano_usd_per_token,
        completion_nano_usd_per_token=price.completion_nano_usd_per_token,
        card_version=price.card_version,
    )


def model_file_to_wire(file: d.ModelFile) -> r.ModelFile:
    return r.ModelFile(path=file.path, sha256=file.sha256, size_bytes=file.size_bytes)


def model_file_from_wire(file: r.ModelFile) -> d.ModelFile:
    return d.ModelFile(path=file.path, sha256=file.sha256, size_bytes=file.size_bytes)


def _desired_to_wire(desired: d.DesiredReplica) -> r.DesiredReplica:
    return r.DesiredReplica(
        model=desired.model,
        source=_SOURCE_TO_WIRE[desired.source],
        files=[model_file_to_wire(file) for file in desired.files],
        context_tokens=desired.context_tokens,
    )


def resource_type_to_wire(resource_type: ResourceType) -> r.ResourceType.ValueType:
    return _TYPE_TO_WIRE[resource_type]


def resource_type_from_wire(value: r.ResourceType.ValueType) -> ResourceType:
    """Raises: InvalidRequest for a type this version does not know."""
    try:
        return _TYPE_FROM_WIRE[value]
    except KeyError:
        raise InvalidRequest(f"unknown resource type {value}") from None


def tier_to_wire(tier: d.Tier) -> r.Tier.ValueType:
    return _TIER_TO_WIRE[tier]


def tier_from_wire(value: r.Tier.ValueType) -> d.Tier:
    """Raises: InvalidRequest for an unspecified tier."""
    try:
        return _TIER_FROM_WIRE[value]
    except KeyError:
        raise InvalidRequest("tier must be edge, regional or central") from None


def replica_state_to_wire(state: d.ReplicaState) -> r.ReplicaState.ValueType:
    return _REPLICA_TO_WIRE[state]


def replica_state_from_wire(value: r.ReplicaState.ValueType) -> d.ReplicaState:
    """Raises: InvalidRequest for a state this version does not know."""
    try:
        return _REPLICA_FROM_WIRE[value]
    except KeyError:
        raise InvalidRequest(f"unknown replica state {value}") from None


def model_source_from_wire(value: r.ModelSource.ValueType) -> d.ModelSource:
    """Raises: InvalidRequest for an unspecified source."""
    try:
        return _SOURCE_FROM_WIRE[value]
    except KeyError:
        raise InvalidRequest("model source must be managed or external") from None


def model_source_to_wire(source: d.ModelSource) -> r.ModelSource.ValueType:
    return _SOURCE_TO_WIRE[source]


def refusal_to_wire(reason: RefusalReason) -> fleet_pb2.NackReason.ValueType:
    return _REFUSAL_TO_WIRE[reason]


def refusal_from_wire(value: fleet_pb2.NackReason.ValueType) -> RefusalReason:
    return _REFUSAL_FROM_WIRE.get(value, RefusalReason.MALFORMED)


def have_to_wire(table: Table) -> fleet_pb2.Have:
    return fleet_pb2.Have(
        type=_TYPE_TO_WIRE[table.type],
        epoch=table.at.epoch,
        version=table.at.version,
        digest=digest_to_bytes(table.digest),
    )


def snapshot_from_wire(message: fleet_pb2.Snapshot) -> Snapshot:
    """Raises: InvalidRequest for a type this version does not know."""
    return Snapshot(
        type=resource_type_from_wire(message.type),
        at=TableVersion(message.epoch, message.version),
        rows={row.key: row.payload for row in message.rows},
        digest=digest_from_bytes(message.digest),
        forced=message.forced,
    )


def snapshot_to_wire(snapshot: Snapshot, nonce: int) -> fleet_pb2.Snapshot:
    return fleet_pb2.Snapshot(
        type=_TYPE_TO_WIRE[snapshot.type],
        epoch=snapshot.at.epoch,
        version=snapshot.at.version,
        rows=[fleet_pb2.Row(key=key, payload=row) for key, row in snapshot.rows.items()],
        digest=digest_to_bytes(snapshot.digest),
        nonce=nonce,
        forced=snapshot.forced,
    )


def delta_from_wire(message: fleet_pb2.Delta) -> Delta:
    """Raises: InvalidRequest for a type this version does not know."""
    return Delta(
        type=resource_type_from_wire(message.type),
        epoch=message.epoch,
        from_version=message.from_version,
        to_version=message.to_version,
        upserts={row.key: row.payload for row in message.upserts},
        removes=tuple(message.removes),
        result_digest=digest_from_bytes(message.result_digest),
        forced=message.forced,
    )


def delta_to_wire(delta: Delta, nonce: int) -> fleet_pb2.Delta:
    return fleet_pb2.Delta(
        type=_TYPE_TO_WIRE[delta.type],
        epoch=delta.epoch,
        from_version=delta.from_version,
        to_version=delta.to_version,
        upserts=[fleet_pb2.Row(key=key, payload=row) for key, row in delta.upserts.items()],
        removes=delta.removes,
        result_digest=digest_to_bytes(delta.result_digest),
        nonce=nonce,
        forced=delta.forced,
    )
