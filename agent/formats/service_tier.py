"""``service_tier``: what a client asks for, and what it is told that it got.

The level of service is the deployment's SLA tier, which the request cannot change: any word is
accepted and noted, and the answer has the word of its format for what was served.
Sources: OpenAI's API reference, "service_tier"; Anthropic's, "Service tiers".
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from protos.domain.errors import InvalidRequest
from protos.domain.resources import SlaTier

if TYPE_CHECKING:
    from collections.abc import MutableMapping

_NAME = "service_tier"
#: Words of both APIs; another is noted as ``OTHER``, because it is a stranger's text.
_WORDS = frozenset({"auto", "default", "flex", "priority", "scale", "standard_only"})
OTHER = "other"
_FIELD = b'"service_tier":'


def take_service_tier(fields: MutableMapping[str, object]) -> str:
    """Remove the field, which no engine serves by; return its word, empty for none.

    Raises: InvalidRequest if it is no text.
    """
    given = fields.pop(_NAME, None)
    if given is None:
        return ""
    if not isinstance(given, str):
        raise InvalidRequest(
            "'service_tier' is not a text", "use 'auto', or leave it out", param=_NAME
        )
    return given if given in _WORDS else OTHER


def served_word(sla_tier: SlaTier, *, is_anthropic: bool) -> str:
    """Return what a client is told that it got: realtime is served before the others."""
    if sla_tier is SlaTier.REALTIME:
        return "priority"
    return "standard" if is_anthropic else "default"


def with_field(event: bytes, field: bytes) -> bytes:
    """Return a chunk of a stream with ``field``, as ``"service_tier":"default"``. Hot if asked for.

    Only the chunk itself has the field: quotes within its texts are escaped.
    """
    at = event.find(_FIELD)
    if at >= 0:
        start = at + len(_FIELD)
        end = event.find(b'"', start + 1) + 1 if event[start : start + 1] == b'"' else start + 4
        return event[:at] + field + event[end:]
    return event[:-1] + b"," + field + b"}" if event.endswith(b"}") else event


def as_field(word: str) -> bytes:
    """Return the field of a chunk."""
    return _FIELD + b'"' + word.encode() + b'"'


def add_to(message: MutableMapping[str, object], word: str, *, in_usage: bool) -> None:
    """Put ``word`` into an answer, or into its usage if it has one."""
    if not in_usage:
        message[_NAME] = word
    elif isinstance(usage := message.get("usage"), dict):
        usage[_NAME] = word


def with_word(body: bytes, word: str, *, in_usage: bool) -> bytes:
    """Return a whole answer with ``word``; numbers of any length are kept."""
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        return body
    if not isinstance(answer, dict):
        return body
    add_to(answer, word, in_usage=in_usage)
    return json.dumps(answer, separators=(",", ":")).encode()
