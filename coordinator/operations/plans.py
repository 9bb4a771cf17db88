"""The replica plan: shown, frozen, carried out where it is frozen, and ruled by operators."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from coordinator.core.plan_input import Rule
from coordinator.operations.acts import Act
from coordinator.operations.use_case import UseCases, note_of, use_case
from coordinator.store import audit, plan_rules
from protos.domain.errors import Conflict, InvalidRequest, NotFound
from protos.domain.ids import check_model_name

if TYPE_CHECKING:
    from coordinator.fleet.placement_writer import PlanShown
    from coordinator.operations.actor import Actor


def _plan(*_args: object, **_kwargs: object) -> str:
    return "plan"


class Plans(UseCases):
    """The plan of what each node holds."""

    @use_case(Act.PLAN_SHOW, _plan)
    async def show(self, actor: Actor) -> PlanShown:
        """Return the plan as it would be made now, and what would move where it is frozen."""
        return self._parts.plan.shown()

    @use_case(Act.PLAN_FREEZE, _plan)
    async def freeze(self, actor: Actor, pop_ids: Collection[str]) -> PlanShown:
        """Freeze the plan at POPs; empty: at all of them. Raises: NotFound."""
        wanted = self._pops(pop_ids)
        note = note_of(actor, Act.PLAN_FREEZE, "plan", f"pops={','.join(wanted)}")
        await self._store.write(plan_rules.set_frozen(wanted, str(actor)), note)
        return self._changed()

    @use_case(Act.PLAN_UNFREEZE, _plan)
    async def unfreeze(self, actor: Actor, pop_ids: Collection[str]) -> PlanShown:
        """Let the plan be carried out again at POPs; empty: at all of them."""
        wanted = list(pop_ids) or sorted(self._store.plan_rules().frozen)
        note = note_of(actor, Act.PLAN_UNFREEZE, "plan", f"pops={','.join(wanted)[:500]}")
        await self._store.write(plan_rules.lift_frozen(wanted), note)
        return self._changed()

    @use_case(Act.PLAN_APPLY, _plan)
    async def apply(self, actor: Actor, pop_ids: Collection[str]) -> PlanShown:
        """Carry out the plan once where it is frozen; empty: at every such POP.

        Raises: Conflict where it is not frozen: there it is carried out by itself.
        """
        frozen = self._store.plan_rules().frozen
        wanted = sorted(set(pop_ids) or frozen)
        free = [pop_id for pop_id in wanted if pop_id not in frozen]
        if free or not wanted:
            raise Conflict(
                f"the plan is not frozen at {', '.join(free) or 'any POP'}",
                "it is carried out by itself there; `edgeforge plan freeze` holds it",
                retryable=False,
            )
        before = self._parts.plan.shown()
        note = note_of(actor, Act.PLAN_APPLY, "plan", f"pops={','.join(wanted)}")
        await self._store.write(audit.append(note))
        self._parts.plan.apply(wanted)
        self._parts.on_plan_changed()
        return before

    @use_case(Act.PLAN_PIN, _plan)
    async def pin(self, actor: Actor, name: str, pop_id: str, node_id: str) -> PlanShown:
        """Have a model held hot at a POP or a node. Raises: InvalidRequest, NotFound."""
        rule = self._rule(actor, name, pop_id, node_id)
        if rule.name not in self._store.view().models:
            raise NotFound(f"there is no model {name!r}", "`edgeforge model ls` shows all")
        return await self._add(actor, Act.PLAN_PIN, rule, forbids=False)

    @use_case(Act.PLAN_FORBID, _plan)
    async def forbid(self, actor: Actor, name: str, pop_id: str, node_id: str) -> PlanShown:
        """Have a model or an adapter held nowhere at a POP or a node.

        Raises: InvalidRequest, NotFound.
        """
        rule = self._rule(actor, name, pop_id, node_id)
        return await self._add(actor, Act.PLAN_FORBID, rule, forbids=True)

    @use_case(Act.PLAN_RELEASE, _plan)
    async def release(self, actor: Actor, name: str, pop_id: str, node_id: str) -> PlanShown:
        """Remove a pin or a prohibition. Raises: NotFound."""
        rule = Rule(name, pop_id, node_id)
        note = note_of(actor, Act.PLAN_RELEASE, "plan", f"{name[:200]} at {rule.place[:80]}")
        if not await self._store.write(plan_rules.remove(rule), note):
            raise NotFound(
                f"there is no rule for {name!r} at {rule.place}", "`edgeforge plan show` lists them"
            )
        return self._changed()

    async def _add(self, actor: Actor, act: Act, rule: Rule, *, forbids: bool) -> PlanShown:
        note = note_of(actor, act, "plan", f"{rule.name} at {rule.place}")
        await self._store.write(plan_rules.add(rule, forbids=forbids), note)
        return self._changed()

    def _rule(self, actor: Actor, name: str, pop_id: str, node_id: str) -> Rule:
        """Raises: InvalidRequest, NotFound."""
        check_model_name(name)
        view = self._store.view()
        if bool(pop_id) == bool(node_id):
            raise InvalidRequest("a rule is for a POP or for a node", "name one of them")
        if name not in view.models and name not in view.adapters:
            raise NotFound(f"there is no model or adapter {name!r}", "`edgeforge model ls`")
        if pop_id:
            self._pops([pop_id])
        elif node_id not in self._store.node_records():
            raise NotFound(f"no node {node_id!r} is enrolled", "`edgeforge node ls` shows those")
        return Rule(name, pop_id, node_id, str(actor))

    def _pops(self, pop_ids: Collection[str]) -> list[str]:
        """Return POPs that exist; all for none. Raises: NotFound."""
        known = self._store.view().pops
        for pop_id in pop_ids:
            if pop_id not in known:
                raise NotFound(
                    f"there is no POP {pop_id!r}", "`edgeforge pop ls` shows those that are"
                )
        return sorted(set(pop_ids) or known)

    def _changed(self) -> PlanShown:
        self._parts.on_plan_changed()
        return self._parts.plan.shown()
