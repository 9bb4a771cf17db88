"""Bounds on the tokens that another host may count for a request. Pure.

A host that serves a peer's request also counts its tokens, and customers pay by them. This agent
knows what it sent and what came back, so it knows bounds that no honest count exceeds:

- prompt: a token is at least one byte of the body, beside what a chat template adds; media may have
  more tokens than bytes, so only the context bounds them; no prompt exceeds the context;
- completion: ``max_tokens`` for each sequence; the context; and at least one byte of text, or one
  event, for each token, beside tokens that have no text: the end of a sequence, special tokens,
  markup that the engine's parsers remove, and a stop string.

Source: byte-level BPE and byte fallback (Sennrich et al. 2016; Kudo and Richardson 2018).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent.core.prompt_tokens import START_BYTES_PER_TOKEN
from protos.domain.pricing import MAX_TOKENS, Usage

if TYPE_CHECKING:
    from collections.abc import Callable

#: Tokens that a chat template adds to a conversation, its default system prompt included.
TEMPLATE_TOKENS = 1_024
#: Special tokens that an engine adds to each of several prompts.
PROMPT_TOKENS = 8
#: Tokens of a sequence without any text: its end, special tokens, reasoning and tool markup.
SILENT_TOKENS = 64
#: The same where the model may call tools.
SILENT_TOKENS_WITH_TOOLS = 256
#: Assumed for a model whose context is not known.
LONGEST_CONTEXT_TOKENS = 1 << 20


@dataclass(slots=True)
class AskedTokens:
    """What a request says about its tokens; all sizes are those of its body.

    Written once; not frozen because it is hot.

    ``sequences`` are ``n`` for each of ``prompts``. ``max_tokens`` of one sequence, None if not
    given. ``silent_tokens`` of one sequence may have no text; None: any number, as where reasoning
    is left out of the answer. ``context_tokens`` 0: not known.
    """

    body_bytes: int
    context_tokens: int = 0
    prompts: int = 1
    sequences: int = 1
    max_tokens: int | None = None
    has_media: bool = False
    embeds: bool = False
    silent_tokens: int | None = SILENT_TOKENS

    def most_prompt_tokens(self) -> int:
        """Return the most tokens that the prompts can have."""
        most = self.prompts * (self.context_tokens or LONGEST_CONTEXT_TOKENS)
        if not self.has_media:
            most = min(most, self.body_bytes + TEMPLATE_TOKENS + PROMPT_TOKENS * self.prompts)
        return min(most, MAX_TOKENS)

    def most_answer_tokens(self) -> int:
        """Return the most tokens that one answer may have."""
        if self.embeds:
            return 0
        each = self.context_tokens or LONGEST_CONTEXT_TOKENS
        return each if self.max_tokens is None else min(each, max(1, self.max_tokens))

    def most_completion_tokens(self, events: int, text_bytes: int) -> int:
        """Return the most tokens of an answer of ``events`` with ``text_bytes`` of text."""
        if self.embeds:
            return 0
        most = self.most_answer_tokens() * self.sequences
        if self.silent_tokens is not None:
            most = min(most, events + text_bytes + self.silent_tokens * self.sequences)
        return min(most, MAX_TOKENS)


class UsageCheck:
    """Checks the counts of one request's answers by other hosts."""

    __slots__ = ("_asked", "_expected_prompt_tokens", "exceeded_by")

    def __init__(self, asked: AskedTokens, expected_prompt_tokens: Callable[[], int]) -> None:
        """``expected_prompt_tokens`` returns this agent's own estimate of the prompt."""
        self._asked = asked
        self._expected_prompt_tokens = expected_prompt_tokens
        #: The nodes whose count exceeded a bound.
        self.exceeded_by: set[str] = set()

    def checked(self, usage: Usage, events: int, text_bytes: int, node_id: str) -> Usage:
        """Return ``usage`` if it is possible, else this agent's own count, which is no higher."""
        asked = self._asked
        most = asked.most_completion_tokens(events, text_bytes)
        if usage.completion_tokens <= most and usage.prompt_tokens <= asked.most_prompt_tokens():
            return usage
        self.exceeded_by.add(node_id)
        prompt = min(
            usage.prompt_tokens, asked.most_prompt_tokens(), self._expected_prompt_tokens()
        )
        # text is at least a token: what was made must not look like an empty answer
        counted = max(events, round(text_bytes / START_BYTES_PER_TOKEN), int(text_bytes > 0))
        completion = min(usage.completion_tokens, most, counted)
        return Usage(prompt, min(usage.cached_tokens, prompt), completion)
