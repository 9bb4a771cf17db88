"""Records the results of one request's attempts in the agent's shared state and in its log.

The shared state is load, failures, outcomes and caches. Makes no decision about the request.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.core.engine_place import Work
from agent.core.fill import filling_tokens
from agent.core.request.log import AttemptLog
from agent.core.request.usage import billed_as_before, counted_until, ended_as
from protos.domain.load_term import ColdPath, credible_load_ms
from protos.domain.predictor import Outcome
from protos.domain.pricing import cost_of
from protos.domain.trace import NO_USAGE, AttemptOutcome, FarTimes

if TYPE_CHECKING:
    from agent.core.peer_load import PeerLoad
    from agent.core.request.attempt import Attempt
    from agent.core.request.context import RequestContext
    from agent.core.request.log import RequestLog
    from agent.core.request.messages import AttemptEnded, BecameResident, LoadedThere
    from agent.core.request.state import RouterState
    from protos.domain.load_term import ColdWay
    from protos.domain.pricing import Usage
    from protos.domain.router import Placement
    from protos.domain.targets import RequestShape
    from protos.domain.usage_record import UsageCause


class Bookkeeping:
    """Updates the shared state and the log for one request."""

    __slots__ = ("_log", "_promised", "_request", "_state")

    def __init__(self, state: RouterState, request: RequestContext, log: RequestLog) -> None:
        self._state = state
        self._request = request
        self._log = log
        #: The last placement of an attempt that was not a second copy.
        self._promised: Placement | None = None

    def promised(self, placement: Placement) -> Placement:
        """Record the placement: predicted time, tiers, and whether the budget is missed.

        Return it as it is billed: no dearer than those before it.
        """
        log = self._log
        if self._promised is not None:
            placement = billed_as_before(self._request, placement, self._promised)
        self._promised = placement
        log.predicted_miss = placement.predicted_miss
        log.serving_tier, log.billing_tier = placement.serving_tier, placement.billing_tier
        log.predicted_ttft_ms_p99 = placement.chosen.ttft_ms_p99
        return placement

    def asked(self, attempt: Attempt) -> None:
        """Record that ``attempt`` is sent to its target."""
        state, placement, began_mono_ms = self._state, attempt.placement, attempt.began_mono_ms
        node_id = attempt.node_id
        if self._log.placed_mono_ms is None:
            self._log.placed_mono_ms = began_mono_ms
        # Neither a whole answer nor the continuation of a broken stream has an observable first
        # token.
        attempt.learned = not self._request.stream or attempt.resumes is not None
        tokens = 0.0 if attempt.learned else max(1.0, placement.chosen.load.prompt_tokens)
        if node_id == state.node_id:
            attempt.loading = placement.chosen.cold is not None
            if attempt.loading or not self._enters(attempt, began_mono_ms):
                tokens = 0.0  # its prompt is not before the engine yet
        request = self._request
        attempt.prompt_key = state.live.request_started(
            node_id, began_mono_ms, tokens, request.account, request.sequences
        )
        replica = placement.chosen.replica
        state.prefixes.record(
            replica.node_id, replica.model, replica.generation, self._request.blocks, began_mono_ms
        )

    def _enters(self, attempt: Attempt, now_mono_ms: float) -> bool:
        """Take a place at this node's engine; return whether it is given at once."""
        work = self._work(attempt.placement.chosen.request)
        attempt.place = self._state.engine_door.enter(work, now_mono_ms)
        return attempt.place.served_mono_ms is not None

    def became_resident(self, event: BecameResident, now_mono_ms: float) -> bool:
        """Record that what an attempt asks for is in this node's engine; keep it there.

        Return whether it still is.
        """
        attempt = event.attempt
        attempt.loading, attempt.cold_start = False, event.cold_start
        attempt.load_ms = now_mono_ms - attempt.began_mono_ms
        attempt.learned = True  # its first token says how long the load took
        if not self.uses_engine(attempt):
            return False
        self._enters(attempt, now_mono_ms)
        return True

    def uses_engine(self, attempt: Attempt) -> bool:
        """Keep what ``attempt`` asks for in this node's engine; return whether it is there. Hot."""
        if attempt.endpoint is None:
            asked = attempt.deployment
            attempt.endpoint = self._state.own_engines.enter(asked.model, asked.adapter)
        return attempt.endpoint is not None

    def loaded_there(self, event: LoadedThere, now_mono_ms: float) -> None:
        """Record that a peer loaded what an attempt asks for, and learn how long that takes.

        Only of one that was placed to load: else a node could excuse every slow answer by a load.
        """
        attempt, told, state = event.attempt, event.cold_start, self._state
        chosen = attempt.placement.chosen
        if (load := chosen.cold) is None:
            return
        attempt.cold_start, attempt.load_ms, attempt.learned = told, event.waited_ms, True
        if event.began:
            warm_ms = max(0.0, chosen.ttft_ms_p99 - load.p99_ms)
            waited_ms = now_mono_ms - attempt.began_mono_ms
            took_ms = credible_load_ms(told.took_ms, waited_ms, warm_ms)
            weights_bytes = max(told.weights_bytes, self._weights_bytes(attempt, told.way))
            state.loads.learn(attempt.node_id, told.way, weights_bytes, took_ms, told.pull_ms)
        asked = attempt.deployment
        name = asked.adapter or asked.model
        state.live.holds(attempt.node_id, name, None, resident=True)

    def _weights_bytes(self, attempt: Attempt, way: ColdWay) -> int:
        """Return how much is loaded on ``way``, by the table; 0 where it does not say."""
        view, asked = self._state.view(), attempt.deployment
        adapter, model = view.adapters.get(asked.adapter), view.models.get(asked.model)
        found = 0 if adapter is None else adapter.weights_bytes
        if way.path is not ColdPath.ADAPTER and model is not None:
            found += model.weights_bytes
        return found

    def stale(self, attempt: Attempt, way: ColdWay | None) -> None:
        """Record that what an attempt asks for has left the engine of its target."""
        if attempt.node_id != self._state.node_id:
            asked = attempt.deployment
            name = asked.adapter or asked.model
            self._state.live.holds(attempt.node_id, name, way, resident=False)

    def admitted(self, attempt: Attempt, now_mono_ms: float) -> None:
        """Record that ``attempt`` has waited for its place at the own engine, and is sent now."""
        if not attempt.learned:
            tokens = max(1.0, attempt.placement.chosen.load.prompt_tokens)
            attempt.prompt_key = self._state.live.prompt_sent(
                attempt.node_id, now_mono_ms, tokens, self._request.account
            )

    def progressed(self, attempt: Attempt, now_mono_ms: float) -> None:
        """Record that the engine generates for ``attempt``, visible to its client or not."""
        if not attempt.learned:
            self._state.live.first_token(attempt.node_id, attempt.prompt_key, now_mono_ms)
            self._learn(attempt, now_mono_ms)

    def first_token(self, attempt: Attempt, load: PeerLoad | None, now_mono_ms: float) -> None:
        """Record a first token, and the load in its response head, which is current now."""
        self.reported(attempt, load, now_mono_ms)
        self.progressed(attempt, now_mono_ms)
        if attempt.finding is not None:
            attempt.finding.ended(now_mono_ms, now_mono_ms)

    def reported(self, attempt: Attempt, load: PeerLoad | None, now_mono_ms: float) -> None:
        """Record the load that a peer reported in a response head."""
        if load is not None:
            self._state.live.reported(
                attempt.node_id,
                now_mono_ms,
                in_flight=load.in_flight,
                queued=load.queued,
                fill_ratio=load.fill_ratio,
                newcomer=load.newcomer,
                # a draining peer is ready for no model; otherwise only probes report its models
                ready_models=() if load.draining else None,
                loadable={} if load.draining else None,
            )

    def left(
        self, attempt: Attempt, now_mono_ms: float, *, cut: bool, abandoned: bool = False
    ) -> None:
        """Record the end of ``attempt``. ``cut``: it might still have had a first token.

        ``abandoned``: it was cut because its client left.
        """
        state, request = self._state, self._request
        state.live.request_ended(
            attempt.node_id, attempt.prompt_key, request.account, request.sequences
        )
        if attempt.first_token_mono_ms is None:
            if cut:
                self._learn(attempt, now_mono_ms, censored=True, abandoned=abandoned)
            if attempt.finding is not None:
                attempt.finding.ended(None, now_mono_ms)
        if attempt.endpoint is not None:
            state.own_engines.leave(attempt.endpoint)
            attempt.endpoint = None
        if attempt.place is not None:
            # Last, because it may start another request before it returns.
            state.engine_door.leave(attempt.place, now_mono_ms, self._generated(attempt))

    def succeeded(self, attempt: Attempt) -> None:
        """Record that the target answered."""
        self._state.live.succeeded(attempt.node_id)

    def late(self, attempt: Attempt, now_mono_ms: float, *, another_in_time: bool) -> None:
        """Record that the attempt was cut, or overtaken, before its first token.

        Not of one that waited for a load: its target is not slower than others for that.
        """
        if attempt.placement.chosen.cold is not None or attempt.cold_start is not None:
            return
        self._state.live.late(attempt.node_id, now_mono_ms, another_in_time=another_in_time)

    def failed(self, node_id: str, now_mono_ms: float, *, of_link: bool, forget: bool) -> None:
        """Record a failure. ``forget``: the engine may be a new process, with an empty cache."""
        if forget:
            self._state.prefixes.forget(node_id)
        self._state.live.failed(node_id, now_mono_ms, of_link=of_link)

    def fault(
        self,
        event: AttemptEnded,
        outcome: AttemptOutcome,
        detail: str,
        now_mono_ms: float,
        *,
        begun: bool = False,
    ) -> None:
        """Record that a target failed, and log its attempt. ``begun``: during its answer."""
        attempt, of_link = event.attempt, event.status == 0
        forget = of_link or begun or attempt.resumes is not None
        self.failed(attempt.node_id, now_mono_ms, of_link=of_link, forget=forget)
        self.note(attempt, outcome, now_mono_ms, detail)

    def note(
        self, attempt: Attempt, outcome: AttemptOutcome, now_mono_ms: float, detail: str = ""
    ) -> None:
        """Put the end of ``attempt`` into the log."""
        log, began_mono_ms = self._log, attempt.began_mono_ms
        log.attempts.append(
            AttemptLog(
                attempt.node_id,
                outcome,
                attempt.purpose,
                detail,
                now_mono_ms - began_mono_ms,
                began_mono_ms,
                attempt.budget_left_ms,
            )
        )
        log.placements.append(attempt.placement)

    def answering(self, attempt: Attempt, status: int) -> None:
        """Record that the client gets the answer of ``attempt``."""
        log, placement, state = self._log, attempt.placement, self._state
        log.status = status
        log.node_id = attempt.node_id
        log.pop_id = placement.chosen.pop.id
        log.by_peer = log.node_id != state.node_id
        log.serving_tier = placement.serving_tier
        log.billing_tier = placement.billing_tier

    def account(
        self,
        attempt: Attempt,
        usage: Usage | None,
        far: FarTimes | None,
        now_mono_ms: float,
        cause: UsageCause,
        *,
        whole: bool,
        visible: bool = True,
    ) -> None:
        """Put tokens, times and cost of the answer of ``attempt`` into the log.

        ``visible``: a whole answer has something to see; of a stream its first token says it.
        """
        log, state, request = self._log, self._state, self._request
        first_token_mono_ms = attempt.first_token_mono_ms
        answered_mono_ms = now_mono_ms if first_token_mono_ms is None else first_token_mono_ms
        log.first_token_mono_ms = first_token_mono_ms
        log.asked_mono_ms, log.tokens = attempt.began_mono_ms, attempt.tokens
        if first_token_mono_ms is not None:
            log.stream_ms = attempt.tokens.last_mono_ms(now_mono_ms) - first_token_mono_ms
        log.pop_id = attempt.placement.chosen.pop.id
        log.far = far_times(attempt, far, answered_mono_ms)
        if attempt.cold_start is not None:
            log.cold_start, log.cold_wait_ms = attempt.cold_start, attempt.load_ms
        self._bill(attempt, usage or NO_USAGE, cause, visible=visible)
        if usage is None:
            return
        check = request.usage_check
        if check is not None and check.exceeded_by:
            log.usage_exceeded = log.continued or log.node_id in check.exceeded_by
            for node_id in check.exceeded_by:
                state.live.overclaimed(node_id)
        if whole and attempt.place is not None:
            state.own_fill.count(filling_tokens(usage, embeds=request.embeds), now_mono_ms)
        if usage.prompt_tokens > 0 and not log.usage_exceeded:
            name = request.deployment.name
            state.prompt_tokens.counted(name, request.body_bytes, usage.prompt_tokens)
            state.prefixes.report_hit(
                attempt.node_id,
                attempt.deployment.model,
                attempt.placement.chosen.state.cached_ratio,
                usage.cached_tokens / usage.prompt_tokens,
            )

    def _bill(self, attempt: Attempt, usage: Usage, cause: UsageCause, *, visible: bool) -> None:
        """Put into the log what the request costs, and why."""
        log, request, placement = self._log, self._request, attempt.placement
        log.usage = usage = counted_until(cause, usage, request)
        if request.stream:
            visible = attempt.first_token_mono_ms is not None
        log.cause, free = ended_as(cause, usage, request, visible=visible)
        price = request.price(placement.billing_tier)
        if price is None:
            return
        log.card_version = price.card_version
        if not free:
            log.price, log.cost = price, cost_of(usage, price)
            log.billing_reason = placement.billing_reason

    def _work(self, asked: RequestShape) -> Work:
        """Return what the request asks of this node's engine, as it was placed."""
        request, deployment = self._request, self._request.deployment
        return Work(
            request.account,
            deployment.sla_tier,
            request.sequences,
            asked.expected_tokens or asked.prompt_tokens,
            request.max_answer_tokens,
            request.body_bytes,
        )

    def _generated(self, attempt: Attempt) -> float | None:
        """Return the tokens that were counted of the attempt's answer; None if none can be."""
        if attempt.resumes is not None:
            return None
        counted = 0 if attempt.counted is None else attempt.counted.completion_tokens
        if not self._request.stream:
            return None if attempt.counted is None else counted
        return max(counted, len(attempt.tokens.times_mono_ms) + attempt.tokens.left_out)

    def _learn(
        self,
        attempt: Attempt,
        now_mono_ms: float,
        *,
        censored: bool = False,
        abandoned: bool = False,
    ) -> None:
        if attempt.learned:
            return
        attempt.learned = True
        chosen = attempt.placement.chosen
        if chosen.cold is not None or attempt.cold_start is not None:
            return  # it says more of the load than of the engine
        load, took_ms = chosen.load, now_mono_ms - attempt.began_mono_ms
        outcome = Outcome(
            load,
            chosen.there_ms,
            took_ms,
            now_mono_ms,
            censored,
            self._request.account,
            abandoned,
        )
        state = self._state
        state.coverage.note(
            took_ms,
            chosen.ttft_ms_p99,
            learned=chosen.learned,
            place=load.place,
            censored=censored,
        )
        state.predictor.learn(
            chosen.node.id, attempt.deployment.model, chosen.replica.profile, outcome
        )


def far_times(
    attempt: Attempt, reported: FarTimes | None, answered_mono_ms: float
) -> FarTimes | None:
    """Return how the target spent the time until ``answered_mono_ms``, as far as it is known.

    ``reported`` is a peer's own report; for this node's engine it follows from the queue.
    """
    place = attempt.place
    if place is None:
        return reported
    load_ms = min(attempt.load_ms, answered_mono_ms - attempt.began_mono_ms)
    here_ms = answered_mono_ms - attempt.began_mono_ms - load_ms
    return FarTimes(0.0, place.queue_ms(answered_mono_ms), here_ms, load_ms)
