"""The prompt of a request as bytes in the order in which an engine reads it, for ``prefixes``."""

from __future__ import annotations

from collections.abc import Mapping

import orjson


def prompt_prefix(names: tuple[str, ...], fields: Mapping[str, object]) -> bytes:
    """Return bytes that begin alike where two prompts in ``names`` do. Hot: 3 us for 8 KB.

    Keys are sorted, since templates ignore their order. Empty for values that are nested too
    deeply to be written: such a request is refused elsewhere.
    """
    parts = []
    for name in names:
        value = fields.get(name)
        if isinstance(value, str):
            parts.append(value.encode("utf-8", "replace"))
        elif value is not None:
            try:
                parts.append(orjson.dumps(value, option=orjson.OPT_SORT_KEYS))
            except orjson.JSONEncodeError:
                return b""
    return b"\0".join(parts)


def long_prompt_prefix(
    names: tuple[str, ...], fields: Mapping[str, object], most_bytes: int
) -> bytes:
    """Return at least the first ``most_bytes`` of ``prompt_prefix``, without writing the rest."""
    parts: list[bytes] = []
    left = _Left(most_bytes)
    for name in names:
        value = fields.get(name)
        if value is not None and left.size > 0:
            parts.append(prompt_prefix((name,), {name: _beginning(value, left, 0)}))
    return b"\0".join(parts)


class _Left:
    """How many characters may still be taken."""

    def __init__(self, size: int) -> None:
        self.size = size


#: Deeper values are left out of the beginning of a long prompt.
_MAX_DEPTH = 16
#: What an object or a list counts besides its texts, and a number.
_VALUE_SIZE = 2
_NUMBERS = frozenset({int, float})
#: Names that are sorted before the first are taken.
_MAX_SORTED = 1_024


def _beginning(value: object, left: _Left, depth: int) -> object:
    """Return a copy of what comes first in ``value`` once it is written; takes it from ``left``."""
    if isinstance(value, str):
        taken = value[: left.size]
        left.size -= len(taken) + _VALUE_SIZE
        return taken
    left.size -= _VALUE_SIZE
    if isinstance(value, list) and depth < _MAX_DEPTH:
        kept: list[object] = []
        for one in value:
            if left.size <= 0:
                break
            if type(one) in _NUMBERS:  # a prompt may have 300,000 tokens
                left.size -= _VALUE_SIZE
                kept.append(one)
            else:
                kept.append(_beginning(one, left, depth + 1))
        return kept
    if isinstance(value, dict) and depth < _MAX_DEPTH:
        names = sorted(value) if len(value) <= _MAX_SORTED else list(value)
        some: dict[str, object] = {}
        for name in names:
            if left.size <= 0:
                break
            left.size -= len(name)
            some[name] = _beginning(value[name], left, depth + 1)
        return some
    return None if isinstance(value, list | dict) else value
