"""The usage objects of all formats, read into one type."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING

from protos.domain.pricing import MAX_TOKENS, Usage

if TYPE_CHECKING:
    from agent.core.usage_bounds import UsageCheck


_COUNTS = ("prompt_tokens", "completion_tokens", "input_tokens", "output_tokens")
#: Above every bound: stands for counts that are no numbers of tokens.
_NO_COUNT = Usage(MAX_TOKENS + 1, 0, MAX_TOKENS + 1)


def read_usage(counted: Mapping[str, object]) -> Usage:
    """Return the tokens of a ``usage`` object; a count that is missing or invalid is 0.

    Chat, completions and embeddings use prompt_tokens, Responses and Messages input_tokens. Only
    Messages excludes cached tokens from its input_tokens.
    """
    if "input_tokens" not in counted:
        prompt = count(counted.get("prompt_tokens"))
        cached = _detail(counted.get("prompt_tokens_details"))
        return Usage(prompt, min(cached, prompt), count(counted.get("completion_tokens")))
    prompt, completion = count(counted.get("input_tokens")), count(counted.get("output_tokens"))
    if "input_tokens_details" in counted:
        return Usage(prompt, min(_detail(counted["input_tokens_details"]), prompt), completion)
    read = count(counted.get("cache_read_input_tokens"))
    written = count(counted.get("cache_creation_input_tokens"))
    return Usage(min(prompt + read + written, MAX_TOKENS), read, completion)


def count(value: object) -> int:
    """Return ``value`` as a number of tokens, at most ``MAX_TOKENS``; 0 for no count."""
    if type(value) is int and 0 <= value <= MAX_TOKENS:
        return value
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        return 0
    return min(value, MAX_TOKENS)


def _detail(details: object) -> int:
    return count(details.get("cached_tokens")) if isinstance(details, dict) else 0


def checked_counts(
    check: UsageCheck, node_id: str, counted: dict[str, object], events: int, text_bytes: int
) -> dict[str, object]:
    """Return ``counted`` by ``node_id`` if it is possible, else the same object recounted."""
    told = read_usage(counted) if _are_counts(counted) else _NO_COUNT
    believed = check.checked(told, events, text_bytes, node_id)
    return counted if believed is told else recounted(counted, believed)


def _are_counts(counted: Mapping[str, object]) -> bool:
    """Whether every count of tokens is one; a number of more than 64 bits is read as a float."""
    for name in _COUNTS:
        value = counted.get(name)
        if value is not None and not (type(value) is int and 0 <= value <= MAX_TOKENS):
            return False
    return True


def recounted(counted: Mapping[str, object], usage: Usage) -> dict[str, object]:
    """Return a ``usage`` object of the same fields with the tokens of ``usage``."""
    prompt, cached, completion = usage.prompt_tokens, usage.cached_tokens, usage.completion_tokens
    fields: dict[str, object] = {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "input_tokens": prompt,
        "output_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": cached},
        "input_tokens_details": {"cached_tokens": cached},
        "completion_tokens_details": None,
        "output_tokens_details": {"reasoning_tokens": 0},
        "cache_read_input_tokens": cached,
        "cache_creation_input_tokens": 0,
    }
    if "input_tokens" in counted and "input_tokens_details" not in counted:
        fields["input_tokens"] = prompt - cached
    return {
        name: fields.get(name, value) if value is not None else None
        for name, value in counted.items()
    }


def with_usage(body: bytes, usage: Mapping[str, object]) -> bytes:
    """Return a whole answer with another ``usage`` object; numbers of any length are kept."""
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        return body
    if not isinstance(answer, dict):
        return body
    return json.dumps(answer | {"usage": usage}, separators=(",", ":")).encode()
