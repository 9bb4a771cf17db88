"""The share of requests that get an extra is never exceeded."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agent.core.request_share import RequestShare


@given(
    ratio=st.floats(0.0, 1.0),
    max_saved=st.floats(1.0, 50.0),
    steps=st.lists(st.booleans(), max_size=400),
)
def test_never_more_than_the_share_at_any_moment(
    ratio: float, max_saved: float, steps: list[bool]
) -> None:
    share = RequestShare(ratio, max_saved)
    for wants in steps:
        share.earn()
        if wants:
            assert share.left is share.take()
        assert share.sent <= ratio * share.requests + 1e-6
        assert share.share <= ratio + 1e-6


def test_saved_extras_are_bounded() -> None:
    share = RequestShare(0.5, 7.0)
    for _ in range(1_000):
        share.earn()
    assert sum(share.take() for _ in range(1_000)) == 7


def test_a_share_of_zero_disables_extras() -> None:
    share = RequestShare(0.0, 7.0)
    share.earn()
    assert not share.enabled
    assert not share.left
    assert not share.take()
    assert share.share == 0.0
