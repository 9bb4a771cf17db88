"""Explanations of placement, from the agent that a client would reach."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

from coordinator.operations.acts import Act
from coordinator.operations.use_case import UseCases, named, use_case
from protos.domain.errors import InvalidRequest, LinkDown, NotFound
from protos.domain.ids import check_deployment_name

if TYPE_CHECKING:
    from coordinator.operations.actor import Actor
    from coordinator.operations.agents import ExplainedRoute

MAX_BUDGET_MS = 600_000.0


class Routes(UseCases):
    """Routes that requests would take."""

    @use_case(Act.ROUTE_EXPLAIN, named("deployment"))
    async def explain(
        self,
        actor: Actor,
        deployment: str,
        via: str,
        *,
        budget_ms: float = 0.0,
        prompt_tokens: int = 0,
    ) -> ExplainedRoute:
        """Return how the agent of ``via``, a POP or a node, would place a request.

        Raises: InvalidRequest, NotFound, LinkDown, EngineFailed, DeadlineExceeded.
        """
        check_deployment_name(deployment)
        deployments = self._store.view().deployments
        if deployment not in deployments:
            raise NotFound(
                f"there is no deployment {deployment!r}", _there_are("deployments", deployments)
            )
        if not (math.isfinite(budget_ms) and 0.0 <= budget_ms <= MAX_BUDGET_MS):
            raise InvalidRequest(f"a budget of {budget_ms} ms is not in 0..{MAX_BUDGET_MS}")
        return await self._parts.agents.explain(
            self._agent_of(via), deployment, budget_ms=budget_ms, prompt_tokens=prompt_tokens
        )

    def _agent_of(self, via: str) -> str:
        """Return a connected node: ``via`` itself, or one in the POP it names."""
        records = self._store.node_records()
        if via in records:
            candidates = [via]
        else:
            pops = self._store.view().pops
            if via not in pops:
                raise NotFound(
                    f"{via[:80]!r} is neither a POP nor a node", _there_are("POPs", pops)
                )
            candidates = sorted(name for name, record in records.items() if record.pop_id == via)
        for node_id in candidates:
            live = self._parts.live.live_node(node_id)
            if live is not None and live.connected:
                return node_id
        raise LinkDown(f"no agent of {via} is connected", "`edgeforge node ls` shows which are")


def _there_are(what: str, names: Iterable[str]) -> str:
    shown = sorted(names)[:10]
    return f"{what}: {', '.join(shown)}" if shown else f"there are no {what} yet"
