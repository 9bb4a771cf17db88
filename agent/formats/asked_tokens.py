"""What the body of a request says about the tokens of its prompt and of its answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.core.usage_bounds import SILENT_TOKENS, SILENT_TOKENS_WITH_TOOLS, AskedTokens

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent.formats.descriptor import ApiFormat

#: In the text of every body with media: a data URI, or an object with its bytes. JSON may also
#: write each of these characters as an escape, which no encoder does by itself.
MEDIA_MARKS = (
    b"data:",
    b"DATA:",
    b'"data"',
    b"\\u0064",
    b"\\u0061",
    b"\\u0074",
    b"\\u0044",
    b"\\u0041",
    b"\\u0054",
    b"\\u003a",
    b"\\u003A",
)
#: One comparison for all values of a list: a prompt may have 300,000 tokens.
_PROMPT_TYPES = frozenset({str, list})
#: Fields that leave generated tokens out of an answer unless they are true, their default.
_HIDING = ("include_reasoning", "parallel_tool_calls")
#: Fields by which a client chooses tokens, which may be such without text.
_CHOOSING = ("ignore_eos", "min_tokens", "logit_bias", "allowed_token_ids")
#: Stop strings that are looked at; engines take fewer.
_MAX_STOPS = 64


def asked_tokens(
    api: ApiFormat,
    fields: Mapping[str, object],
    body: bytes,
    context_tokens: int,
    *,
    has_media: bool | None = None,
) -> AskedTokens:
    """Return the facts by which counts of another host are bounded.

    ``has_media``: whether ``MEDIA_MARKS`` are in ``body``; None: looked for here, 3 ms a MiB.
    """
    if has_media is None:
        has_media = any(mark in body for mark in MEDIA_MARKS)
    prompts = _prompts(fields) if api.is_batched else 1
    copies = 1
    if "n" in fields or "best_of" in fields:
        copies = max(_count(fields.get("n")), _count(fields.get("best_of")), 1)
    return AskedTokens(
        body_bytes=len(body),
        context_tokens=context_tokens,
        prompts=prompts,
        sequences=prompts * copies,
        max_tokens=_max_tokens(fields, api.limit_fields),
        has_media=has_media,
        embeds=api.embeds,
        silent_tokens=_silent_tokens(fields),
    )


def _max_tokens(fields: Mapping[str, object], names: tuple[str, ...]) -> int | None:
    """Return the greatest limit given; None without one, or where it is no whole number."""
    given = [fields[name] for name in names if fields.get(name) is not None]
    if not given or not all(type(one) is int for one in given):
        return None
    return max(one for one in given if isinstance(one, int))


def _silent_tokens(fields: Mapping[str, object]) -> int | None:
    """Return how many tokens of a sequence may be without text; None if any number may."""
    for name in _CHOOSING:
        if fields.get(name):
            return None
    for name in _HIDING:
        if fields.get(name, True) is not True:
            return None
    silent = SILENT_TOKENS_WITH_TOOLS if fields.get("tools") else SILENT_TOKENS
    stop = fields.get("stop") or fields.get("stop_sequences")
    if not stop:
        return silent
    stops = stop[:_MAX_STOPS] if isinstance(stop, list) else [stop]
    return silent + max((len(one.encode()) for one in stops if isinstance(one, str)), default=0)


def _prompts(fields: Mapping[str, object]) -> int:
    """Return how many prompts a body has: a list of texts, or of lists of tokens."""
    for name in ("prompt", "input"):
        value = fields.get(name)
        if isinstance(value, list) and not _PROMPT_TYPES.isdisjoint(map(type, value)):
            return max(1, len(value))
    return 1


def _count(value: object) -> int:
    """Return the number that an engine reads: it accepts 3.0 and "3" as 3."""
    if isinstance(value, int | float | str):
        try:
            return int(float(value))
        except (ValueError, OverflowError):
            return 0
    return 0
