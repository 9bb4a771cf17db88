"""The usage objects of all formats, read into one type."""

from __future__ import annotations

from collections.abc import Mapping

from protos.domain.pricing import MAX_TOKENS, Usage


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
    return Usage(prompt + read + written, read, completion)


def count(value: object) -> int:
    """Return ``value`` as a number of tokens, at most ``MAX_TOKENS``; 0 for no count."""
    if type(value) is int and 0 <= value <= MAX_TOKENS:
        return value
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        return 0
    return min(value, MAX_TOKENS)


def _detail(details: object) -> int:
    return count(details.get("cached_tokens")) if isinstance(details, dict) else 0
