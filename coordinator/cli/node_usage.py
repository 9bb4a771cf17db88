"""What ``edgeforge node`` and ``edgeforge status`` say of a host's records of usage."""

from __future__ import annotations

from protos.v1 import admin_pb2

#: Older than this, records wait for a reason: agents ship each second, in a large fleet each ten.
_LATE_S = 120.0


def usage_of(info: admin_pb2.NodeInfo) -> str:
    """Return how far a host's records are counted."""
    if not info.HasField("usage"):
        return "none kept" if info.connected and info.last_status_age_s >= 0 else "-"
    usage = info.usage
    parts = []
    if usage.waiting or usage.older_spools:
        parts.append(f"{usage.waiting} wait, oldest {_age(usage.oldest_s)}")
    if usage.older_spools:
        parts.append(f"{usage.older_spools} earlier spools")
    if usage.refused:
        parts.append(f"{usage.refused} refused")
    if usage.quarantined:
        parts.append(f"{usage.quarantined} in quarantine")
    return ", ".join(parts) or "counted"


def usage_problem_of(info: admin_pb2.NodeInfo) -> str:
    """Return what an operator has to see to; empty: nothing."""
    if not info.HasField("usage"):
        if info.last_status_age_s < 0:
            return ""
        return "not billed: its version keeps no records, upgrade it"
    usage = info.usage
    problems = []
    if usage.trouble:
        problems.append(usage.trouble)
    if usage.oldest_s > _LATE_S:
        problems.append(f"not counted for {_age(usage.oldest_s)}")
    if usage.quarantined:
        problems.append(f"{usage.quarantined} files in quarantine on its disk")
    return "; ".join(problems)


def _age(seconds: float) -> str:
    for unit, name in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * unit:
            return f"{seconds / unit:.0f} {name}"
    return f"{seconds:.0f} s"
