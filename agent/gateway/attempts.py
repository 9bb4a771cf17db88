"""The attempts of one request: place it, ask the target, and place it again until one answers."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from agent.core.attempts import Trial, next_patience, verdict_of_status
from agent.core.continuation import continued
from agent.core.hedging import hedge_after_ms, hedge_to
from agent.gateway.accounting import Accounting
from agent.gateway.asking import Asking
from agent.gateway.errors import engine_refusal, error_event
from agent.gateway.placing import Placing
from agent.gateway.second_copy import SecondCopy
from agent.relay.continuing import ContinuableStream
from agent.relay.exchange import Ending, Exchange, Patience
from agent.relay.messages import LAST_CHUNK, Request, chunk
from protos.domain.errors import EdgeForgeError, EngineFailed, NoReplica

if TYPE_CHECKING:
    from agent.gateway.asked import Running
    from agent.gateway.body_policy import GenerationBody
    from agent.gateway.context import GatewayContext
    from agent.gateway.records import RequestRecord
    from agent.gateway.stats import GatewayStats
    from agent.gateway.targets import EnginePools, Target
    from agent.gateway.trail import Trail
    from agent.relay.server import ServerConnection
    from protos.domain.resources import Deployment
    from protos.domain.router import Placement


class Attempts:
    """The attempts of one request: place, ask, and place again until one answers."""

    def __init__(
        self,
        around: GatewayContext,
        pools: EnginePools,
        stats: GatewayStats,
        client: ServerConnection,
        record: RequestRecord,
        trail: Trail,
        body: GenerationBody,
        deployment: Deployment,
    ) -> None:
        self._around = around
        self._stats = stats
        self._request: Request = trail.request
        self._client = client
        self._record = record
        self._body = body
        self._deployment = deployment
        accounting = Accounting(around, stats, record, trail)
        self._asking = Asking(around, pools, client, record, trail, body, deployment, accounting)
        self._placing = Placing(around, self._asking, trail.request, record, body, deployment)
        self._last: Trial | None = None
        #: Nodes whose engines answered 5xx. A request that makes every engine fail would, if that
        #: counted against them, take them from everybody else.
        self._suspects: list[str] = []

    async def run(self, zones: frozenset[str] | None) -> None:
        """Ask one target after another. Raises: EdgeForgeError when none can answer."""
        limits = self._around.limits
        self._placing.zones = zones
        if self._body.stream:
            self._around.hedges.earn()
            self._around.exploration.budget.earn()
        for number in range(limits.max_attempts):
            placement = self._first_placement()
            target = self._asking.target(placement)
            self._placing.tried |= {placement.chosen.node.id}
            if target is None:
                self._asking.note_not_asked(placement, "not ready")
                continue
            if await self._ask(placement, target, last=number + 1 == limits.max_attempts):
                return
            self._stats.replaced += 1
        raise self._out_of_targets(None)

    def _first_placement(self) -> Placement:
        """Place the request and promise its customer what that means. Raises: EdgeForgeError."""
        try:
            placement = self._placing.attempt()
        except NoReplica as error:
            raise self._out_of_targets(error) from error
        record = self._record
        record.predicted_miss = placement.predicted_miss
        record.serving_tier, record.billing_tier = placement.serving_tier, placement.billing_tier
        record.predicted_ttft_ms_p99 = placement.chosen.ttft_ms_p99
        return placement

    async def _ask(self, placement: Placement, target: Target, *, last: bool) -> bool:
        """Ask ``target``; True when the client has its answer, whatever it was."""
        limits, finding = self._around.limits, self._placing.finding
        running = self._asking.begin(placement, target, finding=finding)
        expectation = None
        if self._body.stream:
            expectation = self._placing.expectation(placement, last=last)
        first_ms, silent_ms = next_patience(
            expectation,
            idle_ms=limits.stream_idle_timeout_ms,
            response_ms=limits.response_timeout_ms,
        )
        alone = expectation is None or expectation.other_ttft_ms_p99 is None
        if finding is not None and not alone:
            first_ms = min(first_ms, finding.patience_ms)
        patience = Patience(first_ms, silent_ms)
        if alone or not self._around.hedges.enabled:
            await self._asking.run(running, patience)
            return await self._conclude(running)
        copy = SecondCopy(lambda: self._begin_copy(running), self._run_copy, self._client.deadlines)
        copy.arm(running.asked.began_mono_ms + hedge_after_ms(placement.chosen.prediction))
        try:
            await self._asking.run(running, patience)
            return await self._settle(running, copy)
        finally:
            await copy.close()

    def _begin_copy(self, first: Running) -> Running | None:
        """Make a second copy of a late request, if another is in time and the share allows it."""
        around = self._around
        if first.exchange.started or first.exchange.ending is not None:
            return None
        try:
            placement = self._placing.place(fall_back=False)
        except EdgeForgeError:
            return None
        chosen = hedge_to(placement.candidates, self._placing.tried)
        if chosen is None:
            return None
        # the customer pays for the first choice: the second was ours
        placement = replace(
            placement,
            chosen=chosen,
            serving_tier=chosen.pop.tier,
            billing_tier=first.asked.placement.billing_tier,
        )
        target = self._asking.target(placement)
        if target is None or not around.hedges.take():
            return None
        self._placing.tried |= {chosen.node.id}
        return self._asking.begin(placement, target)

    async def _run_copy(self, copy: Running) -> None:
        idle_ms = self._around.limits.stream_idle_timeout_ms
        await self._asking.run(copy, Patience(idle_ms, idle_ms))

    async def _settle(self, first: Running, copy: SecondCopy) -> bool:
        """Conclude with whichever of a request's two copies answers; the other is our cost."""
        second = copy.running
        if second is None:
            return await self._conclude(first)
        if first.exchange.ending is Ending.LOST:
            self._around.live.late(first.asked.target.node_id, self._around.now_mono_ms())
            self._asking.note_end(first, "a second copy was sooner")
        elif self._verdict(first).answered:
            second.exchange.lose()
            await copy.wait_ended()
            self._asking.note_end(second, "second copy: the first was sooner")
            return await self._conclude(first)
        else:
            await self._conclude(first)
        await copy.wait_ended()
        won = await self._conclude(second)
        self._stats.hedges_won += won
        return won

    async def _go_on(self, broken: Running) -> bool:
        """Let other replicas go on with a broken stream; True when one brought it to its end."""
        events, first = broken.exchange.events, broken
        if not isinstance(events, ContinuableStream):
            return False
        if events.lacks_only_its_end and (ending := events.ending()):
            self._client.write(chunk(ending) + LAST_CHUNK)
            return True
        idle_ms = self._around.limits.stream_idle_timeout_ms
        while events.can_go_on and len(self._placing.tried) < self._around.limits.max_attempts:
            told = events.completion_tokens
            fields = continued(self._request.path, self._body.fields, events.text, told)
            if fields is None:
                return False
            try:
                placement = self._placing.place(first_token=False)
            except EdgeForgeError:
                return False
            self._placing.tried |= {placement.chosen.node.id}
            target = self._asking.target(placement)
            if target is None:
                continue
            billing_tier = first.asked.placement.billing_tier
            placement = replace(placement, billing_tier=billing_tier)
            events.go_on()
            rest = self._asking.begin(placement, target, rest_of=first)
            patience = Patience(idle_ms, idle_ms)
            await self._asking.run(rest, patience, replace(self._body, fields=fields))
            self._asking.note_load(rest)
            if rest.exchange.ending is Ending.COMPLETE and rest.exchange.streamed:
                self._around.live.succeeded(target.node_id)
                self._asking.note_end(rest, f"went on after {told} tokens")
                self._stats.streams_continued += 1
                return True
            why = rest.exchange.reason or f"answered {rest.exchange.status}"
            self._asking.fail(rest, f"could not go on: {why}")
        return False

    @staticmethod
    def _verdict(running: Running) -> Trial:
        exchange = running.exchange
        if exchange.ending is Ending.COMPLETE:
            return verdict_of_status(exchange.status)
        if exchange.ending is Ending.BROKEN:
            return Trial(answered=True, engine_error=True, reason=f"broken: {exchange.reason}")
        return Trial.failed(exchange.reason)

    async def _conclude(self, running: Running) -> bool:
        """Draw the consequences of an attempt's end; True when the client has its answer."""
        record, exchange = self._record, running.exchange
        placement, target = running.asked.placement, running.asked.target
        record.node_id = target.node_id
        self._asking.note_load(running)
        trial = self._verdict(running)
        if not trial.answered:
            self._last = trial
            if trial.engine_error:
                self._suspects.append(target.node_id)
                self._asking.note_end(running, trial.reason)
                return False
            self._asking.fail(running, trial.reason)
            if exchange.late:
                self._placing.late |= {target.node_id}
            return False
        record.serving_tier, record.status = placement.serving_tier, exchange.status
        if exchange.ending is Ending.BROKEN:
            self._asking.fail(running, trial.reason)
            went_on = await self._go_on(running)
            self._asking.account(running)
            if went_on:
                self._count_placement(placement, target)
            else:
                self._break_stream(exchange)
            return True
        self._around.live.succeeded(target.node_id)
        self._blame_suspects()
        self._asking.note_end(running, "answered")
        self._asking.account(running)
        self._count_placement(placement, target)
        if not exchange.streamed:
            whole = exchange.body
            if exchange.status >= 400:
                whole = engine_refusal(self._request.path, exchange.status, whole)
            self._client.respond(
                self._request,
                exchange.status,
                running.heads.whole_headers(exchange.headers, record.cost_nano_usd),
                whole,
            )
        return True

    def _blame_suspects(self) -> None:
        """Another engine could answer: what failed was an engine, not what it was asked."""
        now_mono_ms = self._around.now_mono_ms()
        for node_id in self._suspects:
            self._around.live.failed(node_id, now_mono_ms)

    def _count_placement(self, placement: Placement, target: Target) -> None:
        stats = self._stats
        if target.peer:
            stats.to_peers += 1
        else:
            stats.local += 1
        stats.predicted_misses += placement.predicted_miss

    def _break_stream(self, exchange: Exchange) -> None:
        """Tell a client that has part of a stream that no more comes, and close."""
        self._stats.errors += 1
        self._stats.streams_broken += 1
        self._record.status, self._record.error = exchange.status, exchange.reason
        error = EngineFailed("the engine failed during the stream", "send the request again")
        sent = exchange.events.passed if exchange.events is not None else 0
        event = error_event(error, self._request.path, sent)
        self._client.write(chunk(event) + LAST_CHUNK)
        self._client.close()

    def _out_of_targets(self, error: NoReplica | None) -> EdgeForgeError:
        """Return why nobody answered: an engine's own failure says more than an empty list."""
        if self._last is not None and self._last.engine_error:
            return EngineFailed(
                f"every engine that was asked failed; the last: {self._last.reason}",
                "try again",
                retry_after_s=1.0,
            )
        if error is not None and self._last is None:
            return error
        reason = self._last.reason if self._last is not None else "none is ready"
        return NoReplica(
            f"no engine can serve {self._deployment.name!r} now: {reason}",
            "try again in a moment",
            retry_after_s=1.0,
        )
