"""Every filter has an error with a time to retry."""

from __future__ import annotations

from dataclasses import replace

import pytest

from protos.domain.errors import InvalidRequest, NoReplica
from protos.domain.offers import Filter, Rejected
from protos.domain.refusals import check_context, no_replica
from tests.support.fleets import model, replica, request, view


def test_context_is_checked_against_the_model():
    with pytest.raises(InvalidRequest):
        check_context(view(model(context_tokens=100)), request(prompt_tokens=100))
    check_context(view(model(context_tokens=100)), request(prompt_tokens=99))
    check_context(view(), request(prompt_tokens=10**9))


def test_a_prompt_over_the_context_is_refused_in_the_words_that_clients_recognise():
    with pytest.raises(InvalidRequest, match="maximum context length is 100 tokens") as caught:
        check_context(view(model(context_tokens=100)), request(prompt_tokens=300))
    assert "at least 300 input tokens" in caught.value.message
    assert caught.value.code == "context_length_exceeded"


def with_context(node_id, context_tokens):
    made = replica(node_id)
    return replace(made, profile=replace(made.profile, context_tokens=context_tokens))


def test_the_limit_that_is_said_is_the_longest_that_an_engine_serves():
    fleet = view(model(context_tokens=8_192), with_context("a-1", 1_024), with_context("b", 2_048))
    with pytest.raises(InvalidRequest, match="maximum context length is 2048 tokens"):
        check_context(fleet, request(prompt_tokens=9_000))


def test_a_prompt_that_every_able_engine_is_too_short_for_is_an_overflow_and_no_503():
    lines = [
        Rejected("a-1", with_context("a-1", 1_024), None, Filter.CONTEXT),
        Rejected("b-1", with_context("b-1", 2_048), None, Filter.CONTEXT),
        Rejected("c-1", with_context("c-1", 9_999), None, Filter.RESIDENCY),
    ]
    error = no_replica(request(prompt_tokens=3_000), lines)
    assert isinstance(error, InvalidRequest)
    assert "maximum context length is 2048 tokens" in error.message
    assert error.code == "context_length_exceeded"
    waiting = Rejected("d-1", with_context("d-1", 8_192), None, Filter.NOT_READY)
    assert isinstance(no_replica(request(prompt_tokens=3_000), [*lines, waiting]), NoReplica)


def test_retry_after_is_the_shortest_of_the_reasons():
    far = Rejected("a-1", replica("a-1"), None, Filter.RETIRED)
    soon = Rejected("b-1", replica("b-1"), None, Filter.EJECTED)
    assert no_replica(request(), [far]).retry_after_s == 60.0
    assert no_replica(request(), [far, soon]).retry_after_s == 1.0


@pytest.mark.parametrize("filter_", list(Filter))
def test_every_filter_has_an_error(filter_):
    line = Rejected("a-1", replica("a-1"), None, filter_)
    error = no_replica(request(), [line])
    if filter_ in (Filter.MODE, Filter.TOOLS, Filter.CONTEXT):
        assert isinstance(error, InvalidRequest)
        return
    assert error.retry_after_s
    assert error.retryable
    if filter_ is Filter.PINS:
        assert "pinned" in error.message
    elif filter_ is not Filter.RESIDENCY:
        assert filter_ in error.message


def test_replicas_on_nodes_outside_the_pins_do_not_hide_what_the_pinned_one_lacks():
    elsewhere = Rejected("a-1", replica("a-1"), None, Filter.PINS)
    pinned = Rejected("b-1", replica("b-1"), None, Filter.TOOLS)
    error = no_replica(request(), [elsewhere, pinned])
    assert isinstance(error, InvalidRequest)
    assert "cannot call tools" in error.message
