"""The load that a node reports, written and read in one place."""

from __future__ import annotations

import json

import pytest

from agent.core.engine_admission import Newcomer
from agent.core.peer_load import (
    LOAD_HEADER,
    MAX_LOAD,
    MAX_NAMES,
    PeerLoad,
    load_fields,
    load_header,
    load_of,
    load_of_fields,
    loadable_field,
    parse_newcomer,
    parse_retry_s,
    read_probe,
)
from protos.domain.load_term import ColdPath, ColdWay
from protos.domain.resources import Residency


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


@pytest.mark.parametrize(
    ("given", "newcomer"),
    [
        (b"7/0/4", Newcomer(7, 0, 4)),
        ([7, 0, 4], Newcomer(7, 0, 4)),
        (b"-7/0/4", Newcomer(0, 0, 4)),
        (b"7/0", None),
        (b"a/b/c", None),
        ([7, None, 4], None),
        (b"0/" + b"9" * 4_000 + b"/4", None),
        (b"0/0/" + b"9" * 4_000, None),
        ([0, 1e300, 4], None),
        ([0, MAX_LOAD + 1, 4], None),
        ("7/0/4", None),
        (None, None),
    ],
)
def test_what_a_new_account_meets_is_three_numbers_or_unknown(
    given: object, newcomer: Newcomer | None
) -> None:
    assert parse_newcomer(given) == newcomer


@pytest.mark.parametrize(
    ("given", "retry_s"),
    [(b"12", 12.0), (b"0", 1.0), (b"1e9", 3_600.0), (b"nan", None), (b"x", None), (None, None)],
)
def test_the_time_to_retry_of_a_refused_account_is_bounded(
    given: bytes | None, retry_s: float | None
) -> None:
    assert parse_retry_s(given) == retry_s


def test_what_a_node_reports_is_read_as_it_was_written() -> None:
    load = PeerLoad(8, 40, 0.5, draining=True, newcomer=Newcomer(7, 0, 4), retry_after_s=12.0)
    assert load_of([load_header(load)]) == load
    told = PeerLoad(8, 40, 0.5, newcomer=Newcomer(7, 0, 4))
    assert load_of_fields(load_fields(told)) == told


def test_an_answer_to_a_probe_is_read_and_a_newer_agents_fields_are_left_out() -> None:
    answer = {"in_flight": 1, "queued": 0, "ready_models": ["a@1"], "incarnation": "x", "new": 1}
    read = read_probe(answer)
    assert (read.load.in_flight, read.ready_models, read.incarnation) == (1, ["a@1"], "x")


@pytest.mark.parametrize("field", ["ready_models", "incarnation", "fill", "newcomer", "in_flight"])
def test_a_deeply_nested_answer_to_a_probe_does_not_end_the_prober(field: str) -> None:
    """``str`` of it raised RecursionError, and no peer was probed any more."""
    nested: object = "a@1"
    for _ in range(1_000):
        nested = [nested]
    answer: dict[str, object] = {"in_flight": 1, "queued": 0, "ready_models": [nested, "b@1"]}
    answer[field] = [nested] if field == "ready_models" else nested
    try:
        read = read_probe(answer)
    except ValueError:
        assert field == "in_flight"
    else:
        assert read.incarnation is None
        assert read.load.newcomer is None


@pytest.mark.parametrize(
    "answer",
    [None, [], "x", {}, {"in_flight": 1}, {"in_flight": 1, "queued": 1, "ready_models": {}}],
)
def test_what_is_no_answer_to_a_probe_is_a_failed_probe(answer: object) -> None:
    with pytest.raises(ValueError, match="answer to a probe"):
        read_probe(answer)


WAYS = {
    "acme/fr@1": ColdWay(ColdPath.ADAPTER, Residency.PEER),
    "acme/m@2": ColdWay(ColdPath.SWAP, Residency.DISK),
    "acme/later@1": ColdWay(ColdPath.SWAP, Residency.DISK, 4_500.0),
    "acme/begun@1": ColdWay(ColdPath.ENGINE, Residency.ORIGIN, -12_000.0),
}
IDLE = {"in_flight": 0, "queued": 0, "ready_models": []}


def test_what_a_node_would_load_is_written_and_read_back():
    answer = json.loads(json.dumps(IDLE | {"loadable": loadable_field(WAYS)}))
    assert read_probe(answer).loadable == WAYS


def test_an_agent_that_does_not_say_what_it_would_load_says_nothing_of_it():
    assert read_probe(IDLE).loadable is None
    assert read_probe(IDLE | {"loadable": {}}).loadable == {}


@pytest.mark.parametrize("given", [[], "x", 7, [["a", "adapter/disk"]]])
def test_a_malformed_field_of_what_is_loadable_is_left_out(given):
    assert read_probe(IDLE | {"loadable": given}).loadable is None


NO_WAYS = ["", "adapter", "adapter/", "/disk", "teleport/disk", "adapter/moon", 7, None, ["a"]]
NO_DELAYS = ["swap/disk/soon", "swap/disk/nan", "swap/disk/1e300", "swap/disk/1/2"]


@pytest.mark.parametrize("text", [*NO_WAYS, *NO_DELAYS])
def test_a_way_that_is_none_is_dropped(text):
    told = {"acme/bad@1": text, "acme/fr@1": "adapter/peer"}
    assert read_probe(IDLE | {"loadable": told}).loadable == {"acme/fr@1": WAYS["acme/fr@1"]}


def test_names_are_bounded_when_read_and_where_they_are_too_many_none_is_said():
    """Of a name that is left out a part of them would say that it cannot be loaded."""
    way = ColdWay(ColdPath.ADAPTER, Residency.DISK)
    many = {f"acme/a@{number}": way for number in range(MAX_NAMES + 5)}
    assert loadable_field(many) is None
    assert loadable_field(None) is None
    told = dict.fromkeys(many, "adapter/disk")
    assert len(read_probe(IDLE | {"loadable": told}).loadable) == MAX_NAMES
