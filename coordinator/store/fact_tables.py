"""Facts in memory: read without waiting, changed only by what the change log says."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from coordinator.core.plan_input import PlanRules
from coordinator.store.adoption_facts import TrackRow
from coordinator.store.deploy_facts import DeployRecord, PlanRulesRow
from coordinator.store.fact_types import FactType
from coordinator.store.facts import (
    Certificates,
    EnrolledNode,
    KeyCreated,
    Manifest,
    OperatorRow,
    OrderOfNode,
    Placement,
    decode_fact,
)
from coordinator.store.records import CertificateRecord, NodeRecord
from coordinator.store.registry_facts import PublicationRow, RuntimeRow

if TYPE_CHECKING:
    from coordinator.core.adoption import Track
    from coordinator.core.node_orders import NodeOrder
    from coordinator.core.operators import Operator
    from coordinator.core.publications import Publication
    from coordinator.store.history import Change
    from protos.domain.resources import ModelFile, Runtime


@dataclass(slots=True)
class FactTables:
    """Every fact by what it is about; agents get none of them."""

    nodes: dict[str, NodeRecord] = field(default_factory=dict)
    #: node id, of removed nodes too -> certificates issued in that name, oldest first
    certificates: dict[str, tuple[CertificateRecord, ...]] = field(default_factory=dict)
    #: deployment -> node ids in order
    placements: dict[str, tuple[str, ...]] = field(default_factory=dict)
    #: node id -> its order
    orders: dict[str, NodeOrder] = field(default_factory=dict)
    #: model or adapter -> files by path
    manifests: dict[str, tuple[ModelFile, ...]] = field(default_factory=dict)
    #: key id -> when it was created
    keys_created_unix_ms: dict[str, int] = field(default_factory=dict)
    #: name -> operator, revoked ones too
    operators: dict[str, Operator] = field(default_factory=dict)
    #: deployment -> its history, and the change under way
    deploys: dict[str, DeployRecord] = field(default_factory=dict)
    plan_rules: PlanRules = field(default_factory=PlanRules)
    #: name -> publication, of removed versions too
    publications: dict[str, Publication] = field(default_factory=dict)
    runtimes: dict[str, Runtime] = field(default_factory=dict)
    #: hf://org/repo@revision -> what is known of its releases
    tracks: dict[str, Track] = field(default_factory=dict)

    def follow(self, changes: Iterable[Change]) -> None:
        """Apply the facts among ``changes``, in their order."""
        for change in changes:
            if not isinstance(change.type, FactType):
                continue
            if change.payload is None:
                self._forget(change.type, change.key)
            else:
                self.keep(change.type, change.key, change.payload)

    def keep(self, fact_type: FactType, key: str, payload: bytes) -> None:
        """Take one fact as it is now."""
        match decode_fact(fact_type, key, payload):
            case EnrolledNode() as fact:
                self.nodes[fact.node_id] = NodeRecord(
                    fact.node_id,
                    fact.pop_id,
                    fact.enrolled_unix_ms,
                    fact.engine_kind,
                    fact.agent_version,
                    fact.profile,
                    self.certificates.get(fact.node_id, ()),
                    fact.hardware,
                )
            case Certificates() as fact:
                self._set_certificates(fact.node_id, fact.certificates)
            case Placement() as fact:
                self.placements[fact.deployment] = fact.node_ids
            case OrderOfNode() as fact:
                self.orders[fact.node_id] = fact.order
            case Manifest() as fact:
                self.manifests[fact.model] = fact.files
            case KeyCreated() as fact:
                self.keys_created_unix_ms[fact.key_id] = fact.created_unix_ms
            case OperatorRow() as fact:
                self.operators[fact.operator.name] = fact.operator
            case DeployRecord() as fact:
                self.deploys[fact.name] = fact
            case PlanRulesRow() as fact:
                self.plan_rules = fact.rules
            case PublicationRow() as fact:
                self.publications[fact.key] = fact.publication
            case RuntimeRow() as fact:
                self.runtimes[fact.key] = fact.runtime
            case TrackRow() as fact:
                self.tracks[fact.key] = fact.track

    def _forget(self, fact_type: FactType, key: str) -> None:
        match fact_type:
            case FactType.NODE:
                self.nodes.pop(key, None)
            case FactType.CERTIFICATES:
                self._set_certificates(key, ())
            case FactType.PLACEMENT:
                self.placements.pop(key, None)
            case FactType.NODE_ORDER:
                self.orders.pop(key, None)
            case FactType.MANIFEST:
                self.manifests.pop(key, None)
            case FactType.KEY:
                self.keys_created_unix_ms.pop(key, None)
            case FactType.OPERATOR:
                self.operators.pop(key, None)
            case FactType.DEPLOY:
                self.deploys.pop(key, None)
            case FactType.PLAN_RULES:
                self.plan_rules = PlanRules()
            case FactType.PUBLICATION:
                self.publications.pop(key, None)
            case FactType.RUNTIME:
                self.runtimes.pop(key, None)
            case FactType.TRACK:
                self.tracks.pop(key, None)

    def _set_certificates(self, node_id: str, certificates: tuple[CertificateRecord, ...]) -> None:
        if certificates:
            self.certificates[node_id] = certificates
        else:
            self.certificates.pop(node_id, None)
        if (record := self.nodes.get(node_id)) is not None:
            self.nodes[node_id] = replace(record, certificates=certificates)
