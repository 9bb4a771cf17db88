"""Sums of requests that are bound to zones in which the coordinator is not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from protos.domain.usage_record import UsageKey, UsageSums


@dataclass(slots=True)
class CounterSums:
    """Sums of requests whose records stay in their zone; sketches are counts by bin."""

    key: UsageKey
    sums: UsageSums
    ttft: Mapping[int, int] = field(default_factory=dict)
    pace: Mapping[int, int] = field(default_factory=dict)
    cold: Mapping[int, int] = field(default_factory=dict)
    #: As it came, for the quarantine.
    payload: bytes = b""
