"""What a route is: method, path, models and act. Handlers get a ``Call`` and return a model."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from coordinator.operations.use_case import may_of

if TYPE_CHECKING:
    from coordinator.api.customer.imports import ImportJobs
    from coordinator.operations.actor import Actor
    from coordinator.operations.acts import Act
    from coordinator.operations.operations import Operations
    from coordinator.operations.sign_ups import SignUps

M = TypeVar("M", bound=BaseModel)

MAX_PAGE = 200
_PARAM = re.compile(r"\{(\w+)\}")


class Model(BaseModel):
    """A body. Unknown fields are refused, and a text is not taken for a number."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Query(BaseModel):
    """A query string. Values are text, so that numbers are read from it."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class PageQuery(Query):
    """Which part of a list is asked for."""

    limit: int = Field(50, ge=1, le=MAX_PAGE, description="Items of one page.")
    cursor: str = Field("", max_length=400, description="`next` of the page before; empty: first.")


@dataclass(frozen=True, slots=True)
class Param:
    """A part of a path: its pattern in full, and what it names."""

    pattern: str
    text: str
    example: str


@dataclass(frozen=True, slots=True)
class Services:
    """What handlers act on."""

    operations: Operations
    sign_ups: SignUps
    imports: ImportJobs
    now_unix_ms: Callable[[], int]
    #: Origins of this API and of the hub's protocol; empty: off.
    endpoint: str = ""
    #: Of the fleet's own authority.
    authority_pem: str = ""
    #: Of the payment provider, for customers' browsers.
    publishable_key: str = ""


@dataclass(frozen=True, slots=True)
class Call:
    """One request that was admitted: who asks, from where, and what."""

    services: Services
    address: str
    actor_or_none: Actor | None
    params: Mapping[str, str] = field(default_factory=dict)
    body: BaseModel | None = None
    query: BaseModel | None = None

    @property
    def actor(self) -> Actor:
        """Who asks; on a route with an act only."""
        assert self.actor_or_none is not None
        return self.actor_or_none

    @property
    def may(self) -> frozenset[Act]:
        """The acts that the role of who asks covers."""
        return may_of(self.actor)

    @property
    def operations(self) -> Operations:
        """The use cases."""
        return self.services.operations

    def given(self, kind: type[M]) -> M:
        """Return the body."""
        assert isinstance(self.body, kind)
        return self.body

    def asked(self, kind: type[M]) -> M:
        """Return the query."""
        assert isinstance(self.query, kind)
        return self.query


@dataclass(frozen=True, slots=True)
class Download:
    """An answer that is not JSON."""

    content: bytes
    content_type: str
    file_name: str


@dataclass(frozen=True, slots=True)
class StreamedDownload:
    """An answer that is not JSON, some bytes at a time."""

    chunks: AsyncIterator[bytes]
    content_type: str
    file_name: str


Answer = BaseModel | Download | StreamedDownload | None
Handler = Callable[[Call], Awaitable[Answer]]


@dataclass(frozen=True, slots=True)
class Route:
    """One operation of the API. ``act`` None: no token is needed."""

    method: str
    path: str
    name: str
    summary: str
    handler: Handler
    act: Act | None
    answer: type[BaseModel] | None = None
    status: int = 200
    body: type[BaseModel] | None = None
    query: type[BaseModel] | None = None
    params: Mapping[str, Param] = field(default_factory=dict)
    #: Content types of a download; empty: JSON.
    downloads: tuple[str, ...] = ()

    @property
    def param_names(self) -> tuple[str, ...]:
        """The names in its path, in order."""
        return tuple(_PARAM.findall(self.path))

    @property
    def tag(self) -> str:
        """What it is about: the first word of its path behind the version."""
        return self.path.split("/")[2].partition(":")[0]


def bad_params(route: Route, values: Mapping[str, str]) -> bool:
    """Return whether a part of the path cannot name anything."""
    return any(
        re.fullmatch(route.params[name].pattern, value) is None for name, value in values.items()
    )
