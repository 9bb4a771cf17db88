"""The registry's objects as repositories with versions, as the hub's protocol shows them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from coordinator.core.publications import latest_of
from coordinator.operations.acts import Act
from coordinator.operations.registry_objects import (
    RegistryObject,
    publication_of,
    rows_of,
    visible_rows,
)
from coordinator.operations.use_case import UseCases, named, use_case
from protos.domain.object_names import ObjectKind, repository_of

if TYPE_CHECKING:
    from coordinator.core.publications import RegistryRow
    from coordinator.operations.actor import Actor

#: Runtimes have no files.
_KINDS = (ObjectKind.MODEL, ObjectKind.ADAPTER)


@dataclass(frozen=True, slots=True)
class Repository:
    """All versions of an ``owner/name`` that a caller may read, oldest first."""

    name: str
    versions: tuple[RegistryObject, ...]
    #: Versions that it has or had: none of them can be published with other content.
    taken: tuple[str, ...]


class Repositories(UseCases):
    """Models and adapters. An account sees its own and those of the operators."""

    @use_case(Act.REPOSITORY_PLACE)
    async def place(self, actor: Actor) -> tuple[str, bool]:
        """Return the origin of the hub's protocol, empty if it is off.

        And whether its certificate is of the fleet's own authority.
        """
        return self._parts.hub_endpoint, self._parts.hub_own_authority

    @use_case(Act.REPOSITORY_LIST)
    async def list_all(self, actor: Actor) -> Sequence[Repository]:
        """Return every repository by name."""
        by_name: dict[str, list[RegistryRow]] = {}
        for kind in _KINDS:
            for row in visible_rows(self._store, actor, kind):
                by_name.setdefault(repository_of(row.name), []).append(row)
        taken: dict[str, list[str]] = {}
        for one in self._store.publications():
            taken.setdefault(repository_of(one), []).append(one)
        return [
            self._repository(name, rows, taken.get(name, ()))
            for name, rows in sorted(by_name.items())
        ]

    @use_case(Act.REPOSITORY_SHOW, named("repository"))
    async def show(self, actor: Actor, name: str) -> Repository:
        """Return one repository; without versions if there is none that the caller may read."""
        prefix = f"{name}@"
        rows = [
            row
            for kind in _KINDS
            for row in rows_of(self._store, kind).values()
            if row.name.startswith(prefix) and actor.sees(row.account_id)
        ]
        taken = [one for one in self._store.publications() if one.startswith(prefix)]
        return self._repository(name, rows, taken)

    def _repository(
        self, name: str, rows: Sequence[RegistryRow], taken: Sequence[str]
    ) -> Repository:
        found = {row.name: publication_of(self._store, row) for row in rows}
        latest = latest_of(found.values())
        objects = [
            RegistryObject(
                row,
                found[row.name],
                self._store.manifest(row.name),
                is_latest=latest is not None and latest.name == row.name,
            )
            for row in rows
        ]
        objects.sort(key=lambda one: (one.publication.order, one.row.name))
        tags = {one.partition("@")[2] for one in (*taken, *found)}
        return Repository(name, tuple(objects), tuple(sorted(tags)))
