"""One request as a sans-io state machine: events in, commands out.

The runner performs each command in order and reports the results as events; time is an argument.

    begun -> asking -> answering -> over
    asking -> asking       the target failed, refused, or another is predicted sooner
    answering -> answering the stream broke, and another replica continues it
    any state -> over      the client left, or no target is left

While asking, a second copy may run beside a late first one; the first token decides between them.
What is not in this node's engine is loaded before a place there is taken. Waiting is not failing:
an attempt is cut only if another target is predicted to be sooner, if its target is known to be
gone, or after ``max_wait_ms`` of silence.

Laws: at most one attempt's answer reaches the client; one response head, one end; every attempt
that was asked ends or is cancelled; no command is returned after the request is over.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.core.attempts import Verdict, verdict_of_status
from agent.core.request.bookkeeping import Bookkeeping
from agent.core.request.cold import ColdTargets
from agent.core.request.failures import CROWDED, Failures
from agent.core.request.late import LateFirstToken
from agent.core.request.messages import (
    Abandoned,
    AnswerBegun,
    Ask,
    AttemptEnded,
    BecameResident,
    Begun,
    Cancel,
    ClientGone,
    Command,
    CouldNotLoad,
    CutShort,
    DeadlinePassed,
    Ending,
    EngineProgressed,
    Event,
    FirstToken,
    Hold,
    LoadedThere,
    MakeResident,
    NotSent,
    PlaceDecided,
    Rest,
    TableChanged,
)
from agent.core.request.placing import Placer
from agent.core.request.reply import Reply
from agent.core.request.running import RunningAttempts
from agent.core.request.silence import SilentTargets
from agent.core.request.timing import RequestPolicy, RequestTimers
from agent.core.request.usage import billed_as
from agent.core.revocation import revoked
from protos.domain.errors import EdgeForgeError, NoReplica
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
        self._reply = Reply(self._books, self._running, self._timers, self._failures, log)
        self._late = LateFirstToken(
            state.hedges, self._placer, self._books, self._running, self._timers
        )
        self._cold = ColdTargets(self._placer, self._books, self._running, self._failures)
        self._silent = SilentTargets(
            state, policy, self._placer, self._running, self._timers, self._reply
        )
        #: Attempts asked one after the other, without second copies.
        self._asked = 0

    @property
    def over(self) -> bool:
        """Whether the request has ended."""
        return self._reply.over

    @property
    def next_deadline_mono_ms(self) -> float:
        """When ``DeadlinePassed`` is due at the latest; inf: never."""
        return self._timers.next_mono_ms

    def handle(self, event: Event, now_mono_ms: float) -> list[Command]:
        """Handle ``event`` and return the commands, in order. Hot: about five events a request.

        Ignores events that come after the end.
        """
        if self._reply.over:
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
            return self._reply.begin(event.attempt, now_mono_ms)
        return self._handle_rare(event, now_mono_ms)

    def _handle_rare(self, event: Event, now_mono_ms: float) -> list[Command]:
        if isinstance(event, TableChanged):
            return self._on_table_changed(event, now_mono_ms)
        if isinstance(event, PlaceDecided):
            running = event.attempt in self._running.attempts  # else it was cut meanwhile
            return self._on_place(event.attempt, now_mono_ms) if running else []
        if isinstance(event, BecameResident | CouldNotLoad):
            running = event.attempt in self._running.attempts
            return self._on_load(event, now_mono_ms) if running else []
        if isinstance(event, LoadedThere):
            self._books.loaded_there(event, now_mono_ms)
            return []
        if isinstance(event, ClientGone):
            return self._reply.client_gone(event.usage, event.far, now_mono_ms)
        if isinstance(event, Abandoned):
            return self._reply.abandoned(now_mono_ms)
        if isinstance(event, NotSent):
            return self._on_not_sent(event, now_mono_ms)
        if isinstance(event, CutShort):
            self._log.broken = self._reply.answering is not None
            outcome = AttemptOutcome.NOT_SENT
            return self._reply.cut_short(outcome, event.error, event.usage, event.far, now_mono_ms)
        raise AssertionError(f"no such event: {event!r}")

    @property
    def is_revoked(self) -> bool:
        """Whether ``TableChanged`` would do anything now. Hot: for all requests at each change."""
        if self._reply.over:
            return False
        return self._revoked() is not None or bool(self._running.on_lost_nodes(self._request))

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
            return self._reply.out_of_targets(self._request.deployment.name, None)
        try:
            placement = self._placer.next_attempt(now_mono_ms)
        except NoReplica as none_left:
            return self._reply.out_of_targets(self._request.deployment.name, none_left)
        except EdgeForgeError as error:
            return self._reply.refuse(error)
        return self._ask(placement, now_mono_ms)

    def _ask(self, placement: Placement, now_mono_ms: float) -> list[Command]:
        finding = self._placer.finding
        self._asked += 1
        placement = self._books.promised(placement)
        purpose = AttemptPurpose.SERVE if finding is None else finding.purpose
        attempt = self._running.begin(placement, purpose, now_mono_ms)
        attempt.finding = finding
        if self._request.stream:
            self._late.expect(attempt, last=self._asked >= self._policy.max_attempts)
        return self._send(attempt, now_mono_ms)

    def _send(self, attempt: Attempt, now_mono_ms: float) -> list[Command]:
        """Ask the target of ``attempt``, once this node's engine has a place if it is that one."""
        if attempt.loading:
            return [MakeResident(attempt)]
        place = attempt.place
        if place is None:
            return [Ask(attempt)]
        if place.served_mono_ms is not None:
            return self._ask_here(attempt, now_mono_ms)
        if place.waits:
            return [Hold(attempt)]
        return self._on_place(attempt, now_mono_ms)

    def _on_place(self, attempt: Attempt, now_mono_ms: float) -> list[Command]:
        """Ask this node's engine, or another target if the account has too much waiting here."""
        place = attempt.place
        assert place is not None
        if place.retry_after_s is None:
            self._books.admitted(attempt, now_mono_ms)
            return self._ask_here(attempt, now_mono_ms)
        self._running.ended(attempt, now_mono_ms)
        self._failures.crowded(place.retry_after_s)
        self._books.note(attempt, AttemptOutcome.REFUSED, now_mono_ms, CROWDED)
        return self._instead(attempt, Rest.TEXT, now_mono_ms)

    def _ask_here(self, attempt: Attempt, now_mono_ms: float) -> list[Command]:
        """Ask this node's engine, unless what is asked for has left it since it was placed."""
        if self._cold.is_here(attempt, now_mono_ms):
            return [Ask(attempt)]
        self._asked -= attempt.resumes is None  # it was not sent
        return self._instead(attempt, Rest.TEXT, now_mono_ms)

    def _on_load(self, event: BecameResident | CouldNotLoad, now_mono_ms: float) -> list[Command]:
        """Go on after a load at this node, or ask another target if it failed."""
        if self._cold.loaded(event, now_mono_ms):
            return self._send(event.attempt, now_mono_ms)
        self._asked -= isinstance(event, BecameResident) and event.attempt.resumes is None
        return self._instead(event.attempt, Rest.TEXT, now_mono_ms)

    def _instead(self, attempt: Attempt, rest: Rest, now_mono_ms: float) -> list[Command]:
        """Go on without ``attempt``, which has ended before its target was asked."""
        if attempt.resumes is not None:
            return self._continue(attempt.resumes, rest, None, None, now_mono_ms)
        return [] if self._running.attempts else self._ask_next(now_mono_ms)

    def _on_not_sent(self, event: NotSent, now_mono_ms: float) -> list[Command]:
        attempt = event.attempt
        self._running.ended(attempt, now_mono_ms)
        self._books.note(attempt, AttemptOutcome.NOT_SENT, now_mono_ms, event.reason)
        return self._instead(attempt, event.rest, now_mono_ms)

    # -- the answer

    def _on_first_token(self, event: FirstToken, now_mono_ms: float) -> list[Command]:
        attempt = event.attempt
        attempt.first_token_mono_ms = now_mono_ms
        self._books.first_token(attempt, event.load, now_mono_ms)
        if self._reply.answering is attempt:
            return []
        return self._reply.begin(attempt, now_mono_ms)

    def _on_ended(self, event: AttemptEnded, now_mono_ms: float) -> list[Command]:
        attempt = event.attempt
        attempt.counted = event.usage
        self._running.ended(attempt, now_mono_ms)
        if attempt.first_token_mono_ms is None:
            self._books.reported(attempt, event.load, now_mono_ms)
        if event.stale:
            self._cold.stale(attempt, event.way, now_mono_ms)
            return self._instead(attempt, Rest.TEXT, now_mono_ms)
        if attempt.resumes is not None and event.ending is not Ending.STREAM:
            why = event.reason or f"answered {event.status}"
            self._books.fault(event, AttemptOutcome.FAILED, f"could not go on: {why}", now_mono_ms)
            return self._continue(attempt.resumes, event.rest, event.usage, event.far, now_mono_ms)
        if event.ending is Ending.STREAM:
            return self._reply.answered(event, now_mono_ms)
        if event.ending is Ending.WHOLE:
            verdict = verdict_of_status(event.status, event.reason)
            if verdict.answered:
                return self._reply.answered(event, now_mono_ms)
            return self._on_failed(event, verdict, now_mono_ms)
        if attempt is self._reply.answering:
            self._books.fault(event, AttemptOutcome.BROKEN, event.reason, now_mono_ms, begun=True)
            return self._continue(attempt, event.rest, event.usage, event.far, now_mono_ms)
        return self._on_failed(event, Verdict.failed(event.reason), now_mono_ms)

    # -- failures

    def _on_failed(
        self, event: AttemptEnded, verdict: Verdict, now_mono_ms: float
    ) -> list[Command]:
        """Handle an attempt that failed before its client saw any part of it."""
        attempt = event.attempt
        if event.load is not None and event.load.retry_after_s is not None:
            self._failures.crowded(event.load.retry_after_s)
            self._books.note(attempt, AttemptOutcome.REFUSED, now_mono_ms, CROWDED)
            return self._after_failure(now_mono_ms)
        self._failures.add(event, verdict)
        if verdict.engine_error:
            self._books.note(attempt, AttemptOutcome.ENGINE_ERROR, now_mono_ms, verdict.reason)
        else:
            refused = event.ending is Ending.WHOLE
            outcome = AttemptOutcome.REFUSED if refused else AttemptOutcome.FAILED
            begun = attempt is self._reply.answering
            self._books.fault(event, outcome, verdict.reason, now_mono_ms, begun=begun)
        return self._after_failure(now_mono_ms)

    def _after_failure(self, now_mono_ms: float) -> list[Command]:
        """Wait for the other copy if one is running, else ask the next target."""
        if self._running.attempts:
            self._timers.one_left(now_mono_ms)
            return []
        self._log.replaced += 1
        return self._ask_next(now_mono_ms)

    def _continue(
        self,
        broken: Attempt,
        rest: Rest,
        usage: Usage | None,
        far: FarTimes | None,
        now_mono_ms: float,
    ) -> list[Command]:
        """Let another replica continue a broken stream, or end it with an error event."""
        if rest is Rest.END:
            return self._reply.lacked_only_its_end(broken, usage, far, now_mono_ms)
        if rest is Rest.TEXT and len(self._placer.tried) < self._policy.max_attempts:
            placement = self._placer.another(now_mono_ms, resumes=True)
            if placement is not None:
                placement = billed_as(placement, broken.first.placement)
                purpose = AttemptPurpose.REST
                self._reply.answering = self._running.begin(
                    placement, purpose, now_mono_ms, resumes=broken
                )
                return self._send(self._reply.answering, now_mono_ms)
        return self._reply.broken(broken, usage, far, now_mono_ms)

    # -- time

    def _on_deadline(self, event: DeadlinePassed, now_mono_ms: float) -> list[Command]:
        timers, waiting = self._timers, self._reply.answering is None
        commands: list[Command] = []
        if timers.hedge_is_due(now_mono_ms) and waiting:
            copy = self._late.second_copy(now_mono_ms)
            if copy is not None:
                commands += self._send(copy, now_mono_ms)
        if timers.patience_is_due(now_mono_ms) and waiting:
            commands += self._replace_late(now_mono_ms)
        if timers.silence_is_due(now_mono_ms):
            commands += self._check_silence(event, now_mono_ms)
        if not self._reply.over and timers.heartbeat_is_due(now_mono_ms):
            commands += self._reply.heartbeat(now_mono_ms, client_stalled=event.client_stalled)
        return commands

    def _replace_late(self, now_mono_ms: float) -> list[Command]:
        if self._asked >= self._policy.max_attempts:
            return []
        replacement = self._late.replacement(now_mono_ms)
        if replacement is None:
            return []
        cancel, other = replacement
        self._log.replaced += 1
        return [cancel, *self._ask(other, now_mono_ms)]

    def _check_silence(self, event: DeadlinePassed, now_mono_ms: float) -> list[Command]:
        """Give up silent attempts whose target is gone; all others keep waiting."""
        commands, lost = self._silent.check(event, now_mono_ms)
        for attempt, reason in lost:
            if not self._reply.over:
                commands += self._lose(attempt, reason, event, now_mono_ms)
        return commands

    def _lose(
        self,
        attempt: Attempt,
        reason: str,
        event: DeadlinePassed | TableChanged,
        now_mono_ms: float,
    ) -> list[Command]:
        """Cut ``attempt`` and go on as if its connection had been lost."""
        status = 200 if attempt is self._reply.answering else 0
        lost = AttemptEnded(attempt, Ending.LOST, status, reason, event.usage)
        lost.rest = event.rest
        return [Cancel(attempt), *self._on_ended(lost, now_mono_ms)]

    # -- the table

    def _on_table_changed(self, event: TableChanged, now_mono_ms: float) -> list[Command]:
        """End a request that was revoked; give up attempts at nodes that may serve it no more."""
        error = self._revoked()
        if error is not None:
            outcome = AttemptOutcome.REVOKED
            return self._reply.cut_short(outcome, error, event.usage, event.far, now_mono_ms)
        commands: list[Command] = []
        for attempt in self._running.on_lost_nodes(self._request):
            if not self._reply.over:
                is_there = attempt.node_id in self._state.view().nodes
                why = "may serve it no more in its zone" if is_there else "was removed"
                reason = f"node {attempt.node_id} {why}"
                commands += self._lose(attempt, reason, event, now_mono_ms)
        return commands

    def _revoked(self) -> EdgeForgeError | None:
        request, state = self._request, self._state
        name = request.deployment.name
        return revoked(state.view(), request.key_digest, request.account, name, state.node_id)
