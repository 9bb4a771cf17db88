"""The resources of the routing table; ``protos.wire`` converts them to messages."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from protos.domain.customers import Account, ApiKey, ForeignKey


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
    #: Not in an engine; its node loads it when a request asks for it.
    COLD = "cold"


class Residency(enum.StrEnum):
    """Where the weights are that a node would serve from; each is slower than the one before."""

    DEVICE = "device"
    HOST_MEMORY = "host_memory"
    DISK = "disk"
    PEER = "peer"
    ORIGIN = "origin"


class Hold(enum.StrEnum):
    """What a node is told to do with a model or an adapter."""

    #: In an engine, and pinned on disk.
    HOT = "hot"
    #: On disk, loaded when a request asks for it.
    DISK = "disk"
    #: Pulled and loaded when a request asks for it; evicted when space is needed.
    ON_DEMAND = "on_demand"


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
    """A model of the registry, ``owner/name@version``.

    Engines whose models have the same ``swap_key`` (configuration, tokenizer, chat template) take
    each other's weights in place. ``account_id`` owns it; empty: the operators, and every account
    may deploy it.
    """

    name: str
    source: ModelSource
    family: str
    size_class: str
    context_tokens: int
    weights_bytes: int
    manifest_sha256: bytes
    swap_key: bytes = b""
    account_id: str = ""


@dataclass(frozen=True, slots=True)
class Adapter:
    """A LoRA adapter of the registry, ``owner/name@version``, for the base ``model``.

    ``account_id`` owns it; empty: the operators, and every account may deploy it.
    """

    name: str
    model: str
    rank: int
    weights_bytes: int
    manifest_sha256: bytes
    account_id: str = ""


@dataclass(frozen=True, slots=True)
class Runtime:
    """How an engine is started: what others call the image, ``owner/name@version``.

    ``version_constraint`` is a PEP 440 specifier of the engine, empty: any. ``args`` are of the
    allowlist of ``protos.domain.engine_options``. ``accelerators`` are "cuda", "rocm", "cpu";
    empty: any.
    """

    name: str
    engine_kind: str = "vllm"
    version_constraint: str = ""
    args: tuple[str, ...] = ()
    load_format: str = ""
    accelerators: tuple[str, ...] = ()
    account_id: str = ""


@dataclass(frozen=True, slots=True)
class NextVersion:
    """What a deployment is changed to: held where pins and zones allow, serves no request yet."""

    model: str
    adapter: str
    residency_zones: tuple[str, ...] = ()
    pins: frozenset[str] | None = None


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
    #: How engines of its model are started; empty: as each host is configured.
    runtime: str = ""
    #: Most that a target may cost above the cheapest central one, in percent; 0: no limit.
    max_premium_percent: int = 0
    #: Counts its updates and rollbacks, from 1.
    revision: int = 0
    next: NextVersion | None = None


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
    """A model, or an adapter of it if one is named, at a node: in its engine, or loadable."""

    node_id: str
    model: str
    state: ReplicaState
    profile: EngineProfile
    generation: int
    adapter: str = ""
    residency: Residency = Residency.DEVICE


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
class CardTerms:
    """What the price card says beside its lines. Percents are added to a line's rates.

    ``valid_from_unix_ms`` is when the card took effect. An SLA tier's promise: the share of streams
    whose first token comes in time, in percent; where it is missed, ``credit_percent`` of what the
    tier's requests of the month have cost is credited.
    """

    version: int
    valid_from_unix_ms: int = 0
    realtime_percent: int = 0
    interactive_percent: int = 0
    standard_percent: int = 0
    residency_percent: int = 0
    promise_percent: int = 95
    credit_percent: int = 10


NO_TERMS = CardTerms(0)


@dataclass(frozen=True, slots=True)
class ModelFile:
    """One file of a manifest; ``path`` is relative and ``/`` separated.

    ``pieces_sha256`` is the SHA-256 of its piece list: the digests of its 4 MiB pieces, one after
    the other. It follows from the content and is no part of the manifest's own digest. Empty for
    a file of one piece, whose digest is the file's.
    """

    path: str
    sha256: bytes
    size_bytes: int
    pieces_sha256: bytes = b""


@dataclass(frozen=True, slots=True)
class DesiredReplica:
    """A replica that a node should hold."""

    model: str
    source: ModelSource
    files: tuple[ModelFile, ...]
    context_tokens: int
    hold: Hold = Hold.HOT
    runtime: Runtime | None = None
    swap_key: bytes = b""


@dataclass(frozen=True, slots=True)
class DesiredAdapter:
    """An adapter that a node should hold, or may load, beside its base ``model``."""

    adapter: str
    model: str
    rank: int
    files: tuple[ModelFile, ...]
    hold: Hold = Hold.ON_DEMAND


Resource = (
    Pop
    | Node
    | Model
    | Adapter
    | Deployment
    | Replica
    | ApiKey
    | ForeignKey
    | Account
    | Price
    | CardTerms
    | DesiredReplica
    | DesiredAdapter
)


_KIND_OF: dict[type, str] = {
    Pop: "pop",
    Node: "node",
    ApiKey: "key",
    ForeignKey: "key",
    Account: "account",
    Model: "model",
    Adapter: "adapter",
    Deployment: "deployment",
}


def row_key(resource: Resource) -> str:
    """Return the key of ``resource`` within its resource type."""
    match resource:
        case Pop() | Node() | ApiKey() | ForeignKey() | Account():
            return f"{_KIND_OF[type(resource)]}/{resource.id}"
        case Model() | Adapter() | Deployment():
            return f"{_KIND_OF[type(resource)]}/{resource.name}"
        case Replica():
            of = f"{resource.model}+{resource.adapter}" if resource.adapter else resource.model
            return f"replica/{resource.node_id}/{of}"
        case Price():
            return f"price/{resource.size_class}/{resource.tier}"
        case CardTerms():
            return "terms"
        case DesiredReplica():
            return f"replica/{resource.model}"
        case DesiredAdapter():
            return f"adapter/{resource.adapter}"


def resource_type(resource: Resource) -> ResourceType:
    """Return the resource type whose stream carries ``resource``."""
    match resource:
        case Pop() | Node():
            return ResourceType.TOPOLOGY
        case Model() | Adapter() | Deployment() | Replica():
            return ResourceType.DEPLOYMENTS
        case ApiKey() | ForeignKey() | Account():
            return ResourceType.CREDENTIALS
        case Price() | CardTerms():
            return ResourceType.PRICES
        case DesiredReplica() | DesiredAdapter():
            return ResourceType.DESIRED
