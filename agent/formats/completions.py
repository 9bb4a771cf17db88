"""OpenAI Completions, which OpenAI calls legacy."""

from __future__ import annotations

from agent.formats.body_rules import make_rules
from agent.formats.continuation import Continuation
from agent.formats.descriptor import ApiFormat
from agent.formats.errors import OPENAI_WORDS

#: What vLLM generates for a completion without ``max_tokens``.
#: Source: vllm/entrypoints/openai/completion/protocol.py, ``max_tokens``.
_DEFAULT_MAX_TOKENS = 16


def _can_continue(fields: dict[str, object]) -> bool:
    return isinstance(fields.get("prompt"), str)


def _with_answer(fields: dict[str, object], text: str) -> bool:
    if not text:
        return False
    fields["prompt"] = f"{fields['prompt']}{text}"
    if fields.get("max_tokens") is None:
        fields["max_tokens"] = _DEFAULT_MAX_TOKENS
    return True


COMPLETIONS = ApiFormat(
    path="/v1/completions",
    operation="text_completion",
    rules=make_rules(takes_batches=True),
    words=OPENAI_WORDS,
    prefix_fields=("prompt",),
    size_fields=("prompt",),
    is_batched=True,
    has_stream_options=True,
    continuation=Continuation(_can_continue, _with_answer),
)
