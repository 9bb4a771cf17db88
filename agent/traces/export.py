"""Whether traces are exported, and through what: nothing is imported for it unless it is asked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from protos.domain.errors import ConfigInvalid

if TYPE_CHECKING:
    from agent.config import TelemetryConfig
    from protos.domain.trace import Trace


@dataclass(slots=True)
class ExportStats:
    """Plain counters, read by the metrics room."""

    exported_spans: int = 0
    #: The receiver did not take them.
    failed_spans: int = 0
    #: Traces not offered to it: too many spans were waiting.
    dropped_traces: int = 0


class TraceExport(Protocol):
    """Takes traces on the thread that keeps them, and never waits."""

    stats: ExportStats

    def offer(self, trace: Trace) -> None:
        """Queue ``trace`` to be sent, or drop and count it."""

    def close(self) -> None:
        """Send what waits, for a bounded time."""


def make_export(
    config: TelemetryConfig, *, node_id: str, pop_id: str, version: str
) -> TraceExport | None:
    """Return what ``[telemetry]`` asks for. Raises: ConfigInvalid when it cannot be had."""
    if not config.otlp_endpoint:
        return None
    try:
        from agent.traces.otlp import OtlpExport
    except ImportError as error:
        raise ConfigInvalid(
            [f"telemetry.otlp_endpoint: OpenTelemetry is not installed ({error})"],
            "pip install 'edgeforge[agent,otlp]', or leave telemetry.otlp_endpoint empty",
        ) from error
    return OtlpExport(config, node_id, pop_id, version)
