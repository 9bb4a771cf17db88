"""Calls for quota, and their messages."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protos.domain.errors import InvalidRequest
from protos.domain.quota import (
    MAX_AMOUNT,
    LeaseAnswer,
    LeaseAsk,
    LeaseCall,
    LeaseGrant,
    QuotaKind,
    QuotaName,
)
from protos.v1 import quota_pb2
from protos.wire.quota import answer_from_wire, answer_to_wire, call_from_wire, call_to_wire

amounts = st.integers(0, MAX_AMOUNT)
names = st.builds(
    QuotaName, st.sampled_from(QuotaKind), st.just("acme"), st.sampled_from([b"", b"k" * 32])
)
asks = st.builds(
    LeaseAsk,
    names,
    st.integers(-MAX_AMOUNT, MAX_AMOUNT),
    amounts,
    amounts,
    amounts,
    amounts,
    amounts,
)


def test_rates_are_requests_and_tokens() -> None:
    assert [kind for kind in QuotaKind if kind.is_rate] == [QuotaKind.REQUESTS, QuotaKind.TOKENS]


@given(st.lists(asks, max_size=5, unique_by=lambda ask: ask.name), st.integers(1, 1 << 60))
def test_a_call_and_its_answer_arrive_as_they_were_sent(
    given_asks: list[LeaseAsk], seq: int
) -> None:
    call = LeaseCall("boot", seq, tuple(given_asks))
    sent = quota_pb2.LeaseRequest.FromString(call_to_wire(call).SerializeToString())
    assert call_from_wire(sent) == call
    grants = tuple(
        LeaseGrant(ask.name, ask.held, ask.want, ask.need, ask.in_use) for ask in given_asks[1:]
    )
    answer = LeaseAnswer(9, seq, 10_000.0, 3_000.0, 12.0, grants)
    back = quota_pb2.LeaseResponse.FromString(answer_to_wire(answer, call).SerializeToString())
    assert answer_from_wire(back, call) == answer


def test_a_grant_for_no_ask_is_refused() -> None:
    message = quota_pb2.LeaseResponse(grants=[quota_pb2.LeaseGrant(ask=1)])
    with pytest.raises(InvalidRequest):
        answer_from_wire(message, LeaseCall("boot", 1, ()))
