"""How many sequences an engine computes for one body, and how long each may get."""

from __future__ import annotations

import math
from collections.abc import Mapping

#: Fields that may hold a list of prompts, each of them a sequence of its own.
_PROMPTS = ("prompt", "input", "messages")
#: Fields that limit the tokens of an answer.
_LIMITS = ("max_completion_tokens", "max_tokens", "max_output_tokens")


def count_sequences(fields: Mapping[str, object], *, is_batched: bool) -> int:
    """Return prompts times answers to each. ``is_batched``: a prompt may be a list of prompts."""
    answers = 1
    if "n" in fields or "best_of" in fields:
        answers = max(1, _count(fields.get("n")), _count(fields.get("best_of")))
    if not is_batched:
        return answers
    return answers * max(_prompts(fields.get(name)) for name in _PROMPTS)


def most_answer_tokens(fields: Mapping[str, object]) -> float:
    """Return the limit of one answer's tokens; infinite without one."""
    most = math.inf
    for name in _LIMITS:
        if name in fields:
            limit = _count(fields[name])
            if 0 < limit < most:
                most = float(limit)
    return most


def _prompts(value: object) -> int:
    """Return the number of prompts: a list of texts or of token lists; else one."""
    if isinstance(value, list) and value and isinstance(value[0], str | list):
        return len(value)
    return 1


def _count(value: object) -> int:
    """Return the whole number that an engine reads: it accepts 3.0 and "3" as 3; else 0."""
    if isinstance(value, int):
        return value
    if isinstance(value, float | str):
        try:
            return int(float(value))
        except (ValueError, OverflowError):
            return 0
    return 0
