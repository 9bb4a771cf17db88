"""Where a request goes, and where next; now and then, to find out what a target is like."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from agent.core.attempts import Expectation
from agent.core.exploration import explored_patience_ms
from agent.gateway.context import fill_lookup, target_lookup
from protos.domain.choice import explored_placement, missed_placement
from protos.domain.errors import BudgetUnreachable, NoReplica
from protos.domain.router import Candidate, Placement, RequestShape, place

if TYPE_CHECKING:
    from agent.core.half_open import HalfOpenTargets
    from agent.formats.body import GenerationBody
    from agent.gateway.asking import Asking
    from agent.gateway.context import GatewayContext
    from agent.gateway.records import RequestRecord
    from agent.relay.messages import Request
    from protos.domain.resources import Deployment


@dataclass(frozen=True, slots=True)
class Finding:
    """What an attempt finds out beside serving its client, and how long it may take.

    ``trial`` is the target that a strict deployment's request tries, else None.
    """

    why: str
    patience_ms: float
    deadline_mono_ms: float
    trials: HalfOpenTargets
    trial: Candidate | None = None

    def ended(self, first_token_mono_ms: float | None, now_mono_ms: float) -> None:
        """A first token came, or none will."""
        if self.trial is not None:
            in_time = (
                first_token_mono_ms is not None and first_token_mono_ms <= self.deadline_mono_ms
            )
            self.trials.ended(self.trial, now_mono_ms, in_time=in_time)


class Placing:
    """The placements of one request."""

    def __init__(
        self,
        around: GatewayContext,
        asking: Asking,
        request: Request,
        record: RequestRecord,
        body: GenerationBody,
        deployment: Deployment,
    ) -> None:
        self._around = around
        self._asking = asking
        self._request = request
        self._record = record
        self._body = body
        self._deployment = deployment
        self._expected_tokens = around.prompt_tokens.estimate(deployment.name, len(request.body))
        self.tried: frozenset[str] = frozenset()
        #: Those of them that were cut for being late.
        self.late: frozenset[str] = frozenset()
        self.zones: frozenset[str] | None = None
        #: Of the attempt that was placed last; None mostly.
        self.finding: Finding | None = None

    def attempt(self) -> Placement:
        """Place; a stream's first attempt may find something out. Raises: EdgeForgeError."""
        self.finding = None
        exploration = self._around.exploration
        if self.tried or not self._body.stream or not exploration.budget.enabled:
            return self.place()
        try:
            placement = self.place()
        except BudgetUnreachable:
            on_trial = self._on_trial()
            if on_trial is None:
                raise
            return on_trial
        now_mono_ms = self._around.now_mono_ms()
        return self._explored(placement, now_mono_ms) if exploration.may(now_mono_ms) else placement

    def place(self, *, first_token: bool = True, fall_back: bool = True) -> Placement:
        """Choose among those not tried yet, all hard filters anew. Raises: EdgeForgeError.

        With the first token out, no budget is left to be kept, and no strict deployment's either.
        """
        now_mono_ms = self._around.now_mono_ms()
        shape = self._shape(now_mono_ms, strict=self._deployment.strict and first_token)
        try:
            return self._choose(shape, now_mono_ms)
        except NoReplica:
            if not fall_back:
                raise
        # nobody else is left: one that was late may still be going to answer
        self.tried -= self.late
        self.late = frozenset()
        return self._choose(shape, now_mono_ms, spare_late=True)

    def expectation(self, placement: Placement, *, last: bool) -> Expectation:
        """Return what was predicted of the chosen target, and of the soonest that is left."""
        prediction = placement.chosen.prediction
        others_ms = [
            candidate.ttft_ms_p99
            for candidate in placement.candidates
            if candidate.node.id not in self.tried
        ]
        return Expectation(
            ttft_ms_p50=prediction.ttft_ms_p50,
            ttft_ms_p99=prediction.ttft_ms_p99,
            learned=prediction.learned,
            budget_left_ms=self._asking.budget_left_ms,
            other_ttft_ms_p99=None if last or not others_ms else min(others_ms),
        )

    def _shape(self, now_mono_ms: float, *, strict: bool) -> RequestShape:
        deployment, body = self._deployment, self._body
        spent_ms = now_mono_ms - self._request.first_byte_mono_ms
        self._asking.budget_left_ms = self._record.budget_ms - self._request.last_mile_ms - spent_ms
        if deployment.strict is not strict:
            deployment = replace(deployment, strict=strict)
        return RequestShape(
            deployment=deployment,
            prompt_tokens=body.prompt_tokens_estimate,
            body_bytes=len(self._request.body),
            stream=body.stream,
            budget_left_ms=self._asking.budget_left_ms,
            narrowed_zones=self.zones,
            embeds=body.api.embeds,
            needs_tool_parser=body.needs_tool_parser,
            expected_tokens=self._expected_tokens,
        )

    def _choose(
        self, shape: RequestShape, now_mono_ms: float, *, spare_late: bool = False
    ) -> Placement:
        around, model = self._around, self._deployment.model
        return place(
            around.view(),
            shape,
            around.node_id,
            target_lookup(around, model, now_mono_ms, self._asking.prompt, spare_late=spare_late),
            draw=around.draw(),
            fill=fill_lookup(around, now_mono_ms),
            edge_fill_ratio=around.edge_fill_ratio,
            excluded=self.tried,
            learned=around.predictor.of_model(model),
        )

    def _explored(self, placement: Placement, now_mono_ms: float) -> Placement:
        """Return whom to ask in place of the chosen one, if that is worth finding out."""
        around = self._around
        learned = around.predictor.of_model(self._deployment.model)
        shape = self._shape(now_mono_ms, strict=self._deployment.strict)
        other = around.exploration.instead_of(placement, shape, learned, now_mono_ms)
        if other is None:
            return placement
        fall_back_ms = placement.chosen.ttft_ms_p99
        self.finding = Finding(
            "explored",
            explored_patience_ms(shape.budget_left_ms, fall_back_ms),
            now_mono_ms + shape.budget_left_ms,
            around.trials,
        )
        return explored_placement(placement, other)

    def _on_trial(self) -> Placement | None:
        """Return whom a strict deployment's request tries rather than be refused, if anybody."""
        around, now = self._around, self._around.now_mono_ms()
        shape = self._shape(now, strict=False)
        candidates = self._choose(shape, now).candidates
        trial = around.trials.of(candidates, shape.budget_left_ms, now)
        if trial is None:
            return None
        deadline_mono_ms = now + shape.budget_left_ms
        self.finding = Finding("on trial", math.inf, deadline_mono_ms, around.trials, trial)
        return missed_placement(around.view(), shape, candidates, trial)
