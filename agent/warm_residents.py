"""Engines that hold their one model and load nothing for a request."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from protos.domain.errors import NoReplica

if TYPE_CHECKING:
    from agent.core.cold_start import ColdPath, ColdStart
    from agent.core.engine_status import EngineEndpoint
    from agent.replicas import Replicas
    from protos.domain.resources import Residency


class WarmResidents:
    """Implements ``Residents`` on replicas that know no adapters and no cold models."""

    def __init__(self, replicas: Replicas) -> None:
        self._replicas = replicas

    def endpoint_for(self, model: str, adapter: str = "") -> EngineEndpoint | None:
        return None if adapter else self._replicas.endpoint_for(model)

    def cold_path(self, model: str, adapter: str = "") -> tuple[ColdPath, Residency] | None:
        return None

    async def make_resident(self, model: str, adapter: str = "") -> ColdStart:
        raise NoReplica(f"{adapter or model!r} is not loaded on request here")

    def enter(self, endpoint: EngineEndpoint) -> None:
        pass

    def leave(self, endpoint: EngineEndpoint) -> None:
        pass

    def resident(self) -> list[str]:
        return self._replicas.ready_models()

    def loadable(self) -> Mapping[str, tuple[ColdPath, Residency]]:
        return {}
