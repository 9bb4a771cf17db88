"""Facts: what the coordinator alone knows, kept as rows and changes that no agent is sent.

A fact is written like a row for agents: its present payload in ``rows``, each change in
``changes``. Payloads are JSON; a reader gives a missing key its default, so that facts written by
an earlier version stay readable.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar, TypeVar, get_args

from coordinator.core.node_orders import Move, NodeOrder, OrderKind, Phase
from coordinator.core.operators import Operator, Role
from coordinator.store.adoption_facts import TrackRow
from coordinator.store.deploy_facts import DeployRecord, PlanRulesRow
from coordinator.store.fact_types import FactType, fact_json
from coordinator.store.member_facts import AccountRow, InvitationRow, MemberRow, MemberTokenRow
from coordinator.store.pop_cost_facts import PopCostRow
from coordinator.store.price_facts import PriceCardRow
from coordinator.store.records import CertificateRecord
from coordinator.store.registry_facts import PublicationRow, RuntimeRow
from protos.domain.hardware import UNKNOWN_HARDWARE, NodeHardware
from protos.domain.resources import EngineProfile, ModelFile, ResourceType

__all__ = ["FactType"]

RowType = ResourceType | FactType

_ROW_TYPES: dict[str, RowType] = {one.value: one for one in (*ResourceType, *FactType)}


#: Returns the type that a stored row or change names.
row_type = _ROW_TYPES.__getitem__


_PROFILE_FIELDS = frozenset(one.name for one in fields(EngineProfile))
_HARDWARE_FIELDS = frozenset(one.name for one in fields(NodeHardware))


@dataclass(frozen=True, slots=True)
class EnrolledNode:
    """An enrolled node. ``engine_kind`` is empty and ``profile`` None until its first Hello."""

    TYPE: ClassVar = FactType.NODE

    node_id: str
    pop_id: str
    enrolled_unix_ms: int
    engine_kind: str = ""
    agent_version: str = ""
    profile: EngineProfile | None = None
    hardware: NodeHardware = UNKNOWN_HARDWARE

    @property
    def key(self) -> str:
        """The node's id."""
        return self.node_id

    def encode(self) -> bytes:
        """Return the payload."""
        return fact_json(
            pop_id=self.pop_id,
            enrolled_unix_ms=self.enrolled_unix_ms,
            engine_kind=self.engine_kind,
            agent_version=self.agent_version,
            profile=asdict(self.profile) if self.profile else None,
            hardware=asdict(self.hardware),
        )

    @classmethod
    def decode(cls, key: str, payload: bytes) -> EnrolledNode:
        """Return the fact in ``payload``."""
        value = json.loads(payload)
        profile = value["profile"]
        return cls(
            key,
            value["pop_id"],
            value["enrolled_unix_ms"],
            value["engine_kind"],
            value["agent_version"],
            None if profile is None else _profile(profile),
            _hardware(value.get("hardware", {})),
        )


@dataclass(frozen=True, slots=True)
class Certificates:
    """The certificates issued in a node's name, oldest first; kept when the node is removed."""

    TYPE: ClassVar = FactType.CERTIFICATES

    node_id: str
    certificates: tuple[CertificateRecord, ...]

    @property
    def key(self) -> str:
        """The node's id."""
        return self.node_id

    def encode(self) -> bytes:
        """Return the payload."""
        return fact_json(
            certificates=[[f"{one.serial:x}", one.not_after_unix_ms] for one in self.certificates]
        )

    @classmethod
    def decode(cls, key: str, payload: bytes) -> Certificates:
        """Return the fact in ``payload``."""
        return cls(
            key,
            tuple(
                CertificateRecord(int(serial, 16), not_after_unix_ms)
                for serial, not_after_unix_ms in json.loads(payload)["certificates"]
            ),
        )


@dataclass(frozen=True, slots=True)
class Placement:
    """The nodes that a deployment is pinned to, in order."""

    TYPE: ClassVar = FactType.PLACEMENT

    deployment: str
    node_ids: tuple[str, ...]

    @property
    def key(self) -> str:
        """The deployment's name."""
        return self.deployment

    def encode(self) -> bytes:
        """Return the payload."""
        return fact_json(node_ids=self.node_ids)

    @classmethod
    def decode(cls, key: str, payload: bytes) -> Placement:
        """Return the fact in ``payload``."""
        return cls(key, tuple(json.loads(payload)["node_ids"]))


@dataclass(frozen=True, slots=True)
class OrderOfNode:
    """A node's order."""

    TYPE: ClassVar = FactType.NODE_ORDER

    node_id: str
    order: NodeOrder

    @property
    def key(self) -> str:
        """The node's id."""
        return self.node_id

    def encode(self) -> bytes:
        """Return the payload."""
        order = self.order
        return fact_json(
            kind=order.kind,
            by=order.by,
            reason=order.reason,
            at_unix_ms=order.at_unix_ms,
            phase=order.phase or "",
            moves=[[one.deployment, one.model, one.node_id, one.reason] for one in order.moves],
            force=order.force,
        )

    @classmethod
    def decode(cls, key: str, payload: bytes) -> OrderOfNode:
        """Return the fact in ``payload``."""
        value = json.loads(payload)
        order = NodeOrder(
            kind=OrderKind(value["kind"]),
            by=value["by"],
            reason=value["reason"],
            at_unix_ms=value["at_unix_ms"],
            phase=Phase(value["phase"]) if value["phase"] else None,
            moves=tuple(Move(*move) for move in value["moves"]),
            force=value["force"],
        )
        return cls(key, order)


