"""How many bytes of an answer its model has generated: no count of tokens exceeds them by much."""

from __future__ import annotations

import re

import orjson

from agent.core.usage_bounds import SILENT_TOKENS

#: Larger answers are not parsed for their text.
MAX_PARSED_BYTES = 256 * 1024
#: Where each format has what was generated.
_ANSWER_FIELDS = ("choices", "output", "content")
#: Fields of answers and events whose text no model has generated.
_NO_TEXT = frozenset(
    {
        *("type", "role", "id", "index", "finish_reason", "stop_reason", "logprobs", "status"),
        *("annotations", "call_id", "item_id", "signature", "prompt_logprobs", "token_ids"),
    }
)
#: Objects that a model has generated whole.
_TOOL_DATA = frozenset({"input", "arguments"})
_TOOL_CALLS = frozenset({"function", "function_call", "tool_use", "custom_tool_call"})
_CHOICES = b'"choices"'
#: No choice, or one with one text without escapes.
_PLAIN_CHOICE = re.compile(
    rb'"choices":\[(?:\{"index":\d+,'
    rb'"(?:delta":\{(?:"role":"[a-z]+",)?"content":"|text":")([^"\\]*)"\}?'
    rb'(?:,"[a-z_]+":null|,"finish_reason":"[a-z_]+")*\})?\]'
)
_DELTA = b'"delta"'
_PLAIN_DELTA = re.compile(
    rb'"delta":(?:"([^"\\]*)"|\{"type":"text_delta","text":"([^"\\]*)"\})[,}]'
)


def text_bytes(value: object) -> int:
    """Return the bytes of all text that a model generated for a part of an answer.

    A call of a tool counts as ``SILENT_TOKENS`` more, for the markup that its parser removed.
    """
    found = 0
    pending: list[object] = [value]
    while pending:
        current = pending.pop()
        if isinstance(current, str):
            found += len(current.encode("utf-8", "surrogatepass"))
        elif isinstance(current, list):
            pending += current
        elif isinstance(current, dict):
            if current.get("type") in _TOOL_CALLS:
                found += SILENT_TOKENS
            for name, one in current.items():
                if one is None or name in _NO_TEXT:
                    continue
                if name in _TOOL_DATA and isinstance(one, dict):
                    found += len(orjson.dumps(one))
                else:
                    pending.append(one)
    return found


def plain_text_bytes(event: bytes) -> int:
    """Return ``text_bytes`` of the choices of a usual event, without parsing it; -1: parse it. Hot.

    Usual is one choice with one text without escapes, beside its role and the reason of its end.
    """
    return _only_text(event, _CHOICES, _PLAIN_CHOICE)


def plain_delta_bytes(event: bytes) -> int:
    """Return the same of the delta of a usual named event, Responses or Messages. Hot."""
    return _only_text(event, _DELTA, _PLAIN_DELTA)


def _only_text(event: bytes, name: bytes, pattern: re.Pattern[bytes]) -> int:
    """Return the bytes of text in the field ``name``; -1 if the event is not of the pattern."""
    at = event.find(name)
    found = pattern.match(event, at) if at >= 0 else None
    if found is None:
        return -1
    opens = event.find(b"{") + 1
    if event.find(b"{", opens, at) >= 0 or event.find(name, at + 1) >= 0:
        return -1  # within another object, or there are others
    if found.lastindex is None:  # the list of choices is empty: an event with usage only
        return 0
    start, end = found.span(found.lastindex)
    return end - start


def whole_text_bytes(body: bytes) -> int:
    """Return the bytes of generated text in a whole answer; all bytes of one too large to parse."""
    if len(body) > MAX_PARSED_BYTES:
        return len(body)
    try:
        answer = orjson.loads(body)
    except orjson.JSONDecodeError:
        return len(body)
    if not isinstance(answer, dict):
        return len(body)
    return text_bytes([answer.get(name) for name in _ANSWER_FIELDS])
