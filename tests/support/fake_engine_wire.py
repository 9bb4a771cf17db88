"""vLLM 0.32's answers, byte for byte, for ``tests.support.fake_engine``."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from aiohttp import web

FINGERPRINT = "vllm-0.32.0-fa4eface"
ENGINE_DIED = "EngineCore encountered an issue. See stack trace (above) for the root cause."


@dataclasses.dataclass
class Wire:
    """The events of one answer, in vLLM's order of keys."""

    model: str
    chat: bool
    identity: str
    prompt_tokens: int
    #: Tokens of the answer that the prompt holds already.
    said: int = 0
    #: Tokens counted that nobody generated.
    claimed: int = 0

    def base(self) -> dict[str, Any]:
        kind = "chat.completion.chunk" if self.chat else "text_completion"
        return {"id": self.identity, "object": kind, "created": 1795507665, "model": self.model}

    def counts(self, completion: int) -> dict[str, Any]:
        prompt, completion = self.prompt_tokens, completion + self.claimed
        return {
            "prompt_tokens": prompt,
            "total_tokens": prompt + completion,
            "completion_tokens": completion,
        }

    def running_counts(self, completion: int) -> dict[str, Any]:
        extra: dict[str, Any] = {"completion_tokens_details": None} if self.chat else {}
        return {"usage": self.counts(completion) | extra}

    def role(self, continuous: bool) -> bytes:
        delta = {"role": "assistant", "content": ""}
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": None}
        body = self.base() | {"choices": [choice]}
        if continuous:
            body |= self.running_counts(0)
        return event(body | {"prompt_token_ids": None, "prompt_text": None})

    def token(self, index: int, finish: str | None, continuous: bool, fingerprint: bool) -> bytes:
        choice: dict[str, Any] = {"index": 0}
        if self.chat:
            words = text(self.said + index)
            choice |= {"delta": {"content": words}, "logprobs": None, "finish_reason": finish}
            if finish is not None:
                choice["stop_reason"] = None
        else:
            choice |= {"text": text(self.said + index), "logprobs": None, "finish_reason": finish}
            choice |= {"stop_reason": None, "prompt_token_ids": None}
        body = self.base() | {"choices": [choice | {"token_ids": None}]}
        if continuous:
            body |= self.running_counts(index + 1)
        if fingerprint:
            body["system_fingerprint"] = FINGERPRINT
        return event(body)

    def usage(self, count: int) -> bytes:
        body = self.base() | {"choices": [], "usage": self.counts(count)}
        return event(body | {"system_fingerprint": FINGERPRINT})

    def whole(self, count: int, finish: str) -> dict[str, Any]:
        words = "".join(text(self.said + index) for index in range(count))
        ending = {"logprobs": None, "finish_reason": finish, "stop_reason": None}
        choice: dict[str, Any] = {"index": 0}
        if self.chat:
            message = {"role": "assistant", "content": words} | nothing(
                "refusal", "annotations", "audio", "function_call", "reasoning"
            )
            choice |= {"message": message} | ending | nothing("token_ids", "routed_experts")
        else:
            choice |= {"text": words} | ending
            choice |= nothing("token_ids", "prompt_logprobs", "prompt_token_ids", "routed_experts")
        details = nothing("prompt_tokens_details", "completion_tokens_details")
        body = self.base() | {
            "object": "chat.completion" if self.chat else "text_completion",
            "choices": [choice],
            "service_tier": None,
            "system_fingerprint": FINGERPRINT,
            "usage": self.counts(count) | details,
        }
        if self.chat:
            body |= nothing("prompt_logprobs", "prompt_token_ids", "prompt_text")
        return body | nothing("kv_transfer_params", "ec_transfer_params", "metrics")


def nothing(*names: str) -> dict[str, Any]:
    return dict.fromkeys(names)


def text(index: int) -> str:
    return f"t{index}" if index == 0 else f" t{index}"


