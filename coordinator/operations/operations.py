"""All use cases, by noun."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from coordinator.operations.accounts import Accounts
from coordinator.operations.adoption import Adoption
from coordinator.operations.audit import Audit
from coordinator.operations.deployments import Deployments
from coordinator.operations.deploys import Deploys
from coordinator.operations.enrolment_tokens import EnrolmentTokens
from coordinator.operations.keys import Keys
from coordinator.operations.models import Models
from coordinator.operations.nodes import Nodes
from coordinator.operations.operators import Operators
from coordinator.operations.plans import Plans
from coordinator.operations.pops import Pops
from coordinator.operations.prices import Prices
from coordinator.operations.registry import Registry
from coordinator.operations.repositories import Repositories
from coordinator.operations.routes import Routes
from coordinator.operations.tables import Tables
from coordinator.operations.traces import Traces
from coordinator.operations.upstream_imports import UpstreamImports
from coordinator.operations.usage import UsageReports

if TYPE_CHECKING:
    from coordinator.operations.use_case import OperationsParts


@dataclass(frozen=True, slots=True)
class Operations:
    """What operators may ask of a coordinator, over gRPC, HTTP or a console alike."""

    accounts: Accounts
    adoption: Adoption
    audit: Audit
    deployments: Deployments
    deploys: Deploys
    enrolment_tokens: EnrolmentTokens
    keys: Keys
    models: Models
    nodes: Nodes
    operators: Operators
    plans: Plans
    pops: Pops
    prices: Prices
    registry: Registry
    repositories: Repositories
    routes: Routes
    tables: Tables
    traces: Traces
    upstream_imports: UpstreamImports
    usage: UsageReports


def make_operations(parts: OperationsParts) -> Operations:
    """Return the use cases over one coordinator's parts."""
    return Operations(
        accounts=Accounts(parts),
        adoption=Adoption(parts),
        audit=Audit(parts),
        deployments=Deployments(parts),
        deploys=Deploys(parts),
        enrolment_tokens=EnrolmentTokens(parts),
        keys=Keys(parts),
        models=Models(parts),
        nodes=Nodes(parts),
        operators=Operators(parts),
        plans=Plans(parts),
        pops=Pops(parts),
        prices=Prices(parts),
        registry=Registry(parts),
        repositories=Repositories(parts),
        routes=Routes(parts),
        tables=Tables(parts),
        traces=Traces(parts),
        upstream_imports=UpstreamImports(parts),
        usage=UsageReports(parts),
    )
