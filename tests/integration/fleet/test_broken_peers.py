"""A peer that cannot be reached, says nothing or talks nonsense: replaced, ejected, used again."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from agent.core.live import TRIAL_EVERY_MS
from agent.core.peer_state import EJECT_AFTER_FAILURES
from tests.support.fake_engine_process import FakeEngineProcess
from tests.support.fleet import AgentClient, Fleet
from tests.support.tcp_proxy import TcpProxy
from tests.support.waiting import wait_until, waited_s, within_at_best


@dataclass
class Twins:
    """The same model on IAD, which is cheaper, and on GRU; GRU reaches IAD through a proxy."""

    fleet: Fleet
    iad_engine: FakeEngineProcess
    gru_engine: FakeEngineProcess
    link: TcpProxy

    @property
    def gru(self) -> AgentClient:
        return self.fleet.agent("gru-1")

    def chosen(self) -> str:
        """Where GRU would place a request now; empty when nowhere."""
        return self.fleet.chosen("twin", "gru-1")

    def wait_chosen(self, node: str) -> None:
        wait_until(lambda: self.chosen() == node, 20, f"{node} to be chosen")


@pytest.fixture(scope="module")
def twins(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Twins]:
    with (
        FakeEngineProcess("twin") as iad_engine,
        FakeEngineProcess("twin") as gru_engine,
        Fleet(tmp_path_factory.mktemp("b"), [iad_engine.url, gru_engine.url]) as fleet,
        TcpProxy(fleet.peer_port("iad-1")) as link,
    ):
        fleet.configure("iad-1", "peer", advertise_port=link.port)
        running = Twins(fleet, iad_engine, gru_engine, link)
        wait_until(lambda: _is_reached(running), 30, "gru-1 to reach iad-1 by the proxy")
        yield running


def _is_reached(twins: Twins) -> bool:
    peers = {peer["node_id"]: peer["reachable"] for peer in twins.gru.status()["peers"]}
    return bool(peers.get("iad-1"))


@pytest.fixture(autouse=True)
def healthy(twins: Twins) -> None:
    """Every test starts with a whole link and engines that behave."""
    twins.link.behave("pass")
    for engine in (twins.iad_engine, twins.gru_engine):
        engine.control()
    twins.wait_chosen("iad-1")


def attempts(twins: Twins) -> list[str]:
    return [one["node_id"] for one in twins.gru.last_request()["attempts"]]


def served_by(twins: Twins) -> str:
    return twins.gru.chat().headers["x-edgeforge-node"]


def generations(engine: FakeEngineProcess) -> list[dict[str, Any]]:
    return [one for one in engine.requests() if one["path"].startswith("/v1/chat")]


def test_a_peer_that_refuses_connections_is_replaced_before_the_first_byte(twins: Twins) -> None:
    twins.link.behave("refuse")
    answer = twins.gru.chat(stream=True)
    assert answer.status == 200
    assert answer.events()[-1] == "[DONE]"
    assert answer.headers["x-edgeforge-node"] == "gru-1"


def test_a_half_open_connection_is_replaced_before_the_first_byte(twins: Twins) -> None:
    """What was sent into it was never answered: nobody closed it, nobody serves it."""
    twins.link.behave("silent")
    answer = twins.gru.chat(stream=True)
    assert answer.status == 200
    assert answer.events()[-1] == "[DONE]"
    assert answer.headers["x-edgeforge-node"] == "gru-1"
    assert attempts(twins)[-1] == "gru-1"


@pytest.mark.parametrize("fault", ["silent", "refuse"])
def test_a_peer_that_fails_is_ejected_probed_and_used_again_after_healing(
    twins: Twins, fault: str
) -> None:
    twins.link.behave(fault)
    twins.wait_chosen("gru-1")
    for _ in range(5):
        assert twins.gru.chat().headers["x-edgeforge-node"] == "gru-1", "not tried again"
    twins.link.behave("pass")
    twins.wait_chosen("iad-1")
    assert twins.gru.chat().headers["x-edgeforge-node"] == "iad-1"


@pytest.mark.parametrize("fault", ["silent", "refuse"])
def test_a_peer_that_is_back_is_used_within_3_s_of_healing(twins: Twins, fault: str) -> None:
    def until_used_s() -> float:
        twins.link.behave(fault)
        twins.wait_chosen("gru-1")
        twins.link.behave("pass")
        return waited_s(lambda: served_by(twins) == "iad-1", 30, "iad-1 to be used again")

    within_at_best(3.0, until_used_s)


def break_engine(twins: Twins) -> None:
    """Let IAD's engine fail until GRU leaves it alone."""
    twins.iad_engine.control(error_status=500)
    for _ in range(EJECT_AFTER_FAILURES):
        assert twins.gru.chat().status == 200


