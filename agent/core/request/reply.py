"""What the client of one request gets: at most one answer, one response head, one end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.core.request.messages import (
    Account,
    Command,
    Ending,
    RespondError,
    RespondWhole,
    WriteEnd,
    WriteErrorEvent,
    WriteHead,
    WriteHeartbeat,
)
from protos.domain.errors import DeadlineExceeded, EngineFailed
from protos.domain.trace import AttemptOutcome, AttemptPurpose
from protos.domain.usage_record import UsageCause

if TYPE_CHECKING:
    from agent.core.request.attempt import Attempt
    from agent.core.request.bookkeeping import Bookkeeping
    from agent.core.request.failures import Failures
    from agent.core.request.log import RequestLog
    from agent.core.request.messages import AttemptEnded
    from agent.core.request.running import RunningAttempts
    from agent.core.request.timing import RequestPolicy, RequestTimers
    from protos.domain.errors import EdgeForgeError
    from protos.domain.pricing import Usage
    from protos.domain.trace import FarTimes


class Reply:
    """Begins the answer and ends the request. Each method returns its commands, in order."""

    __slots__ = (
        "_books",
        "_failures",
        "_head_sent",
        "_log",
        "_running",
        "_timers",
        "answering",
        "over",
    )

    def __init__(
        self,
        books: Bookkeeping,
        running: RunningAttempts,
        timers: RequestTimers,
        failures: Failures,
        log: RequestLog,
    ) -> None:
        self._books = books
        self._running = running
        self._timers = timers
        self._failures = failures
        self._log = log
        #: Whether the client has a response head: an error is then sent as an event.
        self._head_sent = False
        #: The attempt whose answer goes to the client.
        self.answering: Attempt | None = None
        #: Whether the request has ended.
        self.over = False

    # -- the answer

    def begin(self, attempt: Attempt, now_mono_ms: float) -> list[Command]:
        """Let the answer of ``attempt`` go to the client, and cut every other attempt. Hot."""
        commands = self._running.overtaken_by(attempt, now_mono_ms)
        self.answering = attempt
        self._head_sent = True
        self._books.answering(attempt, 200)
        self._timers.answering()
        commands.append(WriteHead(attempt))
        return commands

    def heartbeat(self, now_mono_ms: float, *, client_stalled: bool) -> list[Command]:
        """Send a sign of life if one is due and the client reads."""
        answering = self.answering
        if not self._timers.beat(answering, now_mono_ms) or client_stalled:
            return []
        self._head_sent = True
        attempt = answering or self._first_running()
        return [WriteHeartbeat(attempt)]

    # -- its end

    def answered(self, event: AttemptEnded, now_mono_ms: float) -> list[Command]:
        """End with the whole answer of ``event.attempt``, or the end of its stream. Hot."""
        attempt, books, log = event.attempt, self._books, self._log
        commands = self._running.overtaken_by(attempt, now_mono_ms)
        books.succeeded(attempt)
        # Another engine could answer the request, so the earlier failures were the engines'.
        for node_id in self._failures.suspects:
            books.failed(node_id, now_mono_ms, of_link=False, forget=False)
        whole = event.ending is Ending.WHOLE
        if attempt.resumes is not None:
            log.continued = True
            books.note(attempt, AttemptOutcome.CONTINUED, now_mono_ms)
        else:
            books.note(attempt, AttemptOutcome.ANSWERED, now_mono_ms)
            if whole:
                books.answering(attempt, event.status)
        log.answered = True
        log.hedge_won = attempt.purpose is AttemptPurpose.SECOND_COPY
        failed = whole and (self._head_sent or event.status >= 400)
        books.account(
            attempt.first,
            event.usage,
            event.far,
            now_mono_ms,
            UsageCause.FAILED if failed else UsageCause.COMPLETE,
            whole=whole,
            visible=event.visible,
        )
        commands.append(Account())
        if not whole:
            commands.append(WriteEnd(attempt))
        elif self._head_sent:
            error = EngineFailed("the engine answered without a stream", "send the request again")
            log.error = error.message
            commands.append(WriteErrorEvent(error, attempt if event.status >= 400 else None))
        else:
            commands.append(RespondWhole(attempt))
        self.over = True
        return commands

    def lacked_only_its_end(
        self, broken: Attempt, usage: Usage | None, far: FarTimes | None, now_mono_ms: float
    ) -> list[Command]:
        """End a stream that broke after its last token as if it had ended by itself."""
        self._log.answered = True
        cause = UsageCause.COMPLETE
        self._books.account(broken.first, usage, far, now_mono_ms, cause, whole=False)
        self.over = True
        return [Account(), WriteEnd(broken)]

    def broken(
        self, broken: Attempt, usage: Usage | None, far: FarTimes | None, now_mono_ms: float
    ) -> list[Command]:
        """End a broken stream with an error event, when no other replica continues it."""
        log = self._log
        log.broken = True
        log.error = log.attempts[-1].detail
        cause = UsageCause.ENGINE_LOST
        self._books.account(broken.first, usage, far, now_mono_ms, cause, whole=False)
        self.over = True
        error = EngineFailed("the engine failed during the stream", "send the request again")
        return [Account(), WriteErrorEvent(error)]

    def out_of_targets(self, deployment: str, error: EdgeForgeError | None) -> list[Command]:
        """Give up: no target is left. An engine's own 5xx is passed on unchanged."""
        failures, log = self._failures, self._log
        why = failures.error(deployment, error)
        answer = failures.engines_answer
        if answer is None:
            return self.refuse(why)
        log.refused(why)
        self._books.answering(answer.attempt, answer.status)
        self.over = True
        if self._head_sent:
            return [Account(), WriteErrorEvent(why, answer.attempt)]
        return [Account(), RespondWhole(answer.attempt)]

    def refuse(self, error: EdgeForgeError) -> list[Command]:
        """End with ``error``. What is shed is counted as that, and leaves no usage record."""
        self._log.refused(error)
        return self._ended_by(error, [] if self._log.shed else [Account()])

    def _ended_by(self, error: EdgeForgeError, commands: list[Command]) -> list[Command]:
        self.over = True
        commands.append(WriteErrorEvent(error) if self._head_sent else RespondError(error))
        return commands

    def client_gone(
        self, usage: Usage | None, far: FarTimes | None, now_mono_ms: float
    ) -> list[Command]:
        """Cut all attempts of a client that has left; it pays for what was generated."""
        log = self._log
        answering = self.answering or self._first_running()
        commands = self._running.cut_all(AttemptOutcome.CLIENT_GONE, now_mono_ms)
        log.client_gone = True
        if answering is not None:
            first = answering.first
            self._books.answering(first, log.status)
            cause = UsageCause.CLIENT_GONE
            self._books.account(first, usage, far, now_mono_ms, cause, whole=False)
        log.cause = UsageCause.CLIENT_GONE
        self.over = True
        commands.append(Account())
        return commands

    def cut_short(
        self,
        outcome: AttemptOutcome,
        error: EdgeForgeError,
        usage: Usage | None,
        far: FarTimes | None,
        now_mono_ms: float,
    ) -> list[Command]:
        """Cut all attempts, account what the client has received, and end with ``error``."""
        log, answering = self._log, self.answering
        commands = self._running.cut_all(outcome, now_mono_ms)
        revoked = outcome is AttemptOutcome.REVOKED
        log.cause = UsageCause.REVOKED if revoked else UsageCause.CUT_SHORT
        if answering is not None:
            self._books.account(answering.first, usage, far, now_mono_ms, log.cause, whole=False)
        log.refused(error)
        log.shed = ""  # it was admitted
        commands.append(Account())
        return self._ended_by(error, commands)

    def wait_no_longer(
        self, policy: RequestPolicy, usage: Usage | None, now_mono_ms: float
    ) -> list[Command]:
        """End a request that has waited for the next byte as long as one may."""
        self._log.broken = self.answering is not None
        hours = policy.max_wait_ms / 3_600_000.0
        error = DeadlineExceeded(f"nothing came for {hours:.1f} h", "send the request again")
        return self.cut_short(AttemptOutcome.LATE, error, usage, None, now_mono_ms)

    def abandoned(self, now_mono_ms: float) -> list[Command]:
        """Cut all attempts and send the client nothing more."""
        self.over = True
        return self._running.cut_all(AttemptOutcome.NOT_SENT, now_mono_ms)

    def _first_running(self) -> Attempt | None:
        attempts = self._running.attempts
        return attempts[0] if attempts else None
