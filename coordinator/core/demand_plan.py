"""The part of a replica plan that follows demand: the models asked for most are hot in each POP.

A model that is hot keeps its engine unless another is asked for half as often again, and more of
one model's replicas are planned where one engine could not generate what is asked for.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from protos.domain.resources import Hold

if TYPE_CHECKING:
    from coordinator.core.plan_draft import NodeDraft
    from coordinator.core.plan_work import PlanWork, Want

#: Requests per minute in a POP below which a model is not made hot there.
LEAST_PER_MINUTE = 0.5
#: What a model that is hot already counts for, against one that would replace it.
KEEPS_FACTOR = 1.5
KEEPS_PER_MINUTE = 0.5
#: Tokens that a request takes on average, and how full an engine is planned.
REQUEST_TOKENS = 200.0
FILL = 0.7
#: Replicas of one model in one POP.
MAX_REPLICAS_PER_POP = 8


@dataclass(frozen=True, slots=True)
class _Entry:
    """One engine for a model in a POP; ``score`` is in requests per minute."""

    score: float
    model: str
    number: int
    why: str

    @property
    def order(self) -> tuple[float, str, int]:
        return -self.score, self.model, self.number


def plan_demand(work: PlanWork) -> None:
    """Give free engines to what is asked for, POP by POP."""
    for pop_id in sorted(work.by_pop):
        _plan_pop(work, pop_id, work.by_pop[pop_id])


def _plan_pop(work: PlanWork, pop_id: str, drafts: list[NodeDraft]) -> None:
    drafts = [one for one in drafts if one.node.engine_kind == "vllm"]
    _keep_on_leaving(work, [one for one in drafts if not one.node.counts])
    drafts = [one for one in drafts if one.node.counts]
    able = [one for one in drafts if one.free_engines > 0]
    users = _users(work, pop_id, able)
    if not users:
        return
    entries = sorted(_entries(work, pop_id, drafts, users), key=lambda one: one.order)
    engines = sum(one.free_engines for one in able if one.takes_new)
    chosen, others = entries[:engines], entries[engines:]
    for group in (chosen, others):
        waiting = [one for one in group if not _keep(work, able, users[one.model], one)]
        for entry in waiting:
            _start(work, able, users[entry.model], entry)


def _keep_on_leaving(work: PlanWork, drafts: list[NodeDraft]) -> None:
    """Leave what is hot on nodes that drain, or are dead, until they are gone or back."""
    for draft in drafts:
        for want in work.free:
            if draft.held(want.model.name) is Hold.HOT:
                entry = _Entry(0.0, want.model.name, 0, "kept until the node has drained")
                _put(work, draft, [want], entry)


def _users(work: PlanWork, pop_id: str, able: list[NodeDraft]) -> dict[str, list[Want]]:
    """Return model -> wants that may be served in a POP, for what is asked for or held there."""
    if not able:
        return {}
    held = {name for draft in able for name in draft.node.hot}
    users: dict[str, list[Want]] = {}
    zone = able[0].node.zone
    for want in work.free:
        zones = want.deployment.residency_zones
        asked = work.per_minute(pop_id, want) >= LEAST_PER_MINUTE or want.model.name in held
        if asked and (not zones or zone in zones):
            users.setdefault(want.model.name, []).append(want)
    return users


def _entries(
    work: PlanWork, pop_id: str, drafts: list[NodeDraft], users: dict[str, list[Want]]
) -> list[_Entry]:
    entries = []
    speeds = [one.node.tokens_per_s for one in drafts if one.node.tokens_per_s > 0.0]
    capacity = FILL * min(speeds) * 60.0 / REQUEST_TOKENS if speeds else math.inf
    for model, wants in users.items():
        asked = {want.name: work.per_minute(pop_id, want) for want in wants}
        per_minute = sum(asked.values())
        held = sum(one.held(model) is Hold.HOT for one in drafts)
        planned = sum(model in one.models for one in drafts)
        needed = math.ceil(per_minute / capacity) if per_minute >= LEAST_PER_MINUTE else 0
        needed = min(MAX_REPLICAS_PER_POP, max(needed, per_minute >= LEAST_PER_MINUTE))
        for number in range(planned, max(needed, held)):
            score = per_minute / (number + 1)
            if number < held:
                score = score * KEEPS_FACTOR + KEEPS_PER_MINUTE
            why = f"{per_minute:g} requests per minute in {pop_id}"
            if per_minute < LEAST_PER_MINUTE:
                why = "it is hot there already, and nothing else needs the engine"
            entries.append(_Entry(score, model, number, why))
    return entries


def _keep(work: PlanWork, able: list[NodeDraft], wants: list[Want], entry: _Entry) -> bool:
    """Leave a model hot where it is."""
    for draft in able:
        if draft.held(entry.model) is Hold.HOT and _put(work, draft, wants, entry):
            return True
    return False


def _start(work: PlanWork, able: list[NodeDraft], wants: list[Want], entry: _Entry) -> bool:
    """Make a model hot on the node where that costs least: it has the files, or is emptier."""
    if entry.score < LEAST_PER_MINUTE or "already" in entry.why:
        return False
    ranked = sorted(
        (one for one in able if one.takes_new and one.free_engines > 0),
        key=lambda one: (
            one.held(entry.model) is not Hold.DISK,
            one.hot,
            -one.free_engines,
            one.node_id,
        ),
    )
    return any(_put(work, draft, wants, entry) for draft in ranked)


def _put(work: PlanWork, draft: NodeDraft, wants: list[Want], entry: _Entry) -> bool:
    present = draft.models.get(entry.model)
    if present is not None and present.hold is Hold.HOT:
        return False
    for want in wants:
        fits = draft.room_for_hot(want.model) and work.may_hold(want, draft)
        if fits and draft.may_get(entry.model):
            draft.put(want.model, Hold.HOT, entry.why, want.runtime_name)
            return True
    return False
