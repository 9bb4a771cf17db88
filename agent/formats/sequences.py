"""How many sequences an engine computes for one body, and how long each may get."""

from __future__ import annotations

import math
from collections.abc import Mapping

#: Fields that may hold a list of prompts, each of them a sequence of its own.
_PROMPTS = ("prompt", "input", "messages")


def count_sequences(fields: Mapping[str, object], *, is_batched: bool) -> int:
    """Return prompts times answers to each. ``is_batched``: a prompt may be a list of prompts."""
    answers = 1
    if "n" in fields or "best_of" in fields:
        answers = max(1, _count(fields.get("n")), _count(fields.get("best_of")))
    if not is_batched:
        return answers
    return answers * max(_prompts(fields.get(name)) for name in _PROMPTS)


def answers_to_each(fields: Mapping[str, object]) -> int:
    """Return how many answers a body asks for to each of its prompts."""
    return max(1, _count(fields.get("n")))


def most_answer_tokens(fields: Mapping[str, object], names: tuple[str, ...]) -> float:
    """Return the limit of one answer's tokens in the fields ``names``; infinite without one.

    Of several the greatest: which of them counts is the engine's choice.
    """
    most = max((_count(fields[name]) for name in names if name in fields), default=0)
    return float(most) if most > 0 else math.inf


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
