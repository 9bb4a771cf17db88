"""The state of each target at the time of a decision."""

from __future__ import annotations

import pytest

from agent.core.engine_place import Work
from agent.core.fill import UNKNOWN_FILL
from agent.core.live import EJECT_AFTER_LATE
from agent.core.prefixes import prompt_blocks
from protos.domain.load_term import ColdPath, ColdWay
from protos.domain.resources import Residency
from protos.domain.router import UNKNOWN_TARGET
from tests.support import fleets
from tests.support.router_states import SELF, router_state

MODEL = fleets.MODEL


def test_the_own_node_has_no_round_trip_and_its_queues_load() -> None:
    state = router_state(places=2)
    for now_mono_ms in (1.0, 2.0, 3.0):
        state.engine_door.enter(Work("acme"), now_mono_ms)
    own = state.targets(MODEL, 10.0, account="acme")(SELF)
    assert (own.rtt_ms_p50, own.warm) == (0.0, True)
    assert (own.in_flight, own.queued) == (2, 1)


@pytest.mark.parametrize(("serves", "ready"), [(True, frozenset((MODEL,))), (False, frozenset())])
def test_the_own_node_is_ready_for_the_models_its_engine_serves(
    serves: bool, ready: frozenset[str]
) -> None:
    state = router_state()
    state.own_engines.resident = lambda _name: serves
    assert state.targets(MODEL, 0.0)(SELF).ready_models == ready


def test_a_peers_state_comes_from_its_probes_and_reports() -> None:
    state = router_state()
    state.is_warm = lambda node_id: node_id == "scl-1"
    state.live.reported("scl-1", 1.0, in_flight=3, queued=2)
    look_up = state.targets(MODEL, 2.0)
    near, far = look_up("scl-1"), look_up("iad-1")
    assert (near.rtt_ms_p50, near.in_flight, near.queued, near.warm) == (20.0, 3, 2, True)
    assert (far.rtt_ms_p50, far.in_flight, far.warm) == (60.0, 0, False)


def test_a_peer_that_was_never_reached_is_unknown() -> None:
    state = router_state()
    state.live.forget_all_but({})
    assert state.targets(MODEL, 0.0)("scl-1") is UNKNOWN_TARGET


def test_a_prompt_seen_before_is_expected_in_the_cache_of_own_and_peer() -> None:
    state, blocks = router_state(), prompt_blocks(b"x" * 1_024, MODEL, "acme")
    for node_id in (SELF, "scl-1"):
        state.prefixes.record(node_id, MODEL, 1, blocks, 0.0)
    look_up = state.targets(MODEL, 1.0, blocks)
    assert look_up(SELF).cached_ratio > 0.5
    assert look_up("scl-1").cached_ratio > 0.5
    assert look_up("iad-1").cached_ratio == 0.0
    assert state.targets(MODEL, 1.0)(SELF).cached_ratio == 0.0, "no prompt was given"


def test_prompts_on_their_way_are_a_backlog_of_own_and_peer() -> None:
    state = router_state()
    for node_id in (SELF, "scl-1"):
        state.live.request_started(node_id, 10.0, 500.0)
    look_up = state.targets(MODEL, 40.0)
    for node_id in (SELF, "scl-1"):
        found = look_up(node_id)
        assert (found.backlog_tokens, found.progress_ms) == (500.0, 30.0)


@pytest.mark.parametrize("node_id", [SELF, "scl-1"])
def test_a_node_ejected_for_lateness_can_be_asked_if_no_other_is_left(node_id: str) -> None:
    state = router_state()
    for _ in range(EJECT_AFTER_LATE):
        state.live.late(node_id, 0.0)
    assert state.targets(MODEL, 1.0)(node_id).ejected
    assert not state.targets(MODEL, 1.0, allow_late=True)(node_id).ejected


def test_the_own_fill_is_measured_and_a_peers_is_reported() -> None:
    state = router_state()
    state.own_fill.count(2_400, 0.0)
    state.live.reported("scl-1", 0.0, in_flight=0, queued=0, fill_ratio=0.25)
    fill = state.fill(0.0)
    assert fill(SELF) == pytest.approx(2_400 / 60.0 / 400.0)
    assert fill("scl-1") == 0.25
    assert fill("iad-1") == UNKNOWN_FILL


FR, WAY = "acme/fr@1", ColdWay(ColdPath.ADAPTER, Residency.DISK)


def test_the_own_node_would_load_what_its_engines_say() -> None:
    state = router_state()
    state.own_engines.resident = lambda name: name == MODEL
    own = state.targets(MODEL, 0.0, adapter=FR)(SELF)
    assert (own.ready_models, own.loadable) == (frozenset((MODEL,)), {})
    state.own_engines.loadable[FR] = WAY
    assert state.targets(MODEL, 0.0, adapter=FR)(SELF).loadable == {FR: WAY}
    state.own_engines.there.add(FR)
    assert state.targets(MODEL, 0.0, adapter=FR)(SELF).ready_models == frozenset((FR,))
