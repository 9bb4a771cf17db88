"""What every administrative call needs: the use cases, and who calls."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from coordinator.operations.actor import Actor
from coordinator.rpc.identity import peer_address, peer_identity

if TYPE_CHECKING:
    from coordinator.core.operators import Role
    from coordinator.operations.operations import Operations
    from coordinator.rpc.identity import Context, Identity

#: Returns the role of an operator. Raises: Forbidden for one that is not known.
RoleOf = Callable[["Identity"], "Role"]


class AdminServicerBase:
    """Base of the servicers, each with the calls about one kind of resource."""

    def __init__(self, operations: Operations, role_of: RoleOf) -> None:
        self._operations = operations
        self._role_of = role_of

    def _actor(self, context: Context) -> Actor:
        """Return the caller. Raises: Unauthenticated, Forbidden."""
        identity = peer_identity(context)
        return Actor(identity.kind, identity.name, self._role_of(identity), peer_address(context))
