"""Passes an engine's response through the peer port unchanged, and counts its tokens."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from agent.core.fill import filling_tokens
from agent.formats.sse import EventStream, MalformedStream, find_usage
from agent.formats.usage import read_usage
from agent.relay.client_answer import MAX_HELD_BYTES
from agent.relay.exchange import Ending, Exchange, head_problem
from agent.relay.messages import LAST_CHUNK, Header, chunk
from agent.relay.served_tokens import end_with_served
from protos.domain.pricing import Usage

if TYPE_CHECKING:
    from agent.core.request.attempt import TokenCounter
    from agent.relay.server import ServerConnection
    from agent.relay.upstream_pool import UpstreamPool

NO_USAGE = Usage(0, 0, 0)

#: The usage of a response is within this many bytes of its end, or of where it was cut.
_USAGE_TAIL_BYTES = 4_096

#: Makes the head of the response to the asking agent from the engine's status and headers.
HeadMaker = Callable[[int, list[Header]], bytes]


class PassThrough(Exchange):
    """Passes a response to the agent that asked, while it arrives.

    The head of a stream is held until its first token, so that it can report the time until then.
    ``events`` detects that token; ``token_mark`` occurs once in every event that carries a token.
    ``streams``: a stream was asked for.
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
        streams: bool,
        embeds: bool = False,
    ) -> None:
        super().__init__(client, now_mono_ms)
        self._first = events
        self._make_head = make_head
        self._count_tokens = count_tokens
        self._token_mark = token_mark
        self._embeds = embeds
        self._streams = streams
        self._streaming = False
        self._held = b""
        self._tail: deque[bytes] = deque()
        self._tail_bytes = 0
        #: Events of a stream that carry a token.
        self._marks = 0
        #: The count of a whole answer, once it was read.
        self._counted: Usage | None = None
        #: Whether it is no answer to what was asked, by its status or content type.
        self.unfit = False
        self._over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def run(self, pool: UpstreamPool, request: bytes) -> None:
        """Send ``request`` and wait until the response has ended; cancelled, it is cut."""
        self.start(pool, request)
        try:
            await self._over
        finally:
            self.abort()

    def on_head(self, status: int, headers: list[Header]) -> None:
        self.status, self.headers = status, headers
        if problem := head_problem(status, headers, streams=self._streams):
            self.unfit = True
            self.fail(problem)
            return
        self._streaming = self._streams and status == 200
        if not self._streaming:
            self._begin()

    def _on_read(self) -> None:
        if not self._gathered:
            return
        now = self._now_mono_ms()
        data = b"".join(self._gathered)
        self._gathered.clear()
        if not self.started:
            data, held = self._held + data, data
            if not self._has_first_token(held) and len(data) <= MAX_HELD_BYTES:
                self._held = data
                return
            self._begin()
        self._client.write(chunk(data))
        if self._streaming:
            marks = data.count(self._token_mark)
            self._marks += marks
            self._count_tokens(marks, now)
        self._keep(data)

    def _keep(self, data: bytes) -> None:
        """Keep the last bytes, for their usage: pieces of them, since joining copies them all."""
        tail = self._tail
        tail.append(data)
        self._tail_bytes += len(data)
        while self._tail_bytes - len(tail[0]) >= _USAGE_TAIL_BYTES:
            self._tail_bytes -= len(tail.popleft())

    def usage(self) -> Usage:
        """Return the engine's count so far; of a cut stream without one, its events."""
        if self._counted is None:
            counted = self._count()
            if self._complete:
                self._counted = counted
            return counted
        return self._counted

    def _count(self) -> Usage:
        found = find_usage(b"".join(self._tail)[-_USAGE_TAIL_BYTES:])
        if found is not None:
            return read_usage(found)
        begun = read_usage(self._first.usage() or {}) if self._streaming else NO_USAGE
        completion_tokens = max(begun.completion_tokens, self._marks)
        return Usage(begun.prompt_tokens, begun.cached_tokens, completion_tokens)

    def generated(self) -> int | None:
        """Return the tokens generated so far; None where that is not known."""
        if self.status != 200 or not (self._streaming or self.ending is Ending.COMPLETE):
            return None
        return self.usage().completion_tokens

    def _on_response_end(self) -> None:
        if self._tail and not self._streaming:
            tokens = filling_tokens(self.usage(), embeds=self._embeds)
            self._count_tokens(tokens, self._now_mono_ms())
        if not self.started:
            self._begin()
            if self._held:
                self._client.write(chunk(self._held))
        # by this count the asking agent checks its own, which it bills
        self._client.write(end_with_served(self.usage()) if self.status == 200 else LAST_CHUNK)
        self._end(Ending.COMPLETE, "")

    def _ended(self) -> None:
        if not self._over.done():
            self._over.set_result(None)

    def _begin(self) -> None:
        self._take_client()
        self._client.write(self._make_head(self.status, self.headers))

    def _has_first_token(self, data: bytes) -> bool:
        """Whether a token came, or a response that is no stream, which the asking agent judges."""
        first = self._first
        try:
            first.feed(data)
        except MalformedStream:
            return True
        return first.token_seen or first.done or first.error_event is not None
