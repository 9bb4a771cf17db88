"""A view is replaced, never changed."""

from __future__ import annotations

from dataclasses import fields, replace

from protos.domain.customers import ApiKey
from protos.domain.fleet_view import ROWS_PER_STEP, FleetView, with_changes, with_changes_steps
from protos.domain.resources import Replica
from tests.support.fleets import node, pop, replica, view
from tests.support.rows import ONE_OF_EACH


def of_kind(kind):
    (found,) = [each for each in ONE_OF_EACH if isinstance(each, kind)]
    return found


def test_every_kind_lands_in_its_index_and_leaves_it():
    full = with_changes(FleetView(), (), ONE_OF_EACH)
    for field in fields(FleetView):
        if not field.init:
            continue  # computed from the view, not a row
        assert len(getattr(full, field.name)) == 1, field.name
    of_model, of_adapter = (each for each in ONE_OF_EACH if isinstance(each, Replica))
    assert full.replicas["acme/m@1"] == {"gru-1": of_model}
    assert full.adapter_replicas["acme/fr@1"] == {"gru-1": of_adapter}
    assert full.keys[b"d" * 32] == of_kind(ApiKey)
    assert with_changes(full, ONE_OF_EACH, ()) == FleetView()


def test_the_old_view_is_unchanged():
    before = view(pop("IAD"), node("iad-1", "IAD"), replica("iad-1"))
    after = with_changes(before, [replica("iad-1")], [replica("iad-2"), pop("GRU")])
    assert list(before.replicas["acme/small@1"]) == ["iad-1"]
    assert list(before.pops) == ["IAD"]
    assert list(after.replicas["acme/small@1"]) == ["iad-2"]
    assert list(after.pops) == ["IAD", "GRU"]


def test_unchanged_indexes_are_shared():
    before = view(pop("IAD"), node("iad-1", "IAD"), replica("iad-1"))
    after = with_changes(before, (), [pop("GRU")])
    assert after.nodes is before.nodes
    assert after.replicas is before.replicas


def test_a_model_without_replicas_leaves_the_index():
    before = view(replica("iad-1"))
    assert with_changes(before, [replica("iad-1")], ()).replicas == {}
    assert with_changes(before, [replica("iad-1")], [replica("iad-1")]) == before


def test_removing_what_is_not_there_changes_nothing():
    assert with_changes(FleetView(), ONE_OF_EACH, ()) == FleetView()


def test_a_rotated_key_is_found_only_by_its_new_digest():
    old = of_kind(ApiKey)
    new = replace(old, digest=b"e" * 32)
    after = with_changes(view(old), [old], [new])
    assert list(after.keys) == [b"e" * 32]


def test_large_changes_pause():
    rows = [replica(f"n-{index}") for index in range(3 * ROWS_PER_STEP)]
    pauses = 0
    steps = with_changes_steps(FleetView(), (), rows)
    while True:
        try:
            next(steps)
        except StopIteration as stop:
            result = stop.value
            break
        pauses += 1
    assert pauses == 3
    assert result == with_changes(FleetView(), (), rows)
