"""What an agent knows of other nodes: round trips, load, failures, and how long it is valid."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.live import (
    DEMAND_WINDOW_MS,
    EJECT_AFTER_LATE,
    MAX_CLEARED_ON_WORD,
    MAX_NODES,
    TRIAL_EVERY_MS,
    LiveState,
)
from agent.core.peer_state import EJECT_AFTER_FAILURES, MAX_STARTS, REPORT_FRESH_MS, RTT_WINDOW
from protos.domain.load_term import ColdPath, ColdWay
from protos.domain.resources import Residency
from protos.domain.router import UNKNOWN_TARGET
from tests.support.one_target import seen_target


@pytest.fixture
def live() -> LiveState:
    return LiveState()


def test_a_node_without_events_is_unknown(live: LiveState) -> None:
    assert seen_target(live, "iad-1", 0.0, warm=False) is UNKNOWN_TARGET


def test_round_trips_are_a_median_and_a_tail_of_the_last_ones(live: LiveState) -> None:
    for rtt_ms in range(1, RTT_WINDOW + 1):
        live.probed("iad-1", float(rtt_ms), 0.0)
    state = seen_target(live, "iad-1", 0.0, warm=True)
    assert state.rtt_ms_p50 == RTT_WINDOW / 2
    assert state.rtt_ms_p99 == RTT_WINDOW
    for _ in range(RTT_WINDOW):
        live.probed("iad-1", 7.0, 1.0)
    assert seen_target(live, "iad-1", 1.0, warm=True).rtt_ms_p99 == 7.0


def test_own_requests_count_up_and_down_and_never_below_none(live: LiveState) -> None:
    live.request_started("iad-1", 0.0)
    live.request_started("iad-1", 0.0)
    live.request_ended("iad-1")
    assert live.in_flight("iad-1") == 1
    live.request_ended("iad-1")
    live.request_ended("iad-1")
    assert live.in_flight("iad-1") == 0
    assert live.in_flight("nobody") == 0


def test_prompts_on_their_way_are_a_backlog_until_their_first_token(live: LiveState) -> None:
    first = live.request_started("iad-1", 0.0, 300.0)
    second = live.request_started("iad-1", 10.0, 100.0)
    assert live.request_started("iad-1", 10.0) == 0, "nobody sees when a whole answer begins"
    state = seen_target(live, "iad-1", 30.0, warm=True)
    assert (state.backlog_tokens, state.progress_ms) == (400.0, 30.0)
    live.first_token("iad-1", first, 40.0)
    assert live.backlog("iad-1", 45.0) == (100.0, 5.0)
    live.request_ended("iad-1", second)
    assert live.backlog("iad-1", 45.0) == (0.0, 0.0)
    assert live.backlog("nobody", 45.0) == (0.0, 0.0)
    live.request_ended("iad-1", first)
    assert live.in_flight("iad-1") == 1


def test_demand_counts_recent_placements(live: LiveState) -> None:
    for _ in range(3):
        live.request_started("iad-1", 0.0)
    assert live.demand("iad-1", 0.0) == 3.0
    assert live.demand("iad-1", DEMAND_WINDOW_MS) == pytest.approx(3.0 / math.e)
    assert live.demand("nobody", 0.0) == 0.0


def test_own_requests_that_wait_at_a_target_are_not_counted_twice():
    live = LiveState()
    for _ in range(10):
        live.request_started("iad-1", 0.0)
    live.reported("iad-1", 0.0, in_flight=4, queued=6)
    ours_alone = seen_target(live, "iad-1", 0.0, warm=True)
    assert (ours_alone.in_flight, ours_alone.queued) == (4, 6)
    live.reported("iad-1", 0.0, in_flight=8, queued=6)
    others_too = seen_target(live, "iad-1", 0.0, warm=True)
    assert (others_too.in_flight, others_too.queued) == (8, 6)


def load(live: LiveState, now_mono_ms: float) -> tuple[int, int]:
    state = seen_target(live, "iad-1", now_mono_ms, warm=True)
    return state.in_flight, state.queued


def test_requests_sent_since_a_report_are_added_to_it(live):
    """Otherwise a whole burst goes to a target that was empty a second ago."""
    live.request_started("iad-1", 0.0)
    live.reported("iad-1", 10.0, in_flight=5, queued=0)
    assert load(live, 10.0) == (5, 0)
    for _ in range(3):
        live.request_started("iad-1", 20.0)
    assert load(live, 20.0) == (8, 0)
    live.request_ended("iad-1")
    assert load(live, 30.0) == (7, 0)
    live.reported("iad-1", 40.0, in_flight=6, queued=0)
    assert load(live, 40.0) == (6, 0), "the newer word knows"


def test_requests_ended_since_a_report_are_taken_from_the_waiting_ones_first(live):
    for _ in range(4):
        live.request_started("iad-1", 0.0)
    live.reported("iad-1", 10.0, in_flight=8, queued=2)
    live.request_ended("iad-1")
    assert load(live, 11.0) == (8, 1)
    for _ in range(3):
        live.request_ended("iad-1")
    assert load(live, 12.0) == (6, 0)


def test_a_report_cannot_include_requests_still_on_their_way(live):
    live.probed("iad-1", 100.0, 0.0)
    live.request_started("iad-1", 1_000.0)
    live.request_started("iad-1", 1_150.0)
    live.reported("iad-1", 1_200.0, in_flight=1, queued=0)
    assert load(live, 1_200.0) == (2, 0), "sent 50 ms ago: it is not even there yet"


def test_reports_older_than_the_latest_are_ignored(live):
    live.reported("iad-1", 1_000.0, in_flight=7, queued=0)
    live.reported("iad-1", 500.0, in_flight=1, queued=0, ready_models=["acme/m@1"])
    assert load(live, 1_000.0) == (7, 0)


def test_starts_remembered_are_bounded(live):
    live.probed("iad-1", 100.0, 0.0)
    for _ in range(MAX_STARTS + 50):
        live.request_started("iad-1", 10.0)
    live.reported("iad-1", 20.0, in_flight=0, queued=0)
    assert load(live, 20.0) == (MAX_STARTS + 50, 0), "never less than what is ours"
    for _ in range(50):
        live.request_ended("iad-1")
    assert load(live, 20.0) == (MAX_STARTS, 0)


def test_a_targets_report_counts_while_it_is_fresh(live: LiveState) -> None:
    live.reported("iad-1", 0.0, in_flight=9, queued=3, ready_models=["acme/m@1"])
    fresh = seen_target(live, "iad-1", REPORT_FRESH_MS - 1, warm=True)
    assert (fresh.in_flight, fresh.queued) == (9, 3)
    assert fresh.ready_models == {"acme/m@1"}
    stale = seen_target(live, "iad-1", REPORT_FRESH_MS, warm=True)
    assert (stale.in_flight, stale.queued, stale.ready_models) == (0, 0, None)


def is_ejected(live: LiveState, now_mono_ms: float) -> bool:
    return seen_target(live, "iad-1", now_mono_ms, warm=True).ejected


def ejected_at(live: LiveState, now_mono_ms: float) -> None:
    for _ in range(EJECT_AFTER_FAILURES):
        live.failed("iad-1", now_mono_ms)


def test_failures_in_a_row_eject_and_one_answer_ends_it(live: LiveState) -> None:
    for _ in range(EJECT_AFTER_FAILURES - 1):
        live.failed("iad-1", 0.0)
    assert not is_ejected(live, 0.0)
    live.failed("iad-1", 0.0)
    assert is_ejected(live, TRIAL_EVERY_MS - 1)
    live.succeeded("iad-1")
    assert not is_ejected(live, 1.0)
    live.failed("iad-1", 2.0)
    assert not is_ejected(live, 2.0)
    assert live.ejections == 1


def test_an_ejected_target_gets_one_request_a_second_until_one_is_answered(
    live: LiveState,
) -> None:
    ejected_at(live, 0.0)
    for second in range(1, 6):
        now_mono_ms = second * TRIAL_EVERY_MS
        assert is_ejected(live, now_mono_ms - 1)
        assert not is_ejected(live, now_mono_ms), "half-open"
        live.request_started("iad-1", now_mono_ms)
        assert is_ejected(live, now_mono_ms), "and the trial takes the place"
        if second < 5:
            live.failed("iad-1", now_mono_ms)
    live.succeeded("iad-1")
    assert not is_ejected(live, 5 * TRIAL_EVERY_MS)
    assert live.ejections == 1, "one ejection, however many trials"
    assert live.ejected_now == 0


def test_a_silent_trial_does_not_delay_the_next_one(live: LiveState) -> None:
    ejected_at(live, 0.0)
    live.request_started("iad-1", TRIAL_EVERY_MS)
    assert not is_ejected(live, 2 * TRIAL_EVERY_MS)


def test_a_probe_clears_failures_of_the_link_and_not_of_the_engine(live: LiveState) -> None:
    ejected_at(live, 0.0)
    live.probed("iad-1", 5.0, 1.0)
    assert is_ejected(live, 1.0), "the agent answers probes while its engine fails"
    live.succeeded("iad-1")
    for _ in range(EJECT_AFTER_FAILURES):
        live.failed("iad-1", 2.0, of_link=True)
    assert is_ejected(live, 2.0)
    live.reached("iad-1")
    assert not is_ejected(live, 2.0)


@pytest.mark.parametrize("word", ["probe", "another run"])
def test_a_target_that_says_it_is_well_and_answers_nothing_stays_ejected(
    live: LiveState, word: str
) -> None:
    now_ms = 0.0

    def says_it_is_well(number: int) -> None:
        if word == "probe":
            live.probed("iad-1", 5.0, now_ms)
        else:
            report = {"in_flight": 0, "queued": 0, "ready_models": ["m"]}
            live.reported("iad-1", now_ms, incarnation=f"run-{number}", **report)

    def fails() -> None:
        for _ in range(EJECT_AFTER_FAILURES):
            live.failed("iad-1", now_ms, of_link=word == "probe")

    says_it_is_well(0)
    for number in range(1, MAX_CLEARED_ON_WORD + 1):
        fails()
        says_it_is_well(number)
        assert not is_ejected(live, now_ms)
    fails()
    says_it_is_well(99)
    assert is_ejected(live, now_ms)
    assert not is_ejected(live, now_ms + TRIAL_EVERY_MS), "a request a second tries it"
    live.succeeded("iad-1")
    fails()
    says_it_is_well(100)
    assert not is_ejected(live, now_ms), "it has answered: its word counts again"


def test_a_probe_does_not_clear_link_failures_mixed_with_an_engine_failure(
    live: LiveState,
) -> None:
    live.failed("iad-1", 0.0, of_link=False)
    live.failed("iad-1", 0.0, of_link=True)
    live.failed("iad-1", 0.0, of_link=True)
    live.reached("iad-1")
    assert is_ejected(live, 0.0)


def test_late_first_tokens_in_a_row_eject_and_one_in_time_ends_it(live: LiveState) -> None:
    for _ in range(EJECT_AFTER_LATE - 1):
        live.late("iad-1", 0.0)
    live.succeeded("iad-1")
    for _ in range(EJECT_AFTER_LATE - 1):
        live.late("iad-1", 0.0)
    assert not is_ejected(live, 0.0)
    live.late("iad-1", 0.0)
    assert is_ejected(live, 0.0)
    assert not is_ejected(live, TRIAL_EVERY_MS)
    assert live.ejected_now == 1


def test_a_target_ejected_for_lateness_is_usable_if_no_other_is_left(live: LiveState) -> None:
    for _ in range(EJECT_AFTER_LATE):
        live.late("iad-1", 0.0)
    assert is_ejected(live, 0.0)
    assert not live.is_ejected("iad-1", 0.0, allow_late=True)
    assert not seen_target(live, "iad-1", 0.0, warm=True, allow_late=True).ejected
    ejected_at(live, 0.0)
    assert live.is_ejected("iad-1", 0.0, allow_late=True), "it fails, too"


def test_late_first_tokens_count_only_if_another_target_was_in_time(live: LiveState) -> None:
    for _ in range(10 * EJECT_AFTER_LATE):
        live.late("iad-1", 0.0, another_in_time=False)
    assert not is_ejected(live, 0.0)
    assert live.ejections == 0


def test_an_engine_whose_first_tokens_come_is_not_ejected_for_those_that_were_overtaken(
    live: LiveState,
) -> None:
    """Its streams run for minutes; only their ends were counted as a success."""
    for second in range(60):
        now_mono_ms = second * 1_000.0
        prompt = live.request_started("iad-1", now_mono_ms, 10.0)
        for _ in range(EJECT_AFTER_LATE - 1):
            live.late("iad-1", now_mono_ms)
        live.first_token("iad-1", prompt, now_mono_ms)
    assert live.ejections == 0


def test_the_first_token_of_a_trial_ends_an_ejection_and_one_more_failure_renews_it(
    live: LiveState,
) -> None:
    """Otherwise an idle engine would get one request a second while the trial's stream runs."""
    ejected_at(live, 0.0)
    trial = live.request_started("iad-1", TRIAL_EVERY_MS, 10.0)
    assert is_ejected(live, TRIAL_EVERY_MS)
    live.first_token("iad-1", trial, TRIAL_EVERY_MS + 50)
    assert not is_ejected(live, TRIAL_EVERY_MS + 50)
    live.failed("iad-1", TRIAL_EVERY_MS + 60)
    assert is_ejected(live, TRIAL_EVERY_MS + 60)


