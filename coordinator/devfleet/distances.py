"""Round trips between the five sites: measured, but fitted for Lagos.

Source: Microsoft, "Azure network round-trip latency statistics": medians between the regions
nearest to the sites: Brazil South (GRU), Central India (BOM), UAE North (DXB), East US (IAD). The
table is not quite symmetric: the two directions of a pair differ by up to 2 ms, so both are kept.
Lagos has no region: its round trips are fitted from great-circle distance on all pairs of
the same table (``protos/domain/geo.py``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from coordinator.devfleet.sites import LAG
from protos.domain.geo import great_circle_km, prior_rtt_ms_p50

if TYPE_CHECKING:
    from protos.domain.resources import Pop

SOURCE = 'Microsoft, "Azure network round-trip latency statistics", medians'

#: From the first to the second.
_MEASURED_MS: dict[tuple[str, str], float] = {
    ("GRU", "BOM"): 331.0,
    ("GRU", "DXB"): 285.0,
    ("GRU", "IAD"): 119.0,
    ("BOM", "GRU"): 329.0,
    ("BOM", "DXB"): 40.0,
    ("BOM", "IAD"): 235.0,
    ("DXB", "GRU"): 284.0,
    ("DXB", "BOM"): 39.0,
    ("DXB", "IAD"): 184.0,
    ("IAD", "GRU"): 117.0,
    ("IAD", "BOM"): 234.0,
    ("IAD", "DXB"): 183.0,
}


def is_fitted(source: Pop, destination: Pop) -> bool:
    """Whether the round trip is fitted and not measured."""
    return LAG.id in (source.id, destination.id)


def round_trip_ms(source: Pop, destination: Pop) -> float:
    """Return the round trip from ``source`` to ``destination``, two different sites."""
    if not is_fitted(source, destination):
        return _MEASURED_MS[source.id, destination.id]
    distance_km = great_circle_km(
        source.latitude_deg,
        source.longitude_deg,
        destination.latitude_deg,
        destination.longitude_deg,
    )
    return round(prior_rtt_ms_p50(distance_km), 1)
