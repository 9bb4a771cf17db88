"""Records of the store that are not rows for agents."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from protos.domain.hardware import UNKNOWN_HARDWARE

if TYPE_CHECKING:
    from protos.domain.customers import ApiKey
    from protos.domain.hardware import NodeHardware
    from protos.domain.resources import EngineProfile


@dataclass(frozen=True, slots=True)
class NodeRegistration:
    """A node's description of itself when its stream opens."""

    node_id: str
    peer_host: str
    peer_port: int
    client_url: str
    engine_kind: str
    profile: EngineProfile
    agent_version: str
    hardware: NodeHardware = UNKNOWN_HARDWARE


@dataclass(frozen=True, slots=True)
class CertificateRecord:
    """A certificate that was issued to a node and has not expired."""

    serial: int
    not_after_unix_ms: int


@dataclass(frozen=True, slots=True)
class NodeRecord:
    """An enrolled node. ``engine_kind`` is empty and ``profile`` None until its first Hello."""

    node_id: str
    pop_id: str
    enrolled_unix_ms: int
    engine_kind: str = ""
    agent_version: str = ""
    profile: EngineProfile | None = None
    certificates: tuple[CertificateRecord, ...] = ()
    hardware: NodeHardware = UNKNOWN_HARDWARE


class Purpose(enum.StrEnum):
    """What a token makes of the holder of a key."""

    NODE = "node"
    OPERATOR = "operator"


@dataclass(frozen=True, slots=True)
class TokenRecord:
    """A token for one use. Of its secret only the SHA-256 is stored."""

    id: str
    secret_sha256: bytes = field(repr=False)
    purpose: Purpose
    #: Of the node, empty when the store is to choose it; or of the operator.
    name: str
    expires_unix_ms: int
    #: Of a node.
    pop_id: str = ""
    #: Of an operator.
    role: str = ""
    #: ``operator/<name>``: its tokens are void once it may no longer make them.
    created_by: str = ""


@dataclass(frozen=True, slots=True)
class Redemption:
    """The outcome of a redeemed token. ``again``: the reply was sent before and is repeated."""

    name: str
    pop_id: str
    role: str
    certificate_pem: bytes
    again: bool


class RefusalCause(enum.StrEnum):
    """Why a token was refused: for the log and the audit, not for the caller."""

    UNKNOWN = "unknown"
    FORGED = "forged"
    EXPIRED = "expired"
    REUSED = "reused"
    REMOVED = "removed"
    EXISTS = "exists"
    OTHER_PURPOSE = "other_purpose"


class TokenRefused(Exception):
    """The token does not admit this caller."""

    def __init__(self, cause: RefusalCause, name: str = "") -> None:
        super().__init__(cause)
        self.cause = cause
        self.name = name


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """A customer's key as an operator may see it."""

    key: ApiKey
    created_unix_ms: int
    created_by: str = ""
    #: The key that it replaces, and the one that replaces it; empty: none.
    replaces: str = ""
    replaced_by: str = ""

    @property
    def prefix(self) -> str:
        """The part of its text that may be shown."""
        return f"ef-{self.key.id}"


@dataclass(frozen=True, slots=True)
class AuditNote:
    """An action, its actor and its subject; written in the transaction of the change.

    ``actor`` is ``operator/<name>``, ``node/<id>``, ``anonymous@<address>`` or ``coordinator``.
    """

    actor: str
    action: str
    subject: str
    detail: str = ""
    #: The actor has no certificate, but has proved the secret of a token.
    proved: bool = field(default=False, compare=False)

    @property
    def by_stranger(self) -> bool:
        """Whether anybody who reaches a port can cause such an entry."""
        return self.actor.startswith("anonymous@") and not self.proved


@dataclass(frozen=True, slots=True)
class AuditRecord:
    """One stored entry of the audit."""

    seq: int
    at_unix_ms: int
    note: AuditNote


@dataclass(frozen=True, slots=True)
class AuditQuery:
    """Which entries are asked for; an empty field asks for all."""

    limit: int
    #: Only entries older than the one with this seq.
    before_seq: int = 0
    #: ``operator/ana``
    actor: str = ""
    #: What the action starts with.
    action: str = ""
    since_unix_ms: int = 0
    #: The refusals of strangers instead of all other entries.
    strangers: bool = False


@dataclass(frozen=True, slots=True)
class AuditPage:
    """Entries, newest first. ``more``: older ones match too."""

    entries: tuple[AuditRecord, ...]
    more: bool
