"""The answer of one attempt for a client of this agent: held, passed on, or kept whole.

Until its first token an answer can be replaced by another attempt's, so the head and events without
a token are held back until then.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from agent.formats.sse import EventStream, MalformedStream
from agent.relay.exchange import Ending, Exchange, head_problem
from agent.relay.served_tokens import read_served

if TYPE_CHECKING:
    from agent.core.request.attempt import Attempt
    from agent.formats.model_names import Names
    from agent.relay.messages import Header, Request
    from agent.relay.server import ServerConnection
    from protos.domain.pricing import Usage

#: Largest response that is kept whole before it is passed on.
MAX_WHOLE_RESPONSE_BYTES = 64 * 1024 * 1024
#: Events without a token that are held at the start of a stream.
MAX_HELD_BYTES = 64 * 1024


class AnswerOwner(Protocol):
    """Decides what to do with an answer; may call ``pass_on`` or ``abort`` from these methods."""

    def on_answer_head(self, answer: ClientAnswer) -> None:
        """Status and headers have arrived."""

    def on_progress(self, answer: ClientAnswer, now_mono_ms: float) -> None:
        """The engine generates, but no token for the client has arrived yet."""

    def on_first_token(self, answer: ClientAnswer, now_mono_ms: float) -> None:
        """The first content, reasoning or tool delta has arrived."""

    def on_answer_begun(self, answer: ClientAnswer, now_mono_ms: float) -> None:
        """The answer has no token yet, but cannot be held any longer."""

    def on_answer_ended(self, answer: ClientAnswer) -> None:
        """The answer has ended, other than by ``abort``."""


class ClientAnswer(Exchange):
    """The answer of one attempt at ``request``."""

    def __init__(
        self,
        client: ServerConnection,
        request: Request,
        owner: AnswerOwner,
        attempt: Attempt,
        events: EventStream | None,
        now_mono_ms: Callable[[], float],
        *,
        resumes: bool = False,
    ) -> None:
        super().__init__(client, now_mono_ms)
        self._owner: AnswerOwner | None = owner
        self.attempt = attempt
        self.events = events
        self._asked = request
        self._streaming = False
        self._held = b""
        self._size_bytes = 0
        #: What has come of a response that is not streamed; from its second read on it grows.
        self._whole: bytes | bytearray = b""
        self._progressed = resumes
        self._token_seen = resumes
        #: Headers of the response head, which is sent with the next piece.
        self._head: list[Header] | None = None
        #: The model's names for the target's engine and for the client; None if they are equal.
        self.names: Names | None = None
        #: The usage to write in place of a peer's own, if that is not believed.
        self.recounted: dict[str, object] | None = None
        #: Whether it is no answer to what was asked, by its status or content type.
        self.unfit = False
        #: True if it continues a stream that the client already receives.
        self.started = resumes

    @property
    def streamed(self) -> bool:
        """Whether it was passed to the client while it arrived."""
        return self._streaming and self.started

    @property
    def body(self) -> bytes:
        """The whole body of a response that was not streamed."""
        return bytes(self._whole)

    @property
    def served(self) -> Usage | None:
        """The tokens that the serving agent has counted; None: it does not say."""
        return read_served(self.trailers) if self.trailers else None

    def pass_on(self, headers: list[Header] | None) -> None:
        """Pass it to the client from now on, after a head of ``headers``; None: head was sent."""
        self._head = headers
        self._take_client()

    def release(self) -> None:
        """Drop the reference to the owner, so that no reference cycle is left to collect."""
        self._owner = None

    def on_head(self, status: int, headers: list[Header]) -> None:
        self.status, self.headers = status, headers
        self.attempt.last_read_mono_ms = self._now_mono_ms()
        streams = self.events is not None
        if problem := head_problem(status, headers, streams=streams):
            # A failure of the engine, like a 5xx; nothing of it may reach the client.
            self.status, self.headers, self.unfit = 502, [], True
            self.fail(problem)
            return
        self._streaming = streams and status == 200
        if self._owner is not None:
            self._owner.on_answer_head(self)

    def on_body(self, data: bytes) -> None:
        self._gathered.append(data)
        if not self._streaming:
            self._size_bytes += len(data)
            if self._size_bytes > MAX_WHOLE_RESPONSE_BYTES:
                self.fail("response larger than 64 MiB")

    def _on_read(self) -> None:
        attempt, gathered = self.attempt, self._gathered
        attempt.last_read_mono_ms = now = self._now_mono_ms()
        if not gathered:
            return
        data = gathered[0] if len(gathered) == 1 else b"".join(gathered)
        gathered.clear()
        if not self._streaming:
            self._keep(data)
            return
        events = self.events
        assert events is not None
        before = events.events
        try:
            passed_on = events.feed(data)
        except MalformedStream as error:
            self.fail(f"malformed event stream: {error}")
            return
        if not self._token_seen:
            passed_on = self._before_first_token(events, passed_on, now)
        if passed_on and self.started:
            if self._head is None:
                self._client.write_piece(passed_on)
            else:
                self._write(passed_on)
        attempt.tokens.count(events.events - before, now)
        if events.error_event is not None:
            said = events.error_event.decode("utf-8", "replace")[:300]
            self.fail("the engine failed: " + said)

    def _keep(self, data: bytes) -> None:
        """Keep a part of a whole response; a list of its chunks could take 20 times its size."""
        whole = self._whole
        if isinstance(whole, bytearray):
            whole += data
        elif whole:
            self._whole = bytearray(whole)
            self._whole += data
        else:
            self._whole = data

    def _before_first_token(
        self, events: EventStream, passed_on: bytes, now_mono_ms: float
    ) -> bytes:
        """Hold events before the first token; return what may go to the client now."""
        held = self._held + passed_on if self._held else passed_on
        owner = self._owner
        if owner is None:
            return b""
        if events.token_seen:
            self._token_seen = True
            owner.on_first_token(self, now_mono_ms)
        elif events.progress_seen and not self._progressed:
            self._progressed = True
            owner.on_progress(self, now_mono_ms)
        if not self.started and (events.done or len(held) > MAX_HELD_BYTES) and self.ending is None:
            owner.on_answer_begun(self, now_mono_ms)
        if self.started:
            self._held = b""
            return held
        self._held = held
        return b""

    def _write(self, data: bytes) -> None:
        if self._head is None:
            self._client.write_piece(data)
        else:
            headers, self._head = self._head, None
            self._client.begin_stream(self._asked, 200, headers, data)

    def _on_response_end(self) -> None:
        events = self.events
        if self._streaming and (events is None or not events.done):
            self.fail("the stream ended without its last event")
        else:
            self._end(Ending.COMPLETE, "")

    def _ended(self) -> None:
        if self._owner is not None:
            self._owner.on_answer_ended(self)

    def write_end(self, last: bytes) -> None:
        """Write ``last``, the last events of the stream, which may be empty, and its end."""
        if self._head is not None:
            self._write(last)
            last = b""
        self._client.end_stream(last)
