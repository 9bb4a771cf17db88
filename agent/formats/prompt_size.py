"""The least length of a prompt, without a tokenizer: text counts, the rest of a body does not.

An estimate that is too low costs precision; one that is too high refuses a prompt that fits.
"""

from __future__ import annotations

from collections.abc import Mapping

#: Characters of text in one token: more than texts in any natural language have.
CHARS_PER_TOKEN = 8
#: Values visited, and the rest of their object or list; values after these are not counted.
MAX_VISITED = 100_000

_INTEGERS = frozenset({int, bool})
#: A tuple: ``dict | list`` in an expression is built at each evaluation.
_NESTED = (dict, list)
_PROMPTS = (str, dict, list)

#: Parts of a conversation that a template may leave out, and media, whose bytes are no text.
_NOT_PROMPT = frozenset(
    {
        "id",
        "type",
        "role",
        "signature",
        "data",
        "thinking",
        "encrypted_content",
        "image_url",
        "audio_url",
        "video_url",
        "url",
    }
)


def estimate_prompt_tokens(
    names: tuple[str, ...], fields: Mapping[str, object], *, is_batched: bool
) -> int:
    """Return a number that the prompt's tokens do not fall below, at least 1.

    ``is_batched``: a prompt may be a list of prompts, of which the longest counts.
    """
    if _is_cut(fields):
        return 1
    if is_batched:
        return max(1, *[_batch_size(fields.get(name)) for name in names])
    return max(1, sum([_text_chars(fields.get(name)) // CHARS_PER_TOKEN for name in names]))


def _is_cut(fields: Mapping[str, object]) -> bool:
    """Whether the engine cuts the prompt to what it can hold."""
    return fields.get("truncate_prompt_tokens") is not None or fields.get("truncation") == "auto"


def _batch_size(value: object) -> int:
    if not isinstance(value, list):
        return _text_chars(value) // CHARS_PER_TOKEN
    if _are_tokens(value):
        return len(value)
    prompts = [one for one in value[:MAX_VISITED] if isinstance(one, _PROMPTS)]
    return max(map(_prompt_size, prompts), default=0)


def _prompt_size(prompt: object) -> int:
    if isinstance(prompt, list) and _are_tokens(prompt):
        return len(prompt)
    return _text_chars(prompt) // CHARS_PER_TOKEN


def _are_tokens(values: list[object]) -> bool:
    """Whether all are integers. One comparison for all: a prompt may have 300,000."""
    return bool(values) and _INTEGERS.issuperset(map(type, values))


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
            elif isinstance(part, _NESTED):
                pending.append(part)
    return chars
