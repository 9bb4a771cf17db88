"""The model's name in an engine's answers, replaced by the name that the client asked for.

Unescaped quotes occur in JSON only between strings, never inside one, so the bytes of a field are
found without parsing. A field ``model`` elsewhere (in a tool's input) is not replaced.
"""

from __future__ import annotations

import json

#: The engine's name and the client's, each as a JSON string with its quotes.
Names = tuple[bytes, bytes]

_FIELD = b'"model":'
#: A larger object is not parsed for its name: engines write it near the beginning.
_MAX_PARSED_BYTES = 256 * 1024
_NEAR_BYTES = 4_096


def name_field(name: bytes) -> bytes:
    """Return the bytes of a field ``model``, as engines write it."""
    return _FIELD + name


def renamed(data: bytes, names: Names, inside: str = "") -> bytes:
    """Return a JSON object whose field ``model`` has the client's name.

    ``inside``: the field that holds the object with the name; empty for the object itself. Parses
    only what has the name more than once, or with spaces.
    """
    engine, asked = names
    field = _FIELD + engine
    at = data.find(field)
    if len(data) > _MAX_PARSED_BYTES:
        if not 0 <= at < _NEAR_BYTES:
            return data
        return data[:at] + _FIELD + asked + data[at + len(field) :]
    if at < 0:
        return data if engine not in data else _rewritten(data, names, inside)
    if data.find(field, at + 1) >= 0:
        return _rewritten(data, names, inside)
    return data[:at] + _FIELD + asked + data[at + len(field) :]


def _rewritten(data: bytes, names: Names, inside: str) -> bytes:
    """Do the same by parsing; the standard parser keeps numbers of any length."""
    try:
        message = json.loads(data)
    except (ValueError, RecursionError):
        return data
    envelope = message
    if inside and isinstance(message, dict):
        envelope = message.get(inside)
    if not isinstance(envelope, dict) or envelope.get("model") != json.loads(names[0]):
        return data
    envelope["model"] = json.loads(names[1])
    return json.dumps(message, separators=(",", ":")).encode()
