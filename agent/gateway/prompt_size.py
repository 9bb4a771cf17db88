"""How long a prompt is at least, without a tokenizer: text is counted, the rest of a body is not.

A guess that is too low costs a little precision; one that is too high refuses a prompt that fits.
"""

from __future__ import annotations

from collections.abc import Mapping

from agent.core.routes import Api

#: Characters of text in one token: more than any text that people write has.
CHARS_PER_TOKEN = 8
#: Values looked at, and the rest of their object or list; what lies behind is not counted.
MAX_VISITED = 100_000

_PROMPT_FIELDS = {
    Api.CHAT: ("messages",),
    Api.COMPLETIONS: ("prompt",),
    Api.RESPONSES: ("instructions", "input"),
    Api.EMBEDDINGS: ("input", "messages"),
    Api.MESSAGES: ("system", "messages"),
    # who counts wants to know, and not to be refused by a guess
    Api.COUNT_TOKENS: (),
}
#: Formats whose prompt may be a list of prompts, each of them a request of its own to an engine.
_BATCHED = frozenset({Api.COMPLETIONS, Api.EMBEDDINGS})
#: Parts of a conversation that a template may leave out.
_NOT_PROMPT = frozenset(
    {"id", "type", "role", "signature", "data", "thinking", "encrypted_content"}
)


def estimate_prompt_tokens(api: Api, fields: Mapping[str, object]) -> int:
    """Return the tokens of the prompt, of the longest in a batch; never more than it has."""
    if _is_cut(fields):
        return 1
    sizes = [_size(api, fields.get(name)) for name in _PROMPT_FIELDS[api]]
    longest = max(sizes) if api in _BATCHED else sum(sizes)
    return max(1, longest)


def _is_cut(fields: Mapping[str, object]) -> bool:
    """Whether the engine cuts the prompt to what it can hold."""
    return fields.get("truncate_prompt_tokens") is not None or fields.get("truncation") == "auto"


def _size(api: Api, value: object) -> int:
    if api not in _BATCHED or not isinstance(value, list):
        return _text_chars(value) // CHARS_PER_TOKEN
    if value and all(isinstance(token, int) for token in value):
        return len(value)
    return max((_prompt_size(prompt) for prompt in value[:MAX_VISITED]), default=0)


def _prompt_size(prompt: object) -> int:
    if isinstance(prompt, list) and prompt and all(isinstance(token, int) for token in prompt):
        return len(prompt)
    return _text_chars(prompt) // CHARS_PER_TOKEN


def _text_chars(value: object) -> int:
    """Return the characters of all text in ``value``."""
    if isinstance(value, str):
        return len(value)
    chars, visited = 0, 0
    pending: list[object] = [value]
    while pending and visited < MAX_VISITED:
        current = pending.pop()
        if isinstance(current, dict):
            parts = [part for name, part in current.items() if name not in _NOT_PROMPT]
        elif isinstance(current, list):
            parts = current
        else:
            continue
        visited += len(parts)
        for part in parts:
            if isinstance(part, str):
                chars += len(part)
            else:
                pending.append(part)
    return chars
