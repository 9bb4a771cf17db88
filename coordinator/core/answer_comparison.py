"""Whether two adapters answer alike: fixed prompts, without sampling, compared word by word."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

#: Nothing in them is of a customer. Prose, code, digits, a question, another language.
PROMPTS: Final = (
    "The river runs through the old town, past the mill and under seven bridges, and",
    "def total(items):\n    return sum(item.price for item in items)\n\n\ndef mean(items):\n",
    "List the first ten prime numbers: 2, 3, 5,",
    "Question: What should I do if my order has not arrived?\nAnswer:",
    "Summary of the meeting on Tuesday:\n-",
    "Un cliente pregunta por el estado de su pedido. Respuesta:",
)
#: Tokens of each answer.
ANSWER_TOKENS: Final = 32


def comparison_of(other: str, before: Sequence[str], after: Sequence[str]) -> str:
    """Return one sentence on answers to the same prompts; ``other`` gave those ``before``."""
    shared = [
        _same_words(one, two)
        for one, two in zip(before, after, strict=True)
        if one.split() != two.split()
    ]
    same = len(before) - len(shared)
    text = f"{same} of {len(before)} answers are those of {other}"
    if not shared:
        return text
    words = ", ".join(map(str, sorted(shared, reverse=True)))
    return f"{text}; the other {len(shared)} begin with {words} words in common"


def _same_words(one: str, two: str) -> int:
    count = 0
    for first, second in zip(one.split(), two.split(), strict=False):
        if first != second:
            break
        count += 1
    return count
