"""Which targets get warm connections."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agent.core.warm_set import NEAREST_SHARE, WarmCandidate, choose_warm


def one(
    node_id: str, rtt_ms: float = 50.0, *, placements: float = 0.0, is_ready: bool = True
) -> WarmCandidate:
    return WarmCandidate(node_id, is_ready, placements, rtt_ms)


def test_demand_comes_before_distance() -> None:
    far_and_wanted, near, far = one("a", 200.0, placements=3.0), one("b", 5.0), one("c", 90.0)
    assert choose_warm([far, near, far_and_wanted], 64) == ["a", "b", "c"]


def test_a_loading_replica_comes_after_ready_ones() -> None:
    assert choose_warm([one("a", 1.0, is_ready=False), one("b", 300.0)], 64) == ["b", "a"]


def test_the_nearest_get_some_places_whatever_the_demand() -> None:
    wanted = [one(f"far-{number}", 250.0, placements=1.0) for number in range(100)]
    near = one("near", 2.0)
    assert "near" in choose_warm([*wanted, near], 64)


CANDIDATES = st.lists(
    st.builds(
        WarmCandidate,
        st.text("abc", min_size=1, max_size=4),
        st.booleans(),
        st.floats(0, 100),
        st.floats(0, 500),
    ),
    max_size=40,
    unique_by=lambda candidate: candidate.node_id,
)


@given(CANDIDATES, st.integers(0, 64))
def test_all_places_are_used_without_repetition_and_deterministically(
    candidates: list[WarmCandidate], most: int
) -> None:
    chosen = choose_warm(candidates, most)
    assert len(chosen) == len(set(chosen)) == min(most, len(candidates))
    assert set(chosen) == set(choose_warm(candidates[::-1], most))


@given(CANDIDATES, st.integers(1, 64))
def test_a_target_with_more_demand_is_never_left_out_except_for_the_nearest(
    candidates: list[WarmCandidate], most: int
) -> None:
    chosen = set(choose_warm(candidates, most))
    left_out = [one for one in candidates if one.node_id not in chosen]
    for missing in left_out:
        cheaper = [
            one
            for one in candidates
            if one.node_id in chosen and one.placements < missing.placements
        ]
        assert len(cheaper) <= int(most * NEAREST_SHARE)
