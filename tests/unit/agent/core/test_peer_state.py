"""A node's derived state: its load now, and whether it is excluded."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agent.core.engine_admission import Newcomer
from agent.core.peer_state import EJECT_AFTER_FAILURES, MAX_REPORTED, REPORT_FRESH_MS, PeerState

counts = st.integers(0, 50)


def told(in_flight: int, queued: int, *, own: int = 0, at_mono_ms: float = 1_000.0) -> PeerState:
    seen = PeerState(own_in_flight=own)
    seen.take_report(in_flight, queued, at_mono_ms)
    return seen


def test_without_a_report_the_load_is_this_agents_requests() -> None:
    assert PeerState(own_in_flight=3).load(0.0) == (3, 0)
    assert told(9, 4, own=2).load(1_000.0 + REPORT_FRESH_MS) == (2, 0), "its word is too old"


def test_requests_sent_since_the_report_are_added() -> None:
    seen = told(9, 0, own=2)
    seen.own_in_flight = 5
    assert seen.load(1_001.0) == (12, 0)


def test_requests_on_their_way_at_the_report_are_not_counted_twice() -> None:
    seen = PeerState(own_in_flight=2, rtt_ms_p50=40.0)
    seen.starts_mono_ms.extend([900.0, 990.0])
    seen.take_report(1, 0, 1_000.0)
    assert seen.load(1_000.0) == (2, 0), "the one sent 10 ms ago was not there yet"


def test_requests_ended_since_the_report_are_subtracted_from_the_waiting_first() -> None:
    seen = told(8, 3, own=6)
    seen.own_in_flight = 4
    assert seen.load(1_001.0) == (8, 1)
    seen.own_in_flight = 0
    assert seen.load(1_001.0) == (5, 0)


def test_a_reported_load_is_limited() -> None:
    assert told(10**400, 10**400).load(1_000.0) == (MAX_REPORTED, MAX_REPORTED)
    assert told(-5, -5).load(1_000.0) == (0, 0)


@given(counts, counts, counts, counts)
def test_load_is_never_negative_nor_less_than_this_agents_requests(
    in_flight: int, queued: int, own_then: int, own_now: int
) -> None:
    seen = told(in_flight, queued, own=own_then)
    seen.own_in_flight = own_now
    serving, waiting = seen.load(1_001.0)
    assert serving >= 0
    assert 0 <= waiting <= queued
    assert serving + waiting >= own_now


def test_late_targets_are_excluded_unless_no_other_is_left_failed_ones_always() -> None:
    late = PeerState(ejected=True, next_trial_mono_ms=500.0)
    assert late.is_excluded(499.0, allow_late=False)
    assert not late.is_excluded(499.0, allow_late=True)
    assert not late.is_excluded(500.0, allow_late=False), "its trial is due"
    failed = PeerState(ejected=True, next_trial_mono_ms=500.0, failures=EJECT_AFTER_FAILURES)
    assert failed.is_excluded(499.0, allow_late=True)


def test_a_state_is_cached_until_time_alone_changes_it() -> None:
    seen = told(1, 0)
    state = seen.evaluate(1_000.0, warm=True, allow_late=False)
    assert seen.state is state
    assert seen.state_until_mono_ms == 1_000.0 + REPORT_FRESH_MS
    seen.state = None
    seen.evaluate(1_000.0, warm=True, allow_late=True)
    assert seen.state is None, "what is true only when nobody else is left is not remembered"


def test_an_engine_becomes_ready_if_it_was_not_or_is_another_run() -> None:
    seen = PeerState()
    assert not seen.engine_is("1", ready=True), "what was before the first report is unknown"
    assert not seen.engine_is("1", ready=True)
    assert not seen.engine_is("1", ready=False)
    assert seen.engine_is("1", ready=True), "ready again"
    assert seen.engine_is("2", ready=True), "restarted between two reports"
    assert not seen.engine_is("3", ready=False), "restarted, and not ready yet"
    assert seen.engine_is("3", ready=True)


def test_a_report_without_an_engine_run_only_updates_readiness() -> None:
    seen = PeerState()
    seen.engine_is("1", ready=True)
    assert not seen.engine_is(None, ready=True)
    assert not seen.engine_is(None, ready=False)
    assert seen.engine_is(None, ready=True)
    assert not seen.engine_is("1", ready=True), "its run is still the one known"


def meets(seen: PeerState, account: str, at_mono_ms: float = 1_001.0) -> tuple[int, int]:
    state = seen.evaluate(at_mono_ms, warm=True, allow_late=False)
    return seen.meets(account, state, at_mono_ms)[:2]


def test_an_account_with_less_there_than_its_share_meets_what_a_new_one_would() -> None:
    seen = PeerState()
    seen.count_own("greedy", 100)
    seen.take_report(8, 92, 1_000.0, Newcomer(6, 0, 4))
    assert meets(seen, "other") == (6, 0)
    seen.count_own("other", 1)
    assert meets(seen, "other") == (7, 0), "sent since the report"
    assert meets(seen, "greedy") == (9, 92)


def test_what_an_account_has_there_beyond_its_share_is_ahead_of_its_next_request() -> None:
    seen = PeerState()
    seen.count_own("greedy", 200)
    seen.count_own("busy", 10)
    seen.take_report(12, 198, 1_000.0, Newcomer(8, 0, 4))
    assert meets(seen, "busy") == (12, 6)


def test_a_report_that_is_too_old_says_nothing_of_new_accounts() -> None:
    seen = PeerState()
    seen.count_own("greedy", 100)
    seen.take_report(8, 92, 1_000.0, Newcomer(6, 0, 4))
    assert meets(seen, "other", 1_000.0 + REPORT_FRESH_MS) == (100, 0)


def test_a_node_that_is_not_crowded_is_met_alike_by_all() -> None:
    seen = told(3, 0)
    seen.take_report(3, 0, 1_000.0, Newcomer(3, 0, 8))
    assert seen.newcomer is None
    assert meets(seen, "other") == (3, 0)


def test_an_account_without_requests_there_is_not_remembered() -> None:
    seen = PeerState()
    seen.count_own("a", 3)
    seen.count_own("a", -3)
    assert seen.own_of_account == {}
