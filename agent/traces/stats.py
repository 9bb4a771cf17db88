"""Counters of traces kept on disk and of traces exported."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from agent.core.samples import Sample, Samples, counter_samples

_TRACE_HELP = {
    "kept": "Traces written to disk.",
    "dropped": "Traces not kept: too many at once, or the disk did not take them.",
}
_EXPORT_HELP = {
    "exported_spans": "Spans that the OTLP receiver took.",
    "failed_spans": "Spans that the OTLP receiver did not take.",
    "dropped_traces": "Traces not exported because too many spans were waiting.",
    "withheld_traces": "Traces not exported because their requests are bound to other zones.",
}


@dataclass(slots=True)
class TraceStats:
    """Traces of finished requests on this host's disk."""

    kept: int = 0
    #: Not kept: too many were pending, or the disk did not take them.
    dropped: int = 0
    rows: int = 0
    kept_bytes: int = 0
    #: Why the last batch could not be written; empty when it was.
    failure: str = ""

    def samples(self, _now_mono_ms: float) -> Samples:
        """Yield the counters and what is on disk."""
        yield from counter_samples("edgeforge_traces_", self, _TRACE_HELP)
        yield Sample("edgeforge_traces_rows", "Traces on disk now.", float(self.rows))
        yield Sample(
            "edgeforge_traces_bytes", "Size of the traces on disk.", float(self.kept_bytes)
        )

    def status(self, _now_mono_ms: float) -> dict[str, object]:
        """Return all of it under ``traces``."""
        return {"traces": asdict(self)}


@dataclass(slots=True)
class ExportStats:
    """Traces offered to an OTLP receiver; all zero when none is configured."""

    exported_spans: int = 0
    #: The receiver did not take them.
    failed_spans: int = 0
    #: Not offered: too many spans were waiting.
    dropped_traces: int = 0
    #: Not offered: bound to zones of which the receiver's is none.
    withheld_traces: int = 0

    def samples(self, _now_mono_ms: float) -> Samples:
        """Yield the counters."""
        yield from counter_samples("edgeforge_otlp_", self, _EXPORT_HELP)

    def status(self, _now_mono_ms: float) -> dict[str, object]:
        """Return all of it under ``trace_export``."""
        return {"trace_export": asdict(self)}
