"""Tokens: each makes a node or an operator of the holder of one key, once, and only for a while.

The same key gets the same reply again while the token is valid, since a reply can be lost.
"""

from __future__ import annotations

import hmac
from dataclasses import replace
from typing import TYPE_CHECKING

from coordinator.core.operators import Operator, Role
from coordinator.store import audit, nodes, operators, pops
from coordinator.store.records import (
    AuditNote,
    Purpose,
    Redemption,
    RefusalCause,
    TokenRecord,
    TokenRefused,
)
from protos.domain.errors import Conflict, Overloaded

if TYPE_CHECKING:
    from coordinator.store.connection import Connection, Read
    from coordinator.store.transaction import Transaction, Write

#: Unused tokens that may be valid at once.
MAX_LIVE_TOKENS = 10_000
#: How long an expired token is kept, so that the audit can name it.
_REMEMBERED_MS = 7 * 24 * 3_600_000
_COLUMNS = "id, secret_sha256, purpose, name, expires_unix_ms, pop_id, role, created_by"


def by_id(token_id: str) -> Read[TokenRecord | None]:
    """Return a token, used or not, expired or not."""

    def read(connection: Connection) -> TokenRecord | None:
        row = connection.execute(
            f"SELECT {_COLUMNS} FROM tokens WHERE id = ?", (token_id,)
        ).fetchone()
        return None if row is None else _record(row)

    return read


def create(token: TokenRecord, note: AuditNote | None = None) -> Write[TokenRecord]:
    """Store a token and return it; a name is chosen if its node has none.

    An unused older token for the name is void. A note's subject, when empty, becomes
    ``node/<id>``. NotFound if the POP is unknown; Conflict if the name is taken, or is that of a
    node that was removed less than a certificate's life ago; Overloaded.
    """

    def write(tx: Transaction) -> TokenRecord:
        _check_room(tx)
        named = _named(tx, token)
        if token.name:
            tx.change(
                "DELETE FROM tokens WHERE purpose = ? AND name = ? AND used_unix_ms IS NULL",
                (token.purpose.value, token.name),
            )
        tx.change(
            f"INSERT INTO tokens ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (
                named.id,
                named.secret_sha256,
                named.purpose.value,
                named.name,
                named.expires_unix_ms,
                named.pop_id,
                named.role,
                named.created_by,
            ),
        )
        if note is not None:
            subject = note.subject or f"{named.purpose}/{named.name}"
            audit.append(replace(note, subject=subject))(tx)
        return named

    return write


def redeem(
    token_id: str,
    purpose: Purpose,
    *,
    public_key_sha256: bytes,
    certificate_pem: bytes,
    serial: int,
    not_after_unix_ms: int,
    actor: str,
) -> Write[Redemption]:
    """Use a token whose secret the caller has proved, for the holder of one public key.

    The first call admits the node or operator and stores ``certificate_pem``; a later call with the
    same key gets the stored one while the token is valid; both are audited. Raises: TokenRefused,
    which is not audited.
    """

    def write(tx: Transaction) -> Redemption:
        found = tx.query(
            f"SELECT {_COLUMNS}, used_unix_ms, public_key_sha256, certificate_pem FROM tokens"
            " WHERE id = ?",
            (token_id,),
        )
        if not found:
            raise TokenRefused(RefusalCause.UNKNOWN)
        ((*columns, used_unix_ms, used_by_sha256, issued_pem),) = found
        token = _record(columns)
        if token.purpose is not purpose:
            raise TokenRefused(RefusalCause.OTHER_PURPOSE, token.name)
        if token.expires_unix_ms <= tx.now_unix_ms:
            raise TokenRefused(RefusalCause.EXPIRED, token.name)
        exists = _exists(tx, token)

        def redemption(action: str, pem: bytes, *, again: bool) -> Redemption:
            detail = f"token={token_id} public_key_sha256={public_key_sha256.hex()}"
            subject = f"{purpose}/{token.name}"
            audit.append(AuditNote(actor, action, subject, detail, proved=True))(tx)
            return Redemption(token.name, token.pop_id, token.role, pem, again)

        if used_unix_ms is not None:
            if not hmac.compare_digest(used_by_sha256, public_key_sha256):
                raise TokenRefused(RefusalCause.REUSED, token.name)
            if not exists:
                raise TokenRefused(RefusalCause.REMOVED, token.name)
            return redemption("enrolment.repeated", issued_pem, again=True)
        if exists:
            raise TokenRefused(RefusalCause.EXISTS, token.name)
        tx.change(
            "UPDATE tokens SET used_unix_ms = ?, public_key_sha256 = ?, certificate_pem = ?"
            " WHERE id = ?",
            (tx.now_unix_ms, public_key_sha256, certificate_pem, token_id),
        )
        if purpose is Purpose.NODE:
            nodes.enrol(token.name, token.pop_id, serial, not_after_unix_ms)(tx)
        else:
            admitted = Operator(
                name=token.name,
                role=Role(token.role),
                created_unix_ms=tx.now_unix_ms,
                invited_by=token.created_by,
                public_key_sha256=public_key_sha256,
                certificate_serial=serial,
                certificate_not_after_unix_ms=not_after_unix_ms,
            )
            operators.put(admitted)(tx)
        return redemption("enrolment.accepted", certificate_pem, again=False)

    return write


