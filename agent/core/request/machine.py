"""One request as a sans-io state machine: events in, commands out.

The runner performs each command in order and reports the results as events; time is an argument.

    begun -> asking -> answering -> over
    asking -> asking       the target failed, refused, or another is predicted sooner
    answering -> answering the stream broke, and another replica continues it
    any state -> over      the client left, or no target is left

While asking, a second copy may run beside a late first one; the first token decides between them.
Waiting is not failing: an attempt is cut only if another target is predicted to be sooner, if its
target is known to be gone, or after ``max_wait_ms`` of silence.

Laws: at most one attempt's answer reaches the client; one response head, one end; every attempt
that was asked ends or is cancelled; no command is returned after the request is over.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from agent.core.attempts import Verdict, verdict_of_status
from agent.core.request.bookkeeping import Bookkeeping
from agent.core.request.failures import Failures
from agent.core.request.late import LateFirstToken
from agent.core.request.messages import (
    Abandoned,
    Account,
    AnswerBegun,
    Ask,
    AttemptEnded,
    Begun,
    Cancel,
    ClientGone,
    Command,
    CutClient,
    CutShort,
    DeadlinePassed,
    Ending,
    EngineProgressed,
    Event,
    FirstToken,
    NotSent,
    RespondError,
    RespondWhole,
    Rest,
    WriteEnd,
    WriteErrorEvent,
    WriteHead,
    WriteHeartbeat,
)
from agent.core.request.placing import Placer
from agent.core.request.running import RunningAttempts
from agent.core.request.timing import EARLY_MS, RequestPolicy, RequestTimers
from protos.domain.errors import DeadlineExceeded, EdgeForgeError, EngineFailed, NoReplica
from protos.domain.trace import AttemptOutcome, AttemptPurpose

if TYPE_CHECKING:
    from agent.core.request.attempt import Attempt
    from agent.core.request.context import RequestContext
    from agent.core.request.log import RequestLog
    from agent.core.request.state import RouterState
    from protos.domain.pricing import Usage
    from protos.domain.router import Placement
    from protos.domain.trace import FarTimes


class RequestMachine:
    """One request. Public attributes are read-only for others."""

    def __init__(
        self, state: RouterState, request: RequestContext, policy: RequestPolicy, log: RequestLog
    ) -> None:
        self._state = state
        self._request = request
        self._policy = policy
        self._log = log
        self._placer = Placer(state, request)
        self._books = Bookkeeping(state, request, log)
        self._timers = RequestTimers(policy)
        self._running = RunningAttempts(state, self._placer, self._books)
        self._failures = Failures()
        self._late = LateFirstToken(
            state.hedges, self._placer, self._books, self._running, self._timers
        )
        #: Attempts asked one after the other, without second copies.
        self._asked = 0
        #: The attempt whose answer goes to the client.
        self._answering: Attempt | None = None
        #: Whether the client has a response head: an error is then sent as an event.
        self._head_sent = False
        self.over = False

    @property
    def next_deadline_mono_ms(self) -> float:
        """When ``DeadlinePassed`` is due at the latest; inf: never."""
        return self._timers.next_mono_ms

    def handle(self, event: Event, now_mono_ms: float) -> list[Command]:
        """Handle ``event`` and return the commands, in order. Hot: about five events a request.

        Ignores events that come after the end.
        """
        if self.over:
            return []
        if isinstance(event, FirstToken):
            return self._on_first_token(event, now_mono_ms)
        if isinstance(event, AttemptEnded):
            return self._on_ended(event, now_mono_ms)
        if isinstance(event, Begun):
            return self._on_begun(now_mono_ms)
        if isinstance(event, DeadlinePassed):
            return self._on_deadline(event, now_mono_ms)
        if isinstance(event, EngineProgressed):
            self._books.progressed(event.attempt, now_mono_ms)
            return []
        if isinstance(event, AnswerBegun):
            return self._begin_answer(event.attempt, now_mono_ms)
        if isinstance(event, ClientGone):
            return self._on_client_gone(event.usage, event.far, now_mono_ms)
        if isinstance(event, Abandoned):
            self.over = True
            return self._running.cut_all(AttemptOutcome.NOT_SENT, now_mono_ms)
        if isinstance(event, CutShort):
            outcome = AttemptOutcome.NOT_SENT
            return self._end_all(outcome, event.error, event.usage, event.far, now_mono_ms)
        return self._on_not_sent(event, now_mono_ms)

    # -- asking

    def _on_begun(self, now_mono_ms: float) -> list[Command]:
        if self._request.stream:
            self._state.hedges.earn()
            self._state.exploration.budget.earn()
        self._timers.begin(now_mono_ms, stream=self._request.stream)
        return self._ask_next(now_mono_ms)

    def _ask_next(self, now_mono_ms: float) -> list[Command]:
        """Ask the next target, or give up."""
        if self._asked >= self._policy.max_attempts:
            return self._out_of_targets(None, now_mono_ms)
        try:
            placement = self._placer.next_attempt(now_mono_ms)
        except NoReplica as none_left:
            return self._out_of_targets(none_left, now_mono_ms)
        except EdgeForgeError as error:
            return self._give_up(error)
        return [self._ask(placement, now_mono_ms)]

    def _ask(self, placement: Placement, now_mono_ms: float) -> Ask:
        finding = self._placer.finding
        self._asked += 1
        self._books.promised(placement)
        purpose = AttemptPurpose.SERVE if finding is None else finding.purpose
        attempt = self._running.begin(placement, purpose, now_mono_ms)
        attempt.finding = finding
        if self._request.stream:
            self._expect(attempt)
        return Ask(attempt)

    def _expect(self, attempt: Attempt) -> None:
        """Set when another target is to be considered, from the prediction of this one."""
        placer, last = self._placer, self._asked >= self._policy.max_attempts
        other_ms = None if last else placer.other_ttft_ms_p99(attempt.placement)
        expectation = placer.expectation(attempt, other_ms)
        self._timers.expect(attempt, expectation, last=last, may_hedge=self._state.hedges.enabled)

    def _on_not_sent(self, event: NotSent, now_mono_ms: float) -> list[Command]:
        attempt = event.attempt
        self._running.ended(attempt, now_mono_ms)
        self._books.note(attempt, AttemptOutcome.NOT_SENT, now_mono_ms, event.reason)
        if attempt.resumes is not None:
            return self._continue(attempt.resumes, event.rest, None, None, now_mono_ms)
        return [] if self._running.attempts else self._ask_next(now_mono_ms)

    # -- the answer

    def _on_first_token(self, event: FirstToken, now_mono_ms: float) -> list[Command]:
        attempt = event.attempt
        attempt.first_token_mono_ms = now_mono_ms
        self._books.first_token(attempt, event.load, now_mono_ms)
        if self._answering is attempt:
            return []
        return self._begin_answer(attempt, now_mono_ms)

    def _begin_answer(self, attempt: Attempt, now_mono_ms: float) -> list[Command]:
        """Let the answer of ``attempt`` go to the client, and cut every other attempt."""
        commands = self._running.overtaken_by(attempt, now_mono_ms)
        self._answering = attempt
        self._head_sent = True
        self._books.answering(attempt, 200)
        self._timers.answering()
        commands.append(WriteHead(attempt))
        return commands

    def _on_ended(self, event: AttemptEnded, now_mono_ms: float) -> list[Command]:
        attempt = event.attempt
        self._running.ended(attempt, now_mono_ms)
        if attempt.first_token_mono_ms is None:
            self._books.reported(attempt, event.load, now_mono_ms)
        if attempt.resumes is not None and event.ending is not Ending.STREAM:
            why = event.reason or f"answered {event.status}"
            self._fail(
                attempt, event, AttemptOutcome.FAILED, f"could not go on: {why}", now_mono_ms
            )
            return self._continue(attempt.resumes, event.rest, event.usage, event.far, now_mono_ms)
        if event.ending is Ending.STREAM:
            return self._on_answered(event, now_mono_ms)
        if event.ending is Ending.WHOLE:
            verdict = verdict_of_status(event.status)
            if verdict.answered:
                return self._on_answered(event, now_mono_ms)
            return self._on_failed(event, verdict, now_mono_ms)
        if attempt is self._answering:
            self._fail(attempt, event, AttemptOutcome.BROKEN, event.reason, now_mono_ms)
            return self._continue(attempt, event.rest, event.usage, event.far, now_mono_ms)
        return self._on_failed(event, Verdict.failed(event.reason), now_mono_ms)

    def _on_answered(self, event: AttemptEnded, now_mono_ms: float) -> list[Command]:
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
        books.account(attempt.first, event.usage, event.far, now_mono_ms, whole=whole)
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

    # -- failures

    def _on_failed(
        self, event: AttemptEnded, verdict: Verdict, now_mono_ms: float
    ) -> list[Command]:
        """Handle an attempt that failed before its client saw any part of it."""
        attempt = event.attempt
        self._failures.add(event, verdict)
        if verdict.engine_error:
            self._books.note(attempt, AttemptOutcome.ENGINE_ERROR, now_mono_ms, verdict.reason)
        else:
            refused = event.ending is Ending.WHOLE
            outcome = AttemptOutcome.REFUSED if refused else AttemptOutcome.FAILED
            self._fail(attempt, event, outcome, verdict.reason, now_mono_ms)
        if self._running.attempts:  # the other copy is still running
            self._timers.one_left(now_mono_ms)
            return []
        self._log.replaced += 1
        return self._ask_next(now_mono_ms)

    def _fail(
        self,
        attempt: Attempt,
        event: AttemptEnded,
        outcome: AttemptOutcome,
        detail: str,
        now_mono_ms: float,
    ) -> None:
        """Count a failure of the target and log it."""
        of_link = event.status == 0
        self._books.failed(
            attempt.node_id,
            now_mono_ms,
            of_link=of_link,
            forget=of_link or attempt is self._answering or attempt.resumes is not None,
        )
        self._books.note(attempt, outcome, now_mono_ms, detail)

    def _continue(
        self,
        broken: Attempt,
        rest: Rest,
        usage: Usage | None,
        far: FarTimes | None,
        now_mono_ms: float,
    ) -> list[Command]:
        """Let another replica continue a broken stream, or end it with an error event."""
        first, log = broken.first, self._log
        if rest is Rest.END:
            log.answered = True
            self._books.account(first, usage, far, now_mono_ms, whole=False)
            self.over = True
            return [Account(), WriteEnd(broken)]
        if rest is Rest.TEXT and len(self._placer.tried) < self._policy.max_attempts:
            placement = self._placer.another(now_mono_ms)
            if placement is not None:
                placement = replace(placement, billing_tier=first.placement.billing_tier)
                purpose = AttemptPurpose.REST
                self._answering = self._running.begin(
                    placement, purpose, now_mono_ms, resumes=broken
                )
                return [Ask(self._answering)]
        log.broken = True
        log.error = log.attempts[-1].detail
        self._books.account(first, usage, far, now_mono_ms, whole=False)
        self.over = True
        error = EngineFailed("the engine failed during the stream", "send the request again")
        return [Account(), WriteErrorEvent(error)]

    def _out_of_targets(self, error: NoReplica | None, now_mono_ms: float) -> list[Command]:
        """Give up: no target is left. An engine's own 5xx is passed on unchanged."""
        failures = self._failures
        why = failures.error(self._request.deployment.name, error)
        answer = failures.engines_answer
        if answer is None:
            return self._give_up(why)
        self._log.refused(why)
        self._log.status, self._log.node_id = answer.status, answer.attempt.node_id
        self.over = True
        if self._head_sent:
            return [WriteErrorEvent(why, answer.attempt)]
        return [RespondWhole(answer.attempt)]

    def _give_up(self, error: EdgeForgeError) -> list[Command]:
        self._log.refused(error)
        self.over = True
        return [WriteErrorEvent(error)] if self._head_sent else [RespondError(error)]

    def _on_client_gone(
        self, usage: Usage | None, far: FarTimes | None, now_mono_ms: float
    ) -> list[Command]:
        log = self._log
        answering = self._answering or self._first_running()
        commands = self._running.cut_all(AttemptOutcome.CLIENT_GONE, now_mono_ms)
        log.client_gone = True
        if answering is not None:
            first = answering.first
            self._books.answering(first, log.status)
            self._books.account(first, usage, far, now_mono_ms, whole=False)
        self.over = True
        commands.append(Account())
        return commands

    # -- time

    def _on_deadline(self, event: DeadlinePassed, now_mono_ms: float) -> list[Command]:
        timers, waiting = self._timers, self._answering is None
        commands: list[Command] = []
        if timers.hedge_is_due(now_mono_ms) and waiting:
            copy = self._late.second_copy(now_mono_ms)
            if copy is not None:
                commands.append(Ask(copy))
        if timers.patience_is_due(now_mono_ms) and waiting:
            commands += self._replace_late(now_mono_ms)
        if timers.silence_is_due(now_mono_ms):
            commands += self._check_silence(event, now_mono_ms)
        if not self.over and timers.heartbeat_is_due(now_mono_ms):
            commands += self._heartbeat(event, now_mono_ms)
        return commands

    def _replace_late(self, now_mono_ms: float) -> list[Command]:
        if self._asked >= self._policy.max_attempts:
            return []
        replacement = self._late.replacement(now_mono_ms)
        if replacement is None:
            return []
        cancel, other = replacement
        self._log.replaced += 1
        return [cancel, self._ask(other, now_mono_ms)]

    def _check_silence(self, event: DeadlinePassed, now_mono_ms: float) -> list[Command]:
        """Give up silent attempts whose target is gone; all others keep waiting."""
        commands: list[Command] = []
        self._timers.checked_silence(self._running.attempts, now_mono_ms)
        for attempt in list(self._running.attempts):
            silent_ms = now_mono_ms - max(attempt.began_mono_ms, attempt.last_read_mono_ms)
            if not self._timers.is_silent(silent_ms):
                continue
            answering = attempt is self._answering
            if answering and event.client_stalled:
                return [*self._on_client_gone(event.usage, None, now_mono_ms), CutClient()]
            if silent_ms + EARLY_MS >= self._policy.max_wait_ms:
                return self._wait_no_longer(event.usage, now_mono_ms)
            gone = not self._state.live.is_reachable(attempt.node_id)
            elsewhere = answering and event.rest is Rest.TEXT
            if gone or (elsewhere and self._placer.another(now_mono_ms) is not None):
                reason = f"nothing came for {silent_ms:.0f} ms"
                commands.append(Cancel(attempt))
                lost = AttemptEnded(
                    attempt, Ending.LOST, 200 if answering else 0, reason, event.usage
                )
                lost.rest = event.rest
                commands += self._on_ended(lost, now_mono_ms)
                if self.over:
                    break
        return commands

    def _wait_no_longer(self, usage: Usage | None, now_mono_ms: float) -> list[Command]:
        hours = self._policy.max_wait_ms / 3_600_000.0
        error = DeadlineExceeded(f"nothing came for {hours:.1f} h", "send the request again")
        return self._end_all(AttemptOutcome.LATE, error, usage, None, now_mono_ms)

    def _end_all(
        self,
        outcome: AttemptOutcome,
        error: EdgeForgeError,
        usage: Usage | None,
        far: FarTimes | None,
        now_mono_ms: float,
    ) -> list[Command]:
        """End the request with ``error``; what was generated so far is accounted."""
        answering = self._answering
        commands = self._running.cut_all(outcome, now_mono_ms)
        if answering is not None:
            self._log.broken = True
            self._books.account(answering.first, usage, far, now_mono_ms, whole=False)
            commands.append(Account())
        return [*commands, *self._give_up(error)]

    def _first_running(self) -> Attempt | None:
        attempts = self._running.attempts
        return attempts[0] if attempts else None

    def _heartbeat(self, event: DeadlinePassed, now_mono_ms: float) -> list[Command]:
        answering = self._answering
        if not self._timers.beat(answering, now_mono_ms) or event.client_stalled:
            return []
        self._head_sent = True
        attempt = answering or self._first_running()
        return [WriteHeartbeat(attempt)]