@dataclass(frozen=True, slots=True)
class Manifest:
    """The files of a model or an adapter, by path."""

    TYPE: ClassVar = FactType.MANIFEST

    model: str
    files: tuple[ModelFile, ...]

    @property
    def key(self) -> str:
        """The name of the model or adapter."""
        return self.model

    def encode(self) -> bytes:
        """Return the payload."""
        return fact_json(files=[_file_values(one) for one in self.files])

    @classmethod
    def decode(cls, key: str, payload: bytes) -> Manifest:
        """Return the fact in ``payload``."""
        return cls(key, tuple(_file_of(*values) for values in json.loads(payload)["files"]))


@dataclass(frozen=True, slots=True)
class KeyCreated:
    """How a key that has not been revoked was created: when, by whom, in place of which one."""

    TYPE: ClassVar = FactType.KEY

    key_id: str
    created_unix_ms: int
    created_by: str = ""
    #: The key that it replaces, which ends by itself, and the one that replaces it; empty: none.
    replaces: str = ""
    replaced_by: str = ""

    @property
    def key(self) -> str:
        """The key's id."""
        return self.key_id

    def encode(self) -> bytes:
        """Return the payload."""
        return fact_json(
            created_unix_ms=self.created_unix_ms,
            created_by=self.created_by,
            replaces=self.replaces,
            replaced_by=self.replaced_by,
        )

    @classmethod
    def decode(cls, key: str, payload: bytes) -> KeyCreated:
        """Return the fact in ``payload``."""
        value = json.loads(payload)
        return cls(
            key,
            value["created_unix_ms"],
            value.get("created_by", ""),
            value.get("replaces", ""),
            value.get("replaced_by", ""),
        )


@dataclass(frozen=True, slots=True)
class OperatorRow:
    """An operator."""

    TYPE: ClassVar = FactType.OPERATOR

    operator: Operator

    @property
    def key(self) -> str:
        """The operator's name."""
        return self.operator.name

    def encode(self) -> bytes:
        """Return the payload."""
        one = self.operator
        return fact_json(
            role=one.role,
            created_unix_ms=one.created_unix_ms,
            invited_by=one.invited_by,
            public_key_sha256=one.public_key_sha256.hex(),
            certificate_serial=f"{one.certificate_serial:x}",
            certificate_not_after_unix_ms=one.certificate_not_after_unix_ms,
            revoked_unix_ms=one.revoked_unix_ms,
        )

    @classmethod
    def decode(cls, key: str, payload: bytes) -> OperatorRow:
        """Return the fact in ``payload``."""
        value = json.loads(payload)
        return cls(
            Operator(
                name=key,
                role=Role(value["role"]),
                created_unix_ms=value["created_unix_ms"],
                invited_by=value["invited_by"],
                public_key_sha256=bytes.fromhex(value["public_key_sha256"]),
                certificate_serial=int(value["certificate_serial"], 16),
                certificate_not_after_unix_ms=value["certificate_not_after_unix_ms"],
                revoked_unix_ms=value["revoked_unix_ms"],
            )
        )


Fact = (
    EnrolledNode
    | Certificates
    | Placement
    | OrderOfNode
    | Manifest
    | KeyCreated
    | OperatorRow
    | DeployRecord
    | PlanRulesRow
    | PublicationRow
    | RuntimeRow
    | TrackRow
    | PopCostRow
    | AccountRow
    | MemberRow
    | MemberTokenRow
    | InvitationRow
    | PriceCardRow
)
FactT = TypeVar(
    "FactT",
    EnrolledNode,
    Certificates,
    Placement,
    OrderOfNode,
    Manifest,
    KeyCreated,
    OperatorRow,
    DeployRecord,
    PlanRulesRow,
    PublicationRow,
    RuntimeRow,
    TrackRow,
    PopCostRow,
    AccountRow,
    MemberRow,
    MemberTokenRow,
    InvitationRow,
    PriceCardRow,
)

_CLASS_OF: dict[FactType, type[Fact]] = {one.TYPE: one for one in get_args(Fact)}


def decode_fact(fact_type: FactType, key: str, payload: bytes) -> Fact:
    """Return the fact in a row."""
    return _CLASS_OF[fact_type].decode(key, payload)


def _file_values(file: ModelFile) -> list[str | int]:
    values: list[str | int] = [file.path, file.sha256.hex(), file.size_bytes]
    return [*values, file.pieces_sha256.hex()] if file.pieces_sha256 else values


def _file_of(path: str, sha256: str, size_bytes: int, pieces_sha256: str = "") -> ModelFile:
    return ModelFile(path, bytes.fromhex(sha256), size_bytes, bytes.fromhex(pieces_sha256))


def _profile(values: dict[str, Any]) -> EngineProfile:
    return EngineProfile(
        **{name: value for name, value in values.items() if name in _PROFILE_FIELDS}
    )


def _hardware(values: dict[str, Any]) -> NodeHardware:
    return NodeHardware(
        **{name: value for name, value in values.items() if name in _HARDWARE_FIELDS}
    )
