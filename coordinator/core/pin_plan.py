"""The part of a replica plan that is said by people: pins of deployments and operators' rules.

Versions of a deployment that change places also stand here: the next one is made ready beside the
present one, and on half of its nodes instead of it where each of them has one engine only; the one
before stays for a grace.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from coordinator.core.plan_work import Version
from protos.domain.resources import Hold, ModelSource, NodeIntent

if TYPE_CHECKING:
    from coordinator.core.plan_draft import NodeDraft
    from coordinator.core.plan_work import PlanWork, Want


def plan_pins(work: PlanWork) -> None:
    """Give each node what deployments and operators have pinned to it."""
    wanted: dict[str, list[Want]] = {}
    for want in work.wants:
        for node_id in sorted(_nodes_of(work, want)):
            draft = work.drafts.get(node_id)
            reason = _impossible(work, want, draft)
            if reason:
                work.unplaced(want.name, node_id, reason)
            else:
                wanted.setdefault(node_id, []).append(want)
    takes_over = _takeovers(work)
    for node_id in sorted(wanted):
        _give(work, work.drafts[node_id], wanted[node_id], takes_over.get(node_id, frozenset()))
    _follow_rules(work)


def _nodes_of(work: PlanWork, want: Want) -> frozenset[str]:
    """Return where it is wanted by name: its pins, or where a version of it is hot."""
    if want.pins is not None:
        return want.pins
    fleet, name = work.fleet, want.name
    versions = [
        fleet.deployments[name],
        *(one for one in (fleet.preparing.get(name), fleet.leaving.get(name)) if one),
    ]
    if want.model.source is ModelSource.EXTERNAL or len(versions) == 1:
        return frozenset()
    held = set(work.was_hot(want.model.name))
    if want.version is Version.NEXT or (want.version is Version.PRESENT and name in fleet.leaving):
        held = {node_id for one in versions for node_id in work.was_hot(one.model)}
    return frozenset(node_id for node_id in held if want.allows(work.drafts[node_id]))


def _impossible(work: PlanWork, want: Want, draft: NodeDraft | None) -> str:
    if draft is None:
        return "the node has not connected yet"
    if work.forbidden(want.model.name, draft):
        return f"an operator has forbidden {want.model.name} there"
    reason = work.misfit(draft, want.model, want.runtime)
    if not reason and not want.allows(draft):
        reason = "the deployment may not be served in its zone"
    return reason


def _takeovers(work: PlanWork) -> dict[str, frozenset[str]]:
    """Return node -> models of next versions that take the engine of the present one there.

    Of the nodes where the present version is hot, half: so one node alone never loses what serves.
    """
    taken: dict[str, set[str]] = {}
    users: dict[str, int] = {}
    for want in work.wants:
        if want.version is Version.PRESENT:
            users[want.model.name] = users.get(want.model.name, 0) + 1
    for want in work.wants:
        present = work.fleet.deployments.get(want.name)
        if want.version is not Version.NEXT or present is None:
            continue
        if present.model == want.model.name or users.get(present.model, 0) != 1:
            continue
        allowed = _nodes_of(work, want)
        both = [
            node_id
            for node_id, node in sorted(work.fleet.nodes.items())
            if node_id in allowed
            and node.alive
            and node.holds.keys() & {present.model, want.model.name}
        ]
        for node_id in both[: len(both) // 2]:
            taken.setdefault(node_id, set()).add(want.model.name)
    return {node_id: frozenset(models) for node_id, models in taken.items()}


def _give(work: PlanWork, draft: NodeDraft, wants: list[Want], takes_over: frozenset[str]) -> None:
    """Fill a node's engines: what takes over, what it holds, then the first deployment's."""
    models: dict[str, list[Want]] = {}
    for want in wants:
        models.setdefault(want.model.name, []).append(want)

    def rank(name: str) -> tuple[int, bool, str]:
        versions = {want.version for want in models[name]}
        order = 2 if Version.PRESENT in versions else 3
        if name in takes_over:
            order = 0
        elif Version.LAST in versions and _stands_elsewhere(work, draft, models[name]):
            order = 1
        elif order == 3 and Version.LAST in versions:
            order = 4
        return order, draft.held(name) is not Hold.HOT, min(want.name for want in models[name])

    for name in sorted(models, key=rank):
        _give_one(work, draft, models[name])


def _stands_elsewhere(work: PlanWork, draft: NodeDraft, lasts: list[Want]) -> bool:
    """Return whether the version that came after these is hot on another node already."""
    return all(
        set(work.was_hot(work.fleet.deployments[want.name].model)) - {draft.node_id}
        for want in lasts
        if want.version is Version.LAST
    )


def _give_one(work: PlanWork, draft: NodeDraft, wants: list[Want]) -> None:
    model, first = wants[0].model, wants[0]
    held = draft.held(model.name)
    if held is None and draft.node.intent is not NodeIntent.ACTIVE:
        reason = f"the node is {draft.node.intent} and gets no new model"
        for want in wants:
            work.unplaced(want.name, draft.node_id, reason)
        return
    why = _why(wants)
    for want in wants[1:]:
        if want.runtime_name != first.runtime_name and want.version is Version.PRESENT:
            reason = f"{first.name} has {model.name} started there by another runtime"
            work.unplaced(want.name, draft.node_id, reason)
    if draft.room_for_hot(model):
        draft.put(model, Hold.HOT, why, first.runtime_name)
        return
    hot = ", ".join(sorted(n for n, one in draft.models.items() if one.hold is Hold.HOT))
    for want in wants:
        if want.version is Version.PRESENT and want.pins is not None:
            work.unplaced(want.name, draft.node_id, _full(draft, hot))
    if model.source is not ModelSource.EXTERNAL and _may_wait_on_disk(draft, wants):
        draft.put(model, Hold.DISK, f"{why}, and no engine is free", first.runtime_name)


def _may_wait_on_disk(draft: NodeDraft, wants: list[Want]) -> bool:
    """Return whether a model without an engine is kept on disk: to be swapped, or to follow."""
    follows = any(want.version is Version.NEXT for want in wants)
    return follows or draft.can_load(wants[0].model)


def _full(draft: NodeDraft, hot: str) -> str:
    if not hot:
        return "its disk has no room for the model"
    engines = draft.node.hardware.engines
    if engines == 1:
        return f"its engine holds {hot}, and an engine holds one model"
    return f"its {engines} engines hold {hot}"


def _why(wants: list[Want]) -> str:
    named = {
        Version.PRESENT: "deployment {} is pinned there",
        Version.NEXT: "the next version of deployment {} is made ready there",
        Version.LAST: "the version of deployment {} before is kept for a grace",
    }
    first = min(wants, key=lambda want: list(Version).index(want.version))
    if first.version is Version.PRESENT and first.pins is None:
        return f"deployment {first.name} is served there"
    return named[first.version].format(first.name)


def _follow_rules(work: PlanWork) -> None:
    """Make what operators pinned to a node or a POP hot there."""
    for rule in sorted(work.fleet.rules.pins, key=lambda rule: (rule.name, rule.place)):
        users = [want for want in work.free if want.model.name == rule.name]
        places = [
            draft for draft in work.drafts.values() if rule.covers(draft.node_id, draft.node.pop_id)
        ]
        able = [
            (draft, want)
            for draft in places
            for want in users[:1]
            if any(work.may_hold(one, draft) for one in users) and draft.may_get(rule.name)
        ]
        why = f"pinned to {rule.place} by {rule.by or 'an operator'}"
        if any(_is_hot(draft, rule.name) for draft in places):
            continue
        able.sort(key=lambda one: (one[0].held(rule.name) is not Hold.HOT, -one[0].free_engines))
        roomy = [one for one in able if one[0].room_for_hot(one[1].model)]
        if roomy:
            draft, want = roomy[0]
            draft.put(want.model, Hold.HOT, why, want.runtime_name)
        elif users:
            reason = f"{why}, but no engine there is free for it" if able else f"{why}, in vain"
            work.unplaced(users[0].name, rule.node_id or rule.pop_id, reason)


def _is_hot(draft: NodeDraft, name: str) -> bool:
    planned = draft.models.get(name)
    return planned is not None and planned.hold is Hold.HOT
