"""Fleets for the replica plan, with defaults."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from coordinator.core.plan_input import PlanInput, PlanNode
from protos.domain.hardware import NodeHardware
from protos.domain.resources import Hold, Model, ModelSource, NodeIntent, Tier
from tests.support.fleets import deployment

GB = 1_000_000_000
SMALL, OTHER, TWIN = "acme/small@1", "acme/other@1", "acme/twin@1"
BIG, FAR = "acme/big@1", "acme/far@1"
KEY = b"k" * 32


def registered(
    name: str, *, size_bytes: int = GB // 4, swap: bytes = b"", source=ModelSource.MANAGED
) -> Model:
    return Model(name, source, "llama", "xs", 8_192, size_bytes, b"m" * 32, swap_key=swap)


#: SMALL and TWIN swap in place.
MODELS = {
    SMALL: registered(SMALL, swap=KEY),
    TWIN: registered(TWIN, swap=KEY),
    OTHER: registered(OTHER),
    BIG: registered(BIG, size_bytes=16 * GB),
    FAR: registered(FAR, source=ModelSource.EXTERNAL),
}
HARDWARE = NodeHardware("cuda", 8 * GB, "0.10.2", max_adapters=2, max_adapter_rank=32)


def host(pop_id: str = "GRU", **fields: Any) -> PlanNode:
    """Return a vLLM node of one engine at a POP."""
    given = {"engine_kind": "vllm", "intent": NodeIntent.ACTIVE, "hardware": HARDWARE} | fields
    zones = {"GRU": "BR", "FRA": "EU", "IAD": "US"}
    tiers = {"GRU": Tier.EDGE, "FRA": Tier.REGIONAL, "IAD": Tier.CENTRAL}
    place = {"pop_id": pop_id, "zone": zones[pop_id], "tier": tiers[pop_id]}
    return PlanNode(**(place | given))  # type: ignore[arg-type]


def planned(nodes: Mapping[str, PlanNode], *models: str, **fields: Any) -> PlanInput:
    """Return a fleet with an unpinned deployment, named d1, d2, ..., of each model."""
    given = {
        "models": MODELS,
        "manifests": {},
        "deployments": {
            f"d{number}": deployment(f"d{number}", model=name)
            for number, name in enumerate(models, start=1)
        },
        "placements": {},
    }
    return PlanInput(nodes=nodes, **(given | fields))


def hot(draft) -> list[str]:
    """Return the models in a node's engines by a plan."""
    return sorted(name for name, one in draft.models.items() if one.hold is Hold.HOT)
