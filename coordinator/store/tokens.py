"""Enrolment tokens: single use, an hour of validity, and the same reply to the same key."""

from __future__ import annotations

import hmac
from dataclasses import replace
from typing import TYPE_CHECKING

from coordinator.store import nodes
from coordinator.store.records import (
    AuditNote,
    Redemption,
    RefusalCause,
    TokenRecord,
    TokenRefused,
)
from coordinator.store.registry import require_pop
from protos.domain.errors import Conflict, Overloaded

if TYPE_CHECKING:
    import sqlite3

    from coordinator.store.transaction import Transaction

#: Unused tokens that may be valid at once.
MAX_LIVE_TOKENS = 10_000
#: How long an expired token is kept, so that the audit can name it.
_REMEMBERED_MS = 7 * 24 * 3_600_000


def read(connection: sqlite3.Connection, token_id: str) -> TokenRecord | None:
    """Return a token, used or not, expired or not."""
    row = connection.execute(
        "SELECT id, secret_sha256, pop_id, node_id, expires_unix_ms FROM tokens WHERE id = ?",
        (token_id,),
    ).fetchone()
    return None if row is None else TokenRecord(*row)


def create(tx: Transaction, token: TokenRecord, note: AuditNote | None) -> TokenRecord:
    """Store a token, choosing its node's name if empty; an unused older one of the name is void."""
    require_pop(tx, token.pop_id)
    tx.execute("DELETE FROM tokens WHERE expires_unix_ms < ?", (tx.now_unix_ms - _REMEMBERED_MS,))
    (live,) = tx.execute(
        "SELECT count(*) FROM tokens WHERE used_unix_ms IS NULL AND expires_unix_ms >= ?",
        (tx.now_unix_ms,),
    ).fetchone()
    if live >= MAX_LIVE_TOKENS:
        raise Overloaded(
            f"{live} enrolment tokens wait to be used", "wait until some have been or expire"
        )
    if token.node_id:
        _check_name_is_free(tx, token.node_id)
        tx.execute(
            "DELETE FROM tokens WHERE node_id = ? AND used_unix_ms IS NULL", (token.node_id,)
        )
    else:
        token = replace(token, node_id=_free_name(tx, token.pop_id))
    tx.execute(
        "INSERT INTO tokens (id, secret_sha256, pop_id, node_id, expires_unix_ms)"
        " VALUES (?, ?, ?, ?, ?)",
        (token.id, token.secret_sha256, token.pop_id, token.node_id, token.expires_unix_ms),
    )
    if note is not None:
        tx.note(replace(note, subject=note.subject or f"node/{token.node_id}"))
    return token


def redeem(
    tx: Transaction,
    token_id: str,
    *,
    public_key_sha256: bytes,
    certificate_pem: bytes,
    serial: int,
    not_after_unix_ms: int,
    actor: str,
) -> Redemption:
    """Use a token once; the same public key gets the same certificate again while it is valid."""
    row = tx.execute(
        "SELECT pop_id, node_id, expires_unix_ms, used_unix_ms, public_key_sha256, certificate_pem"
        " FROM tokens WHERE id = ?",
        (token_id,),
    ).fetchone()
    if row is None:
        raise TokenRefused(RefusalCause.UNKNOWN)
    pop_id, node_id, expires_unix_ms, used_unix_ms, used_by_sha256, issued_pem = row
    if expires_unix_ms <= tx.now_unix_ms:
        raise TokenRefused(RefusalCause.EXPIRED, node_id)
    exists = nodes.node_record_exists(tx, node_id)
    detail = f"token={token_id} public_key_sha256={public_key_sha256.hex()}"
    if used_unix_ms is not None:
        if not hmac.compare_digest(used_by_sha256, public_key_sha256):
            raise TokenRefused(RefusalCause.REUSED, node_id)
        if not exists:
            raise TokenRefused(RefusalCause.NODE_REMOVED, node_id)
        tx.note(AuditNote(actor, "enrolment.repeated", f"node/{node_id}", detail))
        return Redemption(node_id, pop_id, issued_pem, again=True)
    if exists:
        raise TokenRefused(RefusalCause.NODE_EXISTS, node_id)
    tx.execute(
        "UPDATE tokens SET used_unix_ms = ?, public_key_sha256 = ?, certificate_pem = ?"
        " WHERE id = ?",
        (tx.now_unix_ms, public_key_sha256, certificate_pem, token_id),
    )
    nodes.enrol(tx, node_id, pop_id, serial, not_after_unix_ms)
    tx.note(AuditNote(actor, "enrolment.accepted", f"node/{node_id}", detail))
    return Redemption(node_id, pop_id, certificate_pem, again=False)


def _check_name_is_free(tx: Transaction, node_id: str) -> None:
    if nodes.node_record_exists(tx, node_id):
        raise Conflict(
            f"node {node_id!r} is enrolled",
            "choose another name, or remove that node and choose another name",
            retryable=False,
        )
    if _has_certificate(tx, node_id):
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
        if not (reserved or nodes.node_record_exists(tx, name) or _has_certificate(tx, name)):
            return name
        number += 1


def _has_certificate(tx: Transaction, node_id: str) -> bool:
    return tx.exists(
        "SELECT 1 FROM certificates WHERE node_id = ? AND not_after_unix_ms >= ?",
        (node_id, tx.now_unix_ms),
    )
