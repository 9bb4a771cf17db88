"""``edgeforge route explain``: where this agent would send a request now, and why."""

from __future__ import annotations

from typing import TYPE_CHECKING

from protos.domain.errors import NotFound
from protos.domain.in_zone import check_inside
from protos.domain.residency import allowed_zones
from protos.domain.router import RequestShape, RouteExplanation, explain

if TYPE_CHECKING:
    from agent.core.request.state import RouterState

#: Prompt length that is assumed if the caller gives none.
_DEFAULT_PROMPT_TOKENS = 32
_BYTES_PER_TOKEN = 4


def explain_route(
    state: RouterState,
    deployment_name: str,
    budget_ms: float,
    prompt_tokens: int,
    now_mono_ms: float,
) -> RouteExplanation:
    """Explain a stream of ``deployment_name``; 0 means the deployment's budget, a short prompt.

    Raises: NotFound; Misdirected at an agent outside the zones of deployment and account.
    """
    view = state.view()
    deployment = view.deployments.get(deployment_name)
    if deployment is None:
        raise NotFound(
            f"no deployment {deployment_name[:128]!r}", "edgeforge deployment ls lists them"
        )
    account = view.accounts.get(deployment.account_id)
    zones = allowed_zones(() if account is None else account.zones, None)
    check_inside(view, state.node_id, allowed_zones(deployment.residency_zones, zones))
    replicas = view.replicas.get(deployment.model, {}).values()
    tokens = prompt_tokens or _DEFAULT_PROMPT_TOKENS
    shape = RequestShape(
        deployment=deployment,
        prompt_tokens=tokens,
        body_bytes=tokens * _BYTES_PER_TOKEN,
        stream=True,
        budget_left_ms=budget_ms or float(deployment.ttft_budget_ms),
        narrowed_zones=zones,
        embeds=any(replica.profile.embeds for replica in replicas),
    )
    return explain(
        view,
        shape,
        state.node_id,
        state.targets(
            deployment.model,
            now_mono_ms,
            adapter=deployment.adapter,
            account=deployment.account_id,
            sla_tier=deployment.sla_tier,
        ),
        draw=state.draw(),
        fill=state.fill(now_mono_ms),
        edge_fill_ratio=state.edge_fill_ratio,
        learned=state.predictor.of_model(deployment.model),
        loads=state.loads,
    )
