"""The attempts of one request: place it, ask the target, and place it again until one answers."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING

from agent.core.attempts import Expectation, Trial, next_patience, verdict_of_status
from agent.gateway.accounting import Accounting
from agent.gateway.asked import Asked
from agent.gateway.errors import engine_refusal, error_event
from agent.gateway.records import Attempt, RequestRecord
from agent.gateway.responses import ResponseHeads, load_of
from agent.gateway.surroundings import fill_lookup, target_lookup
from agent.gateway.targets import EnginePools, Target, generation_request
from agent.gateway.trail import TokenTimes
from agent.relay.exchange import Ending, Exchange, Patience
from agent.relay.formats import event_stream
from agent.relay.messages import LAST_CHUNK, Request, chunk
from protos.domain.errors import EdgeForgeError, EngineFailed, NoReplica
from protos.domain.router import Placement, RequestShape, place

if TYPE_CHECKING:
    from agent.gateway.body_policy import GenerationBody
    from agent.gateway.surroundings import GatewayStats, Surroundings
    from agent.gateway.trail import Trail
    from agent.relay.server import ServerConnection
    from agent.relay.sse import EventStream
    from protos.domain.resources import Deployment


class Attempts:
    """The attempts of one request: place, ask, and place again until one answers."""

    def __init__(
        self,
        around: Surroundings,
        pools: EnginePools,
        stats: GatewayStats,
        client: ServerConnection,
        record: RequestRecord,
        trail: Trail,
        body: GenerationBody,
        deployment: Deployment,
    ) -> None:
        self._around = around
        self._pools = pools
        self._stats = stats
        self._request: Request = trail.request
        self._client = client
        self._record = record
        self._trail = trail
        self._accounting = Accounting(around, stats, record, trail)
        self._budget_left_ms = 0.0
        self._body = body
        self._deployment = deployment
        self._tried: frozenset[str] = frozenset()
        self._last: Trial | None = None

    async def run(self, zones: frozenset[str] | None) -> None:
        """Ask one target after another. Raises: EdgeForgeError when none can answer."""
        limits = self._around.limits
        for number in range(limits.max_attempts):
            placement = self._place(zones)
            target = self._target(placement)
            self._tried |= {placement.chosen.node.id}
            if target is None:
                self._note_attempt(placement, "not ready", self._around.now_mono_ms())
                continue
            last = number + 1 == limits.max_attempts or not self._others(placement)
            if await self._ask(placement, target, last=last):
                return
            self._stats.replaced += 1
        raise self._out_of_targets(None)

    def _place(self, zones: frozenset[str] | None) -> Placement:
        around = self._around
        spent_ms = around.now_mono_ms() - self._request.first_byte_mono_ms
        self._budget_left_ms = self._record.budget_ms - self._request.last_mile_ms - spent_ms
        shape = RequestShape(
            deployment=self._deployment,
            prompt_tokens=self._body.prompt_tokens_estimate,
            body_bytes=len(self._request.body),
            stream=self._body.stream,
            budget_left_ms=self._budget_left_ms,
            narrowed_zones=zones,
            embeds=self._body.api.embeds,
        )
        try:
            placement = place(
                around.view(),
                shape,
                around.node_id,
                target_lookup(around, self._deployment.model),
                draw=around.draw(),
                fill=fill_lookup(around),
                edge_fill_ratio=around.edge_fill_ratio,
                excluded=self._tried,
            )
        except NoReplica as error:
            raise self._out_of_targets(error) from error
        record = self._record
        record.predicted_miss = placement.predicted_miss
        record.serving_tier, record.billing_tier = placement.serving_tier, placement.billing_tier
        record.predicted_ttft_ms_p99 = placement.chosen.prediction.ttft_ms_p99
        return placement

    def _others(self, placement: Placement) -> bool:
        return any(candidate.node.id not in self._tried for candidate in placement.candidates)

    def _target(self, placement: Placement) -> Target | None:
        """Return the chosen node ready to be asked, or None if it no longer is."""
        around, model = self._around, self._deployment.model
        node_id = placement.chosen.node.id
        if node_id == around.node_id:
            endpoint = around.engines.endpoint_for(model)
            if endpoint is None or endpoint.embeds is not self._body.api.embeds:
                return None
            pool = self._pools.pool_for(endpoint)
            return Target(
                node_id,
                pool,
                pool.address.host_header,
                endpoint.model,
                endpoint.supports_continuous_usage,
                peer=False,
            )
        peer_pool = around.peers.pool_for(node_id)
        if peer_pool is None:
            return None
        return Target(node_id, peer_pool, peer_pool.address.host_header, model, True, peer=True)

    async def _ask(self, placement: Placement, target: Target, *, last: bool) -> bool:
        """Ask ``target``; True when the client has its answer, whatever it was."""
        around = self._around
        asked = self._begin(placement, target)
        heads = ResponseHeads(self._client, self._record, self._trail, asked, around.now_mono_ms)
        exchange = Exchange(
            self._client,
            self._event_stream(placement),
            heads.stream_head,
            around.now_mono_ms,
            asked.tokens.count,
        )
        limits = around.limits
        patience = next_patience(
            stream=self._body.stream,
            expectation=self._expectation(placement, last=last),
            idle_ms=limits.stream_idle_timeout_ms,
            response_ms=limits.response_timeout_ms,
        )
        around.live.request_started(target.node_id, asked.began_mono_ms)
        try:
            await exchange.run(target.pool, self._message(target), Patience(*patience))
        except asyncio.CancelledError:
            self._note_attempt(placement, "client gone", asked.began_mono_ms)
            self._account(asked, exchange)
            raise
        finally:
            around.live.request_ended(target.node_id)
            asked.leave(around.engine_queue, around.now_mono_ms())
        return self._conclude(asked, exchange, heads)

    def _begin(self, placement: Placement, target: Target) -> Asked:
        around, trail = self._around, self._trail
        now = around.now_mono_ms()
        if trail.placed_mono_ms is None:
            trail.placed_mono_ms = now
        place = None if target.peer else around.engine_queue.enter(now)
        tokens = TokenTimes(None if target.peer else around.own_fill.count)
        return Asked(target, placement, now, tokens, place)

    def _event_stream(self, placement: Placement) -> EventStream | None:
        if not self._body.stream:
            return None
        return event_stream(
            self._body.api,
            include_usage=self._body.include_usage,
            continuous_usage=self._body.continuous_usage,
            beside_usage=partial(self._accounting.cost_field, placement.billing_tier),
        )

    def _expectation(self, placement: Placement, *, last: bool) -> Expectation:
        """Return what was predicted of the chosen target, and of the soonest that is left."""
        prediction = placement.chosen.prediction
        others_ms = [
            candidate.prediction.ttft_ms_p99
            for candidate in placement.candidates
            if candidate.node.id not in self._tried
        ]
        return Expectation(
            ttft_ms_p50=prediction.ttft_ms_p50,
            ttft_ms_p99=prediction.ttft_ms_p99,
            learned=False,
            budget_left_ms=self._budget_left_ms,
            other_ttft_ms_p99=None if last or not others_ms else min(others_ms),
        )

    def _message(self, target: Target) -> bytes:
        record = self._record
        headers = [(b"x-request-id", record.trace_id.encode())]
        if target.peer:
            headers += [
                (b"x-edgeforge-trace-id", record.trace_id.encode()),
                (b"x-edgeforge-account", record.account.encode()),
                (b"x-edgeforge-deployment", record.deployment.encode()),
                (b"x-edgeforge-model", self._deployment.model.encode()),
            ]
        payload = self._body.for_engine(target.model, continuous_usage=target.continuous_usage)
        accept = b"text/event-stream" if self._body.stream else b"application/json"
        return generation_request(self._request.path, target, headers, payload, accept)

    def _conclude(self, asked: Asked, exchange: Exchange, heads: ResponseHeads) -> bool:
        around, record = self._around, self._record
        placement, target, began_mono_ms = asked.placement, asked.target, asked.began_mono_ms
        record.node_id = target.node_id
        self._note_load(target, exchange)
        if exchange.ending is Ending.BROKEN:
            around.live.failed(target.node_id, around.now_mono_ms())
            self._note_attempt(placement, f"broken: {exchange.reason}", began_mono_ms)
            self._account(asked, exchange)
            self._break_stream(exchange)
            return True
        if exchange.ending is Ending.COMPLETE:
            trial = verdict_of_status(exchange.status)
        else:
            trial = Trial.failed(exchange.reason)
        if not trial.answered:
            self._last = trial
            of_link = exchange.status == 0 and not exchange.late
            around.live.failed(target.node_id, around.now_mono_ms(), of_link=of_link)
            self._note_attempt(placement, trial.reason, began_mono_ms)
            return False
        around.live.succeeded(target.node_id)
        self._note_attempt(placement, "answered", began_mono_ms)
        self._account(asked, exchange)
        record.status = exchange.status
        self._count_placement(placement, target)
        if not exchange.streamed:
            whole = exchange.body
            if exchange.status >= 400:
                whole = engine_refusal(self._request.path, exchange.status, whole)
            self._client.respond(
                self._request,
                exchange.status,
                heads.whole_headers(exchange.headers, record.cost_nano_usd),
                whole,
            )
        return True

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
        self._record.status, self._record.error = exchange.status, exchange.reason
        error = EngineFailed("the engine failed during the stream", "send the request again")
        sent = exchange.events.passed if exchange.events is not None else 0
        event = error_event(error, self._request.path, sent)
        self._client.write(chunk(event) + LAST_CHUNK)
        self._client.close()

    def _account(self, asked: Asked, exchange: Exchange) -> None:
        """Put what the answer took and cost into record and trail."""
        trail = self._trail
        self._accounting.account(exchange, asked.placement.billing_tier)
        first_token = exchange.first_token_mono_ms
        answered = self._around.now_mono_ms() if first_token is None else first_token
        trail.asked_mono_ms, trail.tokens = asked.began_mono_ms, asked.tokens
        trail.far = asked.far_times(exchange.headers, answered)
        trail.pop_id = asked.placement.chosen.pop.id

    def _note_attempt(self, placement: Placement, outcome: str, began_mono_ms: float) -> None:
        took_ms = self._around.now_mono_ms() - began_mono_ms
        attempt = Attempt(placement.chosen.node.id, outcome, took_ms)
        self._record.attempts.append(attempt)
        self._trail.note(attempt, placement, self._budget_left_ms, began_mono_ms)

    def _note_load(self, target: Target, exchange: Exchange) -> None:
        if target.peer:
            load = load_of(exchange.headers)
            if load is not None:
                self._around.live.reported(
                    target.node_id,
                    self._around.now_mono_ms(),
                    in_flight=load.in_flight,
                    queued=load.queued,
                    fill_ratio=load.fill_ratio,
                    # One that drains says so here; what it is ready for is the probe's to say.
                    ready_models=() if load.draining else None,
                )

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
