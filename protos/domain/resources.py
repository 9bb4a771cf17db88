"""The resources of the routing table; ``protos.wire`` converts them to messages."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class ResourceType(enum.StrEnum):
    """The five types of rows of the routing table; each is pushed on its own."""

    TOPOLOGY = "topology"
    DEPLOYMENTS = "deployments"
    CREDENTIALS = "credentials"
    PRICES = "prices"
    DESIRED = "desired"


class Tier(enum.StrEnum):
    """A POP's distance from its users; prices depend on it."""

    EDGE = "edge"
    REGIONAL = "regional"
    CENTRAL = "central"


class NodeHealth(enum.StrEnum):
    """The health of a node as the coordinator judges it."""

    READY = "ready"
    SUSPECT = "suspect"
    UNROUTABLE = "unroutable"
    DEAD = "dead"


class NodeIntent(enum.StrEnum):
    """Whether a node may get requests and replicas."""

    ACTIVE = "active"
    CORDONED = "cordoned"
    DRAINING = "draining"
    RETIRED = "retired"


class ModelSource(enum.StrEnum):
    """Where a model's weights come from."""

    MANAGED = "managed"
    EXTERNAL = "external"


class SlaTier(enum.StrEnum):
    """The service level: realtime P99 < 80 ms, interactive < 200 ms, standard."""

    REALTIME = "realtime"
    INTERACTIVE = "interactive"
    STANDARD = "standard"


class ReplicaState(enum.StrEnum):
    """The state of a model in an engine."""

    PULLING = "pulling"
    STARTING = "starting"
    READY = "ready"
    FAILED = "failed"
    STOPPING = "stopping"


@dataclass(frozen=True, slots=True)
class Pop:
    """A site."""

    id: str
    tier: Tier
    zone: str
    city: str
    latitude_deg: float
    longitude_deg: float


@dataclass(frozen=True, slots=True)
class Node:
    """One host in a POP, running one agent."""

    id: str
    pop_id: str
    peer_host: str
    peer_port: int
    client_url: str
    health: NodeHealth
    intent: NodeIntent
    #: Why it is not active, for operators.
    intent_reason: str = ""


@dataclass(frozen=True, slots=True)
class Model:
    """A model of the registry, ``owner/name@version``."""

    name: str
    source: ModelSource
    family: str
    size_class: str
    context_tokens: int
    weights_bytes: int
    manifest_sha256: bytes


@dataclass(frozen=True, slots=True)
class Deployment:
    """What a client names in ``model``: a model with its budget, zones and account."""

    name: str
    account_id: str
    model: str
    adapter: str
    ttft_budget_ms: int
    sla_tier: SlaTier
    residency_zones: tuple[str, ...]
    strict: bool
    #: A stream that breaks after its first token is continued by another replica if possible.
    continue_streams: bool = False
    #: The only nodes that may serve it; None: every node with a replica of its model.
    pins: frozenset[str] | None = None


@dataclass(frozen=True, slots=True)
class EngineProfile:
    """Expected performance of an engine, used until outcomes are known.

    ``first_token_ms_p99`` is for an empty queue, a short prompt and no network.
    """

    first_token_ms_p99: float
    prefill_ms_per_token: float
    max_parallel: int
    tokens_per_s: float
    #: The engine computes embeddings and generates no text.
    embeds: bool = False
    #: The engine is known to have no parser of tool calls.
    lacks_tool_parser: bool = False
    #: Longest context that the engine was started with; 0: the model's own.
    context_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Replica:
    """A model in a node's engine, ready or not."""

    node_id: str
    model: str
    state: ReplicaState
    profile: EngineProfile
    generation: int


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A customer's key; after its creation only its SHA-256 ``digest`` is stored."""

    id: str
    digest: bytes
    account_id: str
    deployments: tuple[str, ...]
    expires_unix_ms: int


@dataclass(frozen=True, slots=True)
class Account:
    """A customer. ``cache_salt`` separates its prefix cache from all others."""

    id: str
    cache_salt: str


@dataclass(frozen=True, slots=True)
class Price:
    """One line of the price card, in nano-USD per token."""

    size_class: str
    tier: Tier
    prompt_nano_usd_per_token: int
    cached_nano_usd_per_token: int
    completion_nano_usd_per_token: int
    card_version: int


@dataclass(frozen=True, slots=True)
class ModelFile:
    """One file of a manifest; ``path`` is relative and ``/`` separated."""

    path: str
    sha256: bytes
    size_bytes: int


@dataclass(frozen=True, slots=True)
class DesiredReplica:
    """A replica that a node should hold."""

    model: str
    source: ModelSource
    files: tuple[ModelFile, ...]
    context_tokens: int


Resource = Pop | Node | Model | Deployment | Replica | ApiKey | Account | Price | DesiredReplica


def row_key(resource: Resource) -> str:
    """Return the key of ``resource`` within its resource type."""
    match resource:
        case Pop():
            return f"pop/{resource.id}"
        case Node():
            return f"node/{resource.id}"
        case Model():
            return f"model/{resource.name}"
        case Deployment():
            return f"deployment/{resource.name}"
        case Replica():
            return f"replica/{resource.node_id}/{resource.model}"
        case ApiKey():
            return f"key/{resource.id}"
        case Account():
            return f"account/{resource.id}"
        case Price():
            return f"price/{resource.size_class}/{resource.tier}"
        case DesiredReplica():
            return f"replica/{resource.model}"


def resource_type(resource: Resource) -> ResourceType:
    """Return the resource type whose stream carries ``resource``."""
    match resource:
        case Pop() | Node():
            return ResourceType.TOPOLOGY
        case Model() | Deployment() | Replica():
            return ResourceType.DEPLOYMENTS
        case ApiKey() | Account():
            return ResourceType.CREDENTIALS
        case Price():
            return ResourceType.PRICES
        case DesiredReplica():
            return ResourceType.DESIRED
