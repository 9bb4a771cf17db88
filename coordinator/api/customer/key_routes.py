"""Routes about the account's API keys."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from coordinator.api.customer.account_routes import Limits
from coordinator.api.customer.pages import page_of
from coordinator.api.customer.route import Call, Model, PageQuery, Param, Route
from coordinator.core.account_zones import MAX_ZONES
from coordinator.operations.acts import Act
from coordinator.operations.keys import (
    DEFAULT_GRACE_S,
    MAX_DEPLOYMENTS_PER_KEY,
    MAX_GRACE_S,
    Scopes,
)
from protos.domain.customers import UsageLimits
from protos.domain.key_scopes import ENDPOINTS, MAX_ORIGINS

if TYPE_CHECKING:
    from coordinator.operations.keys import ListedKey

KEY_ID = Param(r"[A-Za-z0-9_-]{1,64}", "A key's id, the part behind `ef-`.", "0a1b2c3d4e5f")
#: A limit that a row can hold.
MAX_LIMIT = 2**31 - 1
#: The year 2200.
MAX_UNIX_MS = 7_258_118_400_000

Amount = Annotated[int, Field(ge=0, le=MAX_LIMIT)]


class KeyBody(Model):
    """A new key. What is left out is not limited."""

    deployments: list[Annotated[str, Field(max_length=128)]] = Field(
        [], max_length=MAX_DEPLOYMENTS_PER_KEY, examples=[[]], description="Of the account."
    )
    endpoints: list[Annotated[str, Field(max_length=128)]] = Field(
        [], max_length=len(ENDPOINTS), description=f"Of {', '.join(ENDPOINTS)}."
    )
    origins: list[Annotated[str, Field(max_length=64)]] = Field(
        [], max_length=MAX_ORIGINS, description="Networks as CIDR, such as 203.0.113.0/24."
    )
    zones: list[Annotated[str, Field(max_length=2)]] = Field(
        [], max_length=MAX_ZONES, description="Residency zones, such as BR."
    )
    expires_unix_ms: int = Field(0, ge=0, le=MAX_UNIX_MS, description="0: never.")
    max_concurrent_sequences: Amount = 0
    requests_per_minute: Amount = 0
    tokens_per_minute: Amount = 0


class RotateBody(Model):
    """How long the old key still works."""

    grace_s: int = Field(DEFAULT_GRACE_S, ge=0, le=MAX_GRACE_S, description="0: not at all.")


class KeyAnswer(Model):
    """A key, without its secret."""

    id: str
    prefix: str
    deployments: list[str]
    endpoints: list[str]
    origins: list[str]
    zones: list[str]
    limits: Limits
    created_unix_ms: int
    expires_unix_ms: int = Field(description="0: never.")
    last_used_unix_ms: int = Field(description="To the minute; 0: never, or not known yet.")
    replaces: str = Field(description="The key that it was rotated from; empty: none.")
    replaced_by: str


class KeyPage(Model):
    """Keys, oldest first."""

    items: list[KeyAnswer]
    next: str


class NewKeyAnswer(Model):
    """A key; its text is shown here only."""

    id: str
    api_key: str = Field(repr=False)


class RotatedKeyAnswer(Model):
    """The new key, and when the old one ends by itself."""

    id: str
    api_key: str = Field(repr=False)
    old_id: str
    old_ends_unix_ms: int


def _key(listed: ListedKey) -> KeyAnswer:
    record = listed.record
    key = record.key
    return KeyAnswer(
        id=key.id,
        prefix=record.prefix,
        deployments=list(key.deployments),
        endpoints=list(key.endpoints),
        origins=list(key.origins),
        zones=list(key.zones),
        limits=Limits(
            max_concurrent_sequences=key.limits.max_concurrent_sequences,
            requests_per_minute=key.limits.requests_per_minute,
            tokens_per_minute=key.limits.tokens_per_minute,
        ),
        created_unix_ms=record.created_unix_ms,
        expires_unix_ms=key.expires_unix_ms,
        last_used_unix_ms=listed.last_used_unix_ms,
        replaces=record.replaces,
        replaced_by=record.replaced_by,
    )


async def _create(call: Call) -> NewKeyAnswer:
    body = call.given(KeyBody)
    made = await call.operations.keys.create(
        call.actor,
        scopes=Scopes(body.deployments, body.endpoints, body.origins, body.zones),
        expires_unix_ms=body.expires_unix_ms,
        limits=UsageLimits(
            body.max_concurrent_sequences, body.requests_per_minute, body.tokens_per_minute
        ),
    )
    return NewKeyAnswer(id=made.id, api_key=made.text)


async def _list(call: Call) -> KeyPage:
    asked = call.asked(PageQuery)
    found = await call.operations.keys.list_all(call.actor)
    page, following = page_of(
        found,
        lambda one: f"{one.record.created_unix_ms:015}/{one.record.key.id}",
        asked.limit,
        asked.cursor,
    )
    return KeyPage(items=[_key(one) for one in page], next=following)


async def _rotate(call: Call) -> RotatedKeyAnswer:
    grace_s = call.given(RotateBody).grace_s
    made = await call.operations.keys.rotate(call.actor, call.params["key_id"], grace_s=grace_s)
    return RotatedKeyAnswer(
        id=made.new.id,
        api_key=made.new.text,
        old_id=made.old_id,
        old_ends_unix_ms=made.old_ends_unix_ms,
    )


async def _revoke(call: Call) -> None:
    await call.operations.keys.revoke(call.actor, call.params["key_id"])


ROUTES = (
    Route(
        "POST",
        "/v1/keys",
        "create_key",
        "Make an API key for inference.",
        _create,
        Act.KEY_CREATE,
        NewKeyAnswer,
        201,
        KeyBody,
    ),
    Route(
        "GET",
        "/v1/keys",
        "list_keys",
        "List the API keys of the account.",
        _list,
        Act.KEY_LIST,
        KeyPage,
        query=PageQuery,
    ),
    Route(
        "POST",
        "/v1/keys/{key_id}/rotate",
        "rotate_key",
        "Make a key with the same scopes; the old one ends by itself after a grace.",
        _rotate,
        Act.KEY_ROTATE,
        RotatedKeyAnswer,
        201,
        RotateBody,
        params={"key_id": KEY_ID},
    ),
    Route(
        "DELETE",
        "/v1/keys/{key_id}",
        "revoke_key",
        "Revoke a key; agents that are connected refuse it within two seconds.",
        _revoke,
        Act.KEY_REVOKE,
        status=204,
        params={"key_id": KEY_ID},
    ),
)
