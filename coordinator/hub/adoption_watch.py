"""Looks at every tracked repository in turn, and does what is due."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from coordinator.core.operators import Role
from coordinator.operations.actor import Actor
from protos.domain.errors import EdgeForgeError

if TYPE_CHECKING:
    from coordinator.operations.operations import Operations

_log = logging.getLogger(__name__)

ACTOR = Actor("coordinator", "adoption", Role.OPERATOR, "")


class AdoptionWatch:
    """One task of the coordinator."""

    def __init__(self, operations: Operations, *, poll_s: float) -> None:
        self._operations = operations
        self._poll_s = poll_s

    async def run(self) -> None:
        """Look in turn, until cancelled."""
        while True:
            await asyncio.sleep(self._poll_s)
            await self.look_at_all()

    async def look_at_all(self) -> None:
        """Advance every track once; one that fails does not hold up the others."""
        for tracked in await self._operations.adoption.list_all(ACTOR):
            upstream = tracked.track.upstream
            try:
                await self._operations.adoption.advance(ACTOR, upstream)
            except EdgeForgeError as error:
                _log.warning("track not looked at upstream=%s: %s", upstream, error)
            except Exception:
                _log.exception("track not looked at upstream=%s", upstream)
