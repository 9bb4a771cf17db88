"""One attempt at one request: send it, and pass on what comes back.

Until the first byte has gone to the client an attempt can be replaced by another; the head of a
stream, and events that carry no token yet, are therefore held until the first token.
"""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent.formats.sse import EventStream, MalformedStream
from agent.relay.messages import LAST_CHUNK, Header, chunk
from agent.relay.upstream import ResponseSink, UpstreamConnection
from protos.domain.errors import LinkDown

if TYPE_CHECKING:
    from agent.relay.deadlines import Deadlines
    from agent.relay.server import ServerConnection
    from agent.relay.upstream_pool import UpstreamPool

#: Largest response that is kept whole before it is passed on.
MAX_WHOLE_RESPONSE_BYTES = 64 * 1024 * 1024


#: Events without a token that are held back at the start of a stream.
MAX_HELD_BYTES = 64 * 1024


class Ending(enum.StrEnum):
    """How an attempt ended."""

    #: The whole response is here, or has been passed on.
    COMPLETE = "complete"
    #: Failed before the client saw a byte: another target may answer.
    REPLACEABLE = "replaceable"
    #: Failed after: the client must be told.
    BROKEN = "broken"
    #: Another attempt at the same request had its first token sooner.
    LOST = "lost"


@dataclass(slots=True)
class Patience:
    """How long an attempt may be silent: until its first byte, and between two reads."""

    first_byte_ms: float
    idle_ms: float


#: Makes the head of the response to the client from the engine's status and headers.
HeadMaker = Callable[[int, list[Header]], bytes]


#: Told of tokens as they come: how many, and when (monotonic ms).
TokenCounter = Callable[[int, float], None]


class Claim:
    """One client's answer, which one of several exchanges takes; the others are cut at once."""

    def __init__(self) -> None:
        self._running: list[Exchange] = []

    def join(self, exchange: Exchange) -> None:
        """``exchange`` runs for the answer, until it is taken."""
        self._running.append(exchange)

    def take(self, exchange: Exchange) -> None:
        """``exchange`` has the first token."""
        others, self._running = self._running, []
        for other in others:
            if other is not exchange:
                other.lose()

    def leave(self, exchange: Exchange) -> None:
        """``exchange`` is over: holding each other, only the collector would free the two."""
        if exchange in self._running:
            self._running.remove(exchange)


