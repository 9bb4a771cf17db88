"""Enrolment tokens: single use, an hour of validity, and the same reply to the same key."""

from __future__ import annotations

import hmac
from dataclasses import replace
from typing import TYPE_CHECKING

from coordinator.store import audit, nodes, pops
from coordinator.store.records import (
    AuditNote,
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


def by_id(token_id: str) -> Read[TokenRecord | None]:
    """Return an enrolment token, used or not, expired or not."""

    def read(connection: Connection) -> TokenRecord | None:
        row = connection.execute(
            "SELECT id, secret_sha256, pop_id, node_id, expires_unix_ms FROM tokens WHERE id = ?",
            (token_id,),
        ).fetchone()
        return None if row is None else TokenRecord(*row)

    return read


def create(token: TokenRecord, note: AuditNote | None = None) -> Write[TokenRecord]:
    """Store a token and return it; a name is chosen if its node has none.

    An unused older token of the name is void. A note's subject, when empty, becomes ``node/<id>``.
    NotFound if the POP is unknown; Conflict if the name is enrolled, or was removed less than a
    certificate's life ago; Overloaded.
    """

    def write(tx: Transaction) -> TokenRecord:
        pops.require(tx, token.pop_id)
        _check_room(tx)
        if token.node_id:
            named = token
            _check_name_is_free(tx, token.node_id)
            tx.change(
                "DELETE FROM tokens WHERE node_id = ? AND used_unix_ms IS NULL", (token.node_id,)
            )
        else:
            named = replace(token, node_id=_free_name(tx, token.pop_id))
        tx.change(
            "INSERT INTO tokens (id, secret_sha256, pop_id, node_id, expires_unix_ms)"
            " VALUES (?, ?, ?, ?, ?)",
            (named.id, named.secret_sha256, named.pop_id, named.node_id, named.expires_unix_ms),
        )
        if note is not None:
            audit.append(replace(note, subject=note.subject or f"node/{named.node_id}"))(tx)
        return named

    return write


def redeem(
    token_id: str,
    *,
    public_key_sha256: bytes,
    certificate_pem: bytes,
    serial: int,
    not_after_unix_ms: int,
    actor: str,
) -> Write[Redemption]:
    """Use a token whose secret the caller has proved, for the holder of one public key.

    The first call enrols the node and stores ``certificate_pem``; a later call with the same key
    gets the stored one while the token is valid; both are audited. Raises: TokenRefused, which is
    not audited.
    """

    def write(tx: Transaction) -> Redemption:
        found = tx.query(
            "SELECT pop_id, node_id, expires_unix_ms, used_unix_ms, public_key_sha256,"
            " certificate_pem FROM tokens WHERE id = ?",
            (token_id,),
        )
        if not found:
            raise TokenRefused(RefusalCause.UNKNOWN)
        ((pop_id, node_id, expires_unix_ms, used_unix_ms, used_by_sha256, issued_pem),) = found
        if expires_unix_ms <= tx.now_unix_ms:
            raise TokenRefused(RefusalCause.EXPIRED, node_id)
        exists = nodes.is_enrolled(tx, node_id)

        def noted(action: str) -> None:
            detail = f"token={token_id} public_key_sha256={public_key_sha256.hex()}"
            audit.append(AuditNote(actor, action, f"node/{node_id}", detail, proved=True))(tx)

        if used_unix_ms is not None:
            if not hmac.compare_digest(used_by_sha256, public_key_sha256):
                raise TokenRefused(RefusalCause.REUSED, node_id)
            if not exists:
                raise TokenRefused(RefusalCause.NODE_REMOVED, node_id)
            noted("enrolment.repeated")
            return Redemption(node_id, pop_id, issued_pem, again=True)
        if exists:
            raise TokenRefused(RefusalCause.NODE_EXISTS, node_id)
        tx.change(
            "UPDATE tokens SET used_unix_ms = ?, public_key_sha256 = ?, certificate_pem = ?"
            " WHERE id = ?",
            (tx.now_unix_ms, public_key_sha256, certificate_pem, token_id),
        )
        nodes.enrol(node_id, pop_id, serial, not_after_unix_ms)(tx)
        noted("enrolment.accepted")
        return Redemption(node_id, pop_id, certificate_pem, again=False)

    return write


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
            "SELECT 1 FROM tokens WHERE node_id = ? AND used_unix_ms IS NULL"
            " AND expires_unix_ms >= ?",
            (name, tx.now_unix_ms),
        )
        if not (reserved or nodes.is_enrolled(tx, name) or nodes.has_certificate(tx, name)):
            return name
        number += 1
