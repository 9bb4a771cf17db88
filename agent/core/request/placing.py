"""Places the attempts of one request, explorations and trials of targets included."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

from agent.core.attempts import Expectation
from agent.core.exploration import explored_patience_ms
from agent.core.hedging import hedge_to
from agent.core.request.attempt import Finding
from protos.domain.choice import explored_placement, missed_placement
from protos.domain.errors import BudgetUnreachable, EdgeForgeError, NoReplica
from protos.domain.router import Placement, RequestShape, place
from protos.domain.trace import AttemptPurpose

if TYPE_CHECKING:
    from agent.core.request.attempt import Attempt
    from agent.core.request.context import RequestContext
    from agent.core.request.state import RouterState


class Placer:
    """Places one request's attempts by the routing table and live state at the time of each."""

    __slots__ = (
        "_expected_tokens",
        "_request",
        "_state",
        "budget_left_ms",
        "finding",
        "late",
        "tried",
    )

    def __init__(self, state: RouterState, request: RequestContext) -> None:
        self._state = state
        self._request = request
        self._expected_tokens = state.prompt_tokens.estimate(
            request.deployment.name, request.body_bytes
        )
        #: Nodes that are not asked again.
        self.tried: frozenset[str] = frozenset()
        #: Those of them that were cut for being late: asked again if no other node is left.
        self.late: frozenset[str] = frozenset()
        #: Set if the last placement is an exploration or a trial.
        self.finding: Finding | None = None
        #: Budget left at the last placement.
        self.budget_left_ms = 0.0

    def next_attempt(self, now_mono_ms: float) -> Placement:
        """Place the next attempt; a stream's first may explore. Raises: EdgeForgeError."""
        self.finding = None
        exploration = self._state.exploration
        if self.tried or not self._request.stream or not exploration.budget.enabled:
            return self.place(now_mono_ms)
        try:
            placement = self.place(now_mono_ms)
        except BudgetUnreachable:
            on_trial = self._on_trial(now_mono_ms)
            if on_trial is None:
                raise
            return on_trial
        return (
            self._explored(placement, now_mono_ms)
            if exploration.may_explore(now_mono_ms)
            else placement
        )

    def place(self, now_mono_ms: float) -> Placement:
        """Choose among the nodes that were not tried, with all hard filters applied again.

        Raises: EdgeForgeError.
        """
        shape = self._shape(now_mono_ms, strict=self._request.deployment.strict)
        try:
            return self._choose(shape, now_mono_ms)
        except NoReplica:
            if not self.late:
                raise
        # No other node is left: one that was late may still answer.
        self.tried -= self.late
        self.late = frozenset()
        return self._choose(shape, now_mono_ms, allow_late=True)

    def second_copy(self, now_mono_ms: float) -> Placement | None:
        """Return where a second copy of a late request goes; None if no target is in time."""
        shape = self._shape(now_mono_ms, strict=self._request.deployment.strict)
        try:
            placement = self._choose(shape, now_mono_ms)
        except EdgeForgeError:
            return None
        chosen = hedge_to(placement.candidates, self.tried)
        if chosen is None:
            return None
        return replace(placement, chosen=chosen, serving_tier=chosen.pop.tier)

    def another(self, now_mono_ms: float, *, resumes: bool = False) -> Placement | None:
        """Return the best other target now, in time or not; None if there is none.

        Once a first token was sent or is late, the budget and strictness no longer apply.
        ``resumes``: it continues a stream, which another model must not.
        """
        shape = self._shape(now_mono_ms, strict=False, resumes=resumes)
        try:
            return self._choose(shape, now_mono_ms)
        except EdgeForgeError:
            return None

    def expectation(self, attempt: Attempt, other_ttft_ms_p99: float | None) -> Expectation:
        """Return the predictions for ``attempt`` and for the soonest other target."""
        prediction = attempt.placement.chosen.prediction
        return Expectation(
            ttft_ms_p50=prediction.ttft_ms_p50,
            ttft_ms_p99=prediction.ttft_ms_p99,
            learned=prediction.learned,
            budget_left_ms=attempt.budget_left_ms,
            other_ttft_ms_p99=other_ttft_ms_p99,
        )

    def other_ttft_ms_p99(self, placement: Placement) -> float | None:
        """Return the soonest P99 among the candidates that were not tried; None if all were."""
        soonest_ms = math.inf
        tried = self.tried
        for candidate in placement.candidates:
            if candidate.ttft_ms_p99 < soonest_ms and candidate.node.id not in tried:
                soonest_ms = candidate.ttft_ms_p99
        return None if soonest_ms == math.inf else soonest_ms

    def _shape(self, now_mono_ms: float, *, strict: bool, resumes: bool = False) -> RequestShape:
        request = self._request
        deployment, view = request.deployment, self._state.view()
        spent_ms = now_mono_ms - request.first_byte_mono_ms
        self.budget_left_ms = request.budget_ms - request.last_mile_ms - spent_ms
        now = view.deployments.get(deployment.name)
        if now is not None and now is not deployment:
            # Changed since the admission: where it may be served must be current, and what it
            # is now of is what others serve.
            deployment = replace(
                deployment,
                pins=now.pins,
                residency_zones=now.residency_zones,
                max_premium_percent=now.max_premium_percent,
            )
            if not resumes:
                deployment = replace(deployment, model=now.model, adapter=now.adapter)
        if deployment.strict is not strict:
            deployment = replace(deployment, strict=strict)
        return RequestShape(
            deployment=deployment,
            prompt_tokens=request.prompt_tokens,
            body_bytes=request.body_bytes,
            stream=request.stream,
            budget_left_ms=self.budget_left_ms,
            narrowed_zones=request.zones_in(view),
            embeds=request.embeds,
            needs_tool_parser=request.needs_tool_parser,
            expected_tokens=self._expected_tokens,
        )

    def _choose(
        self, shape: RequestShape, now_mono_ms: float, *, allow_late: bool = False
    ) -> Placement:
        state, request = self._state, self._request
        model = shape.deployment.model
        return place(
            state.view(),
            shape,
            state.node_id,
            state.targets(
                model,
                now_mono_ms,
                request.blocks,
                adapter=shape.deployment.adapter,
                allow_late=allow_late,
                account=request.account,
                sla_tier=request.deployment.sla_tier,
            ),
            draw=state.draw(),
            fill=state.fill(now_mono_ms),
            edge_fill_ratio=state.edge_fill_ratio,
            excluded=self.tried,
            learned=state.predictor.of_model(model),
            loads=state.loads,
        )

    def _explored(self, placement: Placement, now_mono_ms: float) -> Placement:
        """Return a placement on a target whose speed is uncertain, if one should be explored."""
        state = self._state
        shape = self._shape(now_mono_ms, strict=self._request.deployment.strict)
        learned = state.predictor.of_model(shape.deployment.model)
        other = state.exploration.choose_instead(placement, shape, learned, now_mono_ms)
        if other is None:
            return placement
        self.finding = Finding(
            AttemptPurpose.EXPLORE,
            explored_patience_ms(shape.budget_left_ms, placement.chosen.ttft_ms_p99),
            now_mono_ms + shape.budget_left_ms,
            state.half_open,
        )
        return explored_placement(placement, other)

    def _on_trial(self, now_mono_ms: float) -> Placement | None:
        """Return the half-open target that a strict deployment's request may try, if any."""
        state = self._state
        shape = self._shape(now_mono_ms, strict=False)
        candidates = self._choose(shape, now_mono_ms).candidates
        trial = state.half_open.choose_trial(candidates, shape.budget_left_ms, now_mono_ms)
        if trial is None:
            return None
        self.finding = Finding(
            AttemptPurpose.TRIAL,
            math.inf,
            now_mono_ms + shape.budget_left_ms,
            state.half_open,
            trial,
        )
        return missed_placement(state.view(), shape, candidates, trial)
