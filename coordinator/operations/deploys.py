"""Deploys: a model, an adapter and a runtime behind one name, changed without a failed request."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from coordinator.core.account_zones import narrowed
from coordinator.core.deploy_checks import check_adapter, check_fits, check_owner
from coordinator.core.deploy_progress import NodeProgress, waits_for
from coordinator.core.plan_input import PlanNode
from coordinator.core.rollout import (
    MAX_TIMEOUT_MS,
    MIN_TIMEOUT_MS,
    PREPARE_TIMEOUT_MS,
    RolloutPhase,
    changes_weights,
)
from coordinator.fleet.deploy_nodes import progress_of
from coordinator.operations.acts import Act
from coordinator.operations.deployments import checked_deployment, in_account
from coordinator.operations.prices import require_price
from coordinator.operations.registry_objects import found_row
from coordinator.operations.use_case import UseCases, named, note_of, use_case
from coordinator.store import deploys
from coordinator.store.deploys import Seen
from protos.domain.errors import Conflict, Forbidden, InvalidRequest, NotFound
from protos.domain.ids import check_deployment_name, check_node_id
from protos.domain.object_names import ObjectKind
from protos.domain.resources import (
    Adapter,
    Hold,
    Model,
    ModelSource,
    NodeIntent,
    Runtime,
)

if TYPE_CHECKING:
    from coordinator.core.rollout import Revision, Rollout, Withdrawn
    from coordinator.operations.actor import Actor
    from coordinator.store.deploy_facts import DeployRecord
    from protos.domain.resources import Deployment

MAX_PREMIUM_PERCENT = 10_000
_MAX_NODES = 1_000


@dataclass(frozen=True, slots=True)
class _Change:
    """How a deployment is changed."""

    act: Act
    reason: str
    seen: Seen
    timeout_ms: int


@dataclass(frozen=True, slots=True)
class DeployStatus:
    """A deployment, its history, and what it waits for."""

    deployment: Deployment
    node_ids: Sequence[str]
    nodes: Sequence[NodeProgress]
    revisions: Sequence[Revision]
    rollout: Rollout | None
    #: The latest change, if it never happened.
    withdrawn: Withdrawn | None
    waits_for: Sequence[str]
    unplaced: Sequence[str]

    @property
    def served(self) -> bool:
        """Whether some node serves the present version, or loads it for a request."""
        return any(one.serves for one in self.nodes if not one.is_next)


class Deploys(UseCases):
    """Deployments with their history. An account sees and changes its own."""

    @use_case(Act.DEPLOY_CREATE, named("deployment"))
    async def create(
        self, actor: Actor, deployment: Deployment, node_ids: Collection[str]
    ) -> DeployStatus:
        """Create a deployment; names without a version mean the latest of now.

        Raises: InvalidRequest when no node can serve it, with the numbers; NotFound, Conflict.
        """
        pins = _checked_nodes(node_ids)
        if actor.role is None:
            check_own_name(actor, deployment.name)
        made = self._resolved(actor, deployment, frozenset(pins) or None)
        note = note_of(actor, Act.DEPLOY_CREATE, f"deployment/{made.name}", _detail(made))
        change = deploys.put_now(made, pins, str(actor), "create", create_only=True)
        await self._store.write(change, note)
        self._parts.on_plan_changed()
        return self._status(made.name)

    @use_case(Act.DEPLOY_UPDATE, named("deployment"))
    async def update(
        self,
        actor: Actor,
        deployment: Deployment,
        node_ids: Collection[str] | None,
        *,
        timeout_ms: int = 0,
    ) -> DeployStatus:
        """Change a deployment; other weights are made ready first, and then switched to.

        ``deployment`` is as it should be, made from the revision that it carries; 0: the present
        one. ``node_ids`` None: not pinned. After ``timeout_ms`` (0: an hour) it is withdrawn.
        Raises: InvalidRequest, NotFound, Conflict if it was changed meanwhile, or is being changed.
        """
        name = deployment.name
        present = self._found(actor, name)
        prepared = self._prepared(name)
        if prepared is not None:
            raise Conflict(
                f"{prepared.by} is changing deployment {name!r} to revision"
                f" {prepared.other.revision}",
                f"wait until that is done, or withdraw it: edgeforge deploy rollback {name}",
                retryable=False,
            )
        change = _Change(
            Act.DEPLOY_UPDATE,
            "update",
            Seen(deployment.revision or present.revision),
            _checked_timeout_ms(timeout_ms),
        )
        await self._begin(actor, deployment, node_ids, change)
        return self._status(name)

    @use_case(Act.DEPLOY_ROLLBACK, named("deployment"))
    async def rollback(
        self, actor: Actor, name: str, revision: int = 0, *, timeout_ms: int = 0
    ) -> DeployStatus:
        """Return to an earlier revision; 0 withdraws a change that is prepared, else the last one.

        Raises: NotFound, Conflict, InvalidRequest.
        """
        present = self._found(actor, name)
        timeout_ms = _checked_timeout_ms(timeout_ms)
        prepared = self._prepared(name)
        if not revision and prepared is not None:
            said = f"the change to revision {prepared.other.revision} is withdrawn"
            note = note_of(actor, Act.DEPLOY_ROLLBACK, f"deployment/{name}", said)
            change = deploys.withdraw(name, prepared, str(actor), f"withdrawn by {actor}")
            await self._store.write(change, note)
            self._parts.on_plan_changed()
            return self._status(name)
        wanted = _revision(name, self._store.deploys().get(name), present, revision).deployment
        account = self._store.view().accounts.get(wanted.account_id)
        if account is not None:  # its zones may be narrower than they were then
            wanted = narrowed(account.zones, wanted) or wanted
        begins = _Change(
            Act.DEPLOY_ROLLBACK,
            f"rollback to {wanted.revision}",
            Seen(present.revision, prepared),
            timeout_ms,
        )
        await self._begin(actor, wanted, wanted.pins, begins)
        return self._status(name)

    @use_case(Act.DEPLOY_SHOW, named("deployment"))
    async def show(self, actor: Actor, name: str) -> DeployStatus:
        """Return a deployment with its history and what it waits for. Raises: NotFound."""
        self._found(actor, name)
        return self._status(name)

    @use_case(Act.DEPLOY_LIST)
    async def list_all(self, actor: Actor) -> Sequence[DeployStatus]:
        """Return every deployment by name."""
        return [
            self._status(name)
            for name, one in sorted(self._store.view().deployments.items())
            if actor.sees(one.account_id)
        ]

    async def _begin(
        self,
        actor: Actor,
        deployment: Deployment,
        node_ids: Collection[str] | None,
        change: _Change,
    ) -> None:
        pins = None if node_ids is None else frozenset(_checked_nodes(node_ids))
        following = self._resolved(actor, deployment, pins)
        present = self._store.view().deployments.get(following.name)
        model = self._store.view().models.get(following.model)
        is_managed = model is not None and model.source is ModelSource.MANAGED
        note = note_of(actor, change.act, f"deployment/{following.name}", _detail(following))
        begun = deploys.begin(
            following,
            pins,
            str(actor),
            change.reason,
            seen=change.seen,
            timeout_ms=change.timeout_ms,
            # The same weights are ready already; only operators start external engines.
            at_once=present is not None
            and not (changes_weights(present, following) and is_managed),
        )
        await self._store.write(begun, note)
        self._parts.on_plan_changed()

    def _prepared(self, name: str) -> Rollout | None:
        """Return the change that is being made ready."""
        record = self._store.deploys().get(name)
        rollout = record.rollout if record else None
        is_prepared = rollout is not None and rollout.phase is RolloutPhase.PREPARING
        return rollout if is_prepared else None

    def _found(self, actor: Actor, name: str) -> Deployment:
        """Raises: NotFound, of what is another account's too."""
        check_deployment_name(name)
        found: Deployment | None = self._store.view().deployments.get(name)
        if found is None or not (actor.role is not None or found.account_id == actor.account_id):
            raise NotFound(f"there is no deployment {name!r}", "`edgeforge deploy ls` shows all")
        return found

    def _resolved(
        self, actor: Actor, deployment: Deployment, pins: frozenset[str] | None
    ) -> Deployment:
        """Return a deployment whose names are versions, and that some node can serve.

        Raises: InvalidRequest, NotFound, Forbidden.
        """
        store = self._store
        if actor.role is None and deployment.account_id != actor.account_id:
            raise Forbidden(
                f"{actor} may not deploy for account {deployment.account_id!r}",
                "leave the account out: it is your own",
            )
        model = found_row(store, actor, deployment.model, ObjectKind.MODEL)
        adapter = runtime = None
        if deployment.adapter:
            adapter = found_row(store, actor, deployment.adapter, ObjectKind.ADAPTER)
        if deployment.runtime:
            runtime = found_row(store, actor, deployment.runtime, ObjectKind.RUNTIME)
        assert isinstance(model, Model)
        assert adapter is None or isinstance(adapter, Adapter)
        assert runtime is None or isinstance(runtime, Runtime)
        made = checked_deployment(
            replace(
                deployment,
                model=model.name,
                adapter=adapter.name if adapter else "",
                runtime=runtime.name if runtime else "",
                pins=None,
            )
        )
        made = in_account(store, made)
        if not 0 <= made.max_premium_percent <= MAX_PREMIUM_PERCENT:
            raise InvalidRequest(
                f"a premium of {made.max_premium_percent} % is not in 0..{MAX_PREMIUM_PERCENT}",
                "0 sets no limit",
            )
        check_owner(made, model, adapter, runtime)
        require_price(store, model)
        check_adapter(model, adapter)
        unknown = sorted((pins or frozenset()) - store.node_records().keys())
        if unknown:
            raise NotFound(f"no node {unknown[0]!r} is enrolled", "`edgeforge node ls` shows those")
        is_operator = actor.role is not None
        check_fits(self._nodes(), made, pins, model, adapter, runtime, names_nodes=is_operator)
        return made

    def _nodes(self) -> dict[str, PlanNode]:
        """Return every enrolled node, as far as the checks need it."""
        view, nodes = self._store.view(), {}
        for node_id, record in self._store.node_records().items():
            listed, pop = view.nodes.get(node_id), view.pops.get(record.pop_id)
            nodes[node_id] = PlanNode(
                engine_kind=record.engine_kind,
                intent=listed.intent if listed else NodeIntent.ACTIVE,
                pop_id=record.pop_id,
                zone=pop.zone if pop else "",
                hardware=record.hardware,
            )
        return nodes

    def _status(self, name: str) -> DeployStatus:
        deployment = self._store.view().deployments.get(name)
        if deployment is None:
            raise NotFound(f"deployment {name!r} was removed meanwhile")
        record = self._store.deploys().get(name)
        rollout = record.rollout if record else None
        nodes = self._progress(deployment, is_next=False)
        why = self._why_nowhere(name)
        waits = self._waits(deployment, nodes, why)
        if rollout is not None and rollout.phase is RolloutPhase.PREPARING:
            following = self._progress(rollout.other, is_next=True)
            nodes += following
            waits = self._waits(rollout.other, following, why) or ["switching to the next version"]
        if not waits and not self._parts.plan.follows(name):
            waits = ["waiting for the plan to follow the change"]
        return DeployStatus(
            deployment=deployment,
            node_ids=self._store.placements().get(name, ()),
            nodes=nodes,
            revisions=record.revisions[::-1] if record else (),
            rollout=rollout,
            withdrawn=record.withdrawn if record else None,
            waits_for=waits,
            unplaced=self._parts.plan.unplaced_of(name),
        )

    def _waits(self, version: Deployment, nodes: Sequence[NodeProgress], why: str) -> list[str]:
        """Return what a version waits for: an adapter that requests load, for its base first."""
        if version.adapter:
            bases = [
                one
                for one in self._progress(replace(version, adapter=""), is_next=False)
                if one.hold is not Hold.ON_DEMAND
            ]
            if bases and not any(one.is_done and one.alive for one in bases):
                return waits_for(bases, why)
        return waits_for(nodes, why)

    def _progress(self, version: Deployment, *, is_next: bool) -> list[NodeProgress]:
        """Return what each node that is to hold a version has come to."""
        parts = self._parts
        return progress_of(
            self._store, parts.plan.desired_of, parts.live.live_node, version, is_next=is_next
        )

    def _why_nowhere(self, name: str) -> str:
        unplaced = self._parts.plan.unplaced_of(name)
        if unplaced:
            return f"no node holds it: {unplaced[0]}"
        frozen = self._store.plan_rules().frozen
        if frozen:
            pop_id, by = next(iter(frozen.items()))
            return f"the plan is frozen at {pop_id} by {by}: see `edgeforge plan apply`"
        return "waiting for the plan to give it to a node"


