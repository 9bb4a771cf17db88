"""The small messages of the fleet stream, as the bytes that are written."""

from __future__ import annotations

from protos.v1 import fleet_pb2


def beat_bytes(unix_ms: int) -> bytes:
    """Return a Beat."""
    beat = fleet_pb2.Beat(unix_ms=unix_ms)
    return fleet_pb2.CoordinatorMessage(beat=beat).SerializeToString()


def go_away_bytes(reason: str, retry_after_ms: int) -> bytes:
    """Return a GoAway."""
    go_away = fleet_pb2.GoAway(reason=reason, retry_after_ms=retry_after_ms)
    return fleet_pb2.CoordinatorMessage(go_away=go_away).SerializeToString()
