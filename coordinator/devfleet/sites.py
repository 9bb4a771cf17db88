"""The sites of a local fleet."""

from __future__ import annotations

from dataclasses import dataclass

from protos.domain.resources import Pop, Tier

IAD = Pop("IAD", Tier.CENTRAL, "US", "Ashburn, Virginia", 38.95, -77.45)
GRU = Pop("GRU", Tier.EDGE, "BR", "São Paulo", -23.43, -46.47)
DXB = Pop("DXB", Tier.REGIONAL, "AE", "Dubai", 25.25, 55.36)
BOM = Pop("BOM", Tier.EDGE, "IN", "Mumbai", 19.09, 72.87)
LAG = Pop("LAG", Tier.EDGE, "NG", "Lagos", 6.58, 3.32)


@dataclass(frozen=True, slots=True)
class Site:
    """One agent and its POP."""

    node: str
    pop: Pop


#: Without distances: the first server goes to IAD, the second to GRU.
TWO_SITES = (Site("iad-1", IAD), Site("gru-1", GRU))
#: Engines are assigned in this order; BOM and LAG get none.
FIVE_SITES = (*TWO_SITES, Site("dxb-1", DXB), Site("bom-1", BOM), Site("lag-1", LAG))
#: At most this many engines in five sites: an edge, a regional and a central one.
MAX_ENGINES = 3


def pops_of(pop_ids: set[str]) -> list[Pop]:
    """Return the POPs with these names."""
    return [site.pop for site in FIVE_SITES if site.pop.id in pop_ids]


def further_site(number: int) -> Site:
    """Return the site of a server beyond the second in a fleet of two sites."""
    return Site(f"iad-{number}", IAD)
