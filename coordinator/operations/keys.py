"""Customers' keys."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from coordinator.core.account_zones import checked_zones
from coordinator.operations.acts import Act
from coordinator.operations.use_case import UseCases, named, note_of, use_case
from coordinator.store import keys
from protos.domain.customers import NO_LIMITS, ApiKey
from protos.domain.errors import InvalidRequest
from protos.domain.ids import check_account_id, check_deployment_name

if TYPE_CHECKING:
    from coordinator.operations.actor import Actor
    from coordinator.store.records import KeyRecord
    from protos.domain.customers import UsageLimits

MAX_KEYS_PER_ACCOUNT = 1_000
MAX_DEPLOYMENTS_PER_KEY = 100
_ID_BYTES = 6
_SECRET_BYTES = 24
_MAX_ID_CHARS = 64


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key as it is shown once; only its digest is kept."""

    id: str
    text: str = field(repr=False)


class Keys(UseCases):
    """Keys of accounts."""

    @use_case(Act.KEY_CREATE, named("account"))
    async def create(
        self,
        actor: Actor,
        account_id: str,
        *,
        deployments: Collection[str] = (),
        expires_unix_ms: int = 0,
        limits: UsageLimits = NO_LIMITS,
        zones: Collection[str] = (),
    ) -> NewKey:
        """Return a new key; no deployments: all of the account's; 0: it never expires.

        ``zones`` are where it may be used, of the account's; none: all of the account's.

        Raises: InvalidRequest, NotFound.
        """
        check_account_id(account_id)
        opened = tuple(sorted({check_deployment_name(one) for one in deployments}))
        if len(opened) > MAX_DEPLOYMENTS_PER_KEY:
            raise InvalidRequest(
                f"{len(opened)} deployments are more than {MAX_DEPLOYMENTS_PER_KEY}",
                "leave deployments out: the key opens all of the account",
            )
        now_unix_ms = self._parts.now_unix_ms()
        if expires_unix_ms and expires_unix_ms <= now_unix_ms:
            raise InvalidRequest("the key would have expired already", "0 never expires")
        count = sum(key.account_id == account_id for key in self._store.view().keys.values())
        if count >= MAX_KEYS_PER_ACCOUNT:
            raise InvalidRequest(
                f"account {account_id!r} has {count} keys", "revoke those not in use"
            )
        key_id = secrets.token_hex(_ID_BYTES)
        text = f"ef-{key_id}-{secrets.token_hex(_SECRET_BYTES)}"
        digest = hashlib.sha256(text.encode()).digest()
        narrowed = checked_zones(zones)
        key = ApiKey(key_id, digest, account_id, opened, expires_unix_ms, limits, narrowed)
        detail = f"account={account_id} deployments={','.join(opened) or 'all'}"
        if narrowed:
            detail += f" zones={','.join(narrowed)}"
        note = note_of(actor, Act.KEY_CREATE, f"key/{key_id}", detail)
        await self._store.write(keys.create(key, now_unix_ms), note)
        return NewKey(key_id, text)

    @use_case(Act.KEY_LIST, named("account"))
    async def list_all(self, actor: Actor, account_id: str = "") -> Sequence[KeyRecord]:
        """Return the keys of one account or of all, oldest first."""
        return [
            record
            for record in self._store.keys_info()
            if account_id in ("", record.key.account_id)
        ]

    @use_case(Act.KEY_REVOKE, named("key"))
    async def revoke(self, actor: Actor, key_id: str) -> None:
        """Remove a key from the table of every agent. Raises: InvalidRequest, NotFound."""
        if not 0 < len(key_id) <= _MAX_ID_CHARS:
            raise InvalidRequest("name the key by its id", "`edgeforge key ls` shows the ids")
        note = note_of(actor, Act.KEY_REVOKE, f"key/{key_id}")
        await self._store.write(keys.revoke(key_id), note)
