"""The parts that offer status, metrics or readiness, each registered once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from agent.core.samples import MetricSource, ReadinessSource, Samples, StatusSource


class AgentStatus:
    """Gathers what registered parts offer. Parts are read when asked for, never per request."""

    def __init__(self, now_mono_ms: Callable[[], float]) -> None:
        self._now_mono_ms = now_mono_ms
        self._parts: list[object] = []

    def register(self, *parts: MetricSource | StatusSource | ReadinessSource) -> None:
        """Add parts. Raises: ValueError for one that is registered already."""
        for part in parts:
            if any(part is one for one in self._parts):
                raise ValueError(f"{type(part).__name__} is registered twice")
            self._parts.append(part)

    def missing(self) -> list[str]:
        """Return what keeps this agent from being ready; empty when it is ready."""
        sources = (part for part in self._parts if isinstance(part, ReadinessSource))
        return [text for source in sources for text in source.missing()]

    def status(self) -> dict[str, object]:
        """Return every part's piece as one JSON object. Raises: ValueError when two parts clash."""
        now_mono_ms, missing = self._now_mono_ms(), self.missing()
        whole: dict[str, object] = {"ready": not missing, "missing": missing}
        for part in self._parts:
            if isinstance(part, StatusSource):
                _merge(whole, part.status(now_mono_ms))
        return whole

    def samples(self) -> Samples:
        """Yield every part's metrics."""
        now_mono_ms = self._now_mono_ms()
        for part in self._parts:
            if isinstance(part, MetricSource):
                yield from part.samples(now_mono_ms)


def _merge(whole: dict[str, Any], piece: Mapping[str, object]) -> None:
    for key, value in piece.items():
        if key not in whole:
            whole[key] = dict(value) if isinstance(value, Mapping) else value
        elif isinstance(value, Mapping) and isinstance(whole[key], dict):
            _merge(whole[key], value)
        else:
            raise ValueError(f"two parts offer the status key {key!r}")
