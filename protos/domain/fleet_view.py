"""The router's input: the routing table's rows, decoded and indexed.

A ``FleetView`` is replaced, never changed, so a request keeps the view it started with.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from protos.domain.customers import Account, ApiKey, ForeignKey
from protos.domain.resources import (
    Adapter,
    CardTerms,
    Deployment,
    DesiredAdapter,
    DesiredReplica,
    Model,
    NextVersion,
    Node,
    Pop,
    Price,
    Replica,
    Resource,
    SlaTier,
    Tier,
)

if TYPE_CHECKING:
    from protos.domain.offers import Offers

#: Decoded rows indexed between two yields.
ROWS_PER_STEP = 256


@dataclass(frozen=True, slots=True)
class FleetView:
    """An agent's view of the fleet at one moment."""

    pops: Mapping[str, Pop] = field(default_factory=dict)
    nodes: Mapping[str, Node] = field(default_factory=dict)
    models: Mapping[str, Model] = field(default_factory=dict)
    adapters: Mapping[str, Adapter] = field(default_factory=dict)
    deployments: Mapping[str, Deployment] = field(default_factory=dict)
    #: model name -> node id -> replica
    replicas: Mapping[str, Mapping[str, Replica]] = field(default_factory=dict)
    #: adapter name -> node id -> replica of the adapter
    adapter_replicas: Mapping[str, Mapping[str, Replica]] = field(default_factory=dict)
    #: SHA-256 of the whole key -> key
    keys: Mapping[bytes, ApiKey] = field(default_factory=dict)
    #: SHA-256 of the whole key -> where it may be used; keys that may not be used here
    foreign_keys: Mapping[bytes, ForeignKey] = field(default_factory=dict)
    accounts: Mapping[str, Account] = field(default_factory=dict)
    prices: Mapping[tuple[str, Tier], Price] = field(default_factory=dict)
    #: "terms" -> what the price card says beside its lines; empty before the first card
    card: Mapping[str, CardTerms] = field(default_factory=dict)
    #: model name -> what this node should hold
    desired: Mapping[str, DesiredReplica] = field(default_factory=dict)
    #: adapter name -> what this node should hold, or may load
    desired_adapters: Mapping[str, DesiredAdapter] = field(default_factory=dict)
    #: model name -> what ``offer_lookup.offers_of`` computed from this view; empty in a new view
    offers: dict[str, Offers] = field(default_factory=dict, init=False, repr=False, compare=False)
    #: (size class, tier, SLA tier, pinned) -> the price with its surcharges, once it was asked for
    surcharged: dict[tuple[str, Tier, SlaTier, bool], Price] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )
    #: model or adapter -> the deployments that name it; as ``holding`` found them, empty before
    users: dict[str, list[Deployment | NextVersion]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )


def with_changes(
    view: FleetView,
    removes: Iterable[Resource],
    upserts: Iterable[Resource],
) -> FleetView:
    """Return ``view`` after ``removes`` then ``upserts``, all at once."""
    steps = with_changes_steps(view, removes, upserts)
    while True:
        try:
            next(steps)
        except StopIteration as stop:
            result: FleetView = stop.value
            return result


def with_changes_steps(
    view: FleetView,
    removes: Iterable[Resource],
    upserts: Iterable[Resource],
) -> Generator[None, None, FleetView]:
    """Like ``with_changes``, yielding every ROWS_PER_STEP rows so that a caller can pause.

    An upsert whose predecessor has another index key (an API key's digest changed) must have that
    predecessor among ``removes``.
    """
    draft = _Draft(view)
    count = 0
    for resource in removes:
        draft.remove(resource)
        count += 1
        if count % ROWS_PER_STEP == 0:
            yield
    for resource in upserts:
        draft.upsert(resource)
        count += 1
        if count % ROWS_PER_STEP == 0:
            yield
    return draft.finish()


class _Draft:
    """Copies an index the first time it is touched."""

    def __init__(self, view: FleetView) -> None:
        self._view = view
        self._touched: dict[str, dict[object, object]] = {}
        #: (index, its key) of the maps by node that this draft has copied.
        self._owned: set[tuple[str, str]] = set()

    def upsert(self, resource: Resource) -> None:
        if isinstance(resource, Replica):
            self._by_node(*_replica_slot(resource))[resource.node_id] = resource
            return
        name, key = _slot(resource)
        self._index(name)[key] = resource

    def remove(self, resource: Resource) -> None:
        if isinstance(resource, Replica):
            slot = _replica_slot(resource)
            by_node = self._by_node(*slot)
            by_node.pop(resource.node_id, None)
            if not by_node:
                del self._index(slot[0])[slot[1]]
                self._owned.discard(slot)
            return
        name, key = _slot(resource)
        self._index(name).pop(key, None)

    def finish(self) -> FleetView:
        return replace(self._view, **self._touched)  # type: ignore[arg-type]

    def _index(self, name: str) -> dict[object, object]:
        index = self._touched.get(name)
        if index is None:
            index = self._touched[name] = dict(getattr(self._view, name))
        return index

    def _by_node(self, name: str, key: str) -> dict[str, Replica]:
        index = self._index(name)
        by_node: dict[str, Replica]
        if (name, key) in self._owned:
            by_node = index[key]  # type: ignore[assignment]
            return by_node
        by_node = dict(index.get(key, {}))  # type: ignore[call-overload]
        index[key] = by_node
        self._owned.add((name, key))
        return by_node


def _replica_slot(replica: Replica) -> tuple[str, str]:
    if replica.adapter:
        return "adapter_replicas", replica.adapter
    return "replicas", replica.model


#: Indexes whose key is the row's ``id``, its ``digest``, or its ``name``.
_BY_ID: dict[type, str] = {Pop: "pops", Node: "nodes", Account: "accounts"}
_BY_DIGEST: dict[type, str] = {ApiKey: "keys", ForeignKey: "foreign_keys"}
_BY_NAME: dict[type, str] = {Model: "models", Adapter: "adapters", Deployment: "deployments"}


def _slot(resource: Resource) -> tuple[str, object]:
    match resource:
        case Pop() | Node() | Account():
            return _BY_ID[type(resource)], resource.id
        case Model() | Adapter() | Deployment():
            return _BY_NAME[type(resource)], resource.name
        case ApiKey() | ForeignKey():
            return _BY_DIGEST[type(resource)], resource.digest
        case Price():
            return "prices", (resource.size_class, resource.tier)
        case CardTerms():
            return "card", "terms"
        case DesiredReplica():
            return "desired", resource.model
        case DesiredAdapter():
            return "desired_adapters", resource.adapter
        case Replica():
            raise AssertionError("replicas are indexed by model and node")
