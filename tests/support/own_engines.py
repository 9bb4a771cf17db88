"""Stands in for this node's engines: what is resident and loadable is what the test says."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from agent.core.engine_status import EngineEndpoint
from protos.domain.load_term import ColdWay


def always(_name: str) -> bool:
    return True


class StandInEngines:
    """Resident is what ``resident`` says by name; ``loadable`` are the ways of others.

    Counts who has entered and not left.
    """

    def __init__(self, resident: Callable[[str], bool] = always) -> None:
        self.resident = resident
        #: Names that are resident besides.
        self.there: set[str] = set()
        self.loadable: dict[str, ColdWay] = {}
        self.entered: Counter[str] = Counter()

    def is_resident(self, model: str, adapter: str = "") -> bool:
        return self._holds(adapter or model)

    def cold_way(self, model: str, adapter: str = "") -> ColdWay | None:
        return self.loadable.get(adapter or model)

    def enter(self, model: str, adapter: str = "") -> EngineEndpoint | None:
        name = adapter or model
        if not self._holds(name):
            return None
        self.entered[name] += 1
        return EngineEndpoint(name, "/engine.sock", None, None, False, True)

    def _holds(self, name: str) -> bool:
        return name in self.there or self.resident(name)

    def leave(self, endpoint: EngineEndpoint) -> None:
        self.entered[endpoint.model] -= 1
        assert self.entered[endpoint.model] >= 0, "left more often than entered"
