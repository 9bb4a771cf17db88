"""Has each node's peer address dialled by another agent, and keeps the results."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from coordinator.core.peer_dials import Dial, PeerDials
from protos.domain.addresses import join_address
from protos.domain.errors import EdgeForgeError
from protos.domain.plain_text import escaped

if TYPE_CHECKING:
    from coordinator.core.peer_dials import DialResult
    from coordinator.store.store import Store

_log = logging.getLogger(__name__)

_STEP_S = 1.0
_MAX_FAILURE_CHARS = 200

#: Have one node dial another's peer address; return what failed, empty when it was reached.
#: Raises: EdgeForgeError when the node cannot be asked.
DialPeer = Callable[[Dial], Awaitable[str]]


class PeerDialer:
    """Runs ``PeerDials`` over the listed nodes; on one event loop."""

    def __init__(
        self,
        store: Store,
        *,
        connected: Callable[[], list[str]],
        dial: DialPeer,
        now_mono_ms: Callable[[], float],
    ) -> None:
        self._store = store
        self._connected = connected
        self._dial = dial
        self._now_mono_ms = now_mono_ms
        self._dials = PeerDials()

    def result(self, node_id: str) -> DialResult | None:
        """Return the last result of a node's present peer address."""
        return self._dials.result(node_id)

    def age_s(self, result: DialResult) -> float:
        """Return how long ago a dial ended."""
        return (self._now_mono_ms() - result.at_mono_ms) / 1_000

    @property
    def failing(self) -> int:
        """How many listed nodes have a peer address whose last dial failed."""
        results = map(self._dials.result, self._store.view().nodes)
        return sum(one is not None and bool(one.failure) for one in results)

    async def run(self) -> None:
        """Order dials until cancelled."""
        async with asyncio.TaskGroup() as group:
            while True:
                for order in self._due():
                    group.create_task(self._run_one(order))
                await asyncio.sleep(_STEP_S)

    def _due(self) -> list[Dial]:
        nodes, now_mono_ms = self._store.view().nodes, self._now_mono_ms()
        addresses = {
            node.id: (node.peer_host, node.peer_port) for node in nodes.values() if node.peer_host
        }
        self._dials.list_addresses(addresses, now_mono_ms)
        connected = {one: nodes[one].pop_id for one in self._connected() if one in nodes}
        return self._dials.due(connected, now_mono_ms, serving=connected)

    async def _run_one(self, order: Dial) -> None:
        failure: str | None
        try:
            failure = escaped(await self._dial(order))[:_MAX_FAILURE_CHARS]
        except EdgeForgeError as error:
            _log.debug("dial not ordered by=%s node=%s: %s", order.by, order.node_id, error)
            failure = None
        except Exception:
            _log.exception("dial failed by=%s node=%s", order.by, order.node_id)
            failure = None
        result = self._dials.done(order, failure, self._now_mono_ms())
        if result is not None and result.failure:
            _log.warning(
                "peers cannot reach node=%s address=%s dialled_by=%s: %s; set peer.advertise_host"
                " and peer.advertise_port of that agent to what other hosts can dial",
                order.node_id,
                join_address(*order.address),
                order.by,
                result.failure,
            )