def test_after_its_restart_this_nodes_own_engine_is_used_at_once(live: LiveState) -> None:
    live.engine_changed("iad-1", "1", ready=True)
    ejected_at(live, 0.0)
    live.engine_changed("iad-1", "1", ready=False)
    live.engine_changed("iad-1", "2", ready=False)
    assert live.is_ejected("iad-1", 1.0)
    live.engine_changed("iad-1", "2", ready=True)
    assert not live.is_ejected("iad-1", 1.0)
    for _ in range(EJECT_AFTER_FAILURES - 1):
        live.failed("iad-1", 2.0)
    assert not live.is_ejected("iad-1", 2.0), "what failed was another process"


def reports(live: LiveState, now_mono_ms: float, incarnation: str | None, *models: str) -> None:
    live.probed("iad-1", 5.0, now_mono_ms)
    live.reported(
        "iad-1", now_mono_ms, in_flight=0, queued=0, ready_models=models, incarnation=incarnation
    )


def test_a_peer_whose_engine_was_restarted_between_two_probes_is_used_at_once(
    live: LiveState,
) -> None:
    reports(live, 0.0, "7-1", "acme/m@1")
    ejected_at(live, 1.0)
    reports(live, 2.0, "7-1", "acme/m@1")
    assert is_ejected(live, 2.0), "the same engine fails still"
    reports(live, 3.0, "7-2", "acme/m@1")
    assert not is_ejected(live, 3.0)