def _record(row: list[object] | tuple[object, ...]) -> TokenRecord:
    token = TokenRecord(*row)
    return replace(token, purpose=Purpose(token.purpose))


def _exists(tx: Transaction, token: TokenRecord) -> bool:
    """Return whether the node or operator of a token's name is there."""
    if token.purpose is Purpose.NODE:
        return nodes.is_enrolled(tx, token.name)
    return operators.find(tx, token.name) is not None


def _named(tx: Transaction, token: TokenRecord) -> TokenRecord:
    """Return the token with a name that is free. Raises: NotFound, Conflict."""
    if token.purpose is Purpose.OPERATOR:
        if _exists(tx, token):
            raise Conflict(
                f"operator {token.name!r} exists",
                "choose another name; a lost key is replaced by: edgeforge operator revoke, then"
                " invite again",
                retryable=False,
            )
        return token
    pops.require(tx, token.pop_id)
    if not token.name:
        return replace(token, name=_free_name(tx, token.pop_id))
    _check_name_is_free(tx, token.name)
    return token


def _check_room(tx: Transaction) -> None:
    """Forget old tokens. Raises: Overloaded when too many wait to be used."""
    tx.change("DELETE FROM tokens WHERE expires_unix_ms < ?", (tx.now_unix_ms - _REMEMBERED_MS,))
    ((live,),) = tx.query(
        "SELECT count(*) FROM tokens WHERE used_unix_ms IS NULL AND expires_unix_ms >= ?",
        (tx.now_unix_ms,),
    )
    if live >= MAX_LIVE_TOKENS:
        raise Overloaded(
            f"{live} enrolment tokens wait to be used", "wait until some have been or expire"
        )


def _check_name_is_free(tx: Transaction, node_id: str) -> None:
    if nodes.is_enrolled(tx, node_id):
        raise Conflict(
            f"node {node_id!r} is enrolled",
            "choose another name, or remove that node and choose another name",
            retryable=False,
        )
    if nodes.has_certificate(tx, node_id):
        raise Conflict(
            f"node {node_id!r} was removed, and a certificate in that name has not expired",
            "choose another name: giving this one again would let the old certificate back in",
            retryable=False,
        )


def _free_name(tx: Transaction, pop_id: str) -> str:
    number = 1
    while True:
        name = f"{pop_id.lower()}-{number}"
        reserved = tx.exists(
            "SELECT 1 FROM tokens WHERE purpose = 'node' AND name = ? AND used_unix_ms IS NULL"
            " AND expires_unix_ms >= ?",
            (name, tx.now_unix_ms),
        )
        if not (reserved or nodes.is_enrolled(tx, name) or nodes.has_certificate(tx, name)):
            return name
        number += 1
