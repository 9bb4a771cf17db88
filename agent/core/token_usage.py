"""What an engine counted, in the words of each format, as one kind of usage. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from protos.domain.pricing import MAX_TOKENS, Usage


def read_usage(said: Mapping[str, object]) -> Usage:
    """Return the tokens of a ``usage`` object; what is missing or no count is 0.

    Chat, completions and embeddings say prompt_tokens, Responses and Messages input_tokens. Only
    Messages leaves what the cache held out of its input_tokens.
    """
    if "input_tokens" not in said:
        prompt = count(said.get("prompt_tokens"))
        cached = _detail(said.get("prompt_tokens_details"))
        return Usage(prompt, min(cached, prompt), count(said.get("completion_tokens")))
    prompt, completion = count(said.get("input_tokens")), count(said.get("output_tokens"))
    if "input_tokens_details" in said:
        return Usage(prompt, min(_detail(said["input_tokens_details"]), prompt), completion)
    read = count(said.get("cache_read_input_tokens"))
    written = count(said.get("cache_creation_input_tokens"))
    return Usage(prompt + read + written, read, completion)


def count(value: object) -> int:
    """Return ``value`` as a number of tokens."""
    if type(value) is int and 0 <= value <= MAX_TOKENS:
        return value
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        return 0
    return min(value, MAX_TOKENS)


def _detail(details: object) -> int:
    return count(details.get("cached_tokens")) if isinstance(details, dict) else 0
