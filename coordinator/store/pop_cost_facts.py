"""Facts of what POPs cost an hour."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import ClassVar

from coordinator.core.pop_costs import CostChange, PopCost
from coordinator.store.fact_types import FactType, fact_json


@dataclass(frozen=True, slots=True)
class PopCostRow:
    """A POP's costs."""

    TYPE: ClassVar = FactType.POP_COST

    cost: PopCost

    @property
    def key(self) -> str:
        """The POP's id."""
        return self.cost.pop_id

    def encode(self) -> bytes:
        """Return the payload."""
        return fact_json(
            changes=[[one.since_unix_ms, one.nano_usd_per_hour] for one in self.cost.changes]
        )

    @classmethod
    def decode(cls, key: str, payload: bytes) -> PopCostRow:
        """Return the fact in ``payload``."""
        changes = tuple(CostChange(*one) for one in json.loads(payload)["changes"])
        return cls(PopCost(key, changes))
