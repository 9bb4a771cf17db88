"""Responses: usage, errors and what is never stored."""

from __future__ import annotations

import json

from agent.formats.body_rules import needs_tool_parser
from agent.formats.responses import RESPONSES
from protos.domain.errors import NoReplica


def test_an_error_mid_stream_is_numbered_and_has_its_fields_where_clients_look() -> None:
    data = RESPONSES.error_event(NoReplica("m"), 5).partition(b"data: ")[2]
    responses = json.loads(data)
    assert responses["type"] == "error"
    assert responses["sequence_number"] == 5
    assert responses["message"] == responses["error"]["message"] == "m"


def test_a_response_is_not_billed_by_what_its_request_said() -> None:
    body = {"usage": {"input_tokens": 5}, "user": {"usage": {"input_tokens": 0}}}
    data = json.dumps(body, separators=(",", ":")).encode()
    assert RESPONSES.body_usage(data) == {"input_tokens": 5}
    assert RESPONSES.body_usage(b"[") is None
    assert RESPONSES.body_usage(b'{"usage":5}') is None


def test_nothing_is_stored_and_no_tool_parser_is_needed() -> None:
    assert RESPONSES.rules.always == {"store": False}
    assert not needs_tool_parser(RESPONSES.rules, {"tools": [{}]})
