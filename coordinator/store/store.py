"""The coordinator's state: read from memory, changed by the verbs of the nouns beside this module.

``await store.write(nodes.remove(node_id), note)`` commits in one transaction with its audit note
and its lines of the change log; memory takes those lines on the event loop, in the order of the
commits, before the caller's ``await`` returns. All ``async`` methods raise StoreUnavailable
(retryable) while the database is locked or its disk is full.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from coordinator.store import changes, nodes
from coordinator.store.records import KeyRecord
from coordinator.store.sqlite.connection import BUSY_TIMEOUT_MS
from coordinator.store.sqlite.database import open_database
from coordinator.store.transaction import WriterFenced
from protos.domain.errors import ConfigInvalid, StoreUnavailable

if TYPE_CHECKING:
    from coordinator.core.adoption import Track
    from coordinator.core.members import AccountInfo, Invitation, Member, MemberToken
    from coordinator.core.node_orders import NodeOrder
    from coordinator.core.operators import Operator
    from coordinator.core.plan_input import PlanRules
    from coordinator.core.publications import Publication
    from coordinator.store.backend import Backend
    from coordinator.store.connection import Read
    from coordinator.store.deploy_facts import DeployRecord
    from coordinator.store.memory import Memory, Tail
    from coordinator.store.records import AuditNote, NodeRecord
    from coordinator.store.transaction import Write
    from protos.domain.fleet_view import FleetView
    from protos.domain.price_card import PriceCard
    from protos.domain.resources import ModelFile, ResourceType, Runtime
    from protos.domain.routing_table import Delta, Table

T = TypeVar("T")

_log = logging.getLogger(__name__)


class Store:
    """One coordinator's state. Made by ``open``; used from one event loop."""

    def __init__(self, backend: Backend, memory: Memory) -> None:
        self._backend = backend
        self._memory = memory
        self._callbacks: list[Callable[[ResourceType, str], None]] = []
        self._fenced = False

    @classmethod
    async def open(
        cls,
        path: Path,
        *,
        now_unix_ms: Callable[[], int],
        must_exist: bool = False,
        busy_timeout_ms: int = BUSY_TIMEOUT_MS,
    ) -> Store:
        """Open the database at ``path``, migrate it, and read its tables into memory.

        A file that does not exist is made. Raises: NotFound when ``must_exist`` and it does not;
        Conflict when another process holds it; ConfigInvalid when it is empty, damaged, another
        program's or of a newer version; StoreUnavailable.
        """
        try:
            backend = await open_database(
                path,
                now_unix_ms=now_unix_ms,
                must_exist=must_exist,
                busy_timeout_ms=busy_timeout_ms,
            )
            try:
                return cls(backend, await backend.start())
            except BaseException:
                await backend.close()
                raise
        except StoreUnavailable as error:
            if error.retryable:
                raise
            raise ConfigInvalid([error.message], error.hint) from error  # no restart mends it

    async def close(self) -> None:
        """Finish the queued writes and release the database."""
        await self._backend.close()

    async def write(self, change: Write[T], note: AuditNote | None = None) -> T:
        """Run ``change``, such as ``nodes.remove(node_id)``, and ``note`` in one transaction.

        What it changed is in memory, and callbacks have been called, before this returns.
        Raises: StoreUnavailable, and what ``change`` raises: then nothing was changed.
        """
        try:
            return await self._backend.write(change, note, self._publish)
        except WriterFenced:
            if not self._fenced:
                self._fenced = True
                _log.error("another coordinator writes to the database; this one no longer does")
            raise

    async def read(self, question: Read[T]) -> T:
        """Ask what is not in memory, such as ``tokens.by_id(token_id)``."""
        return await self._backend.read(question)

    def on_change(self, callback: Callable[[ResourceType, str], None]) -> None:
        """Have ``callback(type, scope)`` called on the event loop after each commit."""
        self._callbacks.append(callback)

    def _publish(self, news: Tail | Memory) -> None:
        for resource_type, scope in self._memory.take(news):
            for callback in self._callbacks:
                try:
                    callback(resource_type, scope)
                except Exception:
                    _log.exception("change callback failed type=%s", resource_type)

    # Reads from memory.

    @property
    def epoch(self) -> int:
        """First half of every table's version; raised by ``restore`` only."""
        return self._memory.projection.epoch

    @property
    def seq(self) -> int:
        """Number of the newest change in memory."""
        return self._memory.seq

    @property
    def fleet_id(self) -> str:
        """Random id of the fleet, made with its database; a restored backup keeps it."""
        return self._memory.fleet_id

    @property
    def available(self) -> bool:
        """Whether this is the writer and the last write, or the last probe since, succeeded."""
        return self._backend.available and not self._fenced

    def view(self) -> FleetView:
        """Return every shared row, decoded and indexed."""
        return self._memory.projection.view

    def table(self, resource_type: ResourceType, scope: str = "") -> Table:
        """Return a table as agents should hold it. ``scope`` is a node id for DESIRED."""
        return self._memory.projection.table(resource_type, scope)

    def engine_kind(self, node_id: str) -> str:
        """Return the node's engine kind, empty if the node is unknown or has not reported it."""
        record = self.node_record(node_id)
        return record.engine_kind if record else ""

    def node_record(self, node_id: str) -> NodeRecord | None:
        """Return an enrolled node, None if never enrolled or removed."""
        return self._memory.facts.nodes.get(node_id)

    def node_records(self) -> Mapping[str, NodeRecord]:
        """Return every enrolled node by id."""
        return self._memory.facts.nodes

    def was_enrolled(self, node_id: str) -> bool:
        """Return whether a node is enrolled, or was and a certificate of its name is remembered."""
        facts = self._memory.facts
        return node_id in facts.nodes or node_id in facts.certificates

    def node_orders(self) -> Mapping[str, NodeOrder]:
        """Return the orders by node id."""
        return self._memory.facts.orders

    def operators(self) -> Mapping[str, Operator]:
        """Return every operator by name, revoked ones too."""
        return self._memory.facts.operators

    def placements(self) -> Mapping[str, tuple[str, ...]]:
        """Return deployment -> node ids that it is pinned to."""
        return self._memory.facts.placements

    def deploys(self) -> Mapping[str, DeployRecord]:
        """Return deployment -> its history and the change under way."""
        return self._memory.facts.deploys

    def plan_rules(self) -> PlanRules:
        """Return what operators have said about the replica plan."""
        return self._memory.facts.plan_rules

    def manifest(self, model: str) -> tuple[ModelFile, ...]:
        """Return the files of a model or an adapter; empty for an external or unknown one."""
        return self._memory.facts.manifests.get(model, ())

    def manifests(self) -> Mapping[str, tuple[ModelFile, ...]]:
        """Return the files of every model and adapter that has any."""
        return self._memory.facts.manifests

    def publications(self) -> Mapping[str, Publication]:
        """Return what is known of every version of every object, removed ones too."""
        return self._memory.facts.publications

    def runtimes(self) -> Mapping[str, Runtime]:
        """Return every runtime by name."""
        return self._memory.facts.runtimes

    def tracks(self) -> Mapping[str, Track]:
        """Return what is tracked of other hubs, by ``hf://org/repo@revision``."""
        return self._memory.facts.tracks

    def price_cards(self) -> Mapping[int, PriceCard]:
        """Return every version of the price card, drafts and superseded ones too."""
        return self._memory.facts.price_cards

    def keys_info(self) -> Sequence[KeyRecord]:
        """Return every key that is not revoked, oldest first."""
        by_id = {key.id: key for key in self.view().keys.values()}
        created = self._memory.facts.keys_created
        oldest_first = sorted(created.values(), key=lambda one: (one.created_unix_ms, one.key_id))
        return [
            KeyRecord(
                by_id[one.key_id],
                one.created_unix_ms,
                one.created_by,
                one.replaces,
                one.replaced_by,
            )
            for one in oldest_first
        ]

    def account_infos(self) -> Mapping[str, AccountInfo]:
        """Return what is known of accounts beside their rows, by name."""
        return self._memory.facts.accounts

    def members(self) -> Mapping[str, Member]:
        """Return every member of every account by id."""
        return self._memory.facts.members

    def member_tokens(self) -> Mapping[str, MemberToken]:
        """Return every token of every member by id."""
        return self._memory.facts.member_tokens

    def invitations(self) -> Mapping[str, Invitation]:
        """Return every invitation that was not used, expired ones too, by id."""
        return self._memory.facts.invitations

    async def delta_since(
        self, resource_type: ResourceType, scope: str, version: int
    ) -> Delta | None:
        """Return the push that leads from ``version`` to the table in memory.

        None if changes are missing (compacted, or ``version`` is newer): send a snapshot.
        """
        return self._memory.projection.delta_since(resource_type, scope, version)

    # Upkeep.

    async def compact(self, *, older_than_unix_ms: int) -> int:
        """Drop older changes and names long gone; return how many changes were dropped."""
        dropped = 0
        while step := await self.write(lambda tx: changes.compact_step(tx, older_than_unix_ms)):
            dropped += step
        await self.write(nodes.forget_expired_names())
        return dropped

    async def backup(self, target: Path) -> None:
        """Write a consistent copy of the database to ``target``, which must not exist."""
        await self._backend.backup(target)
