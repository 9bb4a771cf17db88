"""Heads and bodies as bytes."""

from __future__ import annotations

import httptools
import pytest

from agent.relay.messages import Request, chunk, request_bytes, response_head, whole_response


class Parsed:
    """What a parser makes of bytes."""

    def __init__(self) -> None:
        self.headers: dict[bytes, bytes] = {}
        self.body = b""
        self.complete = False

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers[name.lower()] = value

    def on_body(self, data: bytes) -> None:
        self.body += data

    def on_message_complete(self) -> None:
        self.complete = True


def test_a_whole_response_is_framed_by_its_length() -> None:
    parsed = Parsed()
    parser = httptools.HttpResponseParser(parsed)
    parser.feed_data(whole_response(404, [(b"x", b"y")], b"body", keep_alive=False))
    assert parser.get_status_code() == 404
    assert parsed.complete
    assert parsed.body == b"body"
    assert parsed.headers == {b"x": b"y", b"content-length": b"4", b"connection": b"close"}


def test_a_chunked_response_ends_where_it_should() -> None:
    parsed = Parsed()
    parser = httptools.HttpResponseParser(parsed)
    head = response_head(200, [(b"transfer-encoding", b"chunked")], keep_alive=True)
    parser.feed_data(head + chunk(b"a" * 300) + chunk(b"b"))
    assert not parsed.complete
    parser.feed_data(b"0\r\n\r\n")
    assert parsed.complete
    assert parsed.body == b"a" * 300 + b"b"


@pytest.mark.parametrize(("method", "body"), [("POST", b""), ("POST", b"{}"), ("GET", b"")])
def test_a_request_is_whole_in_one_piece(method: str, body: bytes) -> None:
    parsed = Parsed()
    parser = httptools.HttpRequestParser(parsed)
    parser.feed_data(request_bytes(method, b"/v1/x", b"engine", [(b"a", b"b")], body))
    assert parsed.complete
    assert parsed.body == body
    assert parsed.headers[b"host"] == b"engine"


def test_an_unknown_status_still_has_a_reason() -> None:
    assert response_head(599, [], keep_alive=True).startswith(b"HTTP/1.1 599 Unknown\r\n")


def test_a_path_is_the_target_without_its_query() -> None:
    assert Request("GET", b"/v1/models?limit=1", {}, b"", True, 0.0).path == "/v1/models"


def test_every_answer_carries_the_requests_id_as_each_client_looks_for_it() -> None:
    request = Request("GET", b"/", {}, b"", True, 0.0, trace_id="abc")
    assert dict(request.answer_headers()) == dict.fromkeys(
        (b"x-request-id", b"request-id", b"x-edgeforge-trace-id"), b"abc"
    )
    request.cors_headers = ((b"vary", b"origin"),)
    assert (b"vary", b"origin") in request.answer_headers()
    assert Request("GET", b"/", {}, b"", True, 0.0).answer_headers() == []


@pytest.mark.parametrize("given", [b"req-1", b"x" * 128, b"!~"])
def test_a_clients_own_request_id_is_kept(given: bytes) -> None:
    request = Request("GET", b"/", {b"x-request-id": given}, b"", True, 0.0)
    assert request.client_request_id == given.decode()


@pytest.mark.parametrize("given", [None, b"", b"x" * 129, b"a b", b"a\x1b]", b"\xe9", b"a\n"])
def test_a_request_id_that_is_long_or_not_printable_is_dropped(given: bytes | None) -> None:
    headers = {} if given is None else {b"x-request-id": given}
    assert Request("GET", b"/", headers, b"", True, 0.0).client_request_id == ""


def test_head_is_answered_with_a_length_and_no_body() -> None:
    answer = whole_response(200, [], b"body", keep_alive=True, head_only=True)
    assert answer == b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n"


def test_no_content_has_no_length() -> None:
    answer = whole_response(204, [], b"", keep_alive=True)
    assert answer == b"HTTP/1.1 204 No Content\r\n\r\n"
