"""Facts in memory: read without waiting, changed only by what the change log says."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from coordinator.core.plan_input import PlanRules
from coordinator.store.adoption_facts import TrackRow
from coordinator.store.deploy_facts import PlanRulesRow
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
from coordinator.store.member_facts import AccountRow, InvitationRow, MemberRow, MemberTokenRow
from coordinator.store.price_facts import PriceCardRow
from coordinator.store.records import CertificateRecord, NodeRecord
from coordinator.store.registry_facts import PublicationRow, RuntimeRow

if TYPE_CHECKING:
    from coordinator.core.adoption import Track
    from coordinator.core.members import AccountInfo, Invitation, Member, MemberToken
    from coordinator.core.node_orders import NodeOrder
    from coordinator.core.operators import Operator
    from coordinator.core.publications import Publication
    from coordinator.store.deploy_facts import DeployRecord
    from coordinator.store.facts import Fact
    from coordinator.store.history import Change
    from protos.domain.price_card import PriceCard
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
    #: key id -> how it was created
    keys_created: dict[str, KeyCreated] = field(default_factory=dict)
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
    #: account -> what is known of it; those of earlier versions have none
    accounts: dict[str, AccountInfo] = field(default_factory=dict)
    members: dict[str, Member] = field(default_factory=dict)
    member_tokens: dict[str, MemberToken] = field(default_factory=dict)
    invitations: dict[str, Invitation] = field(default_factory=dict)
    #: version -> price card, drafts and superseded ones too
    price_cards: dict[int, PriceCard] = field(default_factory=dict)

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
            case PlanRulesRow() as fact:
                self.plan_rules = fact.rules
            case PriceCardRow() as fact:
                self.price_cards[fact.card.version] = fact.card
            case plain:
                self._table_of(fact_type)[plain.key] = _value_of(plain)

    def _forget(self, fact_type: FactType, key: str) -> None:
        match fact_type:
            case FactType.CERTIFICATES:
                self._set_certificates(key, ())
            case FactType.PLAN_RULES:
                self.plan_rules = PlanRules()
            case FactType.PRICE_CARD:
                self.price_cards.pop(int(key), None)
            case plain:
                self._table_of(plain).pop(key, None)

    def _table_of(self, fact_type: FactType) -> dict[str, Any]:
        table: dict[str, Any] = getattr(self, _TABLE_OF[fact_type])
        return table

    def _set_certificates(self, node_id: str, certificates: tuple[CertificateRecord, ...]) -> None:
        if certificates:
            self.certificates[node_id] = certificates
        else:
            self.certificates.pop(node_id, None)
        if (record := self.nodes.get(node_id)) is not None:
            self.nodes[node_id] = replace(record, certificates=certificates)


#: The facts that are kept by their key, and where.
_TABLE_OF: Mapping[FactType, str] = {
    FactType.NODE: "nodes",
    FactType.PLACEMENT: "placements",
    FactType.NODE_ORDER: "orders",
    FactType.MANIFEST: "manifests",
    FactType.KEY: "keys_created",
    FactType.OPERATOR: "operators",
    FactType.DEPLOY: "deploys",
    FactType.PUBLICATION: "publications",
    FactType.RUNTIME: "runtimes",
    FactType.TRACK: "tracks",
    FactType.ACCOUNT: "accounts",
    FactType.MEMBER: "members",
    FactType.MEMBER_TOKEN: "member_tokens",
    FactType.INVITATION: "invitations",
}


def _value_of(fact: Fact) -> object:
    """Return what is kept of a fact."""
    match fact:
        case Placement():
            return fact.node_ids
        case OrderOfNode():
            return fact.order
        case Manifest():
            return fact.files
        case OperatorRow():
            return fact.operator
        case PublicationRow():
            return fact.publication
        case RuntimeRow():
            return fact.runtime
        case TrackRow():
            return fact.track
        case AccountRow():
            return fact.info
        case MemberRow():
            return fact.member
        case MemberTokenRow():
            return fact.token
        case InvitationRow():
            return fact.invitation
        case other:
            return other
