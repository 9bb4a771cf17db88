"""Makes the configured export of traces; OpenTelemetry is imported only when one is configured."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from protos.domain.errors import ConfigInvalid

if TYPE_CHECKING:
    from agent.config import TelemetryConfig
    from agent.traces.stats import ExportStats
    from protos.domain.trace import Trace


class TraceExport(Protocol):
    """Accepts traces on the keeper's thread, without blocking."""

    stats: ExportStats

    def offer(self, trace: Trace) -> None:
        """Queue ``trace`` to be sent, or drop it and count that."""

    def close(self) -> None:
        """Send queued spans, for a bounded time."""


def make_export(
    config: TelemetryConfig, *, node_id: str, pop_id: str, version: str
) -> TraceExport | None:
    """Return the export that ``[telemetry]`` configures, or None. Raises: ConfigInvalid."""
    if not config.otlp_endpoint:
        return None
    try:
        from agent.traces.otlp import OtlpExport
    except ImportError as error:
        raise ConfigInvalid(
            [f"telemetry.otlp_endpoint: OpenTelemetry is not installed ({error})"],
            "install packaging/requirements/otlp.txt (docs/OPERATIONS.md), or leave "
            "telemetry.otlp_endpoint empty",
        ) from error
    return OtlpExport(config, node_id, pop_id, version)
