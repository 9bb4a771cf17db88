"""Customers' keys."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from coordinator.core.account_zones import checked_zones
from coordinator.operations.acts import Act
from coordinator.operations.secret_texts import new_secret
from coordinator.operations.use_case import UseCases, named, note_of, use_case
from coordinator.store import keys
from protos.domain.customers import NO_LIMITS, ApiKey
from protos.domain.errors import InvalidRequest, NotFound
from protos.domain.ids import check_account_id, check_deployment_name
from protos.domain.key_scopes import check_endpoints, check_origins

if TYPE_CHECKING:
    from coordinator.operations.actor import Actor
    from coordinator.store.records import KeyRecord
    from protos.domain.customers import UsageLimits

MAX_KEYS_PER_ACCOUNT = 1_000
MAX_DEPLOYMENTS_PER_KEY = 100
#: How long a rotated key still works.
DEFAULT_GRACE_S = 24 * 3_600
MAX_GRACE_S = 30 * 24 * 3_600
_ID_BYTES = 6
_SECRET_BYTES = 24
_MAX_ID_CHARS = 64


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key as it is shown once; only its digest is kept."""

    id: str
    text: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class RotatedKey:
    """A new key with the scopes of another one, and when that one ends."""

    new: NewKey
    old_id: str
    old_ends_unix_ms: int


@dataclass(frozen=True, slots=True)
class ListedKey:
    """A key, and when it was last used to the minute; 0: never, or nothing is known of it."""

    record: KeyRecord
    last_used_unix_ms: int


@dataclass(frozen=True, slots=True)
class Scopes:
    """What a key is limited to; empty: not limited."""

    deployments: Collection[str] = ()
    endpoints: Collection[str] = ()
    origins: Collection[str] = ()
    zones: Collection[str] = ()


NO_SCOPES = Scopes()


class Keys(UseCases):
    """Keys of accounts. An account has its own."""

    @use_case(Act.KEY_CREATE, named("account"))
    async def create(
        self,
        actor: Actor,
        account_id: str = "",
        *,
        scopes: Scopes = NO_SCOPES,
        expires_unix_ms: int = 0,
        limits: UsageLimits = NO_LIMITS,
    ) -> NewKey:
        """Return a new key; 0: it never expires.

        Raises: InvalidRequest, NotFound.
        """
        account_id = check_account_id(actor.own(account_id))
        now_unix_ms = self._parts.now_unix_ms()
        if expires_unix_ms and expires_unix_ms <= now_unix_ms:
            raise InvalidRequest("the key would have expired already", "0 never expires")
        own = self._of_account(account_id)
        gone = [one.id for one in own if 0 < one.expires_unix_ms < now_unix_ms]
        if len(own) >= MAX_KEYS_PER_ACCOUNT:
            raise InvalidRequest(
                f"account {account_id!r} has {len(own)} keys",
                "revoke those not in use, and those that have expired",
            )
        new, digest = _new_key()
        key = self._scoped(ApiKey(new.id, digest, account_id, (), expires_unix_ms, limits), scopes)
        detail = f"account={account_id} {_scope_text(key)}"
        note = note_of(actor, Act.KEY_CREATE, f"key/{new.id}", detail)
        await self._store.write(keys.create(key, now_unix_ms, str(actor), gone), note)
        return new

    @use_case(Act.KEY_ROTATE, named("key"))
    async def rotate(
        self, actor: Actor, key_id: str, *, grace_s: int = DEFAULT_GRACE_S
    ) -> RotatedKey:
        """Return a new key with the same scopes; the old one ends by itself after ``grace_s``.

        Raises: InvalidRequest, NotFound, Conflict for one that has expired or was rotated already.
        """
        _check_id(key_id)
        if not 0 <= grace_s <= MAX_GRACE_S:
            raise InvalidRequest(
                f"a grace of {grace_s} s is not in 0..{MAX_GRACE_S}", "0 ends the old key at once"
            )
        new, digest = _new_key()
        change = keys.rotate(
            key_id,
            actor.account_id,
            new.id,
            digest,
            grace_ms=grace_s * 1_000,
            created_by=str(actor),
        )
        note = note_of(actor, Act.KEY_ROTATE, f"key/{key_id}", f"new={new.id} grace_s={grace_s}")
        await self._store.write(change, note)
        old = next(one for one in self._store.view().keys.values() if one.id == key_id)
        return RotatedKey(new, key_id, old.expires_unix_ms)

    @use_case(Act.KEY_LIST, named("account"))
    async def list_all(self, actor: Actor, account_id: str = "") -> Sequence[ListedKey]:
        """Return the keys of one account or of all, oldest first; an account's own for it.

        Raises: NotFound.
        """
        wanted = actor.own(account_id)
        if wanted and wanted not in self._store.view().accounts:
            raise NotFound(
                f"there is no account {wanted[:80]!r}", "`edgeforge account ls` shows all"
            )
        records = [one for one in self._store.keys_info() if wanted in ("", one.key.account_id)]
        used = await self._parts.key_uses.last_used_unix_ms([one.key.id for one in records])
        return [ListedKey(one, used.get(one.key.id, 0)) for one in records]

    @use_case(Act.KEY_REVOKE, named("key"))
    async def revoke(self, actor: Actor, key_id: str) -> None:
        """Remove a key from the table of every agent. Raises: InvalidRequest, NotFound."""
        _check_id(key_id)
        note = note_of(actor, Act.KEY_REVOKE, f"key/{key_id}")
        await self._store.write(keys.revoke(key_id, actor.account_id), note)

    def _of_account(self, account_id: str) -> list[ApiKey]:
        return [one for one in self._store.view().keys.values() if one.account_id == account_id]

    def _scoped(self, key: ApiKey, scopes: Scopes) -> ApiKey:
        """Return ``key`` with its scopes. Raises: InvalidRequest."""
        deployments = tuple(sorted({check_deployment_name(one) for one in scopes.deployments}))
        if len(deployments) > MAX_DEPLOYMENTS_PER_KEY:
            raise InvalidRequest(
                f"{len(deployments)} deployments are more than {MAX_DEPLOYMENTS_PER_KEY}",
                "leave deployments out: the key opens all of the account",
            )
        return ApiKey(
            key.id,
            key.digest,
            key.account_id,
            deployments,
            key.expires_unix_ms,
            key.limits,
            checked_zones(scopes.zones),
            check_endpoints(scopes.endpoints),
            check_origins(scopes.origins),
        )


def _new_key() -> tuple[NewKey, bytes]:
    """Return a key and its digest."""
    made = new_secret("ef", id_bytes=_ID_BYTES, secret_bytes=_SECRET_BYTES)
    return NewKey(made.id, made.text), made.digest


def _check_id(key_id: str) -> None:
    if not 0 < len(key_id) <= _MAX_ID_CHARS:
        raise InvalidRequest("name the key by its id", "`edgeforge key ls` shows the ids")


def _scope_text(key: ApiKey) -> str:
    scopes = {
        "deployments": key.deployments,
        "endpoints": key.endpoints,
        "origins": key.origins,
        "zones": key.zones,
    }
    return " ".join(f"{name}={','.join(given) or 'all'}" for name, given in scopes.items())
