"""The dependencies of every administrative call."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from coordinator.rpc.identity import peer_identity
from coordinator.store.records import AuditNote

if TYPE_CHECKING:
    from coordinator.blobs.store import BlobStore
    from coordinator.ca.authority import CertificateAuthority
    from coordinator.fleet.live import AskAgent, ForceTable, LiveFleet
    from coordinator.rpc.identity import Context
    from coordinator.store.store import Store


@dataclass(frozen=True, slots=True)
class AdminParts:
    """The dependencies of administration; ``main`` assembles them."""

    store: Store
    authority: CertificateAuthority
    blobs: BlobStore
    live: LiveFleet
    ask_agent: AskAgent
    force_table: ForceTable
    #: host:port of the enrolment listener as agents reach it.
    enrolment_address: str
    now_unix_ms: Callable[[], int]
    #: Called with a node that an operator has resumed.
    on_resumed: Callable[[str], None]
    #: Called with a node whose order has changed.
    on_ordered: Callable[[str], None]


class AdminServicerBase:
    """Base of the servicers, each with the calls about one kind of resource."""

    def __init__(self, parts: AdminParts) -> None:
        self._parts = parts

    @property
    def _store(self) -> Store:
        return self._parts.store


def note_of(context: Context, action: str, subject: str, detail: str = "") -> AuditNote:
    """Return the audit entry for the caller's action. Raises: Unauthenticated."""
    return AuditNote(str(peer_identity(context)), action, subject, detail)
