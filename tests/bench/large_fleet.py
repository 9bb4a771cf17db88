"""A fleet of the planned size: its rows, its tables, and what an agent knows in the midst of it.

300 POPs, 3,000 nodes, 1,000 models of 20 replicas each, 5,000 deployments, 50,000 keys.
"""

from __future__ import annotations

import random
from collections.abc import Iterable

from protos import wire
from protos.domain.customers import Account, ApiKey
from protos.domain.resources import (
    Deployment,
    EngineProfile,
    Model,
    ModelSource,
    Node,
    NodeHealth,
    NodeIntent,
    Pop,
    Price,
    Replica,
    ReplicaState,
    Resource,
    ResourceType,
    SlaTier,
    Tier,
    resource_type,
    row_key,
)
from protos.domain.routing_table import Table, TableVersion, table_of

POPS, NODES, MODELS, REPLICAS_PER_MODEL = 300, 3_000, 1_000, 20
DEPLOYMENTS, KEYS, ACCOUNTS = 5_000, 50_000, 5_000
ZONES = ("BR", "EU", "US", "JP")
AT = TableVersion(1, 1)


def model_name(index: int) -> str:
    return f"owner-{index % 97}/model-{index}@1"


def fleet(chance: random.Random) -> list[Resource]:
    """Return every shared row of a large fleet."""
    tiers = [Tier.EDGE] * 8 + [Tier.REGIONAL, Tier.CENTRAL]
    rows: list[Resource] = [
        Pop(
            f"P{index}",
            tiers[index % 10],
            ZONES[index % 4],
            f"City {index}",
            chance.uniform(-60, 70),
            chance.uniform(-180, 180),
        )
        for index in range(POPS)
    ]
    rows += [
        Node(
            f"n-{index}",
            f"P{index % POPS}",
            f"10.{index // 250}.{index % 250}.1",
            7443,
            f"https://n-{index}.example.net",
            NodeHealth.READY,
            NodeIntent.ACTIVE,
        )
        for index in range(NODES)
    ]
    for index in range(MODELS):
        name = model_name(index)
        rows.append(Model(name, ModelSource.MANAGED, "llama", "s", 8_192, 7 * 10**9, bytes(32)))
        rows += [_replica(f"n-{node}", name, chance) for node in _nodes(chance)]
    rows += [
        Deployment(
            f"deployment-{index}",
            f"account-{index % ACCOUNTS}",
            model_name(index % MODELS),
            "",
            150,
            SlaTier.INTERACTIVE,
            (),
            False,
        )
        for index in range(DEPLOYMENTS)
    ]
    rows += [
        ApiKey(f"k{index}", chance.randbytes(32), f"account-{index % ACCOUNTS}", (), 0)
        for index in range(KEYS)
    ]
    rows += [Account(f"account-{index}") for index in range(ACCOUNTS)]
    rows += [Price("s", tier, 10 + rank, 2, 30 + rank, 1) for rank, tier in enumerate(Tier)]
    return rows


def _nodes(chance: random.Random) -> list[int]:
    return chance.sample(range(NODES), REPLICAS_PER_MODEL)


def _replica(node_id: str, model: str, chance: random.Random) -> Replica:
    profile = EngineProfile(chance.uniform(20, 60), 0.05, 16, 2_000.0)
    return Replica(node_id, model, ReplicaState.READY, profile, 1)


def tables(rows: Iterable[Resource]) -> dict[ResourceType, Table]:
    """Return the tables that carry ``rows``."""
    by_type: dict[ResourceType, dict[str, bytes]] = {}
    for row in rows:
        by_type.setdefault(resource_type(row), {})[row_key(row)] = wire.encode_row(row)
    return {type_: table_of(type_, AT, content) for type_, content in by_type.items()}
