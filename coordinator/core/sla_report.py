"""How the promises were kept: latency, pace, share in time, shed, by SLA tier and region. Pure."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from coordinator.core.sla_credits import is_kept
from protos.domain.usage_record import UsageSums

if TYPE_CHECKING:
    from protos.domain.resources import CardTerms

#: Region of a POP that is no longer in the topology.
UNKNOWN_REGION = "unknown"
_US_PER_MS = 1_000.0


class By(enum.StrEnum):
    """What the lines of a report are by, beside the SLA tier."""

    TIER = "tier"
    REGION = "region"
    ACCOUNT = "account"


#: SLA tier, region, account; the last two are empty where a report is not by them.
Group = tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class SlaLine:
    """One SLA tier, in one region or of one account if the report is by them; else empty."""

    sla_tier: str
    region: str
    account: str
    sums: UsageSums
    first_token_ms_p50: float | None
    first_token_ms_p99: float | None
    #: Tokens a second of a stream after its first token; 99 % of streams are at P1 or faster.
    tokens_per_s_p50: float | None
    tokens_per_s_p1: float | None
    promise_percent: int

    @property
    def kept(self) -> bool:
        """Whether enough streams were in time; so it is without a stream."""
        return is_kept(self.sums.streams, self.sums.streams_in_time, self.promise_percent)


def grouping(by: By, region_of: Callable[[str], str]) -> Callable[[str, str], Group]:
    """Return what assigns (SLA tier, POP or account) to its line."""

    def group_of(sla_tier: str, name: str) -> Group:
        if by is By.ACCOUNT:
            return sla_tier, "", name
        return sla_tier, region_of(name) if by is By.REGION else "", ""

    return group_of


def sla_lines(
    rows: Iterable[tuple[tuple[str, ...], UsageSums]],
    group_of: Callable[[str, str], Group],
    first_token_us: Mapping[Group, Sequence[float]],
    pace: Mapping[Group, Sequence[float]],
    terms: CardTerms,
) -> list[SlaLine]:
    """Return the lines in order.

    ``rows`` are sums by (SLA tier, POP or account); ``first_token_us`` has the P50 and P99 of each
    line, ``pace`` the P50 and P1 in tokens a second; a line without a stream is in neither.
    """
    sums: dict[Group, UsageSums] = {}
    for (sla_tier, name), one in rows:
        sums.setdefault(group_of(sla_tier, name), UsageSums()).add(one)
    found = []
    for group in sorted(sums):
        tokens, paces = first_token_us.get(group), pace.get(group)
        found.append(
            SlaLine(
                *group,
                sums[group],
                tokens[0] / _US_PER_MS if tokens else None,
                tokens[1] / _US_PER_MS if tokens else None,
                paces[0] if paces else None,
                paces[1] if paces else None,
                terms.promise_percent,
            )
        )
    return found
