"""Quotes: what a deployment's recent requests would have cost under other budgets."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from coordinator.core.operators import Role
from coordinator.core.price_schedule import version_in_force
from coordinator.operations.actor import Actor
from coordinator.operations.acts import Act
from coordinator.operations.agents import TraceFilter
from coordinator.operations.deployments import MAX_TTFT_BUDGET_MS
from coordinator.operations.prices import require_price
from coordinator.operations.traces import MAX_TRACES, Traces
from coordinator.operations.use_case import UseCases, named, use_case
from protos.domain.errors import EdgeForgeError, InvalidRequest, NotFound
from protos.domain.ids import check_deployment_name
from protos.domain.pricing import Usage
from protos.domain.quote import FEW_REQUESTS, MAX_BUDGETS, QuoteLine, is_replayable, quote

if TYPE_CHECKING:
    from coordinator.operations.agents import TraceLine
    from coordinator.operations.use_case import OperationsParts
    from protos.domain.resources import Deployment
    from protos.domain.trace import Trace

#: Budgets that are quoted when none are asked for, in tenths of the deployment's own.
_TENTHS = (5, 8, 10, 15, 20)
_MAX_HOURS = 24 * 31
#: Questions to one agent at once; agents and coordinator bound them too.
_AT_ONCE_PER_AGENT = 4
_HOUR_MS = 3_600_000
#: Traces are asked for in the coordinator's own name: a quote shows sums of them only.
_ASKER = Actor("coordinator", "quote", Role.VIEWER, "")


@dataclass(frozen=True, slots=True)
class Quoted:
    """The answer: one line for each budget, the cheapest budget last."""

    deployment: Deployment
    card_version: int
    usage: Usage
    from_unix_ms: int
    to_unix_ms: int
    lines: Sequence[QuoteLine]
    notes: Sequence[str]


class Quotes(UseCases):
    """Quotes. An account asks for its own deployments."""

    def __init__(self, parts: OperationsParts) -> None:
        super().__init__(parts)
        self._traces = Traces(parts)

    @use_case(Act.PRICE_QUOTE, named("deployment"))
    async def quote(
        self, actor: Actor, name: str, budgets_ms: Sequence[float] = (), hours: int = 0
    ) -> Quoted:
        """Replay the placement of up to ``MAX_TRACES`` recent requests under each budget.

        Raises: NotFound, InvalidRequest.
        """
        deployment = self._deployment(actor, name)
        budgets = _checked_budgets(budgets_ms, deployment)
        if not 0 <= hours <= _MAX_HOURS:
            raise InvalidRequest(f"{hours} hours are not in 0..{_MAX_HOURS}", "0: all that is held")
        view = self._store.view()
        account = view.accounts.get(deployment.account_id)
        notes: list[str] = []
        traces = await self._recent(actor, name, hours, notes)
        used = [one for one in traces if is_replayable(one, deployment)]
        if len(used) < len(traces):
            notes.append(
                f"{len(traces) - len(used)} of {len(traces)} requests are left out: refused,"
                " failed, empty, or served by another model"
            )
        if len(used) < FEW_REQUESTS:
            notes.append(
                f"only {len(used)} requests: too few to tell a share of them,"
                f" {FEW_REQUESTS} or more are needed"
            )
        pinned = bool(deployment.residency_zones or (account is not None and account.zones))
        lines = await asyncio.to_thread(quote, view, deployment, used, budgets, pinned=pinned)
        began = [one.began_unix_ms for one in used]
        return Quoted(
            deployment,
            version_in_force(view),
            Usage(
                sum(one.usage.prompt_tokens for one in used),
                sum(one.usage.cached_tokens for one in used),
                sum(one.usage.completion_tokens for one in used),
            ),
            min(began, default=0),
            max(began, default=0),
            lines,
            notes,
        )

    def _deployment(self, actor: Actor, name: str) -> Deployment:
        """Raises: NotFound, of what is another account's too; InvalidRequest if unpriced."""
        check_deployment_name(name)
        found = self._store.view().deployments.get(name)
        if found is None or not actor.sees(found.account_id):
            raise NotFound(f"there is no deployment {name!r}", "`edgeforge deploy ls` shows all")
        model = self._store.view().models.get(found.model)
        if model is not None:
            require_price(self._store, model)
        return found

    async def _recent(self, actor: Actor, name: str, hours: int, notes: list[str]) -> list[Trace]:
        """Return the newest traces of a deployment from all agents; note what is missing."""
        asked = TraceFilter(deployment=name, limit=MAX_TRACES)
        page = await self._traces.list_page(_ASKER, asked)
        since_unix_ms = self._parts.now_unix_ms() - hours * _HOUR_MS if hours else 0
        wanted = [line for line in page.traces if line.began_unix_ms >= since_unix_ms]
        if page.after is not None and len(wanted) == len(page.traces):
            notes.append(f"the newest {len(wanted)} requests; agents hold more")
        if page.unsearched:
            names = ", ".join(one.node_id for one in page.unsearched[:5])
            # customers are not told which nodes there are
            named_ones = f": {names}" if actor.role is not None else ""
            notes.append(f"{len(page.unsearched)} agents could not be asked{named_ones}")
        gates: dict[str, asyncio.Semaphore] = defaultdict(
            lambda: asyncio.Semaphore(_AT_ONCE_PER_AGENT)
        )

        async def find(line: TraceLine) -> Trace | None:
            async with gates[line.ingress_node_id]:
                try:
                    return await self._traces.find(_ASKER, line.trace_id, line.ingress_node_id)
                except EdgeForgeError:
                    return None  # counted below

        found = [one for one in await asyncio.gather(*map(find, wanted)) if one is not None]
        if len(found) < len(wanted):
            notes.append(f"{len(wanted) - len(found)} requests could not be fetched any more")
        return found


def _checked_budgets(budgets_ms: Sequence[float], deployment: Deployment) -> list[float]:
    """Return the budgets in order, the deployment's own among them. Raises: InvalidRequest."""
    own_ms = float(deployment.ttft_budget_ms)
    wanted = set(budgets_ms) or {own_ms * tenths / 10 for tenths in _TENTHS}
    for budget_ms in wanted:
        if not 0 < budget_ms <= MAX_TTFT_BUDGET_MS:
            raise InvalidRequest(
                f"a first-token budget of {budget_ms:g} ms is not in 1..{MAX_TTFT_BUDGET_MS}",
                param="ttft",
            )
    if len(wanted) > MAX_BUDGETS:
        raise InvalidRequest(f"{len(wanted)} budgets are more than {MAX_BUDGETS}", param="ttft")
    return sorted(wanted | {own_ms})
