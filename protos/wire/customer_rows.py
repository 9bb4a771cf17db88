"""Rows of accounts, keys and the price card, and their messages."""

from __future__ import annotations

from typing import TYPE_CHECKING

from protos.domain import customers as c
from protos.domain import resources as d
from protos.v1 import resources_pb2 as r
from protos.wire.enums import (
    ACCOUNT_STATE_FROM_WIRE,
    ACCOUNT_STATE_TO_WIRE,
    TIER_FROM_WIRE,
    TIER_TO_WIRE,
)

if TYPE_CHECKING:
    from google.protobuf.message import Message


def row_of_money(resource: c.ApiKey | c.ForeignKey | c.Account | d.Price | d.CardTerms) -> Message:
    """Return the row that carries ``resource``."""
    match resource:
        case c.ApiKey():
            return r.CredentialsRow(api_key=_api_key_to_wire(resource))
        case c.ForeignKey():
            return r.CredentialsRow(foreign_key=_foreign_key_to_wire(resource))
        case c.Account():
            return r.CredentialsRow(account=_account_to_wire(resource))
        case d.Price():
            return r.PricesRow(price=price_to_wire(resource))
        case d.CardTerms():
            return r.PricesRow(terms=terms_to_wire(resource))


def decode_credentials(payload: bytes) -> d.Resource | None:
    """Return the key or account in ``payload``; None for another kind."""
    row = r.CredentialsRow.FromString(payload)
    match row.WhichOneof("resource"):
        case "api_key":
            key = row.api_key
            return c.ApiKey(
                id=key.id,
                digest=key.digest,
                account_id=key.account_id,
                deployments=tuple(key.deployments),
                expires_unix_ms=key.expires_unix_ms,
                limits=limits_from_wire(key.limits),
                zones=tuple(key.zones),
                endpoints=tuple(key.endpoints),
                origins=tuple(key.origins),
                account_zones=tuple(key.account_zones),
            )
        case "foreign_key":
            foreign = row.foreign_key
            return c.ForeignKey(
                foreign.id, foreign.digest, tuple(foreign.zones), foreign.expires_unix_ms
            )
        case "account":
            return account_from_wire(row.account)
    return None


def decode_prices(payload: bytes) -> d.Resource | None:
    """Return the part of the price card in ``payload``; None for another kind."""
    row = r.PricesRow.FromString(payload)
    match row.WhichOneof("resource"):
        case "price":
            return price_from_wire(row.price)
        case "terms":
            return terms_from_wire(row.terms)
    return None


def limits_to_wire(limits: c.UsageLimits) -> r.UsageLimits | None:
    """Return the message of ``limits``; None for none, so that it is not sent."""
    if limits.unlimited:
        return None
    return r.UsageLimits(
        max_concurrent_sequences=limits.max_concurrent_sequences,
        requests_per_minute=limits.requests_per_minute,
        tokens_per_minute=limits.tokens_per_minute,
    )


def limits_from_wire(limits: r.UsageLimits) -> c.UsageLimits:
    """Return the limits of a message."""
    return c.UsageLimits(
        limits.max_concurrent_sequences, limits.requests_per_minute, limits.tokens_per_minute
    )


def _account_to_wire(account: c.Account) -> r.Account:
    return r.Account(
        id=account.id,
        limits=limits_to_wire(account.limits),
        zones=account.zones,
        state=ACCOUNT_STATE_TO_WIRE[account.state],
        funded=account.funded,
    )


def account_from_wire(account: r.Account) -> c.Account:
    """Return the account of a message."""
    return c.Account(
        id=account.id,
        limits=limits_from_wire(account.limits),
        zones=tuple(account.zones),
        state=ACCOUNT_STATE_FROM_WIRE[account.state],
        funded=account.funded,
    )


def _api_key_to_wire(key: c.ApiKey) -> r.ApiKey:
    return r.ApiKey(
        id=key.id,
        digest=key.digest,
        account_id=key.account_id,
        deployments=key.deployments,
        expires_unix_ms=key.expires_unix_ms,
        limits=limits_to_wire(key.limits),
        zones=key.zones,
        endpoints=key.endpoints,
        origins=key.origins,
        account_zones=key.account_zones,
    )


def _foreign_key_to_wire(key: c.ForeignKey) -> r.ForeignKey:
    return r.ForeignKey(
        id=key.id, digest=key.digest, zones=key.zones, expires_unix_ms=key.expires_unix_ms
    )


def terms_to_wire(terms: d.CardTerms) -> r.CardTerms:
    """Return the message of ``terms``."""
    return r.CardTerms(
        version=terms.version,
        valid_from_unix_ms=terms.valid_from_unix_ms,
        realtime_percent=terms.realtime_percent,
        interactive_percent=terms.interactive_percent,
        standard_percent=terms.standard_percent,
        residency_percent=terms.residency_percent,
        promise_percent=terms.promise_percent,
        credit_percent=terms.credit_percent,
    )


def terms_from_wire(terms: r.CardTerms) -> d.CardTerms:
    """Return the terms of a message."""
    return d.CardTerms(
        version=terms.version,
        valid_from_unix_ms=terms.valid_from_unix_ms,
        realtime_percent=terms.realtime_percent,
        interactive_percent=terms.interactive_percent,
        standard_percent=terms.standard_percent,
        residency_percent=terms.residency_percent,
        promise_percent=terms.promise_percent,
        credit_percent=terms.credit_percent,
    )


def price_to_wire(price: d.Price) -> r.Price:
    return r.Price(
        size_class=price.size_class,
        tier=TIER_TO_WIRE[price.tier],
        prompt_nano_usd_per_token=price.prompt_nano_usd_per_token,
        cached_nano_usd_per_token=price.cached_nano_usd_per_token,
        completion_nano_usd_per_token=price.completion_nano_usd_per_token,
        card_version=price.card_version,
    )


def price_from_wire(price: r.Price) -> d.Price:
    return d.Price(
        size_class=price.size_class,
        tier=TIER_FROM_WIRE[price.tier],
        prompt_nano_usd_per_token=price.prompt_nano_usd_per_token,
        cached_nano_usd_per_token=price.cached_nano_usd_per_token,
        completion_nano_usd_per_token=price.completion_nano_usd_per_token,
        card_version=price.card_version,
    )
