"""The facade of the coordinator's state: all queries and all changes.

Reads that a request waits for come from memory. Writes run in one thread, each in one transaction
with its audit note and its change rows; the changes are published on the event loop after the
commit, in commit order, before the caller's ``await`` returns. All ``async``
methods raise StoreUnavailable (retryable) while the database is locked or its disk is full.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from coordinator.store import (
    accounts,
    audit,
    changes,
    deployments,
    keys,
    models,
    node_orders,
    nodes,
    pops,
    replicas,
    tokens,
)
from coordinator.store import prices as price_card
from coordinator.store.records import (
    AuditNote,
    AuditPage,
    AuditQuery,
    KeyRecord,
    NodeRecord,
    NodeRegistration,
    Redemption,
    TokenRecord,
)
from coordinator.store.sqlite.connection import BUSY_TIMEOUT_MS
from coordinator.store.sqlite.database import open_database
from coordinator.store.transaction import WriterFenced
from protos.domain.resources import (
    Account,
    ApiKey,
    Deployment,
    DesiredReplica,
    Model,
    ModelFile,
    NodeHealth,
    NodeIntent,
    Pop,
    Price,
    Replica,
    ResourceType,
)

if TYPE_CHECKING:
    from coordinator.core.node_orders import NodeOrder
    from coordinator.store.backend import Backend, Read
    from coordinator.store.memory import Memory, Tail
    from coordinator.store.transaction import Write
    from protos.domain.fleet_view import FleetView
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
        Conflict when another process holds it; ConfigInvalid when it is empty, another program's or
        of a newer version; StoreUnavailable.
        """
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

    def node_orders(self) -> Mapping[str, NodeOrder]:
        """Return the orders by node id."""
        return self._memory.facts.orders

    def placements(self) -> Mapping[str, tuple[str, ...]]:
        """Return deployment -> node ids that it is pinned to."""
        return self._memory.facts.placements

    def manifest(self, model: str) -> tuple[ModelFile, ...]:
        """Return the files of ``model``; empty for an external or unknown one."""
        return self._memory.facts.manifests.get(model, ())

    def keys_info(self) -> Sequence[KeyRecord]:
        """Return every key that is not revoked, oldest first."""
        by_id = {key.id: key for key in self.view().keys.values()}
        created = self._memory.facts.keys_created_unix_ms
        oldest_first = sorted(created, key=lambda key_id: (created[key_id], key_id))
        return [KeyRecord(by_id[key_id], created[key_id]) for key_id in oldest_first]

    # Reads from the database.

    async def delta_since(
        self, resource_type: ResourceType, scope: str, version: int
    ) -> Delta | None:
        """Return the push that leads from ``version`` to the table in memory.

        None if changes are missing (compacted, or ``version`` is newer): send a snapshot.
        """
        return self._memory.projection.delta_since(resource_type, scope, version)

    async def token(self, token_id: str) -> TokenRecord | None:
        """Return an enrolment token, used or not, expired or not."""
        return await self.read(tokens.by_id(token_id))

    async def audit_page(self, query: AuditQuery) -> AuditPage:
        """Return the newest entries that match, newest first, and whether there are older ones."""
        return await self.read(audit.page(query))

    # Nodes.

    async def put_pop(self, pop: Pop, *, note: AuditNote | None = None) -> None:
        """Create or replace a POP."""
        await self.write(pops.put(pop), note)

    async def register_node(
        self, registration: NodeRegistration, *, note: AuditNote | None = None
    ) -> None:
        """Record the registration of an enrolled node, and list it in the topology.

        Health and intent of a listed node stay; a new one is READY and ACTIVE. NotFound if removed.
        """
        await self.write(nodes.register(registration), note)

    async def remove_node(self, node_id: str, *, note: AuditNote | None = None) -> None:
        """Remove a node, its replicas, placements and desired rows, which revokes it. NotFound."""
        await self.write(nodes.remove(node_id), note)

    async def set_node_health(self, healths: Mapping[str, NodeHealth]) -> None:
        """Set the health of the listed nodes; unlisted ones are ignored."""
        await self.write(nodes.set_health(healths))

    async def set_node_intent(
        self, intents: Mapping[str, tuple[NodeIntent, str]], *, note: AuditNote | None = None
    ) -> None:
        """Set the intent of the listed nodes, and why; unlisted ones are ignored."""
        await self.write(nodes.set_intent(intents), note)

    async def put_node_order(
        self,
        node_id: str,
        order: NodeOrder | None,
        *,
        pins: Mapping[str, Sequence[str]] | None = None,
        note: AuditNote | None = None,
    ) -> None:
        """Set or delete a node's order, and ``pins`` in the same transaction. NotFound."""

        await self.write(node_orders.put(node_id, order, pins=pins), note)

    async def put_replicas(
        self, upserts: Sequence[Replica], removes: Sequence[tuple[str, str]]
    ) -> None:
        """Write and remove ``(node_id, model)`` replicas; those of unlisted nodes are ignored."""
        await self.write(replicas.report(upserts, removes))

    async def set_desired(self, node_id: str, desired: Mapping[str, DesiredReplica]) -> None:
        """Replace what ``node_id`` should hold, by model name; ignored for a removed node."""
        await self.write(replicas.set_desired(node_id, desired))

    async def note_certificate(
        self,
        node_id: str,
        serial: int,
        not_after_unix_ms: int,
        *,
        note: AuditNote | None = None,
    ) -> None:
        """Record a certificate issued to an enrolled node. NotFound if it was removed."""
        await self.write(nodes.note_certificate(node_id, serial, not_after_unix_ms), note)

    # Models and deployments.

    async def put_model(
        self, model: Model, files: Sequence[ModelFile], *, note: AuditNote | None = None
    ) -> None:
        """Register a model. Conflict if the name is taken by other content."""
        await self.write(models.register(model, files), note)

    async def put_deployment(
        self,
        deployment: Deployment,
        node_ids: Sequence[str],
        *,
        create_only: bool,
        note: AuditNote | None = None,
    ) -> None:
        """Create or replace a deployment and its pins.

        NotFound if account, model or a node is unknown; Conflict if it exists and ``create_only``,
        or belongs to another account.
        """
        await self.write(
            deployments.put(deployment, node_ids, create_only=create_only),
            note,
        )

    async def remove_deployment(self, name: str, *, note: AuditNote | None = None) -> None:
        """Remove a deployment and its placement. NotFound."""
        await self.write(deployments.remove(name), note)

    # Customers.

    async def create_account(
        self, account_id: str, cache_salt: str, *, note: AuditNote | None = None
    ) -> None:
        """Create an account. Conflict if the name is taken."""
        await self.write(accounts.create(Account(account_id, cache_salt)), note)

    async def put_key(
        self, key: ApiKey, created_unix_ms: int, *, note: AuditNote | None = None
    ) -> None:
        """Create a key. NotFound if its account or one of its deployments is unknown."""
        await self.write(keys.create(key, created_unix_ms), note)

    async def revoke_key(self, key_id: str, *, note: AuditNote | None = None) -> None:
        """Remove a key from the table, which revokes it. NotFound."""
        await self.write(keys.revoke(key_id), note)

    async def put_prices(self, prices: Sequence[Price], *, note: AuditNote | None = None) -> None:
        """Create or replace lines of the price card."""
        await self.write(price_card.put(prices), note)

    # Enrolment.

    async def create_token(
        self, token: TokenRecord, *, note: AuditNote | None = None
    ) -> TokenRecord:
        """Store a token and return it; a name is chosen if its node has none.

        A note's subject, when empty, becomes ``node/<id>``. NotFound if the POP is unknown;
        Conflict if the name is enrolled, or was removed less than a certificate's life ago.
        """
        return await self.write(tokens.create(token, note))

    async def redeem_token(
        self,
        token_id: str,
        *,
        public_key_sha256: bytes,
        certificate_pem: bytes,
        serial: int,
        not_after_unix_ms: int,
        actor: str,
    ) -> Redemption:
        """Use a token whose secret the caller has proved, for the holder of one public key.

        The first call enrols the node and stores ``certificate_pem``; a later call with the same
        key gets the stored one; both are audited. Raises: TokenRefused (unaudited).
        """
        return await self.write(
            tokens.redeem(
                token_id,
                public_key_sha256=public_key_sha256,
                certificate_pem=certificate_pem,
                serial=serial,
                not_after_unix_ms=not_after_unix_ms,
                actor=actor,
            )
        )

    # Records and upkeep.

    async def audit(self, actor: str, action: str, subject: str, detail: str) -> None:
        """Append one entry to the audit."""
        note = AuditNote(actor, action, subject, detail)
        await self.write(audit.append(note))

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
