from __future__ import annotations

from coordinator.core.node_orders import NodeCondition
from coordinator.fleet.memory import FleetMemory


def test_the_memory_of_a_node_is_one_object():
    memory = FleetMemory()
    memory.of("gru-1").condition = NodeCondition(draining=True)
    assert memory.of("gru-1") is memory.find("gru-1")
    assert memory.of("gru-1").condition == NodeCondition(draining=True)
    assert [node_id for node_id, _ in memory.items()] == ["gru-1"]


def test_a_node_that_is_not_known_is_found_nowhere():
    memory = FleetMemory()
    assert memory.find("gru-1") is None
    assert len(memory) == 0


def test_all_but_the_nodes_to_keep_are_forgotten():
    memory = FleetMemory()
    for node_id in ("gru-1", "gru-2", "gru-3"):
        memory.of(node_id)
    memory.keep_only({"gru-2": "record", "iad-1": "record"}.keys())
    assert [node_id for node_id, _ in memory.items()] == ["gru-2"]
