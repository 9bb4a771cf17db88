"""How long a decision takes in a fleet of the planned size, and what its tables weigh.

    python -m tests.bench.router [--json] [--decisions N]

300 POPs, 3,000 nodes, 1,000 models with 20 replicas each, 5,000 deployments, 50,000 keys.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Callable, Generator, Iterable

from protos import wire
from protos.domain.fleet_view import FleetView, with_changes, with_changes_steps
from protos.domain.resources import (
    Account,
    ApiKey,
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
from protos.domain.router import RequestShape, TargetState, place
from protos.domain.routing_table import Table, TableVersion, apply_steps, diff, table_of

POPS, NODES, MODELS, REPLICAS_PER_MODEL = 300, 3_000, 1_000, 20
DEPLOYMENTS, KEYS, ACCOUNTS = 5_000, 50_000, 5_000
ZONES = ("BR", "EU", "US", "JP")
AT = TableVersion(1, 1)


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
        name = f"owner-{index % 97}/model-{index}@1"
        rows.append(Model(name, ModelSource.MANAGED, "llama", "s", 8_192, 7 * 10**9, bytes(32)))
        rows += [
            Replica(
                f"n-{node}",
                name,
                ReplicaState.READY,
                EngineProfile(chance.uniform(20, 60), 0.05, 16, 2_000.0),
                1,
            )
            for node in chance.sample(range(NODES), REPLICAS_PER_MODEL)
        ]
    rows += [
        Deployment(
            f"deployment-{index}",
            f"account-{index % ACCOUNTS}",
            f"owner-{index % MODELS % 97}/model-{index % MODELS}@1",
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
    rows += [Account(f"account-{index}", f"salt-{index}") for index in range(ACCOUNTS)]
    rows += [Price("s", tier, 10 + rank, 2, 30 + rank, 1) for rank, tier in enumerate(Tier)]
    return rows


def quantiles(samples: list[float], name: str, digits: int = 1) -> dict[str, float]:
    ordered = sorted(samples)
    return {
        f"{name}_p50": round(ordered[len(ordered) // 2], digits),
        f"{name}_p99": round(ordered[int(len(ordered) * 0.99)], digits),
    }


def decide(view: FleetView, chance: random.Random, decisions: int) -> dict[str, float]:
    """Time ``place`` with 20 candidates, over many deployments and loads."""
    deployments = list(view.deployments.values())
    live = {
        node_id: TargetState(rtt, rtt * 1.2, chance.randrange(12), 0, warm=True, ejected=False)
        for node_id in view.nodes
        for rtt in (chance.uniform(1, 80),)
    }
    fill = {node_id: chance.random() for node_id in view.nodes}
    took_us: list[float] = []
    for _ in range(decisions):
        shape = RequestShape(chance.choice(deployments), 200, 2_000, True, 150.0, None)
        draw, self_node_id = chance.random(), f"n-{chance.randrange(NODES)}"
        began = time.perf_counter_ns()
        placement = place(
            view, shape, self_node_id, live.__getitem__, draw=draw, fill=fill.__getitem__
        )
        took_us.append((time.perf_counter_ns() - began) / 1_000)
        assert len(placement.candidates) == REPLICAS_PER_MODEL
    return quantiles(took_us, "decide_us")


def run(steps: Generator[None, None, object]) -> tuple[object, list[float]]:
    """Drive ``steps``; return its value and how long each slice took, in ms."""
    slices_ms: list[float] = []
    while True:
        began = time.perf_counter_ns()
        try:
            next(steps)
        except StopIteration as stop:
            slices_ms.append((time.perf_counter_ns() - began) / 1e6)
            return stop.value, slices_ms
        slices_ms.append((time.perf_counter_ns() - began) / 1e6)


def tables(rows: Iterable[Resource]) -> dict[ResourceType, Table]:
    by_type: dict[ResourceType, dict[str, bytes]] = {}
    for row in rows:
        by_type.setdefault(resource_type(row), {})[row_key(row)] = wire.encode_row(row)
    return {type_: table_of(type_, AT, content) for type_, content in by_type.items()}


def timed_ms(work: Callable[[], object], repeats: int = 20) -> float:
    best = float("inf")
    for _ in range(repeats):
        began = time.perf_counter_ns()
        work()
        best = min(best, (time.perf_counter_ns() - began) / 1e6)
    return round(best, 2)


def measure_tables(rows: list[Resource], view: FleetView) -> dict[str, object]:
    """Weigh every table; time one replica's change through bytes, digest and view."""
    held = tables(rows)
    table = held[ResourceType.DEPLOYMENTS]
    old = next(row for row in rows if isinstance(row, Replica))
    new = Replica(old.node_id, old.model, ReplicaState.STOPPING, old.profile, 2)
    changed = table_of(
        table.type, TableVersion(1, 2), {**table.rows, row_key(new): wire.encode_row(new)}
    )
    push = diff(table, changed)
    empty = table_of(table.type, TableVersion(1, 0), {})
    _, snapshot_ms = run(apply_steps(empty, diff(empty, table)))
    decoded = [wire.decode_row(table.type, payload) for payload in table.rows.values()]
    _, view_ms = run(with_changes_steps(FleetView(), (), [row for row in decoded if row]))
    return {
        "rows": {type_.value: len(each.rows) for type_, each in held.items()},
        "table_bytes": {type_.value: each.size_bytes for type_, each in held.items()},
        "table_bytes_total": sum(each.size_bytes for each in held.values()),
        "delta_apply_ms": timed_ms(lambda: run(apply_steps(table, push))),
        "delta_view_ms": timed_ms(lambda: with_changes(view, [old], [new])),
        "snapshot_apply_ms": round(sum(snapshot_ms), 1),
        "snapshot_slice_ms_max": round(max(snapshot_ms), 2),
        "view_build_ms": round(sum(view_ms), 1),
        "view_slice_ms_max": round(max(view_ms), 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--decisions", type=int, default=20_000)
    options = parser.parse_args()
    chance = random.Random(7)
    rows = fleet(chance)
    view = with_changes(FleetView(), (), rows)
    result = {**decide(view, chance, options.decisions), **measure_tables(rows, view)}
    if options.json:
        print(json.dumps(result))
        return
    for name, value in result.items():
        print(f"{name:24} {value}")


if __name__ == "__main__":
    main()
