"""Performs the commands of one request's machine on sockets, and reports the results to it."""

from __future__ import annotations

import asyncio
import math
from functools import partial
from typing import TYPE_CHECKING

from agent.core.peer_load import load_of
from agent.core.request.messages import (
    Abandoned,
    Account,
    AnswerBegun,
    Ask,
    Begun,
    Cancel,
    ClientGone,
    Command,
    CutClient,
    CutShort,
    DeadlinePassed,
    EngineProgressed,
    Event,
    FirstToken,
    Hold,
    LoadedThere,
    MakeResident,
    NotSent,
    RespondError,
    RespondWhole,
    Rest,
    TableChanged,
    WriteEnd,
    WriteErrorEvent,
    WriteHead,
    WriteHeartbeat,
)
from agent.core.request.timing import EARLY_MS
from agent.formats.continuing import ContinuableStream
from agent.formats.usage import checked_counts
from agent.gateway.answer_counts import AnswerCounts
from agent.gateway.attempt_end import attempt_ended, cut
from agent.gateway.engine_request import (
    engine_request,
    open_stream,
    rest_of,
    rest_of_stream,
    write_ahead,
)
from agent.gateway.own_loads import wait_for_load, wait_for_place
from agent.gateway.reply_writer import ReplyWriter, answer_of
from agent.gateway.response_heads import engine_model_of
from agent.gateway.usage_account import UsageAccount
from agent.relay.client_answer import ClientAnswer
from agent.relay.far_times import read_cold_start, read_far_times

if TYPE_CHECKING:
    from agent.core.account_limits import Use
    from agent.core.request.attempt import Attempt
    from agent.core.request.context import RequestContext
    from agent.core.request.log import RequestLog
    from agent.core.request.machine import RequestMachine
    from agent.formats.body import GenerationBody
    from agent.formats.sse import EventStream
    from agent.gateway.context import GatewayContext
    from agent.relay.messages import Request
    from agent.relay.server import ServerConnection
    from protos.domain.errors import EdgeForgeError


