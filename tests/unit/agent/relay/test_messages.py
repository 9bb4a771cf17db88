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
