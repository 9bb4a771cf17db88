"""Distance, and the round trip to expect over it until it has been measured."""

from __future__ import annotations


def great_circle_km(
    latitude_a_deg: float, longitude_a_deg: float, latitude_b_deg: float, longitude_b_deg: float
) -> float:
    """Return the distance over the earth's surface."""
    raise NotImplementedError


def prior_rtt_ms_p50(distance_km: float) -> float:
    """Return the median round trip to expect over ``distance_km``."""
    raise NotImplementedError


def prior_rtt_ms_p99(distance_km: float) -> float:
    """Return a round trip that nearly all over ``distance_km`` stay under."""
    raise NotImplementedError
