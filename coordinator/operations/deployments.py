"""Deployments, and the nodes that operators pin them to."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from coordinator.core.account_zones import within_account
from coordinator.core.deploy_checks import check_adapter, check_owner
from coordinator.core.plan_input import ENGINE_KIND_OF
from coordinator.operations.acts import Act
from coordinator.operations.use_case import UseCases, named, note_of, use_case
from coordinator.store import deployments, deploys
from protos.domain.errors import InvalidRequest, NotFound
from protos.domain.ids import (
    check_account_id,
    check_deployment_name,
    check_model_name,
    check_node_id,
    check_zone,
)
from protos.domain.resources import ReplicaState

if TYPE_CHECKING:
    from coordinator.operations.actor import Actor
    from coordinator.store.store import Store
    from protos.domain.resources import Deployment, Model, Replica

MAX_TTFT_BUDGET_MS = 600_000
_MAX_NODES = 1_000
_MAX_ZONES = 50
#: Nodes whose error is told with a deployment.
_MAX_ERRORS = 20


@dataclass(frozen=True, slots=True)
class PlacedDeployment:
    """A deployment with its pins and the replicas of its model."""

    deployment: Deployment
    node_ids: Sequence[str]
    replicas: Sequence[Replica]
    #: By node: why its replica is not ready, as the node says.
    errors: Mapping[str, str]


class Deployments(UseCases):
    """Deployments and their placement."""

    @use_case(Act.DEPLOYMENT_APPLY, named("deployment"))
    async def apply(
        self,
        actor: Actor,
        deployment: Deployment,
        node_ids: Collection[str],
        *,
        create_only: bool = False,
    ) -> PlacedDeployment:
        """Create a deployment, or replace it unless ``create_only``.

        Raises: InvalidRequest, NotFound, Conflict.
        """
        deployment = in_account(self._store, checked_deployment(deployment))
        model = self._store.view().models.get(deployment.model)
        if model is None:
            names = sorted(self._store.view().models)
            raise NotFound(
                f"there is no model {deployment.model!r}",
                f"there are {', '.join(names[:10])}" if names else "`edgeforge model import PATH`",
            )
        pins = tuple(sorted({check_node_id(node_id) for node_id in node_ids}))
        adapter = self._store.view().adapters.get(deployment.adapter)
        if deployment.adapter and adapter is None:
            raise NotFound(f"there is no adapter {deployment.adapter!r}", "`edgeforge adapter ls`")
        check_owner(deployment, model, adapter)
        check_adapter(model, adapter)
        self._check_nodes(deployment, model, pins)
        detail = (
            f"account={deployment.account_id} model={deployment.model}"
            f" ttft_budget_ms={deployment.ttft_budget_ms} sla={deployment.sla_tier}"
            f" zones={','.join(deployment.residency_zones)} nodes={','.join(pins)}"
        )
        note = note_of(actor, Act.DEPLOYMENT_APPLY, f"deployment/{deployment.name}", detail)
        reason = "create" if create_only else "set"
        change = deploys.put_now(deployment, pins, str(actor), reason, create_only=create_only)
        await self._store.write(change, note)
        # The row has the pins, by which agents go.
        return self._placed(self._store.view().deployments.get(deployment.name, deployment))

    @use_case(Act.DEPLOYMENT_LIST)
    async def list_all(self, actor: Actor) -> Sequence[PlacedDeployment]:
        """Return every deployment by name, with the replicas of its model."""
        deployments: Mapping[str, Deployment] = self._store.view().deployments
        return [self._placed(one) for _, one in sorted(deployments.items())]

    @use_case(Act.DEPLOYMENT_REMOVE, named("deployment"))
    async def remove(self, actor: Actor, name: str) -> None:
        """Remove a deployment; clients that call it get 404 from then on.

        Raises: NotFound, for an account of what is another's too.
        """
        check_deployment_name(name)
        note = note_of(actor, Act.DEPLOYMENT_REMOVE, f"deployment/{name}")
        await self._store.write(deployments.remove(name, actor.account_id), note)

    def _placed(self, deployment: Deployment) -> PlacedDeployment:
        replicas = self._store.view().replicas.get(deployment.model, {})
        return PlacedDeployment(
            deployment=deployment,
            node_ids=self._store.placements().get(deployment.name, ()),
            replicas=[replica for _, replica in sorted(replicas.items())],
            errors=self._errors(deployment, replicas),
        )

    def _errors(self, deployment: Deployment, replicas: Mapping[str, Replica]) -> dict[str, str]:
        """Return what the nodes say of replicas that are not ready."""
        found: dict[str, str] = {}
        for node_id, replica in sorted(replicas.items()):
            if replica.state is ReplicaState.READY or len(found) >= _MAX_ERRORS:
                continue
            live = self._parts.live.live_node(node_id)
            for one in live.report.replicas if live else ():
                if one.error and (one.model, one.adapter) == (deployment.model, ""):
                    found[node_id] = one.error
        return found

    def _check_nodes(self, deployment: Deployment, model: Model, node_ids: Sequence[str]) -> None:
        """Raises: NotFound, InvalidRequest: what the node lacks, and which nodes are suitable."""
        if len(node_ids) > _MAX_NODES:
            raise InvalidRequest(f"{len(node_ids)} nodes are more than {_MAX_NODES}")
        wanted = ENGINE_KIND_OF[model.source]
        records = self._store.node_records()
        for node_id in node_ids:
            record = records.get(node_id)
            if record is None:
                raise NotFound(f"no node {node_id!r} is enrolled", self._who_could(wanted))
            if record.engine_kind != wanted:
                has = {"": "has not connected yet", "none": "has no engine"}.get(
                    record.engine_kind, f"has an engine of kind {record.engine_kind!r}"
                )
                raise InvalidRequest(
                    f"node {node_id!r} {has}, a {model.source} model needs {wanted!r}",
                    self._who_could(wanted),
                )
            zone = self._zone_of(record.pop_id)
            if deployment.residency_zones and zone not in deployment.residency_zones:
                raise InvalidRequest(
                    f"node {node_id!r} is in zone {zone}, the deployment may only run in "
                    + ", ".join(deployment.residency_zones),
                    "leave that node out, or widen residency_zones",
                )

    def _zone_of(self, pop_id: str) -> str:
        pop = self._store.view().pops.get(pop_id)
        return pop.zone if pop else "unknown"

    def _who_could(self, engine_kind: str) -> str:
        fitting = sorted(
            node_id
            for node_id, record in self._store.node_records().items()
            if record.engine_kind == engine_kind
        )
        if not fitting:
            return f"no node has an engine of kind {engine_kind!r} yet: `edgeforge node ls`"
        more = f" and {len(fitting) - 10} more" if len(fitting) > 10 else ""
        return f"nodes with such an engine: {', '.join(fitting[:10])}{more}"


def in_account(store: Store, deployment: Deployment) -> Deployment:
    """Return ``deployment`` in the zones of its account. Raises: InvalidRequest."""
    account = store.view().accounts.get(deployment.account_id)
    return deployment if account is None else within_account(account.zones, deployment)


def checked_deployment(deployment: Deployment) -> Deployment:
    """Return ``deployment`` with its zones in order. Raises: InvalidRequest."""
    check_deployment_name(deployment.name)
    check_account_id(deployment.account_id)
    check_model_name(deployment.model)
    if deployment.adapter:
        check_model_name(deployment.adapter)
    budget_ms = deployment.ttft_budget_ms
    if not 0 < budget_ms <= MAX_TTFT_BUDGET_MS:
        raise InvalidRequest(
            f"a first-token budget of {budget_ms} ms is not in 1..{MAX_TTFT_BUDGET_MS}"
        )
    if len(deployment.residency_zones) > _MAX_ZONES:
        raise InvalidRequest(f"{len(deployment.residency_zones)} zones are more than {_MAX_ZONES}")
    for zone in deployment.residency_zones:
        check_zone(zone)
    return replace(deployment, residency_zones=tuple(sorted(set(deployment.residency_zones))))
