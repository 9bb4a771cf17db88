"""Operators. A row is never removed: a revoked name is shown, and can be invited again."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from coordinator.core.operators import Operator, Role, leaves_no_admin
from coordinator.store.facts import OperatorRow
from protos.domain.errors import Conflict, NotFound

if TYPE_CHECKING:
    from coordinator.store.transaction import Transaction, Write


def put(operator: Operator) -> Write[None]:
    """Write an operator; one of this name that was there has another key from then on."""

    def write(tx: Transaction) -> None:
        tx.put_fact(OperatorRow(operator))

    return write


def note_certificate(name: str, serial: int, not_after_unix_ms: int) -> Write[None]:
    """Record a renewed certificate. NotFound if the operator was revoked meanwhile."""

    def write(tx: Transaction) -> None:
        renewed = replace(
            require(tx, name),
            certificate_serial=serial,
            certificate_not_after_unix_ms=not_after_unix_ms,
        )
        tx.put_fact(OperatorRow(renewed))

    return write


def revoke(name: str) -> Write[None]:
    """Revoke an operator, its invitation, and the unused tokens that it has made.

    NotFound if there is neither operator nor invitation; Conflict if it is the last admin.
    """

    def write(tx: Transaction) -> None:
        invited = tx.change(
            "DELETE FROM tokens WHERE purpose = 'operator' AND name = ? AND used_unix_ms IS NULL",
            (name,),
        )
        operator = find(tx, name) if invited else require(tx, name)
        if operator is None:
            return
        _check_an_admin_stays(tx, operator)
        tx.put_fact(OperatorRow(replace(operator, revoked_unix_ms=tx.now_unix_ms)))
        _void_tokens_of(tx, name)

    return write


def set_role(name: str, role: Role) -> Write[None]:
    """Give an operator another role; one that is no admin loses the unused tokens it has made.

    NotFound; Conflict if it is the last admin.
    """

    def write(tx: Transaction) -> None:
        operator = require(tx, name)
        if role is not Role.ADMIN:
            _check_an_admin_stays(tx, operator)
            _void_tokens_of(tx, name)
        tx.put_fact(OperatorRow(replace(operator, role=role)))

    return write


def require(tx: Transaction, name: str) -> Operator:
    """Return an operator that is not revoked. Raises: NotFound."""
    operator = find(tx, name)
    if operator is None:
        raise NotFound(f"there is no operator {name!r}", "`edgeforge operator ls` shows all")
    return operator


def find(tx: Transaction, name: str) -> Operator | None:
    """Return an operator, None if it was never there or is revoked."""
    row = tx.fact(OperatorRow, name)
    return None if row is None or row.operator.revoked else row.operator


def _check_an_admin_stays(tx: Transaction, operator: Operator) -> None:
    """Raises: Conflict."""
    if operator.role is not Role.ADMIN:
        return
    everybody = (row.operator for row in tx.facts(OperatorRow))
    if leaves_no_admin(everybody, operator.name, tx.now_unix_ms):
        raise Conflict(
            f"operator {operator.name!r} is the last admin",
            "make another one first: edgeforge operator invite NAME --role admin",
            retryable=False,
        )


def _void_tokens_of(tx: Transaction, name: str) -> None:
    tx.change(
        "DELETE FROM tokens WHERE created_by = ? AND used_unix_ms IS NULL", (f"operator/{name}",)
    )
