"""Which answers a client could have chosen to be empty: those are made, and are billed. Pure.

An answer of nothing but the end of each sequence is free, since its client got nothing. That holds
only where the model chose to end: a client that chooses tokens or stops, or that looks at the
probabilities of tokens or at its prompt, gets something from an answer without text.
"""

from __future__ import annotations

from collections.abc import Mapping

#: Fields by which a client chooses which tokens are generated, or where they end.
_CHOOSING = (
    "allowed_token_ids",
    "guided_choice",
    "guided_grammar",
    "guided_regex",
    "ignore_eos",
    "logit_bias",
    "min_tokens",
    "stop",
    "stop_sequences",
    "stop_token_ids",
    "structured_outputs",
)
#: Fields by which an answer tells more of its tokens than their text.
_SHOWING = (
    "logprob_token_ids",
    "return_token_ids",
    "return_tokens_as_token_ids",
    "top_logprobs",
)
#: Of completions a number, and 0 asks for those of the tokens themselves.
_LOGPROBS, _PROMPT_LOGPROBS = "logprobs", "prompt_logprobs"
_TELLING = frozenset({*_CHOOSING, *_SHOWING, _LOGPROBS, _PROMPT_LOGPROBS, "echo"})


def tells_prompt(fields: Mapping[str, object]) -> bool:
    """Return whether an answer tells of its prompt, so that it is made of it as embeddings are."""
    return bool(fields.get("echo")) or fields.get(_PROMPT_LOGPROBS) is not None


def free_end_tokens(fields: Mapping[str, object], sequences: int) -> int:
    """Return how many tokens without anything to see are the ends of ``sequences``. Hot."""
    if _TELLING.isdisjoint(fields):
        return sequences
    told = any(fields.get(name) for name in (*_CHOOSING, *_SHOWING)) or tells_prompt(fields)
    logprobs = fields.get(_LOGPROBS)
    return 0 if told or (logprobs is not None and logprobs is not False) else sequences
