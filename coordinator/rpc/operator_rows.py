"""Operators' certificates against their rows, at every call."""

from __future__ import annotations

from typing import TYPE_CHECKING

from protos.domain.errors import Forbidden

if TYPE_CHECKING:
    from coordinator.core.operators import Role
    from coordinator.rpc.identity import Identity
    from coordinator.store.store import Store


class OperatorRows:
    """Reads memory only: a revocation or another role applies to the next call."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def is_known(self, identity: Identity) -> bool:
        """Return whether the holder of a verified certificate is an operator now."""
        operator = self._store.operators().get(identity.name)
        return operator is not None and operator.admits(identity.public_key_sha256)

    def role_of(self, identity: Identity) -> Role:
        """Return the present role of an operator. Raises: Forbidden."""
        operator = self._store.operators().get(identity.name)
        if operator is None or not operator.admits(identity.public_key_sha256):
            raise Forbidden(f"{identity} is no operator of this fleet", UNKNOWN_HINT)
        return operator.role


#: What the holder of a certificate that is refused should do.
UNKNOWN_HINT = (
    "it was revoked, or never logged in here: ask an admin to invite it with `edgeforge operator"
    " invite`; if there is none left, on the coordinator's host:"
    " edgeforge-coordinator operator reset NAME"
)
