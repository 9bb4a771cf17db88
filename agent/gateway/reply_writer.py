"""Writes what the client of one request gets: a stream, a whole answer, or an error."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from agent.formats.errors import engine_error
from agent.formats.service_tier import with_word
from agent.formats.usage import with_usage
from agent.gateway.response_heads import ResponseHeads
from agent.relay.client_answer import ClientAnswer

if TYPE_CHECKING:
    from agent.core.request.attempt import Attempt
    from agent.core.request.log import RequestLog
    from agent.formats import ApiFormat
    from agent.relay.messages import Request
    from agent.relay.server import ServerConnection
    from protos.domain.errors import EdgeForgeError


class ReplyWriter:
    """Writes to one client, in the words of the format it asked in."""

    __slots__ = (
        "_client",
        "_log",
        "_now_mono_ms",
        "_request",
        "_service_word",
        "api",
        "head_sent",
        "heads",
    )

    def __init__(
        self,
        client: ServerConnection,
        request: Request,
        api: ApiFormat,
        log: RequestLog,
        now_mono_ms: Callable[[], float],
        service_word: str = "",
    ) -> None:
        self._client = client
        self._request = request
        self.api = api
        self._log = log
        self.heads = ResponseHeads(log)
        self._now_mono_ms = now_mono_ms
        #: The ``service_tier`` of the answer; empty: the client did not ask for one.
        self._service_word = service_word
        #: Whether a stream's response head has been sent.
        self.head_sent = False

    def begin(self, answer: ClientAnswer) -> None:
        """Pass the stream of ``answer`` on, with a response head first if none was sent. Hot."""
        headers = None
        if not self.head_sent:
            self.head_sent = True
            headers = self.heads.stream(answer.attempt, answer.headers, self._now_mono_ms())
        answer.pass_on(headers)

    def heartbeat(self) -> None:
        """Write a sign of life, with a response head first if none was sent."""
        heartbeat = self.api.heartbeat
        if self.head_sent:
            self._client.write_piece(heartbeat)
        else:
            self.head_sent = True
            self._client.begin_stream(self._request, 200, self.heads.early_stream(), heartbeat)

    def end(self, answer: ClientAnswer) -> None:
        """Write the end of the stream of ``answer``. Hot."""
        events = answer.events
        answer.write_end(b"" if events is None else events.last_events())

    def whole(self, answer: ClientAnswer) -> None:
        """Send the whole response of ``answer``."""
        log, whole = self._log, answer.body
        if answer.status >= 400:
            whole = self.api.engine_refusal(answer.status, whole)
        else:
            whole = self.api.as_asked(whole, answer.names)
            if answer.recounted is not None:
                whole = with_usage(whole, answer.recounted)
            if self._service_word and self.api.generates:
                whole = with_word(whole, self._service_word, in_usage=self.api.is_anthropic)
        headers = self.heads.whole(
            answer.attempt, answer.headers, self._now_mono_ms(), log.cost.total_nano_usd
        )
        self._client.respond(self._request, answer.status, headers, whole)

    def error(self, error: EdgeForgeError) -> None:
        """Send an error response."""
        status, headers, body = self.api.render_error(error)
        self._client.respond(self._request, status, [*headers, *self.heads.limits], body)

    def error_event(
        self, error: EdgeForgeError, answering: ClientAnswer | None, refused: Attempt | None
    ) -> None:
        """End the stream of ``answering`` with an error event, and close the connection.

        ``refused``: its engine's error is passed on in place of ``error``.
        """
        events = answering.events if answering is not None else None
        sent = events.passed if events is not None else 0
        if refused is not None:
            answer = answer_of(refused)
            error = engine_error(answer.status, answer.body)
        last = events.kept_back() if events is not None else b""
        self._client.end_stream(last + self.api.error_event(error, sent))
        self._client.close()


def answer_of(attempt: Attempt) -> ClientAnswer:
    """Return the answer to ``attempt``, which was sent."""
    answer = attempt.io
    assert isinstance(answer, ClientAnswer)
    return answer