def tokens_said(body: dict[str, Any], *, chat: bool) -> int:
    """How much of its answer ``t0 t1 ...`` the prompt ends with."""
    if not chat:
        prompt = str(body.get("prompt"))
    elif body.get("continue_final_message") and body.get("messages"):
        last = body["messages"][-1]
        prompt = str(last.get("content")) if isinstance(last, dict) else ""
    else:
        return 0
    said = prompt[prompt.rfind("t0") :].split() if "t0" in prompt else []
    return len(said) if said == [f"t{index}" for index in range(len(said))] else 0


def event(body: dict[str, Any]) -> bytes:
    return f"data: {packed(body)}\n\n".encode()


def packed(body: dict[str, Any]) -> str:
    return json.dumps(body, separators=(",", ":"), ensure_ascii=False)


def head(content_type: str = "application/json") -> dict[str, str]:
    return {"server": "uvicorn", "content-type": content_type, "vary": "Origin"}


def reply(body: dict[str, Any], status: int = 200) -> web.Response:
    return web.Response(body=packed(body).encode(), status=status, headers=head())


def error(status: int, message: str, kind: str, param: str | None = None) -> web.Response:
    detail = {"message": message, "type": kind, "param": param, "code": status}
    return reply({"error": detail}, status)


def parameter_error(message: str, param: str) -> web.Response:
    return error(400, f"{message} (parameter={param})", "BadRequestError", param)


def schema_error(kind: str, field: str, message: str, given: object) -> web.Response:
    detail = {"type": kind, "loc": f"body.{field}", "msg": message, "input": given}
    return error(400, f"1 validation error:\n  {detail}", "Bad Request", f"body.{field}")


def refusal(body: Any, served_model: str) -> web.Response | None:
    """Return vLLM's error for a body that it does not accept, or None."""
    if not isinstance(body, dict):
        return schema_error("json_invalid", "10", "JSON decode error", "<dict of 0 items>")
    if "messages" in body and not isinstance(body["messages"], list):
        return schema_error(
            "list_type", "messages", "Input should be a valid list", body["messages"]
        )
    for name in ("max_tokens", "max_completion_tokens", "max_output_tokens"):
        if body.get(name) is not None and not isinstance(body[name], int):
            message = "Input should be a valid integer, unable to parse string as an integer"
            return schema_error("int_parsing", name, message, body[name])
    if (model := body.get("model", served_model)) != served_model:
        message = f"The model `{model}` does not exist. Valid aliases: {served_model}."
        return error(404, message, "NotFoundError", "model")
    salt = body.get("cache_salt")
    if salt is not None and (not isinstance(salt, str) or not salt):
        message = "Parameter 'cache_salt' must be a non-empty string if provided."
        return parameter_error(message, "cache_salt")
    if salt is not None and (len(salt) > 128 or set(salt) & set("@/\\\0")):
        message = (
            "Parameter 'cache_salt' must be at most 128 characters and must not contain "
            "'@', '/', '\\\\', or NUL."
        )
        return parameter_error(message, "cache_salt")
    if (unusable := tool_refusal(body)) is not None:
        return unusable
    if body.get("stream_options") is not None and not body.get("stream"):
        message = "Stream options can only be defined when `stream=True`."
        return parameter_error(message, "stream_options")
    return None


def tool_refusal(body: dict[str, Any]) -> web.Response | None:
    """Return vLLM's error for tools of OpenAI's newest models; it drops server tools silently."""
    tools = body["tools"] if isinstance(body.get("tools"), list) else []
    for one in tools:
        custom = isinstance(one, dict) and one.get("type") == "custom"
        how = one.get("format") if custom else None
        if isinstance(how, dict) and how.get("type") == "grammar":
            message = (
                "Custom tools with a grammar format are not supported; "
                "only free-form text custom tools are accepted."
            )
            return parameter_error(message, "tools")
    given = body["input"] if isinstance(body.get("input"), list) else []
    items = [one for one in given if isinstance(one, dict) and "id" in one]
    if any(one.get("type") == "additional_tools" for one in items):
        return parameter_error("Unsupported input item type: additional_tools", "input")
    return None
