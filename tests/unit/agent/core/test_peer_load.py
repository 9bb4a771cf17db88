"""The load that a node reports, written and read in one place."""

from __future__ import annotations

import pytest

from agent.core.peer_load import (
    LOAD_HEADER,
    MAX_LOAD,
    PeerLoad,
    load_fields,
    load_header,
    load_of,
    load_of_fields,
)


@pytest.mark.parametrize(
    ("value", "load"),
    [
        (b"in_flight=3;queued=1;fill=0.250", PeerLoad(3, 1, 0.25, False)),
        (b"in_flight=3;queued=0;draining=1", PeerLoad(3, 0, None, True)),
        (b"in_flight=3;queued=0;draining=yes", PeerLoad(3, 0, None, False)),
        (b"queued=2;newer=thing", PeerLoad(0, 2, None, False)),
        (b"fill=nan", PeerLoad(0, 0, None, False)),
        (b"", PeerLoad(0, 0, None, False)),
        (b"in_flight=many", None),
    ],
)
def test_a_peers_load_and_whether_it_drains_are_read_from_its_answer(value, load):
    assert load_of([(b"content-type", b"x"), (b"x-edgeforge-load", value)]) == load


def test_an_answer_without_a_load_says_nothing():
    assert load_of([(b"content-type", b"x")]) is None


@pytest.mark.parametrize(
    "load",
    [PeerLoad(3, 1, 0.25), PeerLoad(0, 0, 0.0, draining=True), PeerLoad(7, 2, None)],
)
def test_what_is_written_is_read_back(load):
    assert load_of([load_header(load)]) == load
    read = load_of_fields(load_fields(load))
    assert (read.in_flight, read.queued, read.fill_ratio) == (
        load.in_flight,
        load.queued,
        load.fill_ratio,
    )


@pytest.mark.parametrize("answer", [{}, {"in_flight": 1}, {"in_flight": "1", "queued": None}])
def test_an_answer_to_a_probe_without_a_load_is_an_error(answer):
    with pytest.raises((KeyError, TypeError, ValueError)):
        load_of_fields(answer)


@pytest.mark.parametrize("number", [-1, MAX_LOAD + 1, 10**400])
def test_a_load_that_no_node_can_have_is_not_believed(number: int) -> None:
    assert load_of([(LOAD_HEADER, b"in_flight=0;queued=%d" % number)]) is None
    assert load_of([(LOAD_HEADER, b"in_flight=%d" % number)]) is None
    with pytest.raises(ValueError, match="not possible"):
        load_of_fields({"in_flight": number, "queued": 0})
