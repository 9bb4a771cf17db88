"""What a serving agent has counted of an answer, told behind it to the agent that asked.

It comes as a trailer field of the chunked body, because it is known only at its end. Source: RFC
9110, 6.5, and RFC 9112, 7.1.2. An agent that does not know it ignores it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from protos.domain.pricing import MAX_TOKENS, Usage

if TYPE_CHECKING:
    from agent.relay.messages import Header

SERVED_TRAILER = b"x-edgeforge-served"
_MAX_VALUE_BYTES = 64


def end_with_served(usage: Usage) -> bytes:
    """Return the last chunk of a body, with its tokens behind it."""
    counts = (usage.prompt_tokens, usage.cached_tokens, usage.completion_tokens)
    return b"0\r\n%b: prompt=%d;cached=%d;completion=%d\r\n\r\n" % (SERVED_TRAILER, *counts)


def read_served(trailers: list[Header]) -> Usage | None:
    """Return the tokens that a peer has counted; None if it does not say, or nothing valid."""
    for name, value in trailers:
        if name == SERVED_TRAILER and len(value) <= _MAX_VALUE_BYTES:
            parts = dict(part.strip().partition(b"=")[::2] for part in value.split(b";"))
            try:
                counts = [int(parts[key]) for key in (b"prompt", b"cached", b"completion")]
            except (KeyError, ValueError):
                return None
            return Usage(*counts) if all(0 <= one <= MAX_TOKENS for one in counts) else None
    return None
