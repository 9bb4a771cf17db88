"""vLLM 0.32's answers in the formats whose events have names, for ``tests.support.fake_engine``."""

from __future__ import annotations

import dataclasses
from typing import Any

from tests.support.fake_engine_wire import ENGINE_DIED, nothing, packed, text

MESSAGES, RESPONSES = "/v1/messages", "/v1/responses"
COUNT_TOKENS = f"{MESSAGES}/count_tokens"


def named(name: str, body: dict[str, Any]) -> bytes:
    return f"event: {name}\ndata: {packed(body)}\n\n".encode()


@dataclasses.dataclass
class MessagesWire:
    """Anthropic's."""

    model: str
    identity: str
    prompt_tokens: int
    claimed: int = 0

    def usage(self, completion: int) -> dict[str, Any]:
        given = completion + self.claimed
        return {"input_tokens": self.prompt_tokens, "output_tokens": given}

    def base(self) -> dict[str, Any]:
        return {"id": self.identity, "type": "message", "role": "assistant"}

    def opening(self) -> list[bytes]:
        message = self.base() | {"content": [], "model": self.model}
        message |= nothing("stop_reason", "stop_sequence") | {"usage": self.usage(0)}
        block = {"type": "text", "text": ""}
        return [
            named("message_start", {"type": "message_start", "message": message}),
            named(
                "content_block_start",
                {"type": "content_block_start", "content_block": block, "index": 0},
            ),
        ]

    def token(self, index: int) -> bytes:
        delta = {"type": "text_delta", "text": text(index)}
        body = {"type": "content_block_delta", "delta": delta, "index": 0}
        return named("content_block_delta", body)

    def closing(self, count: int, finish: str) -> list[bytes]:
        delta = {"stop_reason": self.stop_reason(finish), "stop_sequence": None}
        return [
            named("content_block_stop", {"type": "content_block_stop", "index": 0}),
            named(
                "message_delta",
                {"type": "message_delta", "delta": delta, "usage": self.usage(count)},
            ),
            named("message_stop", {"type": "message_stop"}),
        ]

    def failure(self) -> bytes:
        fault = {"type": "internal_error", "message": ENGINE_DIED}
        return named("error", {"type": "error", "error": fault})

    def whole(self, count: int, finish: str) -> dict[str, Any]:
        words = "".join(text(index) for index in range(count))
        return self.base() | {
            "content": [{"type": "text", "text": words}],
            "model": self.model,
            "stop_reason": self.stop_reason(finish),
            "usage": self.usage(count),
        }

    def stop_reason(self, finish: str) -> str:
        return "max_tokens" if finish == "length" else "end_turn"


