"""One request's way to a target and back: what is sent, what receives it, what is noted of it."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING

from agent.core.continuation import can_continue
from agent.core.prefixes import BLOCK_BYTES, NO_BLOCKS, prompt_blocks
from agent.gateway.asked import Asked, Running
from agent.gateway.prompt_prefix import prompt_prefix
from agent.gateway.records import Attempt, RequestRecord
from agent.gateway.responses import ResponseHeads, load_of
from agent.gateway.targets import EnginePools, Target, generation_request
from agent.gateway.trail import TokenTimes
from agent.relay.continuing import ContinuableStream
from agent.relay.exchange import Claim, Ending, Exchange, Patience
from agent.relay.formats import event_stream
from protos.domain.predictor import Outcome

if TYPE_CHECKING:
    from agent.gateway.accounting import Accounting
    from agent.gateway.body_policy import GenerationBody
    from agent.gateway.context import GatewayContext
    from agent.gateway.placing import Finding
    from agent.gateway.trail import Trail
    from agent.relay.messages import Header, Request
    from agent.relay.server import ServerConnection
    from agent.relay.sse import EventStream
    from protos.domain.resources import Deployment
    from protos.domain.router import Placement


class Asking:
    """Asks targets on behalf of one request; whom, and what follows, is decided elsewhere."""

    def __init__(
        self,
        around: GatewayContext,
        pools: EnginePools,
        client: ServerConnection,
        record: RequestRecord,
        trail: Trail,
        body: GenerationBody,
        deployment: Deployment,
        accounting: Accounting,
    ) -> None:
        self._around = around
        self._pools = pools
        self._request: Request = trail.request
        self._client = client
        self._record = record
        self._trail = trail
        self._accounting = accounting
        self._body = body
        self._deployment = deployment
        self._claim = Claim()
        #: The prompt, as far as engines may have seen it before.
        self.prompt = NO_BLOCKS
        if len(self._request.body) >= BLOCK_BYTES:  # in a smaller body no block can be
            self.prompt = prompt_blocks(
                prompt_prefix(body.api, body.fields),
                deployment.model,
                str(body.fields["cache_salt"]),
            )
        #: What was left when the last placement was made.
        self.budget_left_ms = 0.0

    def target(self, placement: Placement) -> Target | None:
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

    def begin(
        self,
        placement: Placement,
        target: Target,
        *,
        rest_of: Running | None = None,
        finding: Finding | None = None,
    ) -> Running:
        """Make what one attempt needs; ``rest_of`` is the broken stream that it goes on with."""
        around, trail = self._around, self._trail
        now = around.now_mono_ms()
        if trail.placed_mono_ms is None:
            trail.placed_mono_ms = now
        count_fill = None if target.peer else around.own_fill.count
        if rest_of is None:
            tokens, events = TokenTimes(count_fill), self._event_stream(placement)
        else:
            tokens, events = rest_of.asked.tokens, rest_of.exchange.events
            tokens.also = count_fill
        asked = Asked(target, placement, now, tokens, self.budget_left_ms, finding=finding)
        heads = ResponseHeads(self._client, self._record, trail, asked, around.now_mono_ms)
        exchange = Exchange(
            self._client,
            events,
            heads.stream_head,
            around.now_mono_ms,
            tokens.count,
            self._claim,
            None if rest_of is not None else partial(self._first_token, asked),
        )
        if rest_of is not None:
            exchange.resume_from(rest_of.exchange)
        return Running(asked, exchange, heads)

    async def run(
        self, running: Running, patience: Patience, body: GenerationBody | None = None
    ) -> None:
        """Let an attempt come to its end, which is in its exchange."""
        around, asked = self._around, running.asked
        target = asked.target
        # the first token of a whole answer is not seen, nor that of the rest of a broken stream
        seen = self._body.stream and not running.exchange.started
        asked.prompt = around.live.request_started(
            target.node_id,
            asked.began_mono_ms,
            max(1.0, asked.placement.chosen.load.prompt_tokens) if seen else 0.0,
        )
        asked.enter(around.engine_queue)
        self._note_prompt(asked)
        try:
            message = self._message(target, body or self._body)
            await running.exchange.run(target.pool, message, patience)
        except asyncio.CancelledError:
            self.note_end(running, "client gone")
            if running.exchange.started or not self._record.node_id:
                self.account(running)
            raise
        finally:
            now = around.now_mono_ms()
            around.live.request_ended(target.node_id, asked.prompt)
            asked.leave(around.engine_queue, now)
            exchange = running.exchange
            if exchange.first_token_mono_ms is None and (
                exchange.late or exchange.ending in (None, Ending.LOST)
            ):
                # cut while it might still have answered: it would have taken longer than this
                self._learn(
                    asked,
                    now,
                    censored=True,
                    abandoned=exchange.ending is None and not exchange.late,
                )
            if asked.finding is not None and exchange.first_token_mono_ms is None:
                asked.finding.ended(None, now)

    def _first_token(self, asked: Asked, now_mono_ms: float, headers: list[Header]) -> None:
        """A first token came, for everybody who waits for one to learn from.

        The load is told in its head: noted when the stream ends, it would be minutes old.
        """
        self._note_load(asked.target, headers)
        self._around.live.first_token(asked.target.node_id, asked.prompt, now_mono_ms)
        self._learn(asked, now_mono_ms)
        if asked.finding is not None:
            asked.finding.ended(now_mono_ms, now_mono_ms)

    def _learn(
        self,
        asked: Asked,
        now_mono_ms: float,
        *,
        censored: bool = False,
        abandoned: bool = False,
    ) -> None:
        if asked.prompt == 0:
            return
        chosen = asked.placement.chosen
        load, took_ms = chosen.load, now_mono_ms - asked.began_mono_ms
        outcome = Outcome(
            load,
            chosen.there_ms,
            took_ms,
            now_mono_ms,
            censored=censored,
            account=self._record.account,
            abandoned=abandoned,
        )
        self._around.coverage.note(
            took_ms,
            chosen.ttft_ms_p99,
            learned=chosen.learned,
            place=load.place,
            censored=censored,
        )
        self._around.predictor.learn(
            chosen.node.id, self._deployment.model, chosen.replica.profile, outcome
        )

    def _event_stream(self, placement: Placement) -> EventStream | None:
        body = self._body
        if not body.stream:
            return None
        beside_usage = partial(self._accounting.cost_field, placement.billing_tier)
        continuable = self._deployment.continue_streams and can_continue(
            self._request.path, body.fields
        )
        if continuable:
            return ContinuableStream(
                include_usage=body.include_usage,
                continuous_usage=body.continuous_usage,
                beside_usage=beside_usage,
            )
        return event_stream(
            body.api,
            include_usage=body.include_usage,
            continuous_usage=body.continuous_usage,
            beside_usage=beside_usage,
        )

    def _message(self, target: Target, body: GenerationBody) -> bytes:
        record = self._record
        headers = [(b"x-request-id", record.trace_id.encode())]
        if target.peer:
            headers += [
                (b"x-edgeforge-trace-id", record.trace_id.encode()),
                (b"x-edgeforge-account", record.account.encode()),
                (b"x-edgeforge-deployment", record.deployment.encode()),
                (b"x-edgeforge-model", self._deployment.model.encode()),
            ]
        payload = body.for_engine(target.model, continuous_usage=target.continuous_usage)
        accept = b"text/event-stream" if body.stream else b"application/json"
        return generation_request(self._request.path, target, headers, payload, accept)

    def _note_prompt(self, asked: Asked) -> None:
        """The engine there is about to see the prompt."""
        replica = asked.placement.chosen.replica
        self._around.prefixes.seen(
            replica.node_id, replica.model, replica.generation, self.prompt, asked.began_mono_ms
        )

    def fail(self, running: Running, outcome: str) -> None:
        """An attempt failed: its target is a little less trusted."""
        exchange, node_id = running.exchange, running.asked.target.node_id
        around, now = self._around, self._around.now_mono_ms()
        if exchange.late:
            around.live.late(node_id, now)
        else:
            of_link = exchange.status == 0
            if of_link or exchange.started:
                around.prefixes.forget(node_id)  # its engine may be a new one
            around.live.failed(node_id, now, of_link=of_link)
        self.note_end(running, outcome)

    def account(self, running: Running) -> None:
        """Put what the answer took and cost into record and trail."""
        trail, asked, exchange = self._trail, running.asked, running.exchange
        self._accounting.account(exchange, asked.placement.billing_tier)
        if trail.usage.prompt_tokens > 0:
            self._around.prompt_tokens.counted(
                self._deployment.name, len(self._request.body), trail.usage.prompt_tokens
            )
            cached_ratio = trail.usage.cached_tokens / trail.usage.prompt_tokens
            self._around.prefixes.told(
                asked.target.node_id,
                self._deployment.model,
                asked.placement.chosen.state.cached_ratio,
                cached_ratio,
            )
        first_token = exchange.first_token_mono_ms
        answered = self._around.now_mono_ms() if first_token is None else first_token
        trail.asked_mono_ms, trail.tokens = asked.began_mono_ms, asked.tokens
        trail.far = asked.far_times(exchange.headers, answered)
        trail.pop_id = asked.placement.chosen.pop.id

    def note_end(self, running: Running, outcome: str) -> None:
        asked = running.asked
        took_ms = self._around.now_mono_ms() - asked.began_mono_ms
        if asked.finding is not None:
            outcome = f"{asked.finding.why}: {outcome}"
        self._note(asked.placement, asked.budget_left_ms, outcome, asked.began_mono_ms, took_ms)

    def note_not_asked(self, placement: Placement, outcome: str) -> None:
        """``placement`` led nowhere: nothing was sent."""
        now = self._around.now_mono_ms()
        self._note(placement, self.budget_left_ms, outcome, now, 0.0)

    def _note(
        self,
        placement: Placement,
        budget_left_ms: float,
        outcome: str,
        began_mono_ms: float,
        took_ms: float,
    ) -> None:
        attempt = Attempt(placement.chosen.node.id, outcome, took_ms)
        self._record.attempts.append(attempt)
        self._trail.note(attempt, placement, budget_left_ms, began_mono_ms)

    def note_load(self, running: Running) -> None:
        """Take in what the target told of its load with an answer that had no first token."""
        if running.exchange.first_token_mono_ms is None:
            self._note_load(running.asked.target, running.exchange.headers)

    def _note_load(self, target: Target, headers: list[Header]) -> None:
        if target.peer:
            load = load_of(headers)
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
