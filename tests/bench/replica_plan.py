"""What a replica plan of a large fleet costs, and whether constant demand moves anything.

    make bench BENCH=replica_plan

300 POPs, 3,000 nodes of two engines, 200 models with a deployment each, 30 of them asked for in
every POP. ``first_s`` is the plan of an empty fleet, ``plan_s`` the median of five after it was
carried out, ``moves_s`` and ``rows_s`` what it takes to tell what moves and to make all rows, in
seconds of processor time, so that other programs of the machine do not count.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import replace

from coordinator.core.plan_input import PlanInput, PlanNode
from coordinator.core.planned_rows import RowMaker, moves_of
from coordinator.core.replica_plan import plan_replicas
from protos.domain.hardware import NodeHardware
from protos.domain.resources import Model, ModelSource, NodeIntent, Tier
from tests.bench.report import write_report
from tests.support.fleets import deployment

POPS, NODES_PER_POP, MODELS, ASKED = 300, 10, 200, 30
TIERS = [Tier.EDGE] * 8 + [Tier.REGIONAL, Tier.CENTRAL]
ZONES = ("BR", "EU", "US")
HARDWARE = NodeHardware("cuda", 40_000_000_000, "0.10.2", 8, 64, 2)


def large_fleet() -> PlanInput:
    """Return the planner's input; every seventh model has the same swap key."""
    models = {
        f"acme/m{index}@1": Model(
            f"acme/m{index}@1",
            ModelSource.MANAGED,
            "llama",
            "xs",
            8_192,
            270_000_000 * (1 + index % 5),
            b"m" * 32,
            swap_key=bytes([index % 7]) * 32,
        )
        for index in range(MODELS)
    }
    nodes = {
        f"n{pop}-{index}": PlanNode(
            "vllm",
            NodeIntent.ACTIVE,
            {},
            f"P{pop}",
            TIERS[pop % 10],
            ZONES[pop % 3],
            hardware=HARDWARE,
            disk_quota_bytes=500_000_000_000,
            tokens_per_s=400.0,
        )
        for pop in range(POPS)
        for index in range(NODES_PER_POP)
    }
    return PlanInput(
        nodes=nodes,
        models=models,
        manifests={},
        deployments={
            f"d{index}": deployment(f"d{index}", model=name) for index, name in enumerate(models)
        },
        placements={},
        demand={
            (f"P{pop}", f"d{(pop * 7 + index * 13) % MODELS}"): 1.0 + index * 3
            for pop in range(POPS)
            for index in range(ASKED)
        },
    )


def main() -> None:
    """Print a line and write the report."""
    fleet, maker = large_fleet(), RowMaker()
    taken_s: list[float] = []
    moves: list[int] = []
    moves_s = rows_s = 0.0
    for _ in range(6):
        began = time.process_time()
        plan = plan_replicas(fleet)
        planned = time.process_time()
        moves.append(len(moves_of(fleet, plan)))
        told = time.process_time()
        for draft in plan.nodes.values():
            maker.rows(fleet, draft)
        taken_s.append(planned - began)
        moves_s, rows_s = told - planned, time.process_time() - told
        nodes = {
            name: replace(node, holds=plan.nodes[name].holds())
            for name, node in fleet.nodes.items()
        }
        fleet = replace(fleet, nodes=nodes)
    figures = {
        "nodes": len(fleet.nodes),
        "models": MODELS,
        "first_s": taken_s[0],
        "plan_s": statistics.median(taken_s[1:]),
        "moves_s": moves_s,
        "rows_s": rows_s,
        "moves_first": moves[0],
        "moves_after": sum(moves[1:]),
        "unplaced": len(plan.unplaced),
    }
    for name, value in figures.items():
        print(f"{name:12} {value:.2f}" if isinstance(value, float) else f"{name:12} {value}")
    write_report("replica_plan", figures)


if __name__ == "__main__":
    main()
