"""What operators say about the replica plan: pins, prohibitions, and what is frozen."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from coordinator.core.plan_input import MAX_RULES, PlanRules, Rule
from coordinator.store.deploy_facts import PLAN_KEY, PlanRulesRow
from protos.domain.errors import InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Iterable

    from coordinator.store.transaction import Transaction, Write


def add(rule: Rule, *, forbids: bool) -> Write[None]:
    """Add a rule; the same for the same place is replaced, and so is its opposite.

    Raises: InvalidRequest over the limit.
    """

    def write(tx: Transaction) -> None:
        rules = _without(_present(tx), rule)
        if len(rules.pins) + len(rules.forbids) >= MAX_RULES:
            raise InvalidRequest(
                f"there are {MAX_RULES} rules of the plan already",
                "`edgeforge plan release` removes one that is not needed",
            )
        if forbids:
            rules = replace(rules, forbids=(*rules.forbids, rule))
        else:
            rules = replace(rules, pins=(*rules.pins, rule))
        tx.put_fact(PlanRulesRow(rules))

    return write


def remove(rule: Rule) -> Write[bool]:
    """Remove the pin or prohibition of a name at a place; return whether there was one."""

    def write(tx: Transaction) -> bool:
        before = _present(tx)
        after = _without(before, rule)
        if after == before:
            return False
        tx.put_fact(PlanRulesRow(after))
        return True

    return write


def set_frozen(pop_ids: Iterable[str], by: str) -> Write[None]:
    """Freeze the plan at POPs."""

    def write(tx: Transaction) -> None:
        rules = _present(tx)
        frozen = dict(rules.frozen) | dict.fromkeys(pop_ids, by)
        tx.put_fact(PlanRulesRow(replace(rules, frozen=dict(sorted(frozen.items())))))

    return write


def lift_frozen(pop_ids: Iterable[str]) -> Write[None]:
    """Let the plan be carried out at POPs again."""

    def write(tx: Transaction) -> None:
        rules, lifted = _present(tx), set(pop_ids)
        kept = {pop_id: by for pop_id, by in rules.frozen.items() if pop_id not in lifted}
        tx.put_fact(PlanRulesRow(replace(rules, frozen=kept)))

    return write


def _present(tx: Transaction) -> PlanRules:
    found = tx.fact(PlanRulesRow, PLAN_KEY)
    return found.rules if found else PlanRules()


def _without(rules: PlanRules, rule: Rule) -> PlanRules:
    def is_other(one: Rule) -> bool:
        place = one.name, one.pop_id, one.node_id
        return place != (rule.name, rule.pop_id, rule.node_id)

    return replace(
        rules,
        pins=tuple(filter(is_other, rules.pins)),
        forbids=tuple(filter(is_other, rules.forbids)),
    )
