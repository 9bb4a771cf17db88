"""Headers of a target reach a client only if they are expected, short and well formed."""

from __future__ import annotations

import pytest

from agent.relay.exchange import head_problem
from agent.relay.passed_on import passed_on_headers


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (b"retry-after", b"3"),
        (b"retry-after", b"Wed, 21 Oct 2026 07:28:00 GMT"),
        (b"cache-control", b"no-cache"),
        (b"cache-control", b"no-store, max-age=0"),
    ],
)
def test_expected_headers_are_passed_on(name: bytes, value: bytes) -> None:
    assert passed_on_headers([(b"server", b"x"), (name, value)]) == [(name, value)]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (b"retry-after", b"soon"),
        (b"retry-after", b"9" * 10),
        (b"retry-after", b"-1"),
        (b"cache-control", b"a" * 129),
        (b"cache-control", b'private="set-cookie"'),
        (b"cache-control", b"no-cache\xff"),
        (b"content-type", b"text/html"),
        (b"set-cookie", b"a=b"),
        (b"location", b"http://h/"),
        (b"x-edgeforge-node", b"other"),
        (b"access-control-allow-origin", b"*"),
    ],
)
def test_a_targets_other_headers_and_values_do_not_reach_a_client(
    name: bytes, value: bytes
) -> None:
    assert passed_on_headers([(name, value)]) == []


def test_of_a_repeated_header_the_first_is_passed_on() -> None:
    headers = [(b"retry-after", b"1"), (b"retry-after", b"2")]
    assert passed_on_headers(headers) == [(b"retry-after", b"1")]


JSON, EVENTS, HTML = b"application/json", b"text/event-stream", b"text/html"


@pytest.mark.parametrize(
    ("streams", "value"),
    [
        (False, JSON),
        (False, JSON + b"; charset=utf-8"),
        (False, b"Application/JSON"),
        (True, EVENTS),
        (True, EVENTS + b";charset=utf-8"),
    ],
)
def test_an_answer_of_the_kind_that_was_asked_for_has_no_problem(
    streams: bool, value: bytes
) -> None:
    assert not head_problem(200, [(b"content-type", value)], streams=streams)


@pytest.mark.parametrize(
    ("streams", "values"),
    [
        (False, [HTML]),
        (False, [EVENTS]),
        (False, []),
        (False, [JSON, HTML]),
        (True, [JSON]),
        (True, [HTML]),
        (True, [EVENTS + b"-2"]),
    ],
)
def test_an_answer_of_another_content_type_is_a_failure_of_the_target(
    streams: bool, values: list[bytes]
) -> None:
    headers = [(b"content-type", value) for value in values]
    assert "content type" in head_problem(200, headers, streams=streams)


@pytest.mark.parametrize("status", [100, 201, 204, 301, 304, 600, 999])
def test_a_status_that_is_neither_an_answer_nor_an_error_is_a_failure_of_the_target(
    status: int,
) -> None:
    assert head_problem(status, [(b"content-type", JSON)], streams=False)


@pytest.mark.parametrize("status", [400, 404, 429, 500, 503])
def test_an_error_may_have_any_content_type_because_its_text_is_written_anew(status: int) -> None:
    assert not head_problem(status, [(b"content-type", HTML)], streams=True)
