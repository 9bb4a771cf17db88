"""The part of a replica plan for adapters: beside their base, hot where they are asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from coordinator.core.demand_plan import KEEPS_FACTOR, KEEPS_PER_MINUTE, LEAST_PER_MINUTE
from coordinator.core.plan_draft import MAX_ADAPTERS
from coordinator.core.plan_input import adapter_misfit, replica_key
from coordinator.core.plan_work import Version
from protos.domain.resources import Hold

if TYPE_CHECKING:
    from coordinator.core.plan_draft import NodeDraft
    from coordinator.core.plan_work import PlanWork, Want


def plan_adapters(work: PlanWork) -> None:
    """Give each node the adapters of the models that it got."""
    by_base: dict[str, list[Want]] = {}
    for want in work.wants:
        if want.adapter is not None and want.adapter.model == want.model.name:
            by_base.setdefault(want.model.name, []).append(want)
        elif want.adapter is not None:
            reason = f"adapter {want.adapter.name} is for {want.adapter.model}"
            work.unplaced(want.name, "", reason)
    if not by_base:
        return
    for draft in work.drafts.values():
        wants = [want for name in draft.models for want in by_base.get(name, ())]
        if wants:
            _plan_node(work, draft, wants)


def _plan_node(work: PlanWork, draft: NodeDraft, wants: list[Want]) -> None:
    ranked: dict[str, tuple[float, Want]] = {}
    for want in wants:
        adapter = want.adapter
        if adapter is None or not want.allows(draft) or work.forbidden(adapter.name, draft):
            continue
        reason = adapter_misfit(draft.node.hardware, adapter)
        if reason:
            if want.pins is not None and draft.node_id in want.pins:
                work.unplaced(want.name, draft.node_id, reason)
            continue
        score = _score(work, draft, want)
        if adapter.name not in ranked or score > ranked[adapter.name][0]:
            ranked[adapter.name] = (score, want)
    in_order = sorted(ranked.values(), key=lambda one: (-one[0], one[1].name, one[1].model.name))
    hot = 0
    for score, want in in_order[:MAX_ADAPTERS]:
        assert want.adapter is not None
        base_is_hot = draft.models[want.model.name].hold is Hold.HOT
        if base_is_hot and score >= LEAST_PER_MINUTE and hot < draft.node.hardware.max_adapters:
            hot += 1
            draft.put_adapter(want.adapter, Hold.HOT, _why(work, draft, want))
        else:
            draft.put_adapter(want.adapter, Hold.ON_DEMAND, "a request may load it")


def _score(work: PlanWork, draft: NodeDraft, want: Want) -> float:
    """Return requests per minute, with what keeps a hot adapter or makes a new version ready."""
    assert want.adapter is not None
    score = work.per_minute(draft.node.pop_id, want)
    if draft.held(replica_key(want.model.name, want.adapter.name)) is Hold.HOT:
        score = score * KEEPS_FACTOR + KEEPS_PER_MINUTE
    if want.version is Version.NEXT or (want.pins is not None and want.version is Version.PRESENT):
        score += 1.0
    return score


def _why(work: PlanWork, draft: NodeDraft, want: Want) -> str:
    per_minute = work.per_minute(draft.node.pop_id, want)
    if want.version is Version.NEXT:
        return f"the next version of deployment {want.name} is made ready there"
    if per_minute >= LEAST_PER_MINUTE:
        return f"{per_minute:g} requests per minute in {draft.node.pop_id}"
    return f"deployment {want.name} is served there"
