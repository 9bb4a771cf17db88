"""Stands in for this node's replicas: slots for adapters, loads that end when the test says so."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from agent.core.cold_start import ColdStart, ColdWay, Wanted
from agent.core.engine_status import EngineEndpoint
from tests.support.fleets import MODEL

if TYPE_CHECKING:
    from protos.domain.errors import EdgeForgeError

SOCKET = "/engine.sock"


class StandInResidents:
    """Holds ``there``; ``ways`` are how others get in, each in ``load_ms`` unless it is gated."""

    def __init__(
        self,
        *,
        there: set[str] | None = None,
        ways: Mapping[str, ColdWay] | None = None,
        load_ms: float = 0.0,
    ) -> None:
        self.there = {MODEL} if there is None else there
        self.ways = dict(ways or {})
        self.load_ms = load_ms
        #: Loads wait for it, if it is set to an event.
        self.gate: asyncio.Event | None = None
        self.error: EdgeForgeError | None = None
        self.loads: list[Wanted] = []
        self.entered: Counter[str] = Counter()
        #: Called when a request enters.
        self.on_enter: Callable[[], object] = bool

    def endpoint_for(self, model: str, adapter: str = "") -> EngineEndpoint | None:
        name = adapter or model
        if name not in self.there:
            return None
        return EngineEndpoint(name, SOCKET, None, None, False, True)

    def cold_path(self, model: str, adapter: str = "") -> ColdWay | None:
        return self.ways.get(adapter or model)

    async def make_resident(self, model: str, adapter: str = "") -> ColdStart:
        wanted = Wanted(model, adapter)
        self.loads.append(wanted)
        await asyncio.sleep(self.load_ms / 1_000)
        if self.gate is not None:
            await self.gate.wait()
        if self.error is not None:
            raise self.error
        self.there.add(wanted.name)
        path, residency, _ = self.ways[wanted.name]
        return ColdStart(path, residency, 1_000_000, self.load_ms + 1.0)

    def enter(self, endpoint: EngineEndpoint) -> None:
        self.entered[endpoint.model] += 1
        self.on_enter()

    def leave(self, endpoint: EngineEndpoint) -> None:
        self.entered[endpoint.model] -= 1
        assert self.entered[endpoint.model] >= 0, "left more often than entered"

    def resident(self) -> list[str]:
        return sorted(self.there)

    def loadable(self) -> Mapping[str, ColdWay]:
        return {name: way for name, way in self.ways.items() if name not in self.there}
