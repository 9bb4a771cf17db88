"""One resource of every kind, for tests that must cover all kinds."""

from __future__ import annotations

from protos.domain.resources import (
    Account,
    ApiKey,
    Deployment,
    DesiredReplica,
    EngineProfile,
    Model,
    ModelFile,
    ModelSource,
    Node,
    NodeHealth,
    NodeIntent,
    Pop,
    Price,
    Replica,
    ReplicaState,
    Resource,
    SlaTier,
    Tier,
)

ONE_OF_EACH: tuple[Resource, ...] = (
    Pop("GRU", Tier.EDGE, "BR", "S\u00e3o Paulo", -23.55, -46.63),
    Node(
        "gru-1",
        "GRU",
        "10.0.0.1",
        7443,
        "https://gru",
        NodeHealth.SUSPECT,
        NodeIntent.CORDONED,
    ),
    Model("acme/m@1", ModelSource.MANAGED, "llama", "xs", 8_192, 270_000_000, b"m" * 32),
    Deployment(
        "chat",
        "acme",
        "acme/m@1",
        "acme/fr@1",
        80,
        SlaTier.REALTIME,
        ("BR", "EU"),
        True,
        continue_streams=True,
        pins=frozenset({"gru-1", "iad-1"}),
    ),
    Replica(
        "gru-1",
        "acme/m@1",
        ReplicaState.READY,
        EngineProfile(40.0, 0.5, 4, 400.0, context_tokens=2_048),
        7,
    ),
    ApiKey("k1", b"d" * 32, "acme", ("chat",), 1_700_000_000_000),
    Account("acme", "salt"),
    Price("xs", Tier.CENTRAL, 10, 2, 30, 4),
    DesiredReplica(
        "acme/m@1", ModelSource.EXTERNAL, (ModelFile("config.json", b"s" * 32, 9),), 8_192
    ),
)
