"""What a peer port does with an engine's response: counts its tokens and passes it on as it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from agent.core.fill import filling_tokens
from agent.formats.sse import EventStream, MalformedStream, find_usage
from agent.formats.usage import read_usage
from agent.relay.exchange import (
    MAX_HELD_BYTES,
    Ending,
    Exchange,
    HeadMaker,
    TokenCounter,
    is_event_stream,
)
from agent.relay.messages import LAST_CHUNK, Header, chunk

if TYPE_CHECKING:
    from agent.relay.server import ServerConnection
    from protos.domain.pricing import Usage

#: A whole response ends with its usage, within so many bytes.
_USAGE_TAIL_BYTES = 4_096


class PassThrough(Exchange):
    """Passes a response on as it comes: what a peer port does for the agent that asked.

    The head of a stream waits for its first token, so that it can tell what that took here.
    ``events`` looks for that token; ``token_mark`` is found once in every event that carries one.
    """

    def __init__(
        self,
        client: ServerConnection,
        events: EventStream,
        make_head: HeadMaker,
        now_mono_ms: Callable[[], float],
        count_tokens: TokenCounter,
        token_mark: bytes,
        *,
        embeds: bool = False,
    ) -> None:
        super().__init__(client, None, make_head, now_mono_ms, count_tokens)
        self._first = events
        self._token_mark = token_mark
        self._embeds = embeds

    def on_head(self, status: int, headers: list[Header]) -> None:
        self.status, self.headers = status, headers
        self.head_mono_ms = self.last_read_mono_ms = self._now_mono_ms()
        self._streaming = is_event_stream(headers)
        self._tail = b""
        if not self._streaming:
            self._start()

    def on_body(self, data: bytes) -> None:
        self._gathered.append(data)

    def on_read_end(self) -> None:
        self.last_read_mono_ms = now = self._now_mono_ms()
        if not self._gathered or self.ending is not None:
            return
        data = b"".join(self._gathered)
        self._gathered.clear()
        if not self.started:
            data, held = self._held + data, data
            if not self._has_first_token(held) and len(data) <= MAX_HELD_BYTES:
                self._held = data
                return
            self._start()
        self._client.write(chunk(data))
        if self._count_tokens is not None:
            if self._streaming:
                self._count_tokens(data.count(self._token_mark), now)
            else:
                self._tail = (self._tail + data)[-_USAGE_TAIL_BYTES:]

    def on_complete(self) -> None:
        self.on_read_end()
        if self._count_tokens is not None and self._tail:
            tokens = filling_tokens(_usage(self._tail), embeds=self._embeds)
            self._count_tokens(tokens, self.last_read_mono_ms)
        if not self.started:
            self._start()
            if self._held:
                self._client.write(chunk(self._held))
        self._client.write(LAST_CHUNK)
        self._end(Ending.COMPLETE, "")

    def _start(self) -> None:
        super()._start()
        self._client.write(self._make_head(self.status, self.headers))

    def _has_first_token(self, data: bytes) -> bool:
        """Whether a token came, or what is no stream: the agent that asked judges that."""
        first = self._first
        try:
            first.feed(data)
        except MalformedStream:
            return True
        return first.token_seen or first.done or first.error_event is not None


def _usage(tail: bytes) -> Usage:
    """Return the tokens that the end of a whole response tells of; none when it does not."""
    return read_usage(find_usage(tail) or {})
