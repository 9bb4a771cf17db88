"""How many values a JSON text has, counted without making one: refused before it is parsed.

A parsed value takes far more time and memory than its bytes: 8 MiB of ``[],`` take 0.3 s and
300 MB, and the event loop does nothing else meanwhile. Counted in steps, with the loop between.
"""

from __future__ import annotations

import orjson

from protos.domain.errors import InvalidRequest

#: Smaller texts cannot have enough values to matter, and are not counted.
COUNTED_FROM_BYTES = 128 * 1024
#: Values of all kinds in one body; OpenAI takes 300,000 tokens in a request for embeddings.
MAX_VALUES = 320_000
#: Texts (names of fields included), objects and lists in one body.
MAX_PARTS = 24_576
#: Escapes in the texts of one body, those of code points left out: each takes time to be written
#: again. Code has one in 30 characters, JSON within JSON one in 6.
MAX_ESCAPES = 750_000
#: Bytes counted at once, about 1 ms.
STEP_BYTES = 256 * 1024

_STRUCTURE = b'"[]{},'
_ALL_BUT_STRUCTURE = bytes(set(range(256)) - set(_STRUCTURE))


class JsonSize:
    """Counts one text, given in pieces. Exact for valid JSON; any number for what is not."""

    def __init__(self) -> None:
        self.values = 1
        self.parts = 0
        self.escapes = 0
        self._in_text = False
        self._rest = b""

    def feed(self, data: bytes) -> None:
        """Count a piece. Raises: InvalidRequest over a limit."""
        if self._rest:
            data, self._rest = self._rest + data, b""
        if b"\\" in data:
            data = self._without_escapes(data)
        found = data.translate(None, _ALL_BUT_STRUCTURE)
        quotes = found.count(b'"')
        if self.parts + quotes // 2 > MAX_PARTS:
            raise _too_many("texts, objects and lists", MAX_PARTS)
        if quotes:
            pieces = found.split(b'"')
            outside = b"".join(pieces[1::2] if self._in_text else pieces[::2])
        else:
            outside = b"" if self._in_text else found
        opened = outside.count(b"[") + outside.count(b"{")
        self.parts += opened + (quotes + self._in_text) // 2
        self.values += opened + outside.count(b",")
        if quotes % 2:
            self._in_text = not self._in_text
        if self.parts > MAX_PARTS:
            raise _too_many("texts, objects and lists", MAX_PARTS)
        if self.values > MAX_VALUES:
            raise _too_many("values", MAX_VALUES)

    def _without_escapes(self, data: bytes) -> bytes:
        """Return ``data`` without escaped quotes; an escape that is cut off waits for the rest."""
        data = data.replace(b"\\\\", b"/")
        if data.endswith(b"\\"):
            data, self._rest = data[:-1], b"\\"
        self.escapes += data.count(b"\\") - data.count(b"\\u")
        if self.escapes > MAX_ESCAPES:
            raise _too_many("escapes", MAX_ESCAPES)
        return data.replace(b'\\"', b"")


def loads_bounded(data: bytes) -> object:
    """Parse what an engine or a peer has sent. Raises: JSONDecodeError, also over a limit."""
    if len(data) >= COUNTED_FROM_BYTES:
        size = JsonSize()
        try:
            size.feed(data)
        except InvalidRequest as error:
            raise orjson.JSONDecodeError(error.message, "", 0) from error
    return orjson.loads(data)


def _too_many(what: str, most: int) -> InvalidRequest:
    return InvalidRequest(
        f"the body has more than {most} {what}",
        "send less in one request; data belongs into texts, such as base64",
    )
