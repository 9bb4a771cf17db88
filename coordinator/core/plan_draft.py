"""One node's part of a replica plan while it is made: what it gets so far, and what is left."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from coordinator.core.plan_input import replica_key
from protos.domain.resources import Hold, NodeIntent

if TYPE_CHECKING:
    from coordinator.core.plan_input import PlanNode
    from protos.domain.resources import Adapter, Model

#: Models that one node may be told of, and adapters.
MAX_MODELS = 64
MAX_ADAPTERS = 128
#: Models on disk beside the hot ones where the disk's quota is not known.
MAX_DISK_UNKNOWN_QUOTA = 4
#: Of the quota that the plan gives away; the rest is for what is pulled on demand.
DISK_SHARE = 0.8


class Planned(NamedTuple):
    """What a node is to do with a model or an adapter, and why."""

    hold: Hold
    why: str
    #: The runtime's name of a model; empty: as the host is configured.
    runtime: str = ""


@dataclass(slots=True)
class NodeDraft:
    """What one node gets; models first, adapters of them after."""

    node_id: str
    node: PlanNode
    models: dict[str, Planned] = field(default_factory=dict)
    #: adapter name -> plan; each with a base among ``models``.
    adapters: dict[str, Planned] = field(default_factory=dict)
    adapter_base: dict[str, str] = field(default_factory=dict)
    hot: int = 0
    disk_bytes: int = 0
    #: Swap keys of its hot models.
    swap_keys: set[bytes] = field(default_factory=set)

    @property
    def free_engines(self) -> int:
        """Engines without a hot model."""
        return self.node.hardware.engines - self.hot

    @property
    def takes_new(self) -> bool:
        """Whether it may get what it does not hold: it is active and not dead."""
        return self.node.intent is NodeIntent.ACTIVE and self.node.counts

    def held(self, key: str) -> Hold | None:
        """Return what the last plan told it of a model or ``model+adapter``."""
        return self.node.holds.get(key)

    def may_get(self, key: str) -> bool:
        """Return whether it takes new things, or has this one already."""
        return self.takes_new or (
            key in self.node.holds and self.node.intent is not NodeIntent.RETIRED
        )

    def has_disk_for(self, size_bytes: int) -> bool:
        """Return whether the planned share of its disk has room for ``size_bytes`` more."""
        quota_bytes = self.node.disk_quota_bytes
        if quota_bytes == 0:
            return len(self.models) - self.hot < MAX_DISK_UNKNOWN_QUOTA
        return self.disk_bytes + size_bytes <= quota_bytes * DISK_SHARE

    def room_for_hot(self, model: Model) -> bool:
        """Return whether an engine and the disk have room for one more hot model."""
        quota_bytes = self.node.disk_quota_bytes
        return self.free_engines > 0 and (
            quota_bytes == 0 or self.disk_bytes + model.weights_bytes <= quota_bytes
        )

    def can_swap(self, model: Model) -> bool:
        """Return whether a hot engine here takes the model's weights in place."""
        return bool(model.swap_key) and model.swap_key in self.swap_keys

    def can_load(self, model: Model) -> bool:
        """Return whether a request could bring the model into an engine here."""
        return self.free_engines > 0 or self.can_swap(model)

    def put(self, model: Model, hold: Hold, why: str, runtime: str = "") -> None:
        """Give it a model; a model that it has already is only held closer."""
        present = self.models.get(model.name)
        if present is not None and _closeness(present.hold) <= _closeness(hold):
            return
        if hold is Hold.HOT:
            self.hot += 1
            if model.swap_key:
                self.swap_keys.add(model.swap_key)
        on_disk_before = present is not None and present.hold is not Hold.ON_DEMAND
        if hold is not Hold.ON_DEMAND and not on_disk_before:
            self.disk_bytes += model.weights_bytes
        self.models[model.name] = Planned(hold, why, runtime)

    def put_adapter(self, adapter: Adapter, hold: Hold, why: str) -> None:
        """Give it an adapter of a model that it has."""
        present = self.adapters.get(adapter.name)
        if present is not None and _closeness(present.hold) <= _closeness(hold):
            return
        self.adapters[adapter.name] = Planned(hold, why)
        self.adapter_base[adapter.name] = adapter.model

    def holds(self) -> dict[str, Hold]:
        """Return the node's ``holds`` once this part is carried out."""
        found = {name: one.hold for name, one in self.models.items()}
        for name, one in self.adapters.items():
            found[replica_key(self.adapter_base[name], name)] = one.hold
        return found


def _closeness(hold: Hold) -> int:
    return (Hold.HOT, Hold.DISK, Hold.ON_DEMAND).index(hold)
