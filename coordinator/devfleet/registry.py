"""Registers a local fleet with its coordinator; every step is idempotent."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from coordinator.devfleet.layout import DeploymentFacts, FleetFacts, FleetLayout, write_private
from coordinator.devfleet.plan import SMALL_MODEL
from coordinator.devfleet.sites import pops_of
from protos.domain.resources import ModelSource
from protos.v1 import admin_pb2, resources_pb2
from protos.wire import model_source_to_wire, pop_to_wire

if TYPE_CHECKING:
    from coordinator.cli.client import AdminClient

ACCOUNT = "default"


def ensure_pops(client: AdminClient, facts: FleetFacts) -> None:
    """Create the sites."""
    for pop in pops_of({agent.pop for agent in facts.agents}):
        request = admin_pb2.CreatePopRequest(pop=pop_to_wire(pop))
        client.call(lambda stub: stub.CreatePop, request)


def ensure_api_key(client: AdminClient, layout: FleetLayout) -> str:
    """Return the fleet's key, made at the first start and readable by this user only."""
    accounts = client.call(lambda stub: stub.ListAccounts, admin_pb2.ListAccountsRequest()).ids
    if ACCOUNT not in accounts:
        request = admin_pb2.CreateAccountRequest(id=ACCOUNT)
        client.call(lambda stub: stub.CreateAccount, request)
        layout.api_key.unlink(missing_ok=True)
    if layout.api_key.is_file():
        return layout.api_key.read_text(encoding="utf-8").strip()
    key_request = admin_pb2.CreateKeyRequest(account_id=ACCOUNT)
    api_key = client.call(lambda stub: stub.CreateKey, key_request).api_key
    write_private(layout.api_key, api_key + "\n")
    return api_key


def ensure_external_models(client: AdminClient, facts: FleetFacts) -> None:
    """Register the models of servers that already run."""
    known = {
        model.name
        for model in client.call(lambda stub: stub.ListModels, admin_pb2.ListModelsRequest()).models
    }
    for deployment in facts.deployments:
        if deployment.model in known or deployment.model == SMALL_MODEL:
            continue
        request = admin_pb2.RegisterModelRequest(
            name=deployment.model,
            source=model_source_to_wire(ModelSource.EXTERNAL),
            context_tokens=deployment.context_tokens,
        )
        client.call(lambda stub: stub.RegisterModel, request)


def ensure_deployments(
    client: AdminClient, deployments: list[DeploymentFacts], kept: Collection[str] = ()
) -> None:
    """Create or change the deployments, and remove those of an earlier fleet but ``kept``."""
    wanted = {deployment.name for deployment in deployments} | set(kept)
    listed = client.call(lambda stub: stub.ListDeployments, admin_pb2.ListDeploymentsRequest())
    for info in listed.deployments:
        if info.deployment.name not in wanted:
            request = admin_pb2.RemoveDeploymentRequest(name=info.deployment.name)
            client.call(lambda stub: stub.RemoveDeployment, request)
    for deployment in deployments:
        apply = admin_pb2.ApplyDeploymentRequest(
            deployment=resources_pb2.Deployment(
                name=deployment.name,
                account_id=ACCOUNT,
                model=deployment.model,
                ttft_budget_ms=deployment.ttft_budget_ms,
                sla_tier=resources_pb2.SLA_TIER_STANDARD,
            ),
            node_ids=deployment.node_ids,
        )
        client.call(lambda stub: stub.ApplyDeployment, apply)


def remove_other_nodes(client: AdminClient, wanted: set[str]) -> None:
    """Remove nodes of an earlier fleet that had more engines."""
    nodes = client.call(lambda stub: stub.ListNodes, admin_pb2.ListNodesRequest()).nodes
    for info in nodes:
        if info.node.id not in wanted:
            request = admin_pb2.RemoveNodeRequest(node_id=info.node.id)
            client.call(lambda stub: stub.RemoveNode, request)
