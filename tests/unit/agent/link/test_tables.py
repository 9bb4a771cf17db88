"""Tables are taken in slices, and what is large does not wake the garbage collector."""

from __future__ import annotations

import gc

import pytest

from agent.link.tables import BULK_ROWS, TableKeeper
from protos import wire
from protos.domain.resources import ResourceType, row_key
from protos.domain.routing_table import (
    ROWS_PER_STEP,
    Snapshot,
    TableRefused,
    TableVersion,
    diff,
    table_of,
)
from tests.support.fleets import pop

KIND = ResourceType.TOPOLOGY


def rows(count, zone="US"):
    pops = [pop(f"P{index}", zone=zone) for index in range(count)]
    return {row_key(each): wire.encode_row(each) for each in pops}


def table(content, version=1):
    return table_of(KIND, TableVersion(1, version), content)


def snapshot(of):
    return Snapshot(of.type, of.at, of.rows, of.digest)


def steps_of(generator):
    count = 0
    while True:
        try:
            next(generator)
        except StopIteration as stop:
            return stop.value, count
        count += 1


class Clock:
    """Each look at it takes a slice."""

    def __init__(self):
        self.now_ms = 0.0

    def now_mono_ms(self):
        self.now_ms += 1.0
        return self.now_ms


def run(waiting):
    """Run a coroutine that only ever lets others pass; return how often it did."""
    turns = 0
    while True:
        try:
            waiting.send(None)
        except StopIteration:
            return turns
        turns += 1


def test_messages_of_many_rows_are_read_in_steps():
    whole = table(rows(3 * ROWS_PER_STEP))
    message = wire.snapshot_to_wire(snapshot(whole), 1)
    read, pauses = steps_of(wire.snapshot_from_wire_steps(message))
    assert (read, pauses) == (snapshot(whole), 3)
    assert wire.snapshot_from_wire(message) == read
    change = diff(table({}, 0), whole)
    message = wire.delta_to_wire(change, 1)
    assert steps_of(wire.delta_from_wire_steps(message)) == (change, 3)
    assert wire.delta_from_wire(message) == change


def test_streams_pass_between_the_slices_of_a_push():
    tables = TableKeeper(Clock().now_mono_ms, lambda view, kinds: None)
    turns = run(tables.apply(snapshot(table(rows(4 * ROWS_PER_STEP)))))
    assert turns >= 4 * 3, "hashed, decoded and indexed: each in steps"
    assert len(tables.view.pops) == 4 * ROWS_PER_STEP


def test_a_snapshot_onto_a_table_leaves_what_is_the_same_and_drops_what_is_gone():
    tables = TableKeeper(Clock().now_mono_ms, lambda view, kinds: None)
    run(tables.apply(snapshot(table(rows(10)))))
    kept = tables.view.pops["P0"]
    new = {**rows(8), **{key: row for key, row in rows(9, "BR").items() if key == "pop/P8"}}
    run(tables.apply(snapshot(table(new, 2))))
    assert list(tables.view.pops) == [f"P{index}" for index in range(9)]
    assert tables.view.pops["P0"] is kept
    assert tables.view.pops["P8"].zone == "BR"


@pytest.mark.parametrize("count", [BULK_ROWS - 1, BULK_ROWS])
def test_the_collector_is_off_while_many_rows_are_taken_and_on_again_after(count):
    seen = set()

    def on_view(view, kinds):
        raise AssertionError("a refused push makes no view")

    def now_mono_ms():
        seen.add(gc.isenabled())
        return 0.0

    tables = TableKeeper(now_mono_ms, on_view)
    whole = table(rows(count))
    lied = Snapshot(whole.type, whole.at, whole.rows, whole.digest + 1)
    with pytest.raises(TableRefused):
        run(tables.apply(lied))
    assert gc.isenabled(), "however it ended"
    assert seen == {count < BULK_ROWS}
    gc.unfreeze()
