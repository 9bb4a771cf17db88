"""Whether a broken stream can continue on another replica, and the request for the rest.

The new replica receives the prompt and all text that the client has received, as the beginning of
its own answer. That is the same request only when nothing but the text so far shapes what follows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

#: Fields whose effect does not depend on where an answer began. A field that is neither here nor
#: empty may depend on it (a penalty counts the answer's tokens, a schema applies from its start).
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


@dataclass(frozen=True, slots=True, eq=False)
class Continuation:
    """How a format continues an answer."""

    #: Whether the prompt of these fields can be followed by a part of its answer.
    accepts_answer: Callable[[dict[str, object]], bool]
    #: Adds the text to the prompt in the fields; False when there is nothing to add.
    add_answer: Callable[[dict[str, object], str], bool]

    def can_continue(self, fields: dict[str, object]) -> bool:
        """Whether an answer to this request could be continued elsewhere, if it breaks."""
        if not self.accepts_answer(fields):
            return False
        if not all(isinstance(_limit(fields, name), int) for name in ("max_tokens", "min_tokens")):
            return False
        return all(_is_harmless(name, value) for name, value in fields.items())

    def continued(
        self, fields: dict[str, object], text: str, completion_tokens: int
    ) -> dict[str, object] | None:
        """Return the body that requests the rest after ``text``; None when nothing is left."""
        changed = dict(fields)
        if not self.add_answer(changed, text):
            return None
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
    """Return a limit as given, 0 without one; an engine also accepts "3", this does not."""
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