def check_own_name(actor: Actor, name: str) -> None:
    """Refuse a name that is not below the actor's account: names are the whole fleet's.

    An account that could take any would learn those of others. Raises: Forbidden.
    """
    if not name.startswith(f"{actor.account_id}/"):
        raise Forbidden(
            f"account {actor.account_id!r} names its deployments {actor.account_id}/name",
            f"name it {actor.account_id}/{name.rpartition('/')[2][:80]}",
        )


def _revision(name: str, record: DeployRecord | None, present: Deployment, number: int) -> Revision:
    """Return the revision to go back to. Raises: NotFound, Conflict."""
    known = record.revisions if record else ()
    if number:
        found = [one for one in known if one.number == number]
        if not found:
            numbers = ", ".join(str(one.number) for one in known[-10:])
            raise NotFound(
                f"deployment {name!r} has no revision {number}",
                f"its latest are {numbers}" if numbers else "it has no history yet",
            )
        return found[0]
    earlier = [one for one in known if one.number < present.revision]
    if not earlier:
        raise Conflict(
            f"deployment {name!r} has no revision before {present.revision}",
            "`edgeforge deploy show` lists its revisions",
            retryable=False,
        )
    return earlier[-1]


def _checked_nodes(node_ids: Collection[str]) -> tuple[str, ...]:
    if len(node_ids) > _MAX_NODES:
        raise InvalidRequest(f"{len(node_ids)} nodes are more than {_MAX_NODES}")
    return tuple(sorted({check_node_id(node_id) for node_id in node_ids}))


def _checked_timeout_ms(timeout_ms: int) -> int:
    """Return how long a change may be prepared; 0: the default. Raises: InvalidRequest."""
    if timeout_ms and not MIN_TIMEOUT_MS <= timeout_ms <= MAX_TIMEOUT_MS:
        raise InvalidRequest(
            f"a timeout of {timeout_ms / 1_000:g} s is not in"
            f" {MIN_TIMEOUT_MS / 1_000:g}..{MAX_TIMEOUT_MS / 1_000:g}",
            "without one a change is withdrawn after an hour",
        )
    return timeout_ms or PREPARE_TIMEOUT_MS


def _detail(deployment: Deployment) -> str:
    return (
        f"account={deployment.account_id} model={deployment.model} adapter={deployment.adapter}"
        f" runtime={deployment.runtime} ttft_budget_ms={deployment.ttft_budget_ms}"
        f" sla={deployment.sla_tier} zones={','.join(deployment.residency_zones)}"
        f" max_premium_percent={deployment.max_premium_percent}"
    )