def test_a_peer_whose_engine_fails_gets_a_request_a_second_and_is_used_within_3_s_of_healing(
    twins: Twins,
) -> None:
    """Its agent answers every probe: only requests tell."""
    break_engine(twins)
    twins.iad_engine.forget()
    began_s = time.monotonic()
    for _ in range(60):
        assert served_by(twins) == "gru-1"
    most = (time.monotonic() - began_s) * 1_000 / TRIAL_EVERY_MS + 1
    assert len(generations(twins.iad_engine)) <= most

    def until_used_s() -> float:
        break_engine(twins)
        twins.iad_engine.control()
        return waited_s(lambda: served_by(twins) == "iad-1", 30, "iad-1 to be used again")

    within_at_best(3.0, until_used_s)
    assert served_by(twins) == "iad-1"


def test_an_engine_on_this_host_that_fails_is_left_alone_like_any_other(twins: Twins) -> None:
    iad, engine = twins.fleet.agent("iad-1"), twins.iad_engine

    def fail() -> None:
        engine.control(error_status=500)
        for _ in range(EJECT_AFTER_FAILURES):
            assert iad.chat().headers["x-edgeforge-node"] == "gru-1"

    fail()
    engine.forget()
    began_s = time.monotonic()
    for _ in range(30):
        assert iad.chat().status == 200
    most = (time.monotonic() - began_s) * 1_000 / TRIAL_EVERY_MS + 1
    assert len(generations(engine)) <= most

    def until_used_s() -> float:
        fail()
        engine.control()
        uses_own = lambda: iad.chat().headers["x-edgeforge-node"] == "iad-1"  # noqa: E731
        return waited_s(uses_own, 30, "iad-1 to be used again")

    within_at_best(3.0, until_used_s)


def test_a_request_that_makes_every_engine_fail_takes_none_from_others(twins: Twins) -> None:
    gru = twins.gru
    before = gru.status()["first_byte"]["ejections"]
    for engine in (twins.iad_engine, twins.gru_engine):
        engine.control(error_status=500)
    for _ in range(2 * EJECT_AFTER_FAILURES):
        answer = gru.chat(stream=True)
        assert answer.status == 500, "the engine's own answer"
        assert len(gru.last_request()["attempts"]) == 2, "both are asked, each time"
    for engine in (twins.iad_engine, twins.gru_engine):
        engine.control()
    assert gru.chat(stream=True).status == 200, "at once"
    assert gru.status()["first_byte"]["ejections"] == before


def test_prompts_are_remembered_where_they_went_and_forgotten_when_that_target_is_lost(
    twins: Twins,
) -> None:
    def chat() -> str:
        messages = [{"role": "system", "content": "Be brief. " * 400}]
        return twins.gru.chat(messages=messages).headers["x-edgeforge-node"]

    def remembered() -> int:
        return int(twins.gru.status()["prefix_blocks"])

    assert chat() == "iad-1"
    once = remembered()
    assert once >= 15
    assert chat() == "iad-1"
    assert remembered() == once, "the same beginning is remembered once"
    twins.link.behave("refuse")
    assert chat() == "gru-1"
    assert remembered() == once, "forgotten there, remembered here"


def test_a_peer_that_says_nothing_after_the_first_byte_ends_in_an_error_event(
    twins: Twins,
) -> None:
    twins.iad_engine.control(tokens=8, cut_after_tokens=3, token_delay_ms=50)
    answer = twins.gru.chat(stream=True)
    assert answer.status == 200
    assert "error" in json.loads(answer.events()[-1])


def test_malformed_events_before_the_first_byte_are_replaced(twins: Twins) -> None:
    twins.iad_engine.control(malformed_after_tokens=0)
    answer = twins.gru.chat(stream=True)
    assert answer.status == 200
    assert answer.events()[-1] == "[DONE]"


def test_malformed_events_after_the_first_byte_end_in_an_error_event(twins: Twins) -> None:
    twins.iad_engine.control(malformed_after_tokens=3, token_delay_ms=50)
    answer = twins.gru.chat(stream=True)
    assert answer.status == 200
    last = json.loads(answer.events()[-1])
    assert last["error"]["message"]
    assert "[DONE]" not in answer.events()
