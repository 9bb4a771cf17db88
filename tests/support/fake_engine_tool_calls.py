"""vLLM 0.32's tool calls in each format that generates, for ``tests.support.fake_engine``."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from tests.support.fake_engine_formats import (
    MESSAGES,
    RESPONSES,
    MessagesWire,
    ResponsesWire,
    named,
)
from tests.support.fake_engine_wire import FINGERPRINT, Wire, event, nothing

#: Blocks, messages and items by which a client hands in what its tool gave.
_RESULT_KINDS = ("tool_result", "function_call_output", "custom_tool_call_output")


@dataclass(frozen=True)
class ToolCall:
    """One call of a tool that the client offered."""

    name: str
    arguments: dict[str, Any]
    identity: str

    def pieces(self) -> list[str]:
        """The arguments as a stream brings them: one token each."""
        text = json.dumps(self.arguments)
        middle = len(text) // 2
        return [text[:middle], text[middle:]]


def due_call(body: dict[str, Any], asked: dict[str, Any] | None, identity: str) -> ToolCall | None:
    """Return the call to answer with, once per conversation and only if its tool was offered."""
    if asked is None or _has_result(body) or asked["name"] not in offered_names(body):
        return None
    return ToolCall(asked["name"], asked["arguments"], f"call_{identity}")


def offered_names(body: dict[str, Any]) -> list[str]:
    """Return the names of the tools in a body of any format."""
    given = body["tools"] if isinstance(body.get("tools"), list) else []
    tools = [one for one in given if isinstance(one, dict)]
    return [str((one.get("function") or one).get("name")) for one in tools]


def _has_result(body: dict[str, Any]) -> bool:
    given = body.get("input")
    turns = body.get("messages") or (given if isinstance(given, list) else [])
    for turn in (one for one in turns if isinstance(one, dict)):
        content = turn.get("content")
        parts = content if isinstance(content, list) else []
        if turn.get("role") == "tool" or turn.get("type") in _RESULT_KINDS:
            return True
        if any(isinstance(one, dict) and one.get("type") in _RESULT_KINDS for one in parts):
            return True
    return False


def answer_with(
    path: str, model: str, identity: str, prompt_tokens: int, call: ToolCall, *, usage: bool
) -> tuple[list[bytes], dict[str, Any]]:
    """Return the answer as the events of a stream and as a whole body."""
    if path == MESSAGES:
        return _message(MessagesWire(model, identity, prompt_tokens), call)
    if path == RESPONSES:
        return _response(ResponsesWire(model, identity, prompt_tokens), call)
    return _chat(Wire(model, True, f"chatcmpl-{identity}", prompt_tokens), call, usage=usage)


def _chat(wire: Wire, call: ToolCall, *, usage: bool) -> tuple[list[bytes], dict[str, Any]]:
    def part(**fields: Any) -> bytes:
        choice: dict[str, Any] = {"index": 0, "delta": {"content": None, "tool_calls": [fields]}}
        choice |= nothing("logprobs", "finish_reason", "token_ids")
        return event(wire.base() | {"choices": [choice]})

    events = [wire.role(continuous=False)]
    events.append(part(id=call.identity, type="function", index=0, function={"name": call.name}))
    events += [part(index=0, function={"arguments": piece}) for piece in call.pieces()]
    ending: dict[str, Any] = {"index": 0, "delta": {}, "logprobs": None}
    ending |= {"finish_reason": "tool_calls"} | nothing("stop_reason", "token_ids")
    fingerprint = {} if usage else {"system_fingerprint": FINGERPRINT}
    events.append(event(wire.base() | {"choices": [ending]} | fingerprint))
    tokens = len(call.pieces())
    events += [wire.usage(tokens)] if usage else []
    function = {"name": call.name, "arguments": "".join(call.pieces())}
    called = {"id": call.identity, "type": "function", "function": function}
    whole = wire.whole(0, "tool_calls")
    message = {"role": "assistant", "content": ""}
    message |= nothing("refusal", "annotations", "audio", "function_call")
    whole["choices"][0]["message"] = message | {"tool_calls": [called], "reasoning": None}
    whole["usage"] |= wire.counts(tokens)
    return [*events, b"data: [DONE]\n\n"], whole


def _message(wire: MessagesWire, call: ToolCall) -> tuple[list[bytes], dict[str, Any]]:
    tokens = len(call.pieces())
    block = {"type": "tool_use", "id": call.identity, "name": call.name}
    start = {"type": "content_block_start", "content_block": block | {"input": {}}, "index": 0}
    events = [wire.opening()[0], named("content_block_start", start)]
    for piece in call.pieces():
        delta = {"type": "input_json_delta", "partial_json": piece}
        body = {"type": "content_block_delta", "delta": delta, "index": 0}
        events.append(named("content_block_delta", body))
    delta = {"stop_reason": "tool_use"} | nothing("stop_sequence")
    ended = {"type": "message_delta", "delta": delta, "usage": wire.usage(tokens)}
    events += [
        named("content_block_stop", {"type": "content_block_stop", "index": 0}),
        named("message_delta", ended),
        named("message_stop", {"type": "message_stop"}),
    ]
    whole = wire.base() | {"content": [block | {"input": call.arguments}], "model": wire.model}
    return events, whole | {"stop_reason": "tool_use", "usage": wire.usage(tokens)}


def _response(wire: ResponsesWire, call: ToolCall) -> tuple[list[bytes], dict[str, Any]]:
    tokens = len(call.pieces())
    text = "".join(call.pieces())
    identity = f"fc_{call.identity}"

    def item(arguments: str, status: str) -> dict[str, Any]:
        head = {"arguments": arguments, "call_id": call.identity, "name": call.name}
        head |= {"type": "function_call", "id": identity}
        return head | nothing("async", "caller", "namespace") | {"status": status}

    done = item(text, "completed")
    where = {"item_id": identity, "output_index": 0}
    added = {"item": item("", "in_progress"), "output_index": 0}
    kind = "response.function_call_arguments"
    events = [*wire.opening()[:2], wire.event("response.output_item.added", added)]
    wire.sequence = len(events)
    events += [wire.event(f"{kind}.delta", where | {"delta": piece}) for piece in call.pieces()]
    ended: dict[str, Any] = {"arguments": text} | where
    ended |= {"sequence_number": wire.sequence, "type": f"{kind}.done", "name": call.name}
    wire.sequence += 1
    whole = wire.response("completed", "stop", [done], wire.usage(tokens))
    events += [
        named(f"{kind}.done", ended),
        wire.event("response.output_item.done", {"item": done, "output_index": 0}),
        wire.event("response.completed", {"response": whole}),
    ]
    return events, whole