@dataclasses.dataclass
class ResponsesWire:
    """OpenAI's newer one; its events are numbered."""

    model: str
    identity: str
    prompt_tokens: int
    claimed: int = 0
    stream: bool = True
    sequence: int = 0

    def event(self, name: str, body: dict[str, Any]) -> bytes:
        # The model's own fields by name, as pydantic writes them: "response" first, "type" last.
        numbered = body | {"sequence_number": self.sequence, "type": name}
        self.sequence += 1
        order = ["response"] if "response" in body else sorted(body)
        keys = [*order, "sequence_number", "type"]
        if "text" in body:
            keys = [*sorted(set(body) - {"text"}), "sequence_number", "text", "type"]
        return named(name, {key: numbered[key] for key in keys})

    def item(self, content: list[Any], status: str) -> dict[str, Any]:
        item = {"id": f"msg_{self.identity}", "content": content, "role": "assistant"}
        return item | {"status": status, "type": "message", "phase": None}

    def part(self, words: str, logprobs: list[Any] | None) -> dict[str, Any]:
        return {"annotations": [], "text": words, "type": "output_text", "logprobs": logprobs}

    def response(self, status: str, finish: str, output: list[Any], usage: Any) -> dict[str, Any]:
        cut = {"reason": "max_output_tokens"} if finish == "length" else None
        body: dict[str, Any] = {"id": f"resp_{self.identity}", "created_at": 1795507665}
        body |= {"incomplete_details": cut} | nothing("instructions", "metadata")
        body |= {"model": self.model, "object": "response", "output": output}
        body |= {"parallel_tool_calls": True, "temperature": 1.0, "tool_choice": "none"}
        body |= {"tools": [], "top_p": 1.0, "background": False, "max_output_tokens": 3}
        body |= nothing("max_tool_calls", "previous_response_id", "prompt", "reasoning")
        body |= {"service_tier": "auto", "status": status, "text": None, "top_logprobs": None}
        body |= {"truncation": "disabled", "usage": usage, "user": None}
        body |= {"presence_penalty": 0.0, "frequency_penalty": 0.0}
        return body | nothing(
            "kv_transfer_params", "ec_transfer_params", "input_messages", "output_messages"
        )

    def usage(self, count: int) -> dict[str, Any]:
        count += self.claimed
        taken: dict[str, Any] = {"cached_tokens": 0, "cache_write_tokens": 0}
        taken |= {"input_tokens_per_turn": [], "cached_tokens_per_turn": []}
        given: dict[str, Any] = {"reasoning_tokens": 0, "tool_output_tokens": 0}
        given |= {"output_tokens_per_turn": [], "tool_output_tokens_per_turn": []}
        return {
            "input_tokens": self.prompt_tokens,
            "input_tokens_details": taken,
            "output_tokens": count,
            "output_tokens_details": given,
            "total_tokens": self.prompt_tokens + count,
        }

    def where(self) -> dict[str, Any]:
        return {"content_index": 0, "item_id": f"msg_{self.identity}", "output_index": 0}

    def opening(self) -> list[bytes]:
        begun = self.response("in_progress", "", [], None)
        item = {"item": self.item([], "in_progress"), "output_index": 0}
        return [
            self.event("response.created", {"response": begun}),
            self.event("response.in_progress", {"response": begun}),
            self.event("response.output_item.added", item),
            self.event("response.content_part.added", self.where() | {"part": self.part("", [])}),
        ]

    def token(self, index: int) -> bytes:
        body = self.where() | {"delta": text(index), "logprobs": []}
        return self.event("response.output_text.delta", body)

    def closing(self, count: int, finish: str) -> list[bytes]:
        words = "".join(text(index) for index in range(count))
        part = self.part(words, None)
        item = {"item": self.item([part], "completed"), "output_index": 0}
        return [
            self.event("response.output_text.done", self.where() | {"logprobs": [], "text": words}),
            self.event("response.content_part.done", self.where() | {"part": part}),
            self.event("response.output_item.done", item),
            self.event("response.completed", {"response": self.whole(count, finish)}),
        ]

    def failure(self) -> bytes:
        """vLLM reports no failure in this format: the stream just ends."""
        return b""

    def whole(self, count: int, finish: str) -> dict[str, Any]:
        words = "".join(text(index) for index in range(count))
        status = "incomplete" if finish == "length" else "completed"
        output = [self.item([self.part(words, None)], "completed")]
        return self.response(status, finish, output, self.usage(count))


def embeddings(model: str, body: dict[str, Any], prompt_tokens: int) -> dict[str, Any]:
    """Return what an engine in pooling mode answers: two numbers an input."""
    given = body.get("input", "")
    batch = given if isinstance(given, list) and given and isinstance(given[0], str) else [given]
    as_text = body.get("encoding_format") == "base64"
    value: Any = "AAAAPwAAAD8=" if as_text else [0.5, 0.5]
    counted = prompt_tokens * len(batch)
    data = [{"index": at, "object": "embedding", "embedding": value} for at, _ in enumerate(batch)]
    usage = {"prompt_tokens": counted, "total_tokens": counted, "completion_tokens": 0}
    return {
        "id": "embd-fake",
        "object": "list",
        "created": 1795507665,
        "model": model,
        "data": data,
        "usage": usage | nothing("prompt_tokens_details", "completion_tokens_details"),
    }
