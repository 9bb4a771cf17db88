"""Server-sent events as bytes: framing, first token, usage, and what the client did not ask for.

An event is looked at, not parsed: one search for its usage, one for its end. JSON is read only
until the first token is seen and for the last usage of a stream.
"""

from __future__ import annotations

from collections.abc import Callable

import orjson

#: An event larger than this is no event of an engine.
MAX_EVENT_BYTES = 4 * 1024 * 1024

_END = b"\n\n"
_DATA = b"data: "
_DONE = b"data: [DONE]"
_USAGE = b'"usage":{'
_NO_CHOICES = b'"choices":[]'
_ERROR_STARTS = (b'data: {"error"', b'data: {"object":"error"')
_TOKEN_FIELDS = ("content", "reasoning", "reasoning_content", "tool_calls", "refusal")


class MalformedStream(ValueError):
    """The engine sent what is no event stream."""


class EventStream:
    """Takes an engine's stream by reads and gives what the client should see.

    ``include_usage``: the client asked for the usage chunk. ``continuous_usage``: and for usage on
    every chunk. Whatever it did not ask for is cut out, since usage is always asked of the engine.
    ``beside_usage`` returns further fields (``,"name":value``) for the usage chunk, from its usage.
    """

    def __init__(
        self,
        *,
        include_usage: bool,
        continuous_usage: bool,
        beside_usage: Callable[[bytes], bytes] | None = None,
    ) -> None:
        self._include_usage = include_usage
        self._continuous_usage = continuous_usage
        self._beside_usage = beside_usage
        self._rest = b""
        self._last_usage: bytes | None = None
        #: Events that carried choices, from the first token on: about one a token.
        self.events = 0
        #: Events passed on, where the format numbers them.
        self.passed = 0
        #: True from the first content, reasoning or tool delta on.
        self.token_seen = False
        self.done = False
        #: The engine's own error event, if it sent one.
        self.error_event: bytes | None = None

    def feed(self, data: bytes) -> bytes:
        """Return the bytes to pass on for one read. Raises: MalformedStream."""
        if self._rest:
            data = self._rest + data
        if data.find(b"\r") >= 0:
            data = data.replace(b"\r\n", b"\n")
        end = len(data) - len(_END)
        if data.find(_END) == end >= 0:  # one whole event, as an engine sends it
            self._rest = b""
            event = self._filter(data[:end])
            return event + _END if event else b""
        *events, rest = data.split(_END)
        if len(rest) > MAX_EVENT_BYTES:
            raise MalformedStream(f"an event of more than {MAX_EVENT_BYTES} bytes")
        self._rest = rest
        kept = [event for event in map(self._filter, events) if event]
        if not kept:
            return b""
        kept.append(b"")
        return _END.join(kept)

    def usage(self) -> dict[str, object] | None:
        """Return the last usage that was seen, or None."""
        if self._last_usage is None:
            return None
        try:
            usage = orjson.loads(self._last_usage)
        except orjson.JSONDecodeError:
            return None
        return usage if isinstance(usage, dict) else None

    def _filter(self, event: bytes) -> bytes:
        if self.error_event is not None:
            return b""  # the engine goes on to [DONE] after its error; a client must not see it
        if not event.startswith(_DATA):
            if event[:1] in (b":", b"e", b"i", b"r", b""):  # comment, event, id, retry, padding
                return event
            raise MalformedStream("an event without data")
        if event == _DONE:
            self.done = True
            return event
        if event.startswith(_ERROR_STARTS):
            self.error_event = event[len(_DATA) :]
            return b""
        if not self.token_seen:
            self.token_seen = _has_token(event[len(_DATA) :])
        elif not event.endswith(b"}"):
            raise MalformedStream("an event that is no JSON object")
        at = event.find(_USAGE)
        if at < 0:
            self.events += self.token_seen
            return event
        opens = at + len(_USAGE) - 1
        end = event.find(b"}", opens) + 1
        if event.find(b"{", opens + 1, end) >= 0 or end == 0:  # it holds another, or has no end
            end = _object_end(event, opens)
        self._last_usage = event[opens:end]
        if _NO_CHOICES in event:
            return self._usage_chunk(event, end)
        self.events += self.token_seen
        if self._continuous_usage:
            return event
        return _without_field(event, at, end)

    def _usage_chunk(self, event: bytes, usage_end: int) -> bytes:
        """Return the chunk that only tells the usage, as far as the client asked for it."""
        if not self._include_usage:
            return b""
        if self._beside_usage is None or self._last_usage is None:
            return event
        return event[:usage_end] + self._beside_usage(self._last_usage) + event[usage_end:]


def _without_field(event: bytes, start: int, end: int) -> bytes:
    """Return ``event`` without the field there and the comma that went with it."""
    if event[start - 1 : start] == b",":
        start -= 1
    elif event[end : end + 1] == b",":
        end += 1
    return event[:start] + event[end:]


def find_usage(body: bytes) -> dict[str, object] | None:
    """Return the usage of a whole response body, or None; the rest of it is not parsed."""
    at = body.rfind(_USAGE)
    if at < 0:
        return None
    start = at + len(_USAGE) - 1
    try:
        usage = orjson.loads(body[start : _object_end(body, start)])
    except (orjson.JSONDecodeError, MalformedStream):
        return None
    return usage if isinstance(usage, dict) else None


def _object_end(data: bytes, start: int) -> int:
    """Return the index behind the object that opens at ``start``; its texts hold no braces."""
    close = start
    while True:
        close = data.find(b"}", close) + 1
        if close == 0:
            raise MalformedStream("a usage object without its end")
        if data.count(b"{", start, close) == data.count(b"}", start, close):
            return close


def _has_token(payload: bytes) -> bool:
    """Whether a chunk carries content, reasoning or a tool call; a role alone is no token."""
    try:
        message = orjson.loads(payload)
    except orjson.JSONDecodeError as error:
        raise MalformedStream("an event that is no JSON object") from error
    choices = message.get("choices") if isinstance(message, dict) else None
    if not isinstance(choices, list):
        return True  # not of the chat or completions shape: its first event counts
    for choice in choices:
        if not isinstance(choice, dict):
            continue
        if choice.get("text"):
            return True
        delta = choice.get("delta")
        if isinstance(delta, dict) and any(delta.get(name) for name in _TOKEN_FIELDS):
            return True
    return False
