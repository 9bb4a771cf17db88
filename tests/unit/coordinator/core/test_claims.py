"""Replicas need an order; claims are remembered, announced once and forgotten with their node."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from coordinator.core.claims import (
    ANNOUNCE_EVERY_MS,
    CONFIRM_MS,
    LEAVING_MS,
    MAX_SHOWN,
    NodeClaims,
)
from coordinator.core.table_builder import ReplicaReport
from protos.domain.resources import ReplicaState


def report(*models: str) -> tuple[ReplicaReport, ...]:
    return tuple(ReplicaReport(one, ReplicaState.READY, 1) for one in models)


def accepted(claims: NodeClaims, reported, desired, now_ms: float = 0.0) -> set[str]:
    return {one.model for one in claims.judge("gru-1", reported, desired, now_ms).accepted}


def test_only_what_is_desired_is_accepted():
    claims = NodeClaims()
    judged = claims.judge("gru-1", report("a", "b"), {"a"}, 0.0)
    assert judged.accepted == report("a")
    assert (judged.unordered, judged.announce, claims.dropped) == (("b",), False, 1)
    assert claims.of("gru-1") == (), "it may not know its orders yet"
    assert claims.expired(CONFIRM_MS) == ["gru-1"]
    assert claims.judge("gru-1", report("a", "b"), {"a"}, CONFIRM_MS).announce
    assert claims.expired(2.0 * CONFIRM_MS) == []
    assert [one.detail for one in claims.of("gru-1")] == ["claims b that it was not ordered"]
    assert claims.of("gru-2") == ()


def test_a_claim_is_counted_once_and_announced_once_an_hour_however_it_comes_and_goes():
    claims = NodeClaims()
    announced = 0
    for second in range(3_600):
        reported = report(f"m{second % 7}") if second % 2 else ()
        announced += claims.judge("gru-1", reported, (), second * 1_000.0).announce
    assert announced == 1
    assert claims.judge("gru-1", report("x"), (), ANNOUNCE_EVERY_MS + 9_000.0).announce
    repeated = claims.dropped
    claims.judge("gru-1", report("x"), (), ANNOUNCE_EVERY_MS + 10_000.0)
    assert claims.dropped == repeated


def test_an_agent_that_was_cut_off_and_reports_what_it_held_until_it_knows_is_not_accused():
    claims = NodeClaims()
    for reconnected in range(3):
        at_ms = reconnected * 100_000.0
        assert not claims.judge("gru-1", report("a"), (), at_ms).announce
        assert not claims.judge("gru-1", (), (), at_ms + 2_000.0).announce
        assert claims.of("gru-1") == ()
        assert claims.expired(at_ms + 50_000.0) == []


def test_what_was_desired_until_now_may_be_reported_while_it_leaves():
    claims = NodeClaims()
    assert accepted(claims, report("a"), {"a"}) == {"a"}
    assert accepted(claims, report("a"), (), 1_000.0) == {"a"}
    assert claims.expired(1_000.0 + LEAVING_MS - 1.0) == []
    assert claims.expired(1_000.0 + LEAVING_MS) == ["gru-1"]
    assert accepted(claims, report("a"), (), 1_000.0 + LEAVING_MS) == set()
    assert claims.expired(1_000.0 + LEAVING_MS) == []


def test_reports_without_an_order_do_not_prolong_the_time_to_leave():
    claims = NodeClaims()
    accepted(claims, report("a"), {"a"})
    for step in range(1, 100):
        accepted(claims, report("a"), (), step * 1_000.0)
    assert accepted(claims, report("a"), (), 100_000.0) == set()


def test_complaints_are_replaced_summed_and_withdrawn():
    claims = NodeClaims()
    claims.complained("iad-1", {"gru-1": 2, "scl-1": 1, "iad-1": 9})
    claims.complained("scl-1", {"gru-1": 3})
    (claim,) = claims.of("gru-1")
    assert claim.detail == "claimed more tokens than possible in 5 answers, say iad-1, scl-1"
    assert claims.of("iad-1") == (), "a node says nothing of itself"
    claims.complained("iad-1", {})
    assert "in 3 answers, say scl-1" in claims.of("gru-1")[0].detail
    assert claims.of("scl-1") == ()
    claims.forget_all_but({"gru-1"})
    assert claims.of("gru-1") == (), "the node that complained is gone"


def test_flattery_is_new_once():
    claims = NodeClaims()
    assert claims.flatters("gru-1", "1 ms")
    assert not claims.flatters("gru-1", "1 ms")
    assert claims.of("gru-1")[0].kind == "profile"
    assert not claims.flatters("gru-1", "")
    assert claims.of("gru-1") == ()


def test_many_claims_are_shown_in_part():
    claims = NodeClaims()
    for now_ms in (0.0, CONFIRM_MS):
        claims.judge("gru-1", report(*(f"m{number:02}" for number in range(20))), (), now_ms)
    shown = claims.of("gru-1")
    assert len(shown) == MAX_SHOWN + 1
    assert shown[-1].detail == "and 12 more"


models = st.sampled_from(["a", "b", "c"])
steps = st.lists(
    st.tuples(st.sets(models), st.sets(models), st.floats(0.0, 2.0 * LEAVING_MS)), max_size=12
)


@given(steps)
def test_nothing_is_accepted_that_was_not_desired_within_the_time_to_leave(history):
    claims, now_ms, desired_ms = NodeClaims(), 0.0, {}
    before: set[str] = set()
    for reported, desired, passed_ms in history:
        now_ms += passed_ms
        for model in before - desired:
            desired_ms[model] = now_ms
        before = set(desired)
        found = accepted(claims, report(*reported), desired, now_ms)
        late = {model for model, at_ms in desired_ms.items() if now_ms - at_ms < LEAVING_MS}
        assert found == reported & (desired | late)
