"""What an engine says to fixed prompts, by which its weights are known again. Pure."""

from __future__ import annotations

from dataclasses import dataclass

#: Nothing in them is of a customer. Prose, code and digits, so that many weights take part.
PROMPTS = (
    "The river runs through the old town, past the mill and under seven bridges, and",
    "def total(items):\n    return sum(item.price * 1.25 for item in items if item.count > 3)\n",
    "Q: What is 17 plus 26?\nA:",
)
#: Tokens generated for each, and the likeliest tokens at each place whose logprobs are kept.
ANSWER_TOKENS = 2
TOP = 5
#: For whether an adapter does anything: one token of it says so, in a fifth of the time.
BRIEF_PROMPTS = PROMPTS[2:]
#: Largest difference of a logprob between two takes of the same weights, by kind of device. On a
#: CPU all takes were equal; a GPU adds in an order that depends on the batch.
TOLERANCE = {"cpu": 0.02, "cuda": 0.35, "rocm": 0.35}
#: An adapter that moves no logprob by more than this does nothing that an answer could show.
LEAST_EFFECT = {"cpu": 0.005, "cuda": 0.02, "rocm": 0.02}


@dataclass(frozen=True, slots=True)
class Take:
    """One take: the ids of all tokens of prompts and answers, and logprobs in nats.

    Of each generated token its logprob, then those of the likeliest tokens in its place, falling.
    Logprobs of prompts would say more, but vLLM 0.32 with adapters ends itself over them.
    """

    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """A take that was kept. ``at_start``: of an engine that was started with these weights."""

    take: Take
    at_start: bool


def difference(expected: Take, seen: Take, tolerance: float) -> str:
    """Return how ``seen`` differs from ``expected``, empty if it does not.

    Token ids must be equal, but for a generated one whose logprob agrees: near-ties may fall
    either way on a GPU.
    """
    if len(seen.token_ids) != len(expected.token_ids) or len(seen.logprobs) != len(
        expected.logprobs
    ):
        return "its prompts are read as other tokens"
    worst = _largest_step(expected, seen)
    if worst > tolerance:
        return f"a logprob differs by {worst:.3f}, allowed is {tolerance:.3f}"
    if tolerance <= TOLERANCE["cpu"] and seen.token_ids != expected.token_ids:
        return "it answers with other tokens"
    return ""


def has_effect(base: Take, adapted: Take, least: float) -> bool:
    """Return whether ``adapted`` is another model than ``base``, and not the base silently."""
    if len(adapted.logprobs) != len(base.logprobs):
        return True
    return adapted.token_ids != base.token_ids or _largest_step(base, adapted) > least


def _largest_step(one: Take, other: Take) -> float:
    pairs = zip(one.logprobs, other.logprobs, strict=True)
    return max((abs(first - second) for first, second in pairs), default=0.0)
