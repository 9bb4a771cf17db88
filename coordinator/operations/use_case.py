"""The frame of every use case: its role is checked, and a refusal audited, before it runs."""

from __future__ import annotations

import functools
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

from coordinator.core.blob_proofs import BlobProofs
from coordinator.operations.acts import NEEDS, OF_ACCOUNTS, Act
from coordinator.store.records import AuditNote
from protos.domain.errors import Forbidden
from protos.domain.plain_text import escaped

if TYPE_CHECKING:
    from coordinator.blobs.interface import BlobStore
    from coordinator.fleet.live import ForceTable, LiveFleet
    from coordinator.fleet.peer_dialer import PeerDialer
    from coordinator.fleet.placement_writer import PlacementWriter
    from coordinator.operations.actor import Actor
    from coordinator.operations.agents import Agents
    from coordinator.operations.operator_certificates import OperatorCertificates
    from coordinator.operations.refusals import RefusalRecorder
    from coordinator.operations.upstream import Upstream
    from coordinator.store.store import Store
    from coordinator.usage.database import UsageDatabase
    from coordinator.usage.exports import UsageExports
    from coordinator.usage.ingest import Ingest

#: Longest name of a subject that a refusal repeats.
_MAX_SUBJECT_CHARS = 100

S = TypeVar("S", bound="UseCases")
P = ParamSpec("P")
T = TypeVar("T")
Subject = Callable[..., str]
_Method = Callable[Concatenate[S, "Actor", P], Coroutine[Any, Any, T]]


@dataclass(frozen=True, slots=True)
class OperationsParts:
    """The dependencies of all use cases; ``main`` assembles them."""

    store: Store
    blobs: BlobStore
    refusals: RefusalRecorder
    live: LiveFleet
    agents: Agents
    dials: PeerDialer
    force_table: ForceTable
    #: Of the authority's certificate; agents pin it when they enrol.
    ca_sha256_hex: str
    #: host:port of the enrolment listener as agents reach it.
    enrolment_address: str
    #: host:port of the admin listener as operators reach it.
    admin_address: str
    #: Of the admin and enrolment listeners, those that only their own machine can reach.
    loopback_listeners: Sequence[str]
    operator_certificates: OperatorCertificates
    now_unix_ms: Callable[[], int]
    #: Called with a node that an operator has resumed.
    on_resumed: Callable[[str], None]
    #: Called with a node whose order has changed.
    on_ordered: Callable[[str], None]
    plan: PlacementWriter
    #: Called when something was changed that the plan or a roll-out follows.
    on_plan_changed: Callable[[], None]
    #: Called with an operator who was revoked or has another role.
    on_operator_changed: Callable[[str], None]
    usage_db: UsageDatabase
    ingest: Ingest
    usage_exports: UsageExports
    #: Origin of the hub's protocol; empty: it is off.
    hub_endpoint: str = ""
    #: Its certificate is of the fleet's own authority.
    hub_own_authority: bool = False
    #: The hub that hf:// names; None: there is none.
    upstream: Upstream | None = None
    blob_proofs: BlobProofs = field(default_factory=BlobProofs)
    #: What one account may have sent and published.
    account_max_bytes: int = 512 * 1024**3


class UseCases:
    """Base of the use cases about one noun. Each public method is a ``use_case``."""

    def __init__(self, parts: OperationsParts) -> None:
        self._parts = parts

    @property
    def _store(self) -> Store:
        return self._parts.store

    async def _admit(self, actor: Actor, act: Act, subject: str) -> None:
        """Raises: Forbidden, audited, if the actor's role does not cover the act."""
        needed = NEEDS[act]
        if actor.role is None:
            if act in OF_ACCOUNTS:
                return
        elif actor.role.covers(needed):
            return
        has = actor.role or "account"
        detail = f"refused: needs {needed}, has {has}, from {actor.address}"
        await self._parts.refusals.record(AuditNote(str(actor), act, subject, detail))
        if actor.role is None:
            raise Forbidden(f"{actor} may not do {act}", "ask an operator of the fleet")
        raise Forbidden(
            f"{actor} has the role {actor.role}, {act} needs {needed}",
            "ask an admin to do it, or for the role",
        )


def use_case(
    act: Act, subject: Subject = lambda *args, **kwargs: ""
) -> Callable[[_Method[S, P, T]], _Method[S, P, T]]:
    """Return a decorator that admits only actors whose role covers ``act``.

    ``subject`` names what a refused call was about, from the arguments behind the actor.
    """

    def decorated(method: _Method[S, P, T]) -> _Method[S, P, T]:
        @functools.wraps(method)
        async def admitted(self: S, actor: Actor, /, *args: P.args, **kwargs: P.kwargs) -> T:
            await self._admit(actor, act, subject(*args, **kwargs))
            return await method(self, actor, *args, **kwargs)

        admitted.__dict__["act"] = act
        return admitted

    return decorated


def named(kind: str) -> Subject:
    """Return a subject of ``kind``, named by the use case's first argument."""

    def subject(*args: object, **kwargs: object) -> str:
        name = next(iter((*args, *kwargs.values())), "")
        text = str(getattr(name, "name", None) or getattr(name, "id", name))
        return f"{kind}/{escaped(text[:_MAX_SUBJECT_CHARS])}"

    return subject


def note_of(actor: Actor, act: Act, subject: str, detail: str = "") -> AuditNote:
    """Return the audit entry of an act that is done."""
    return AuditNote(str(actor), act, subject, detail)