def test_a_peer_whose_engine_is_ready_again_is_used_at_once(live: LiveState) -> None:
    reports(live, 0.0, None, "acme/m@1")
    ejected_at(live, 1.0)
    reports(live, 2.0, None)
    assert is_ejected(live, 2.0)
    reports(live, 3.0, None, "acme/m@1")
    assert not is_ejected(live, 3.0)


def test_a_report_of_the_load_alone_does_not_indicate_another_engine(live: LiveState) -> None:
    reports(live, 0.0, "7-1", "acme/m@1")
    ejected_at(live, 1.0)
    live.reported("iad-1", 2.0, in_flight=1, queued=0)
    assert is_ejected(live, 2.0)


def test_a_probe_that_waits_behind_requests_that_are_answered_is_no_failure(
    live: LiveState,
) -> None:
    for second in range(2 * EJECT_AFTER_FAILURES):
        sent_mono_ms = second * 2_000.0
        live.reported("iad-1", sent_mono_ms + 500.0, in_flight=8, queued=9)
        live.probe_failed("iad-1", sent_mono_ms + 2_000.0, sent_mono_ms)
    assert not is_ejected(live, 12_000.0)
    for probe in range(EJECT_AFTER_FAILURES):
        live.probe_failed("iad-1", 14_000.0 + probe, 12_000.0)
    assert is_ejected(live, 14_010.0), "nothing at all came since"


