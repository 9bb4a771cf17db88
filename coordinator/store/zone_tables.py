"""The credentials as the agents of each zone get them, made from the one table of all.

A zone's table has the version of the whole one, and a change of a row changes only that row in
each of them, so that the history of the whole one serves for their deltas too.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from coordinator.core.zone_rows import row_outside, zones_of_row
from protos.domain.resources import row_key
from protos.domain.routing_table import TableDraft
from protos.wire import encode_row

if TYPE_CHECKING:
    from protos.domain.resources import Resource
    from protos.domain.routing_table import Delta, Table

#: Before the zone in the scope of a table; a node without a known zone has an empty one.
_PREFIX = "zone/"
#: Zones whose tables are kept; residency zones are countries.
_MAX_ZONES = 512


def zone_scope(zone: str) -> str:
    """Return the scope of the credentials of ``zone``."""
    return _PREFIX + zone


def zone_of_scope(scope: str) -> str | None:
    """Return the zone of a scope; None: it is none of a zone."""
    return scope.removeprefix(_PREFIX) if scope.startswith(_PREFIX) else None


class ZoneTables:
    """Derives each zone's table once for each version of the whole one."""

    def __init__(self) -> None:
        #: Rows that do not go everywhere: their zones, and the row that goes elsewhere.
        self._bound: dict[str, tuple[frozenset[str], bytes | None]] = {}
        self._tables: dict[str, tuple[Table, Table]] = {}

    def follow(self, removes: Iterable[Resource], upserts: Sequence[Resource]) -> None:
        """Take changed rows of the credentials; other rows are ignored."""
        for resource in removes:
            if self._bound:
                self._bound.pop(row_key(resource), None)
        for resource in upserts:
            zones = zones_of_row(resource)
            if zones is None:
                continue
            outside = row_outside(resource)
            self._bound[row_key(resource)] = (
                zones,
                None if outside is None else encode_row(outside),
            )

    def table(self, whole: Table, zone: str) -> Table:
        """Return the table of ``zone``; the whole one while every row goes everywhere."""
        if not self._bound:
            return whole
        kept = self._tables.get(zone)
        if kept is not None and kept[0] is whole:
            return kept[1]
        draft = TableDraft(whole)
        for key, (zones, payload) in self._bound.items():
            if zone in zones:
                continue
            if payload is None:
                draft.remove(key)
            else:
                draft.put(key, payload)
        made = draft.finish(whole.at)
        if len(self._tables) >= _MAX_ZONES:
            self._tables.clear()
        self._tables[zone] = (whole, made)
        return made

    def delta(self, whole: Delta | None, table: Table) -> Delta | None:
        """Return the push to a zone's ``table`` that stands for the one to the whole table."""
        if whole is None or not self._bound:
            return whole
        touched = (*whole.upserts, *whole.removes)
        return replace(
            whole,
            upserts={key: table.rows[key] for key in touched if key in table.rows},
            removes=tuple(key for key in touched if key not in table.rows),
            result_digest=table.digest,
        )
