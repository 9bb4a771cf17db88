"""Whether a broken stream can go on from another replica, and what that one is asked. Pure.

The new replica is given the prompt and all that the client has been sent, as the beginning of its
own answer. That is the same request only when nothing but the text so far shapes what follows.
"""

from __future__ import annotations

#: Fields whose effect does not depend on where an answer was begun. What is neither here nor empty
#: may depend on it (a penalty counts the answer's own tokens, a schema is read from the start).
_HARMLESS = frozenset(
    {
        "allowed_token_ids",
        "bad_words",
        "cache_salt",
        "chat_template_kwargs",
        "ignore_eos",
        "include_reasoning",
        "include_stop_str_in_output",
        "logit_bias",
        "max_completion_tokens",
        "max_tokens",
        "messages",
        "metadata",
        "min_p",
        "min_tokens",
        "model",
        "parallel_tool_calls",
        "prompt",
        "repetition_penalty",
        "seed",
        "service_tier",
        "skip_special_tokens",
        "spaces_between_special_tokens",
        "stop",
        "stop_token_ids",
        "stream",
        "stream_options",
        "temperature",
        "top_k",
        "top_p",
        "user",
    }
)
_ONE_AT_MOST = ("n", "best_of")
_DEFAULTS: dict[str, object] = {"add_generation_prompt": True, "add_special_tokens": True}
_CHAT, _COMPLETIONS = "/v1/chat/completions", "/v1/completions"
#: What vLLM generates for a completion that does not say how much.
#: Source: vllm/entrypoints/openai/completion/protocol.py, ``max_tokens``.
_COMPLETION_MAX_TOKENS = 16


def can_continue(path: str, fields: dict[str, object]) -> bool:
    """Whether an answer to this request could be continued elsewhere, should it break."""
    if path == _CHAT:
        messages = fields.get("messages")
        if not isinstance(messages, list) or not messages:
            return False
        last = messages[-1]
        if not isinstance(last, dict) or last.get("role") == "assistant":
            return False
    elif path != _COMPLETIONS or not isinstance(fields.get("prompt"), str):
        return False
    if not all(isinstance(_limit(fields, name), int) for name in ("max_tokens", "min_tokens")):
        return False
    return all(_is_harmless(name, value) for name, value in fields.items())


def continued(
    path: str, fields: dict[str, object], text: str, completion_tokens: int
) -> dict[str, object] | None:
    """Return the body that asks for the rest behind ``text``, or None when nothing is left.

    White space at the end of a chat's text is left out: templates trim it, so the engine is to say
    it again, and the client is not to see it twice.
    """
    changed = dict(fields)
    if path == _CHAT:
        so_far = text.rstrip()
        messages = fields["messages"]
        if not so_far or not isinstance(messages, list):
            return None
        changed["messages"] = [*messages, {"role": "assistant", "content": so_far}]
        changed["continue_final_message"] = True
        changed["add_generation_prompt"] = False
    else:
        if not text:
            return None
        changed["prompt"] = f"{fields['prompt']}{text}"
        if fields.get("max_tokens") is None:
            changed["max_tokens"] = _COMPLETION_MAX_TOKENS
    for name in ("max_tokens", "max_completion_tokens"):
        limit = changed.get(name)
        if isinstance(limit, int):
            if limit <= completion_tokens:
                return None
            changed[name] = limit - completion_tokens
    least = changed.get("min_tokens")
    if isinstance(least, int):
        changed["min_tokens"] = max(0, least - completion_tokens)
    return changed


def _limit(fields: dict[str, object], name: str) -> object:
    """Return a limit as given, 0 when there is none; an engine also takes "3", we do not."""
    given = fields.get(name)
    return 0 if given is None else given


def _is_harmless(name: str, value: object) -> bool:
    if name in _HARMLESS or not value:
        return True
    if name in _ONE_AT_MOST:
        return value == 1
    if name == "response_format":
        return isinstance(value, dict) and value.get("type") == "text"
    if name == "tool_choice":
        return value == "none"
    return name in _DEFAULTS and value == _DEFAULTS[name]