class Exchange(ResponseSink):
    """Receives one response for one client.

    Until it has a first token nothing of the client's connection is touched, so that several may
    run for one client; ``claim`` says which may go on.
    """

    def __init__(
        self,
        client: ServerConnection,
        events: EventStream | None,
        make_head: HeadMaker,
        now_mono_ms: Callable[[], float],
        count_tokens: TokenCounter | None = None,
        claim: Claim | None = None,
        on_first_token: Callable[[float, list[Header]], None] | None = None,
    ) -> None:
        self._client = client
        self._on_first_token = on_first_token
        self._claim = claim
        self._connection: UpstreamConnection | None = None
        self._count_tokens = count_tokens
        self.events = events
        self._make_head = make_head
        self._now_mono_ms = now_mono_ms
        self._streaming = False
        self._gathered: list[bytes] = []
        self._held = b""
        self._size_bytes = 0
        self._ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.status = 0
        self.headers: list[Header] = []
        self.ending: Ending | None = None
        self.reason = ""
        #: Whether the connection died without a byte of answer: a kept-alive one may just be stale.
        self.unanswered = False
        #: Whether it was ended since its first token did not come in time.
        self.late = False
        #: Whether the client has been sent anything.
        self.started = False
        self.head_mono_ms = 0.0
        self.first_token_mono_ms: float | None = None
        self.last_read_mono_ms = now_mono_ms()
        if claim is not None:
            claim.join(self)

    # -- ResponseSink ----------------------------------------------------------------------------

    def on_head(self, status: int, headers: list[Header]) -> None:
        self.status, self.headers = status, headers
        self.head_mono_ms = self.last_read_mono_ms = self._now_mono_ms()
        self._streaming = self.events is not None and status == 200 and is_event_stream(headers)

    def on_body(self, data: bytes) -> None:
        self._gathered.append(data)
        if not self._streaming:
            self._size_bytes += len(data)
            if self._size_bytes > MAX_WHOLE_RESPONSE_BYTES:
                self.fail("response larger than 64 MiB")

    def on_read_end(self) -> None:
        if self.ending is not None:
            return
        self.last_read_mono_ms = now = self._now_mono_ms()
        if not self._streaming or not self._gathered:
            return
        events = self.events
        assert events is not None
        data = self._gathered[0] if len(self._gathered) == 1 else b"".join(self._gathered)
        self._gathered.clear()
        before = events.events
        try:
            passed_on = events.feed(data)
        except MalformedStream as error:
            self.fail(f"malformed event stream: {error}")
            return
        if passed_on:
            if self.started:
                self._client.write(chunk(passed_on))
            else:
                self._pass_on(passed_on, events)
        if self._count_tokens is not None:
            self._count_tokens(events.events - before, now)
        if self.first_token_mono_ms is None and events.token_seen:
            self.first_token_mono_ms = now
            if self._on_first_token is not None:
                self._on_first_token(now, self.headers)
        if events.error_event is not None:
            self.fail("the engine failed: " + events.error_event.decode("utf-8", "replace")[:300])

    def on_complete(self) -> None:
        self.on_read_end()
        if self.ending is not None:
            return
        if self._streaming:
            events = self.events
            assert events is not None
            if not events.done:
                self.fail("the stream ended without its last event")
                return
            if self.started:
                self._client.write(LAST_CHUNK)
        self._end(Ending.COMPLETE, "")

    def on_lost(self, reason: str, *, answered: bool) -> None:
        self.unanswered = not answered
        self.fail(reason)

    # -- what the gateway uses -------------------------------------------------------------------

    @property
    def streamed(self) -> bool:
        """Whether the response went to the client as it came."""
        return self._streaming and self.started

    @property
    def body(self) -> bytes:
        """The whole body of a response that was not streamed."""
        return b"".join(self._gathered)

    def resume_from(self, broken: Exchange) -> None:
        """Go on with the stream that ``broken`` began: its client has a head and tokens."""
        self.started = True
        self.first_token_mono_ms = broken.first_token_mono_ms

    def lose(self) -> None:
        """Another exchange answers the client: cut this one."""
        self._end(Ending.LOST, "another target was sooner")

    def time_out(self, waited_ms: float) -> None:
        """Nothing came for too long."""
        self.late = not self.started
        self.fail(f"nothing came for {waited_ms:.0f} ms")

    def fail(self, reason: str) -> None:
        """End the attempt for ``reason``."""
        self._end(Ending.BROKEN if self.started else Ending.REPLACEABLE, reason)

    async def run(self, pool: UpstreamPool, request: bytes, patience: Patience) -> None:
        """Send ``request`` to ``pool``'s address and wait until the response has ended.

        The outcome is in ``ending``; only cancellation is raised, and it cuts the connection.
        """
        try:
            await self._run(pool, request, patience)
        finally:
            if self._claim is not None:
                self._claim.leave(self)

    # -- inside ----------------------------------------------------------------------------------

    async def _run(self, pool: UpstreamPool, request: bytes, patience: Patience) -> None:
        self.last_read_mono_ms = self._now_mono_ms()
        connection = pool.take_nowait()
        if connection is not None:
            await self._attempt(pool, connection, request, patience)
            if not (self.ending is Ending.REPLACEABLE and self.unanswered):
                return
            self._restart()
        connection = await self._stand_in_line(pool, patience)
        if connection is not None:
            await self._attempt(pool, connection, request, patience)

    async def _stand_in_line(
        self, pool: UpstreamPool, patience: Patience
    ) -> UpstreamConnection | None:
        """Return a connection of ``pool``; None if the attempt has ended before there was one."""
        began_mono_ms = self.last_read_mono_ms
        left_ms = began_mono_ms + patience.first_byte_ms - self._now_mono_ms()
        try:
            async with asyncio.timeout(left_ms / 1_000):
                connection = await pool.take()
        except TimeoutError:
            self.time_out(self._now_mono_ms() - began_mono_ms)
        except LinkDown as error:
            self.fail(error.message)
        else:
            if self.ending is None:
                return connection
            pool.give_back(connection)  # lost meanwhile
        return None

    async def _attempt(
        self,
        pool: UpstreamPool,
        connection: UpstreamConnection,
        request: bytes,
        patience: Patience,
    ) -> None:
        self._connection = connection
        connection.send(request, self)
        if self.started:
            self._client.flow_from(connection)
        watch = _Watch(self, patience, self._client.deadlines, self._now_mono_ms)
        try:
            await self._ended
        finally:
            watch.cancel()
            if self.started:
                self._client.flow_from(None)
            if self.ending is Ending.COMPLETE:
                pool.give_back(connection)
            else:
                connection.abort()

    def _restart(self) -> None:
        self._ended = asyncio.get_running_loop().create_future()
        self._gathered.clear()
        self._held = b""
        self.ending, self.reason, self.unanswered = None, "", False

    def _pass_on(self, data: bytes, events: EventStream) -> None:
        """Begin the answer, or hold ``data``: while it has no token it can still be replaced."""
        data = self._held + data
        if not (events.token_seen or events.done or len(data) > MAX_HELD_BYTES):
            self._held = data
            return
        self._start()
        self._client.write(self._make_head(self.status, self.headers) + chunk(data))

    def _start(self) -> None:
        """Take the client: from here on it is ours to write to, and to be slowed by."""
        if self._claim is not None:
            self._claim.take(self)
        self.started = True
        self._client.flow_from(self._connection)

    def _end(self, ending: Ending, reason: str) -> None:
        if self.ending is None:
            self.ending, self.reason = ending, reason
        if not self._ended.done():
            self._ended.set_result(None)


class _Watch:
    """Ends an exchange that has been silent for too long; set again only when it rings."""

    __slots__ = (
        "_begun_mono_ms",
        "_deadline",
        "_deadlines",
        "_exchange",
        "_now_mono_ms",
        "_patience",
    )

    def __init__(
        self,
        exchange: Exchange,
        patience: Patience,
        deadlines: Deadlines,
        now_mono_ms: Callable[[], float],
    ) -> None:
        self._exchange = exchange
        self._patience = patience
        self._now_mono_ms = now_mono_ms
        self._begun_mono_ms = exchange.last_read_mono_ms
        self._deadlines = deadlines
        self._deadline = deadlines.set(self._begun_mono_ms + patience.first_byte_ms, self._ring)

    def cancel(self) -> None:
        self._deadlines.clear(self._deadline)

    def _ring(self) -> None:
        exchange, patience, now = self._exchange, self._patience, self._now_mono_ms()
        if exchange.started:
            waited, limit = now - exchange.last_read_mono_ms, patience.idle_ms
        else:
            waited, limit = now - self._begun_mono_ms, patience.first_byte_ms
        if waited + 1.0 >= limit:
            exchange.time_out(waited)
        else:
            self._deadline = self._deadlines.set(now + limit - waited, self._ring)


def is_event_stream(headers: list[Header]) -> bool:
    """Whether a response announces events rather than one whole body."""
    return any(
        name == b"content-type" and value.startswith(b"text/event-stream")
        for name, value in headers
    )
