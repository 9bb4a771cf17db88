"""The part of a replica plan for the long tail: a home for each model, and loads on demand."""

from __future__ import annotations

from typing import TYPE_CHECKING

from coordinator.core.demand_plan import KEEPS_FACTOR, KEEPS_PER_MINUTE, LEAST_PER_MINUTE
from coordinator.core.plan_draft import MAX_MODELS
from protos.domain.resources import Hold, Tier

if TYPE_CHECKING:
    from coordinator.core.plan_draft import NodeDraft
    from coordinator.core.plan_work import PlanWork, Want

#: Where the long tail is held: regional if it can be, the edge last.
_TIERS = {Tier.REGIONAL: 0, Tier.CENTRAL: 1, Tier.EDGE: 2}


def plan_homes(work: PlanWork) -> None:
    """Give each model that is held nowhere one home where a request can load it."""
    homes: dict[str, list[NodeDraft]] = {}
    for draft in work.drafts.values():
        for name, planned in draft.models.items():
            if planned.hold is not Hold.ON_DEMAND and draft.node.counts:
                homes.setdefault(name, []).append(draft)
    held: dict[str, list[NodeDraft]] = {}
    for draft in work.drafts.values():
        for name, hold in draft.node.holds.items():
            if hold is not Hold.ON_DEMAND and draft.node.counts:
                held.setdefault(name, []).append(draft)
    given: dict[str, int] = {}
    able = [
        draft
        for draft in work.drafts.values()
        if draft.node.engine_kind == "vllm" and draft.node.counts
    ]
    for want in work.free:
        name = want.model.name
        if any(want.allows(draft) and _serves(draft, want) for draft in homes.get(name, ())):
            continue
        home = _best_home(work, want, held.get(name, []), given) or _best_home(
            work, want, able, given
        )
        if home is None:
            work.unplaced(want.name, "", _why_nowhere(work, want, able))
            continue
        given[home.node_id] = given.get(home.node_id, 0) + 1
        homes.setdefault(name, []).append(home)
        is_hot = home.room_for_hot(want.model)
        why = f"the home of {name}: {home.node.tier}, and nothing asks for it elsewhere"
        home.put(want.model, Hold.HOT if is_hot else Hold.DISK, why, want.runtime_name)


def _serves(draft: NodeDraft, want: Want) -> bool:
    planned = draft.models.get(want.model.name)
    if planned is None:
        return False
    return planned.hold is Hold.HOT or draft.can_load(want.model)


def _best_home(
    work: PlanWork, want: Want, among: list[NodeDraft], given: dict[str, int]
) -> NodeDraft | None:
    """Return the node that can load a model with the fewest others at home there."""
    model, best, best_key = want.model, None, None
    for draft in among:
        if not (draft.may_get(model.name) and draft.can_load(model)):
            continue
        key = (
            draft.held(model.name) not in (Hold.HOT, Hold.DISK),
            _TIERS[draft.node.tier],
            given.get(draft.node_id, 0) + draft.hot,
            draft.node_id,
        )
        if (best_key is None or key < best_key) and len(draft.models) < MAX_MODELS:
            fits = draft.room_for_hot(model) or draft.has_disk_for(model.weights_bytes)
            if fits and work.may_hold(want, draft):
                best, best_key = draft, key
    return best


def _why_nowhere(work: PlanWork, want: Want, able: list[NodeDraft]) -> str:
    allowed = [draft for draft in able if want.allows(draft)]
    if not allowed:
        zones = ", ".join(want.deployment.residency_zones)
        return f"no node with an engine is in {zones}" if zones else "no node has an engine for it"
    forbidden = [draft for draft in allowed if work.forbidden(want.model.name, draft)]
    if len(forbidden) == len(allowed):
        return "operators have forbidden it everywhere it may be served"
    misfits = [work.misfit(draft, want.model, want.runtime) for draft in allowed]
    if all(misfits):
        return misfits[0]
    return "every engine that it fits holds something else"


def plan_on_demand(work: PlanWork) -> None:
    """Let nodes load on demand what they could, the most asked for first, within the bounds."""
    wants: dict[str, list[Want]] = {}
    for want in work.free:
        wants.setdefault(want.model.name, []).append(want)
    for pop_id, drafts in sorted(work.by_pop.items()):
        if not wants:
            return
        asked = {
            name: sum(work.per_minute(pop_id, one) for one in users if one.allows(drafts[0]))
            for name, users in wants.items()
        }
        for draft in drafts:
            if draft.node.engine_kind == "vllm":
                _plan_node(work, draft, wants, asked)


def _plan_node(
    work: PlanWork, draft: NodeDraft, wants: dict[str, list[Want]], asked: dict[str, float]
) -> None:
    able = []
    for name, users in wants.items():
        if name in draft.models or not draft.can_load(users[0].model) or not draft.may_get(name):
            continue
        want = next((one for one in users if work.may_hold(one, draft)), None)
        if want is not None:
            able.append((_score(draft, name, asked[name]), name, want))
    room = MAX_MODELS - len(draft.models)
    if len(able) > room:
        able.sort(key=lambda one: (-one[0], one[1]))
    for score, name, want in able[: max(0, room)]:
        model = want.model
        swaps = draft.can_swap(model) and score >= LEAST_PER_MINUTE and asked[name] > 0.0
        if swaps and draft.has_disk_for(model.weights_bytes):
            why = f"{asked[name]:g} requests per minute in {draft.node.pop_id}, swapped in"
            draft.put(model, Hold.DISK, why, want.runtime_name)
        else:
            draft.put(model, Hold.ON_DEMAND, "a request may load it", want.runtime_name)


def _score(draft: NodeDraft, name: str, per_minute: float) -> float:
    if name in draft.node.holds:
        return per_minute * KEEPS_FACTOR + KEEPS_PER_MINUTE
    return per_minute
