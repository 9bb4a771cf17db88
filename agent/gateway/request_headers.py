"""The two ``x-edgeforge-*`` headers that clients may send; all others are ignored."""

from __future__ import annotations

import math
from collections.abc import Mapping

from protos.domain.errors import InvalidRequest
from protos.domain.ids import check_zone

BUDGET = b"x-edgeforge-ttft-budget-ms"
RESIDENCY = b"x-edgeforge-residency"

#: A longer budget is accepted and limited to this.
_MAX_BUDGET_MS = 365.0 * 86_400_000.0
_MAX_ZONES = 64


def parse_budget_ms(headers: Mapping[bytes, bytes], default_ms: float) -> float:
    """Return the first-token budget of this request. Raises: InvalidRequest."""
    given = headers.get(BUDGET)
    if given is None:
        return float(default_ms)
    name = BUDGET.decode()
    try:
        budget_ms = float(given)
    except ValueError:
        budget_ms = math.nan
    if math.isnan(budget_ms) or budget_ms <= 0.0:
        raise InvalidRequest(
            f"{name} is {given[:40].decode('latin-1')!r}",
            "give milliseconds above 0, such as 150",
            param=name,
        )
    return min(budget_ms, _MAX_BUDGET_MS)


def parse_zones(headers: Mapping[bytes, bytes]) -> frozenset[str] | None:
    """Return the zones that this request is limited to, or None. Raises: InvalidRequest."""
    given = headers.get(RESIDENCY)
    if given is None:
        return None
    zones = [zone.strip() for zone in given.decode("latin-1").split(",")]
    if len(zones) > _MAX_ZONES:
        raise InvalidRequest(f"{RESIDENCY.decode()} names more than {_MAX_ZONES} zones")
    return frozenset(check_zone(zone) for zone in zones)
