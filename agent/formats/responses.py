"""OpenAI Responses."""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson

from agent.formats.body_rules import make_rules
from agent.formats.descriptor import ApiFormat
from agent.formats.errors import (
    ErrorWords,
    openai_body,
    openai_object,
    openai_rate_headers,
    openai_refusal,
)
from agent.formats.json_size import loads_bounded
from agent.formats.named_events import ResponsesEvents
from agent.formats.responses_tools import fit_responses_tools

if TYPE_CHECKING:
    from agent.formats.model_names import Names
    from agent.formats.sse import BesideUsage, EventStream
    from protos.domain.errors import EdgeForgeError


def _open_stream(
    _include_usage: bool,
    _continuous_usage: bool,
    beside_usage: BesideUsage | None,
    names: Names | None,
) -> EventStream:
    return ResponsesEvents(beside_usage, names)


def _event_data(error: EdgeForgeError, events_before: int) -> bytes:
    """The fields as documented, and "error", where OpenAI's clients look for it in any stream."""
    inner = openai_object(error)
    flat = {"type": "error", "sequence_number": events_before, "error": inner}
    flat |= {name: inner[name] for name in ("code", "message", "param")}
    return orjson.dumps(flat)


def _body_usage(body: bytes) -> dict[str, object] | None:
    """Parse the whole response: it repeats objects of its request, which may hold anything.

    In the other formats usage comes after all that a client could have written.
    """
    try:
        response = loads_bounded(body)
    except orjson.JSONDecodeError:
        return None
    usage = response.get("usage") if isinstance(response, dict) else None
    return usage if isinstance(usage, dict) else None


RESPONSES = ApiFormat(
    path="/v1/responses",
    operation="chat",
    rules=make_rules(
        refused=("previous_response_id", "conversation", "prompt", "background"),
        fit_tools=fit_responses_tools,
        conversation=("input", "previous_input_messages"),
        always={"store": False},  # left out it is true
    ),
    words=ErrorWords(
        body=openai_body,
        event_data=_event_data,
        refusal=openai_refusal,
        rate_headers=openai_rate_headers,
    ),
    prefix_fields=("tools", "instructions", "input"),
    size_fields=("instructions", "input"),
    limit_fields=("max_output_tokens",),
    token_mark=b".delta\ndata: {",
    open_stream=_open_stream,
    body_usage=_body_usage,
)