class RequestRunner:
    """Runs one request as its machine decides. Implements ``AnswerOwner``."""

    def __init__(
        self,
        gateway: GatewayContext,
        client: ServerConnection,
        request: Request,
        body: GenerationBody,
        context: RequestContext,
        machine: RequestMachine,
        log: RequestLog,
    ) -> None:
        self._gateway = gateway
        self._client = client
        self._request = request
        self.body = self._body = body
        self.context = self._context = context
        self._machine = machine
        self._log = log
        self._now_mono_ms = gateway.now_mono_ms
        #: The ``service_tier`` of the answer; empty: the client did not ask for one.
        self._service_word = body.service_word(context.deployment.sla_tier)
        self.reply = self._reply = ReplyWriter(
            client, request, body.api, log, gateway.now_mono_ms, self._service_word
        )
        self._counts = AnswerCounts(body, request.body, context, gateway.state)
        self._answers: list[ClientAnswer] = []
        #: The answer that goes to the client.
        self._answering: ClientAnswer | None = None
        self._events: list[Event] = []
        self._handling = False
        self._timer = 0
        self._timer_mono_ms = math.inf
        self._over: asyncio.Future[None] | None = None
        self._failure: Exception | None = None
        self.account = UsageAccount(gateway, context, log)
        #: What is done once that record is on disk; None: nothing waits for it.
        self._rest: list[Command] | None = None
        #: What the limits of the key and the account count it for.
        self.use: Use | None = None

    async def run(self) -> None:
        """Answer the client. Cancelling it cuts the attempts. Raises: only exceptions of bugs."""
        self._gateway.running.add(self)
        try:
            self._handle(Begun())
            if self._gateway.state.view() is not self._context.view:  # changed since the admission
                self.table_changed()
            if not self._is_over:
                self._over = asyncio.get_running_loop().create_future()
                await self._over
        except asyncio.CancelledError:
            answer = self._answering or (self._answers[-1] if self._answers else None)
            gone = ClientGone() if answer is None else ClientGone(*self._counts.of(answer))
            self._handle(gone)
            self._rest = None
            self.account.not_seen()
            raise
        finally:
            self._gateway.running.discard(self)
            if self._failure is not None:
                self._abandon()
            self._release()
        if self._failure is not None:
            if not self.account.written:
                self._account([])  # this agent's failure: it costs nothing
            self.account.not_seen()
            raise self._failure

    @property
    def _is_over(self) -> bool:
        """Whether nothing more will be sent to the client."""
        return self._failure is not None or (self._machine.over and self._rest is None)

    def write_ahead(self) -> None:
        """Write the body now, before ``run``, for this node's engine or for a peer.

        Raises: InvalidRequest.
        """
        write_ahead(self._body, self._context, self._gateway)

    @property
    def started(self) -> bool:
        """Whether a part of the answer has been sent."""
        return self._reply.head_sent

    def cut_short(self, error: EdgeForgeError) -> None:
        """End the request with ``error``: an error event where the answer has begun."""
        self.account.was_cut = True
        event, answer = CutShort(error), self._answering
        if answer is not None:
            event.usage, event.far = self._counts.of(answer)
        self._handle(event)

    def table_changed(self) -> None:
        """Implements ``InProgress``. Hot if the request may go on."""
        if self._failure is not None or not self._machine.is_revoked:
            return
        event, answer = TableChanged(), self._answering
        if answer is not None:
            event.usage, event.far = self._counts.of(answer)
            event.rest = rest_of(answer.events)
        self._handle(event)

    # -- AnswerOwner

    def on_answer_head(self, answer: ClientAnswer) -> None:
        """Take the engine's name of the model, and a cold start, from the head of a peer."""
        if answer.attempt.place is not None:
            return
        if name := engine_model_of(answer.headers):
            answer.names = self._body.names(name)
            if answer.events is not None:
                answer.events.use_names(answer.names)
        if (told := read_cold_start(answer.headers)) is not None:
            far = read_far_times(answer.headers)
            waited_ms = 0.0 if far is None else far.load_ms
            self._handle(LoadedThere(answer.attempt, told[0], waited_ms, told[1]))

    def on_progress(self, answer: ClientAnswer, now_mono_ms: float) -> None:
        self._handle(EngineProgressed(answer.attempt), now_mono_ms)

    def on_first_token(self, answer: ClientAnswer, now_mono_ms: float) -> None:
        attempt = answer.attempt
        load = load_of(answer.headers) if attempt.place is None else None
        self._handle(FirstToken(attempt, load), now_mono_ms)

    def on_answer_begun(self, answer: ClientAnswer, now_mono_ms: float) -> None:
        self._handle(AnswerBegun(answer.attempt), now_mono_ms)

    def on_answer_ended(self, answer: ClientAnswer) -> None:
        ended = attempt_ended(answer, self._counts)
        if answer.served is not None and ended.usage is not None:
            self.account.compare(answer, ended.usage)
        self._handle(ended)

    # -- events and commands

    def _handle(self, event: Event, now_mono_ms: float | None = None) -> None:
        """Give ``event`` to the machine and perform its commands; nested events are queued.

        ``now_mono_ms`` is when it happened; None: now.
        """
        events = self._events
        events.append(event)
        if self._handling:
            return
        self._handling = True
        machine = self._machine
        try:
            while events and self._failure is None:
                if now_mono_ms is None:
                    now_mono_ms = self._now_mono_ms()
                commands = machine.handle(events.pop(0), now_mono_ms)
                now_mono_ms = None
                self._perform_all(commands)
        except Exception as error:
            self._failure = error
        finally:
            self._handling = False
        if machine.over or self._failure is not None:
            self._wake()
        elif (due_mono_ms := machine.next_deadline_mono_ms) < self._timer_mono_ms:
            self._set_timer(due_mono_ms)

    def _wake(self) -> None:
        """Let ``run`` return if the request is over."""
        if self._over is not None and self._is_over and not self._over.done():
            self._over.set_result(None)

    def _abandon(self) -> None:
        """Let the machine end the running attempts, so that they no longer count as load."""
        for command in self._machine.handle(Abandoned(), self._now_mono_ms()):
            assert isinstance(command, Cancel)
            cut(command.attempt)

    def _perform_all(self, commands: list[Command]) -> None:
        """Perform ``commands`` in order; those behind ``Account`` once its record is on disk."""
        for number, command in enumerate(commands, 1):
            if isinstance(command, Account):
                self._account(commands[number:])
                return
            self._perform(command)

    def _perform(self, command: Command) -> None:
        if isinstance(command, Ask):
            self._ask(command.attempt)
        elif isinstance(command, Hold | MakeResident):
            self._wait(command)
        elif isinstance(command, RespondWhole):
            self._reply.whole(answer_of(command.attempt))
        elif isinstance(command, WriteHead):
            answer = self._answering = answer_of(command.attempt)
            self._reply.begin(answer)
        elif isinstance(command, WriteEnd):
            self._reply.end(answer_of(command.attempt))
        elif isinstance(command, Cancel):
            cut(command.attempt)
        elif isinstance(command, WriteHeartbeat):
            self._reply.heartbeat()
        elif isinstance(command, RespondError):
            self._reply.error(command.error)
        elif isinstance(command, WriteErrorEvent):
            self._reply.error_event(command.error, self._answering, command.refused)
        elif isinstance(command, CutClient):
            self._client.abort()

    def _set_timer(self, due_mono_ms: float) -> None:
        """Set the timer. An early call is harmless, so it is only moved to an earlier time."""
        deadlines = self._client.deadlines
        deadlines.clear(self._timer)
        self._timer_mono_ms = due_mono_ms
        self._timer = deadlines.set(due_mono_ms, self._on_timer)

    def _on_timer(self) -> None:
        self._timer, self._timer_mono_ms = 0, math.inf
        due_mono_ms = self._machine.next_deadline_mono_ms
        if due_mono_ms > self._now_mono_ms() + EARLY_MS:  # set for a deadline that was cleared
            self._set_timer(due_mono_ms)
            return
        answer = self._answering
        event = DeadlinePassed(self._client.write_paused)
        if answer is not None:
            event.usage, _ = self._counts.of(answer)
            event.rest = rest_of(answer.events)
        self._handle(event)

    # -- asking

    def _wait(self, command: Hold | MakeResident) -> None:
        """Report when a place is decided or a load has ended; leaving or cutting it ends that."""
        attempt = command.attempt
        if isinstance(command, MakeResident):
            wait_for_load(self._gateway.loads, attempt, self._handle)
            return
        wait_for_place(attempt, self._handle)

    def _ask(self, attempt: Attempt) -> None:
        context, broken, asked = self._context, attempt.resumes, attempt.deployment
        target = self._gateway.targets.find(
            attempt.node_id,
            asked.model,
            embeds=context.embeds,
            adapter=asked.adapter,
            endpoint=attempt.endpoint,
        )
        events: EventStream | None = None
        fields = self._body.fields
        if broken is not None:
            rest = rest_of_stream(self._body, answer_of(broken).events)
            if rest is None:
                self._handle(NotSent(attempt, "nothing is left to generate"))
                return
            events, fields = rest
        if target is None:
            left = Rest.UNKNOWN if broken is None else Rest.TEXT
            self._handle(NotSent(attempt, "not ready", left))
            return
        if isinstance(events, ContinuableStream):
            events.go_on()
        elif context.stream:
            price = context.price(attempt.placement.billing_tier)
            word = self._service_word
            events = open_stream(self._body, context.deployment, target, price, word)
        if target.peer and events is not None:
            events.check_usage_by(partial(checked_counts, self._counts.check(), target.node_id))
        answer = ClientAnswer(
            self._client,
            self._request,
            self,
            attempt,
            events,
            self._now_mono_ms,
            resumes=broken is not None,
        )
        answer.names = self._body.names(target.model)
        attempt.io = answer
        self._answers.append(answer)
        if broken is not None:
            self._answering = answer
        salt = self._gateway.cache_salt
        message = engine_request(self._body, fields, self._log, target, attempt, salt)
        answer.start(target.pool, message)

    # -- the usage record

    def _account(self, rest: list[Command]) -> None:
        """Write the usage record; ``rest`` is done once it is on disk. Hot.

        Meanwhile the machine is over: its client may leave, but nothing else changes the request.
        """
        self.account.write(self._on_durable)
        self._rest = rest

    def _on_durable(self) -> None:
        """Send the end of the answer, unless the client has left meanwhile."""
        rest, self._rest = self._rest, None
        if rest is None:
            return
        try:
            for command in rest:
                self._perform(command)
            self.account.ended(self._client)
        except Exception as error:
            self._failure = error
        self._wake()

    # -- the end

    def _release(self) -> None:
        """Drop all references to this object, so that no reference cycle is left to collect."""
        self._client.deadlines.clear(self._timer)
        for answer in self._answers:
            answer.abort()
            answer.release()
            answer.attempt.io = None
        self._answers.clear()
        self._answering = None
