"""POPs: created before their nodes; unchanged while they have any."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from coordinator.operations.acts import Act
from coordinator.operations.use_case import UseCases, named, note_of, use_case
from coordinator.store import pops
from protos.domain.errors import Conflict, InvalidRequest
from protos.domain.ids import check_pop_id, check_zone

if TYPE_CHECKING:
    from coordinator.operations.actor import Actor
    from protos.domain.resources import Pop

_MAX_CITY_CHARS = 100


class Pops(UseCases):
    """POPs."""

    @use_case(Act.POP_CREATE, named("pop"))
    async def create(self, actor: Actor, pop: Pop) -> Pop:
        """Create a POP, or change one that has no node yet. Raises: InvalidRequest, Conflict."""
        check_pop(pop)
        present = self._store.view().pops.get(pop.id)
        in_use = sorted(
            node_id
            for node_id, record in self._store.node_records().items()
            if record.pop_id == pop.id
        )
        if present is not None and present != pop and in_use:
            raise Conflict(
                f"POP {pop.id} exists with other facts and holds {', '.join(in_use[:5])}",
                "prices and residency hang on a POP: remove its nodes first",
                retryable=False,
            )
        detail = f"tier={pop.tier} zone={pop.zone} city={pop.city}"
        note = note_of(actor, Act.POP_CREATE, f"pop/{pop.id}", detail)
        await self._store.write(pops.put(pop), note)
        return pop

    @use_case(Act.POP_LIST)
    async def list_all(self, actor: Actor) -> Sequence[Pop]:
        """Return every POP by name."""
        return sorted(self._store.view().pops.values(), key=lambda pop: pop.id)


def check_pop(pop: Pop) -> None:
    """Raises: InvalidRequest."""
    check_pop_id(pop.id)
    check_zone(pop.zone)
    if not (math.isfinite(pop.latitude_deg) and abs(pop.latitude_deg) <= 90.0):
        raise InvalidRequest(f"latitude {pop.latitude_deg} is not in -90..90")
    if not (math.isfinite(pop.longitude_deg) and abs(pop.longitude_deg) <= 180.0):
        raise InvalidRequest(f"longitude {pop.longitude_deg} is not in -180..180")
    if not 0 < len(pop.city) <= _MAX_CITY_CHARS or not pop.city.isprintable():
        raise InvalidRequest(f"a city is 1 to {_MAX_CITY_CHARS} printable characters")
