"""Items leave in order and not before their time."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from coordinator.devfleet.delay_line import MAX_HELD_BYTES, DelayLine, Mark


def test_bytes_arrive_half_a_round_trip_later() -> None:
    line = DelayLine(60.0, 0.0)
    line.put(b"a", 100.0)
    assert line.next_due_mono_ms == 160.0
    assert line.take_due(159.9) == []
    assert line.take_due(160.0) == [b"a"]
    assert line.next_due_mono_ms is None


def test_nothing_leaves_before_the_connection_would_be_established() -> None:
    line = DelayLine(60.0, 220.0)
    line.put(b"a", 100.0)
    assert line.next_due_mono_ms == 280.0


def test_the_end_of_stream_is_delayed_like_bytes() -> None:
    line = DelayLine(10.0, 0.0)
    line.put(b"a", 0.0)
    line.put(Mark.END, 1.0)
    assert line.take_due(10.0) == [b"a"]
    assert line.take_due(11.0) == [Mark.END]


def test_a_blocked_line_delivers_earlier_items_and_holds_later_ones() -> None:
    line = DelayLine(10.0, 0.0)
    line.put(b"before", 0.0)
    line.block()
    line.put(b"held", 1.0)
    assert line.take_due(1_000.0) == [b"before"]
    assert line.next_due_mono_ms is None
    line.unblock(2_000.0)
    assert line.take_due(2_009.0) == []
    assert line.take_due(2_010.0) == [b"held"]


def test_a_full_line_has_room_again_when_half_empty() -> None:
    line = DelayLine(10.0, 0.0)
    half = bytes(MAX_HELD_BYTES // 2)
    line.put(half, 0.0)
    assert not line.full
    line.put(half, 5.0)
    assert line.full
    line.take_due(10.0)
    assert line.has_room
    line.drop_all()
    assert line.held_bytes == 0


@given(
    st.lists(st.tuples(st.floats(0, 50), st.binary(min_size=1, max_size=5)), max_size=30),
    st.floats(0, 200),
    st.floats(0, 500),
)
def test_order_is_kept_nothing_is_lost_and_nothing_is_early(
    sends: list[tuple[float, bytes]], one_way_ms: float, opens_mono_ms: float
) -> None:
    line, now, sent_at = DelayLine(one_way_ms, opens_mono_ms), 0.0, []
    arrived: list[tuple[float, bytes]] = []
    for pause_ms, data in sends:
        now += pause_ms
        arrived += [(now, item) for item in line.take_due(now) if isinstance(item, bytes)]
        line.put(data, now)
        sent_at.append(now)
    while (due := line.next_due_mono_ms) is not None:
        now = max(now, due)
        arrived += [(now, item) for item in line.take_due(now) if isinstance(item, bytes)]
    assert [data for _, data in arrived] == [data for _, data in sends]
    for sent, (came, _) in zip(sent_at, arrived, strict=True):
        assert came >= max(sent, opens_mono_ms) + one_way_ms
    assert line.held_bytes == 0