def test_a_target_that_stays_silent_stays_ejected_between_two_failed_probes(
    live: LiveState,
) -> None:
    for probe in range(10):
        now_mono_ms = probe * 2_000.0  # as long as a probe may take by default
        live.probe_failed("iad-1", now_mono_ms)
        if probe + 1 >= EJECT_AFTER_FAILURES:
            assert seen_target(live, "iad-1", now_mono_ms + 1_999.0, warm=True).ejected
    live.probed("iad-1", 5.0, 20_000.0)
    assert not seen_target(live, "iad-1", 20_000.0, warm=True).ejected


def test_load_reports_do_not_refresh_the_list_of_models(live: LiveState) -> None:
    live.reported("iad-1", 0.0, in_flight=0, queued=0, ready_models=["acme/m@1"])
    live.reported("iad-1", REPORT_FRESH_MS, in_flight=1, queued=0)
    state = seen_target(live, "iad-1", REPORT_FRESH_MS, warm=True)
    assert state.in_flight == 1
    assert state.ready_models is None


def test_nodes_with_running_requests_are_never_dropped(live: LiveState) -> None:
    for number in range(MAX_NODES + 2):
        live.request_started(f"node-{number}", 0.0)
    assert live.in_flight("node-0") == live.in_flight(f"node-{MAX_NODES + 1}") == 1


def test_a_failed_probe_clears_the_targets_list_of_models(live: LiveState) -> None:
    live.reported("iad-1", 0.0, in_flight=0, queued=0, ready_models=["acme/m@1"])
    live.probe_failed("iad-1", 1.0)
    assert seen_target(live, "iad-1", 1.0, warm=True).ready_models is None


