"""Messages: its tools, words and pings."""

from __future__ import annotations

import json

import pytest

from agent.formats.body_rules import needs_tool_parser
from agent.formats.messages import MESSAGES
from protos.domain.errors import NoReplica


@pytest.mark.parametrize(
    ("fields", "needed"),
    [
        ({"tools": [{}]}, True),
        ({"tools": [{}], "tool_choice": {"type": "auto"}}, True),
        ({"tools": [{}], "tool_choice": {"type": "none"}}, False),
        ({"tools": [{}], "tool_choice": {"type": "any"}}, True),
    ],
)
def test_a_parser_is_needed_where_the_model_may_or_must_call_a_tool(
    fields: dict[str, object], needed: bool
) -> None:
    assert needs_tool_parser(MESSAGES.rules, fields) is needed


def test_an_error_mid_stream_is_anthropics_event() -> None:
    event = MESSAGES.error_event(NoReplica("m"))
    assert event.startswith(b"event: error\ndata: ")
    data = json.loads(event.partition(b"data: ")[2])
    assert data == {"type": "error", "error": {"type": "overloaded_error", "message": "m"}}


def test_a_heartbeat_is_the_formats_own_ping_event() -> None:
    name, _, data = MESSAGES.heartbeat.partition(b"\n")
    assert name == b"event: ping"
    assert json.loads(data.removeprefix(b"data: ")) == {"type": "ping"}
