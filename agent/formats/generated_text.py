"""How many bytes of an answer its model has generated: no count of tokens exceeds them by much."""

from __future__ import annotations

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
                if name in _TOOL_DATA and isinstance(one, dict):
                    found += len(orjson.dumps(one))
                elif name not in _NO_TEXT:
                    pending.append(one)
    return found


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
