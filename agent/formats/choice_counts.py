"""Counts of a stream with several choices, each of which its engine counts by itself.

The last event of such a stream has the count of all. One that is cut has only those of its choices,
of which the latest says nothing of the others.
"""

from __future__ import annotations

import orjson

from protos.domain.pricing import MAX_TOKENS

#: More choices than any request may ask for are not told apart.
_MAX_CHOICES = 4_096


class ChoiceCounts:
    """The latest count of each choice."""

    __slots__ = ("_answers", "_by_choice")

    def __init__(self, answers: int) -> None:
        """``answers`` to each prompt: choice 0 is the first answer to the first prompt."""
        self._answers = max(1, answers)
        self._by_choice: dict[int, dict[str, object]] = {}

    def note(self, payload: bytes, usage: dict[str, object]) -> None:
        """Take the ``usage`` of an event."""
        try:
            message = orjson.loads(payload)
        except orjson.JSONDecodeError:
            return
        choices = message.get("choices") if isinstance(message, dict) else None
        if not isinstance(choices, list) or len(choices) != 1 or not isinstance(choices[0], dict):
            return
        index = choices[0].get("index")
        if type(index) is int and 0 <= index < _MAX_CHOICES:
            self._by_choice[index] = usage

    def total(self, latest: dict[str, object]) -> dict[str, object]:
        """Return ``latest`` with the tokens of all choices."""
        prompts: dict[int, int] = {}
        completion = 0
        for index, usage in self._by_choice.items():
            prompt = index // self._answers
            prompts[prompt] = max(prompts.get(prompt, 0), _count(usage.get("prompt_tokens")))
            completion += _count(usage.get("completion_tokens"))
        if not prompts:
            return latest
        told = {
            "prompt_tokens": min(sum(prompts.values()), MAX_TOKENS),
            "completion_tokens": min(completion, MAX_TOKENS),
        }
        return latest | told | {"total_tokens": sum(told.values())}


def _count(value: object) -> int:
    return value if type(value) is int and 0 < value <= MAX_TOKENS else 0
