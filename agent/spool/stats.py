"""What the spool shows in status, metrics and readiness."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import asdict, dataclass, field

from agent.core.samples import HistogramSample, Sample, Samples, counter_samples

BOUNDS_MS = (1.0, 2.0, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 1_000.0)
_HELP = {
    "records": "Records of requests written to the spool.",
    "groups": "Writes to disk, each of all the records that were waiting.",
    "refused": "Requests refused because there was no space for their record.",
    "shed": "Valid requests refused for load, limits or lack of a replica.",
    "delivered": "Records, counters and damaged numbers that the coordinator has counted.",
    "damaged": "Records that could not be read from disk; kept in quarantine.",
    "lost_ends": "Records of an earlier run of which nothing says how their answer ended.",
    "failovers": "Files that were given up because the disk failed.",
}


@dataclass(slots=True)
class SpoolStats:
    """Records of usage since the agent's start."""

    records: int = 0
    groups: int = 0
    refused: int = 0
    shed: int = 0
    delivered: int = 0
    damaged: int = 0
    lost_ends: int = 0
    failovers: int = 0
    used_bytes: int = 0
    quota_bytes: int = 0
    #: Spools of earlier runs that are still to be delivered.
    older_spools: int = 0
    #: Records of this run that the coordinator has not counted yet.
    waiting: int = 0
    #: Why billable requests are refused; empty: they are not.
    full: str = ""
    #: Why records cannot be stored, and why they cannot be delivered; empty: they can.
    disk_failure: str = ""
    delivery_failure: str = ""
    spool_id: str = ""
    #: Everything that this run wrote before it is counted.
    counted_mono_ms: float = 0.0
    #: When the oldest record of earlier runs began; until it was read, this run.
    older_since_mono_ms: float = 0.0
    #: Writes by how long they took: up to each of ``BOUNDS_MS``, and longer.
    write_counts: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS_MS) + 1))
    write_ms_total: float = 0.0
    suspect_segments: list[str] = field(default_factory=list)
    quarantined: list[str] = field(default_factory=list)

    def committed(self, records: int, took_ms: float) -> None:
        """A group is on disk."""
        self.records += records
        self.groups += 1
        self.write_counts[bisect_left(BOUNDS_MS, took_ms)] += 1
        self.write_ms_total += took_ms

    def oldest_s(self, now_mono_ms: float) -> float:
        """Return the age of the oldest record that is not counted, at most; 0: there is none."""
        own_ms = now_mono_ms - self.counted_mono_ms if self.waiting else 0.0
        older_ms = now_mono_ms - self.older_since_mono_ms if self.older_spools else 0.0
        return max(own_ms, older_ms) / 1_000

    def samples(self, now_mono_ms: float) -> Samples:
        """Yield the counters and what is on disk."""
        yield from counter_samples("edgeforge_usage_", self, _HELP)
        for name, text, value in (
            ("used_bytes", "Bytes of the usage folder.", self.used_bytes),
            ("quota_bytes", "Bytes that the usage folder may take.", self.quota_bytes),
            ("waiting", "Records of this run not counted by the coordinator yet.", self.waiting),
            ("older_spools", "Spools of earlier runs not delivered yet.", self.older_spools),
            (
                "oldest_seconds",
                "Age of the oldest record not counted by the coordinator, at most; 0: none.",
                self.oldest_s(now_mono_ms),
            ),
            ("quarantined", "Files of bytes that could not be read.", len(self.quarantined)),
            ("full", "1 while billable requests are refused for lack of space.", bool(self.full)),
        ):
            yield Sample(f"edgeforge_usage_{name}", text, float(value))
        yield HistogramSample(
            "edgeforge_usage_write_ms",
            "Time that one write took to be on disk, of all the records that were waiting.",
            BOUNDS_MS,
            tuple(self.write_counts),
            self.write_ms_total,
        )

    def status(self, now_mono_ms: float) -> dict[str, object]:
        """Return all of it under ``usage``."""
        usage = asdict(self)
        for internal in (
            "write_counts",
            "write_ms_total",
            "counted_mono_ms",
            "older_since_mono_ms",
        ):
            del usage[internal]
        usage["oldest_s"] = self.oldest_s(now_mono_ms)
        return {"usage": usage}

    def missing(self) -> list[str]:
        """Name what keeps this agent from serving billable requests."""
        return [f"usage records have no space: {self.full}"] if self.full else []
