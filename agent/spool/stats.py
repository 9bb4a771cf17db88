"""What the spool shows in status, metrics and readiness."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field

from agent.core.samples import Sample, Samples, counter_samples

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
    #: Longest time from a record to its being on disk, since the start.
    durable_ms_max: float = 0.0
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
    suspect_segments: list[str] = field(default_factory=list)
    quarantined: list[str] = field(default_factory=list)

    def samples(self, _now_mono_ms: float) -> Samples:
        """Yield the counters and what is on disk."""
        yield from counter_samples("edgeforge_usage_", self, _HELP)
        for name, text, value in (
            ("used_bytes", "Bytes of the usage folder.", self.used_bytes),
            ("quota_bytes", "Bytes that the usage folder may take.", self.quota_bytes),
            ("waiting", "Records of this run not counted by the coordinator yet.", self.waiting),
            ("older_spools", "Spools of earlier runs not delivered yet.", self.older_spools),
            ("full", "1 while billable requests are refused for lack of space.", bool(self.full)),
            (
                "durable_ms_max",
                "Longest time from a record to its being on disk.",
                self.durable_ms_max,
            ),
        ):
            yield Sample(f"edgeforge_usage_{name}", text, float(value))

    def status(self, _now_mono_ms: float) -> dict[str, object]:
        """Return all of it under ``usage``."""
        return {"usage": asdict(self)}

    def missing(self) -> list[str]:
        """Name what keeps this agent from serving billable requests."""
        return [f"usage records have no space: {self.full}"] if self.full else []
