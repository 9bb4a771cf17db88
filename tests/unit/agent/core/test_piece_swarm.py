"""Who is asked for pieces, and who asks the origin for which."""

from __future__ import annotations

from dataclasses import replace

from agent.core.chunk_planner import Rank
from agent.core.piece_swarm import candidates, have_of_files, is_source, own_share, rank_of
from protos.domain.resources import NextVersion, NodeIntent, ReplicaState
from tests.support.fleets import MODEL, deployment, node, pop, replica, view

POPS = (pop("GRU", zone="BR"), pop("RIO", zone="BR"), pop("IAD", zone="US"))
NODES = (node("gru-1", "GRU"), node("gru-2", "GRU"), node("rio-1", "RIO"), node("iad-1", "IAD"))


def test_nodes_of_the_pop_and_of_the_zone_are_asked_and_no_others() -> None:
    table = view(*POPS, *NODES, deployment())
    assert candidates(table, "gru-1", MODEL) == {"gru-2": Rank.POP, "rio-1": Rank.ZONE}


def test_those_with_a_replica_come_first() -> None:
    table = view(*POPS, *NODES, deployment(), replica("rio-1", state=ReplicaState.COLD))
    assert list(candidates(table, "gru-1", MODEL)) == ["rio-1", "gru-2"]
    assert list(candidates(table, "gru-1", MODEL, most=1)) == ["rio-1"]


def test_who_may_not_hold_the_object_is_not_asked() -> None:
    pinned = deployment(pins=frozenset({"gru-1", "rio-1"}))
    table = view(*POPS, *NODES, pinned)
    assert list(candidates(table, "gru-1", MODEL)) == ["rio-1"]
    assert candidates(table, "gru-2", MODEL) == {}
    assert candidates(view(*POPS, *NODES), "gru-1", MODEL) == {}


def test_retired_nodes_and_those_without_an_address_are_not_asked() -> None:
    gone = replace(NODES[1], intent=NodeIntent.RETIRED)
    silent = replace(NODES[2], peer_port=0)
    table = view(*POPS, NODES[0], gone, silent, deployment())
    assert candidates(table, "gru-1", MODEL) == {}


def test_a_node_that_is_in_no_table_asks_nobody() -> None:
    assert candidates(view(*POPS, *NODES, deployment()), "else-1", MODEL) == {}


def test_another_zone_is_no_rank() -> None:
    assert rank_of(view(*POPS, *NODES), NODES[0], NODES[3]) is None
    assert rank_of(view(*NODES), NODES[0], NODES[2]) is None


def test_the_shares_of_all_who_pull_are_the_whole_once() -> None:
    members = ["a", "b", "c"]
    shares = [own_share(one, members, 1_000, MODEL) for one in members]
    assert sum(shares) == (1 << 1_000) - 1
    assert all(200 < share.bit_count() < 470 for share in shares)


def test_who_is_alone_has_all() -> None:
    assert own_share("a", [], 5, MODEL) == 0b11111


def test_pieces_of_files_are_put_in_a_row() -> None:
    files = [("x", 2), ("y", 3), ("z", 1)]
    assert have_of_files(files, {"x": 0b01, "z": 0b1}) == 0b100001
    assert have_of_files(files, {"y": 0b1111_1111}) == 0b011100


def test_a_source_is_who_would_be_asked() -> None:
    pinned = deployment(pins=frozenset({"gru-1", "rio-1"}))
    silent = replace(NODES[2], peer_port=0)
    for table in (
        view(*POPS, *NODES, deployment()),
        view(*POPS, *NODES, pinned),
        view(*POPS, *NODES[:2], silent, deployment()),
        view(*POPS, *NODES),
    ):
        for here in ("gru-1", "gru-2", "else-1"):
            asked = candidates(table, here, MODEL)
            for other in ("gru-1", "gru-2", "rio-1", "iad-1", "else-1"):
                assert is_source(table, here, other, MODEL) is (other in asked)


def test_nodes_that_are_updated_share_the_origin_before_the_switch() -> None:
    asked = replace(deployment(), model="acme/small@0", next=NextVersion(MODEL, ""))
    table = view(*POPS, *NODES[:3], asked)
    members = {one.id: candidates(table, one.id, MODEL) for one in NODES[:3]}
    shares = [own_share(here, others, 1_000, MODEL) for here, others in members.items()]
    assert all(len(others) == 2 for others in members.values())
    assert sum(shares) == (1 << 1_000) - 1  # each piece is asked of the origin once
