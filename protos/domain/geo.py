"""Distance, and the round trip to expect over it until it has been measured.

Source: medians between 2,350 ordered pairs of 50 regions, Microsoft, "Azure network round-trip
latency statistics". Fitted against great-circle distance by least absolute log ratio, two slopes
with the kink at 4,000 km (``tests/bench/fit_rtt_prior.py``): land routes have more detours
than ocean cables. The estimate only ranks targets until the first probe answers.
"""

from __future__ import annotations

from math import asin, cos, radians, sin, sqrt

#: Mean radius. Source: IUGG, R1.
EARTH_RADIUS_KM = 6_371.0088

_BASE_MS = 4.5
_KINK_KM = 4_000.0
_NEAR_MS_PER_KM = 0.019
_FAR_MS_PER_KM = 0.0135
#: P99 of measured median over estimate, across the pairs.
_P99_RATIO = 2.0

#: Hosts of one POP share a switch or two; assumed, since the source has no such pair.
_SAME_SITE_RTT_MS = 0.5
_SAME_SITE_KM = 1.0


def great_circle_km(
    latitude_a_deg: float, longitude_a_deg: float, latitude_b_deg: float, longitude_b_deg: float
) -> float:
    """Return the distance over the earth's surface."""
    latitude_a, latitude_b = radians(latitude_a_deg), radians(latitude_b_deg)
    half_latitude = sin((latitude_b - latitude_a) / 2)
    half_longitude = sin(radians(longitude_b_deg - longitude_a_deg) / 2)
    chord = half_latitude**2 + cos(latitude_a) * cos(latitude_b) * half_longitude**2
    return 2 * EARTH_RADIUS_KM * asin(min(1.0, sqrt(chord)))


def prior_rtt_ms_p50(distance_km: float) -> float:
    """Return the expected median round trip over ``distance_km``."""
    if distance_km < _SAME_SITE_KM:
        return _SAME_SITE_RTT_MS
    near_km = min(distance_km, _KINK_KM)
    return _BASE_MS + _NEAR_MS_PER_KM * near_km + _FAR_MS_PER_KM * (distance_km - near_km)


def prior_rtt_ms_p99(distance_km: float) -> float:
    """Return the expected P99 of the round trip over ``distance_km``."""
    return _P99_RATIO * prior_rtt_ms_p50(distance_km)