def test_the_first_probe_after_a_failure_is_not_used_as_round_trip(live: LiveState) -> None:
    """It may have waited for the link to recover, and would look like a far target for a minute."""
    live.probed("iad-1", 5.0, 0.0)
    live.failed("iad-1", 1.0)
    live.probed("iad-1", 1_900.0, 2_000.0)
    assert seen_target(live, "iad-1", 2_000.0, warm=True).rtt_ms_p99 == 5.0
    live.probed("iad-1", 7.0, 3_000.0)
    assert seen_target(live, "iad-1", 3_000.0, warm=True).rtt_ms_p99 == 7.0


def test_only_recent_probes_are_reported_to_the_coordinator(live: LiveState) -> None:
    live.probed("iad-1", 120.0, 0.0)
    live.probe_failed("bom-1", 0.0)
    live.request_started("never-probed", 0.0)
    views = {view.node_id: (view.reachable, view.rtt_ms) for view in live.peer_views(1.0)}
    assert views == {"iad-1": (True, 120.0), "bom-1": (False, 0.0)}
    assert live.peer_views(REPORT_FRESH_MS) == []


def test_nodes_that_left_the_table_are_dropped_once_they_serve_no_request(live: LiveState) -> None:
    live.request_started("busy", 0.0)
    live.probed("idle", 1.0, 0.0)
    live.probed("stays", 1.0, 0.0)
    live.forget_all_but({"stays": None})
    assert seen_target(live, "idle", 0.0, warm=True) is UNKNOWN_TARGET
    assert live.in_flight("busy") == 1
    assert seen_target(live, "stays", 0.0, warm=True).rtt_ms_p50 == 1.0


def test_remembered_nodes_are_bounded_and_busy_ones_are_kept(live: LiveState) -> None:
    live.request_started("busy", 0.0)
    for number in range(MAX_NODES + 10):
        live.probed(f"node-{number}", 1.0, float(number))
    assert live.in_flight("busy") == 1
    assert len(live.peer_views(0.0)) <= MAX_NODES


@given(st.lists(st.floats(min_value=0.01, max_value=10_000), min_size=1, max_size=200))
def test_the_p99_is_never_below_the_median_and_both_were_measured(rtts_ms: list[float]) -> None:
    live = LiveState()
    for rtt_ms in rtts_ms:
        live.probed("iad-1", rtt_ms, 0.0)
    state = seen_target(live, "iad-1", 0.0, warm=True)
    window = rtts_ms[-RTT_WINDOW:]
    assert state.rtt_ms_p50 in window
    assert state.rtt_ms_p99 in window
    assert state.rtt_ms_p50 is not None
    assert state.rtt_ms_p99 is not None
    assert state.rtt_ms_p50 <= state.rtt_ms_p99
    assert math.isfinite(state.rtt_ms_p99)


FR, WAY = "acme/fr@1", ColdWay(ColdPath.ADAPTER, Residency.DISK)


def told(live: LiveState, loadable, ready=("acme/m@1",)) -> None:
    live.reported("iad-1", 0.0, in_flight=0, queued=0, ready_models=ready, loadable=loadable)


def test_what_a_target_would_load_is_known_as_long_as_its_report_is_fresh() -> None:
    live = LiveState()
    told(live, {FR: WAY})
    assert seen_target(live, "iad-1", 1.0, warm=True).loadable == {FR: WAY}
    assert seen_target(live, "iad-1", REPORT_FRESH_MS, warm=True).loadable is None


def test_an_answer_says_ahead_of_the_next_report_what_is_in_the_engine() -> None:
    live = LiveState()
    told(live, {FR: WAY})
    live.holds("iad-1", FR, None, resident=True)
    assert FR in seen_target(live, "iad-1", 1.0, warm=True).ready_models
    live.holds("iad-1", FR, WAY, resident=False)
    lost = seen_target(live, "iad-1", 1.0, warm=True)
    assert (FR in lost.ready_models, lost.loadable) == (False, {FR: WAY})
    live.holds("iad-1", FR, None, resident=False)
    assert seen_target(live, "iad-1", 1.0, warm=True).loadable == {}


def test_without_a_report_nothing_is_made_up_from_an_answer() -> None:
    live = LiveState()
    live.holds("iad-1", FR, WAY, resident=False)
    state = seen_target(live, "iad-1", 1.0, warm=True)
    assert (state.ready_models, state.loadable) == (None, None)
