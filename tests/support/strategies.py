"""Hypothesis strategies: fleets, requests and tables of every shape the contract allows."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import strategies as st

from protos.domain.fleet_view import FleetView, with_changes
from protos.domain.load_term import ColdPath, ColdWay
from protos.domain.resources import (
    Adapter,
    EngineProfile,
    NodeHealth,
    NodeIntent,
    Replica,
    ReplicaState,
    Residency,
    ResourceType,
    SlaTier,
    Tier,
)
from protos.domain.router import RequestShape, TargetState
from protos.domain.routing_table import GUARDED_ABOVE_ROWS, Table, TableVersion, table_of
from tests.support.fleets import MODEL, deployment, model, node, pop, price

ZONES = ("BR", "EU", "US")
NODE_IDS = tuple(f"n-{index}" for index in range(8))
POP_IDS = tuple(f"P{index}" for index in range(4))

ADAPTER = "acme/fr@1"
#: Another model, whose engine may take this one's weights.
OTHER = "acme/other@1"

ms = st.floats(0.0, 2_000.0)
draws = st.floats(0.0, 1.0, exclude_max=True)
zone_sets = st.sets(st.sampled_from(ZONES))
pin_sets = st.frozensets(st.sampled_from(NODE_IDS))

profiles = st.builds(
    EngineProfile, ms, st.floats(0.0, 1.0), st.integers(0, 16), st.floats(0.0, 5_000.0)
)
targets = st.builds(
    TargetState,
    st.none() | ms,
    st.none() | ms,
    st.integers(0, 40),
    st.integers(0, 40),
    st.booleans(),
    st.booleans(),
    st.none() | st.sampled_from([frozenset(), frozenset({MODEL}), frozenset({MODEL, ADAPTER})]),
    st.sampled_from([0.0, 0.4, 1.0]),
    st.sampled_from([0.0, 0.0, 700.0]),
    st.sampled_from([0.0, 30.0, 5_000.0]),
    st.sampled_from([0, 2, 50]),
    st.sampled_from([0, 3, 4, 40]),
    st.none()
    | st.dictionaries(
        st.sampled_from([MODEL, ADAPTER]),
        st.builds(ColdWay, st.sampled_from(ColdPath), st.sampled_from(Residency)),
    ),
)


replica_states = st.sampled_from([ReplicaState.READY, ReplicaState.COLD, *ReplicaState])


@st.composite
def replicas(draw: st.DrawFn, node_id: str) -> Replica:
    state, residency = draw(replica_states), draw(st.sampled_from(Residency))
    return Replica(node_id, MODEL, state, draw(profiles), 1, residency=residency)


@st.composite
def fleets(draw: st.DrawFn) -> FleetView:
    """Some rows missing on purpose: tables are eventually whole."""
    resources: list = []
    for pop_id in POP_IDS:
        if draw(st.integers(0, 9)):
            tier, zone = draw(st.sampled_from(list(Tier))), draw(st.sampled_from(ZONES))
            resources.append(pop(pop_id, tier, zone))
    for node_id in NODE_IDS:
        if draw(st.integers(0, 9)):
            health = draw(st.sampled_from([NodeHealth.READY, *NodeHealth]))
            intent = draw(st.sampled_from([NodeIntent.ACTIVE, *NodeIntent]))
            resources.append(node(node_id, draw(st.sampled_from(POP_IDS)), health, intent))
        if draw(st.integers(0, 3)):
            resources.append(draw(replicas(node_id)))
        if draw(st.integers(0, 3)):
            resources.append(replace(draw(replicas(node_id)), adapter=ADAPTER))
        if draw(st.booleans()):
            resources.append(replace(draw(replicas(node_id)), model=OTHER))
    if draw(st.integers(0, 9)):
        known = model(context_tokens=draw(st.sampled_from([0, 100, 8_192])))
        resources.append(replace(known, swap_key=draw(st.sampled_from([b"", b"k"]))))
    if draw(st.booleans()):
        resources.append(replace(model(OTHER), swap_key=draw(st.sampled_from([b"", b"k"]))))
    if draw(st.integers(0, 3)):
        resources.append(Adapter(ADAPTER, MODEL, 8, draw(st.integers(0, 10**9)), b"a" * 32))
    resources += [price(tier, draw(st.integers(1, 3))) for tier in Tier if draw(st.integers(0, 5))]
    return with_changes(FleetView(), (), resources)


@st.composite
def requests(draw: st.DrawFn) -> RequestShape:
    shape = deployment(
        zones=tuple(draw(zone_sets)),
        strict=draw(st.booleans()),
        adapter=draw(st.sampled_from(["", "", ADAPTER])),
        sla_tier=draw(st.sampled_from(list(SlaTier))),
        pins=draw(st.none() | pin_sets),
    )
    shape = replace(shape, max_premium_percent=draw(st.sampled_from([0, 0, 25, 100])))
    return RequestShape(
        shape,
        prompt_tokens=draw(st.integers(0, 200)),
        body_bytes=draw(st.integers(0, 8_000_000)),
        stream=draw(st.booleans()),
        budget_left_ms=draw(st.floats(-100.0, 3_000.0)),
        narrowed_zones=draw(st.none() | zone_sets.map(frozenset)),
    )


lookups = st.fixed_dictionaries(dict.fromkeys(NODE_IDS, targets))
fills = st.fixed_dictionaries({node_id: st.floats(0.0, 1.5) for node_id in NODE_IDS})

_row_keys = st.sampled_from([f"pop/P{index}" for index in range(50)])
_rows = st.binary(max_size=4)
#: Half of them over the bound above which tables are guarded against shrinking.
row_maps = st.dictionaries(_row_keys, _rows, max_size=8) | st.dictionaries(
    _row_keys, _rows, min_size=GUARDED_ABOVE_ROWS + 1, max_size=50
)


@st.composite
def tables(draw: st.DrawFn, *, version: int = 1, epoch: int = 1) -> Table:
    return table_of(ResourceType.TOPOLOGY, TableVersion(epoch, version), draw(row_maps))
