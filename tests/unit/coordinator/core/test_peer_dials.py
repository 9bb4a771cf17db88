"""Which node dials which other's peer address, and when again."""

from __future__ import annotations

from coordinator.core.peer_dials import (
    MAX_AT_ONCE,
    RETRY_MAX_MS,
    RETRY_MIN_MS,
    SETTLE_MS,
    Dial,
    PeerDials,
)

CONNECTED = {"gru-1": "GRU", "gru-2": "GRU", "iad-1": "IAD"}
WRONG, RIGHT = ("0.0.0.0", 7443), ("10.0.0.5", 7443)


def dials_of(address=WRONG, *, nodes=("gru-1",)) -> PeerDials:
    dials = PeerDials()
    dials.list_addresses(dict.fromkeys(nodes, address), 0.0)
    return dials


def due(dials: PeerDials, now_mono_ms: float, connected=CONNECTED) -> list[Dial]:
    return dials.due(connected, now_mono_ms, serving=connected)


def test_an_address_is_dialled_once_by_a_node_of_another_pop():
    dials = dials_of(RIGHT)
    assert due(dials, SETTLE_MS - 1) == [], "the table has to arrive first"
    (order,) = due(dials, SETTLE_MS)
    assert order == Dial("iad-1", "gru-1", RIGHT)
    assert due(dials, SETTLE_MS + 1) == [], "it is in progress"
    result = dials.done(order, "", 4_000)
    assert result is not None
    assert result.failure == ""
    assert due(dials, 1e12) == []


def test_a_wrong_address_is_a_failure_that_is_dialled_again_by_others():
    dials = dials_of(WRONG)
    now, by = SETTLE_MS, []
    for _ in range(3):
        (order,) = due(dials, now)
        by.append(order.by)
        dials.done(order, "connection refused", now)
        failed = dials.result("gru-1")
        assert failed is not None
        assert failed.failure == "connection refused"
        now += RETRY_MAX_MS
    assert by == ["iad-1", "gru-2", "iad-1"]


def test_the_pauses_between_failures_grow_and_are_bounded():
    dials, now, pauses = dials_of(), SETTLE_MS, []
    for _ in range(12):
        (order,) = due(dials, now)
        dials.done(order, "refused", now)
        low = now
        while not dials.due(CONNECTED, now, serving=()) and not due(dials, now):
            now += RETRY_MIN_MS
        dials.done(Dial("iad-1", "gru-1", WRONG), None, now - RETRY_MIN_MS)
        pauses.append(now - low)
    assert pauses[0] == RETRY_MIN_MS
    assert pauses == sorted(pauses)
    assert max(pauses) == RETRY_MAX_MS


def test_a_changed_address_is_dialled_anew_and_a_late_result_of_the_old_one_is_ignored():
    dials = dials_of(WRONG)
    (order,) = due(dials, SETTLE_MS)
    dials.list_addresses({"gru-1": RIGHT}, 4_000)
    assert dials.done(order, "refused", 4_001) is None
    assert dials.result("gru-1") is None
    (again,) = due(dials, 4_000 + SETTLE_MS)
    assert again.address == RIGHT


def test_a_node_that_could_not_be_asked_says_nothing_about_the_address():
    dials = dials_of(RIGHT)
    (order,) = due(dials, SETTLE_MS)
    assert dials.done(order, None, SETTLE_MS) is None
    assert dials.result("gru-1") is None
    assert due(dials, SETTLE_MS + RETRY_MIN_MS)


def test_nobody_dials_itself_and_a_closed_port_is_not_dialled():
    dials = dials_of(RIGHT)
    assert due(dials, SETTLE_MS, {"gru-1": "GRU"}) == []
    assert dials.due(CONNECTED, SETTLE_MS, serving=("iad-1",)) == []


def test_a_removed_node_is_forgotten():
    dials = dials_of(WRONG)
    (order,) = due(dials, SETTLE_MS)
    dials.list_addresses({}, 4_000)
    assert dials.done(order, "refused", 4_000) is None
    assert due(dials, 1e9) == []


def test_a_large_fleet_is_dialled_a_few_at_a_time():
    nodes = {f"n-{index}": "GRU" for index in range(3 * MAX_AT_ONCE)}
    dials = dials_of(RIGHT, nodes=nodes)
    first = due(dials, SETTLE_MS, nodes)
    assert len(first) == MAX_AT_ONCE
    assert due(dials, SETTLE_MS, nodes) == []
    dials.done(first[0], "", SETTLE_MS)
    assert len(due(dials, SETTLE_MS, nodes)) == 1
