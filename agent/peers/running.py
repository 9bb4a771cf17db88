"""What is being served for other agents, and what a changed table ends of it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from agent.core.peer_request import PeerRequest, check_peer_request
from agent.core.samples import Sample, Samples
from protos.domain.errors import EdgeForgeError

if TYPE_CHECKING:
    from agent.relay.connections import Connection
    from agent.relay.server import ServerConnection
    from protos.domain.fleet_view import FleetView

_log = logging.getLogger(__name__)

#: How long a revoked request may run on while its node is still in the table: the asking agent has
#: the same table and ends it with the reason; it is cut here only if that does not happen.
_REVOKED_GRACE_S = 1.0
#: Removed nodes that are named in one line of the log.
_MAX_LOGGED = 5


def cut_removed(connections: Iterable[Connection], view: FleetView) -> None:
    """Cut the connections of nodes that are not in the table.

    A connection that is cut cuts its engine request.
    """
    gone = [one for one in connections if one.context not in view.nodes]
    for connection in gone:
        connection.abort()
    if gone:
        names = sorted({str(one.context) for one in gone})[:_MAX_LOGGED]
        _log.warning("connections cut connections=%d removed_nodes=%s", len(gone), names)


class RunningForPeers:
    """The requests of other agents in progress at the node ``here``; on one event loop."""

    def __init__(self, here: str, view: Callable[[], FleetView]) -> None:
        self._here = here
        self._view = view
        #: By the connection that each came on.
        self._running: dict[ServerConnection, PeerRequest] = {}
        #: Requests that were cut.
        self.revoked = 0

    def add(self, client: ServerConnection, asked: PeerRequest) -> None:
        """Add a request that has begun."""
        self._running[client] = asked

    def remove(self, client: ServerConnection) -> None:
        """Remove the request of ``client``, which has ended."""
        del self._running[client]

    def samples(self, _now_mono_ms: float) -> Samples:
        """Yield how many were cut."""
        yield Sample(
            "edgeforge_peer_revoked",
            "Requests of other agents that were cut because the table no longer allowed them.",
            float(self.revoked),
            counter=True,
        )

    def table_changed(self) -> None:
        """Cut what the table no longer allows, after a moment."""
        revoked = [(c, asked) for c, asked in self._running.items() if self._refusal(asked)]
        if revoked:
            asyncio.get_running_loop().call_later(_REVOKED_GRACE_S, self._cut_revoked, revoked)

    def _refusal(self, asked: PeerRequest) -> str:
        """Return why the table no longer allows a request; empty if it does. Hot."""
        try:
            check_peer_request(asked, self._here, self._view())
        except EdgeForgeError as error:
            return error.message
        return ""

    def _cut_revoked(self, revoked: list[tuple[ServerConnection, PeerRequest]]) -> None:
        """Cut the requests of ``revoked`` that the asking agents have not ended by themselves."""
        left = [(c, asked) for c, asked in revoked if self._running.get(c) is asked]
        for client, asked in left:
            if refusal := self._refusal(asked):
                self.revoked += 1
                _log.warning("request cut node=%s reason=%s", asked.asking_node, refusal)
                client.abort()
