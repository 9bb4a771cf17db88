"""Routes about prices."""

from __future__ import annotations

from coordinator.api.customer.route import Call, Model, Route
from coordinator.operations.acts import Act


class PriceAnswer(Model):
    """What a token costs, by the size of the model and the tier that is billed."""

    size_class: str
    tier: str
    prompt_nano_usd_per_token: int
    cached_nano_usd_per_token: int
    completion_nano_usd_per_token: int
    card_version: int


class PriceList(Model):
    """The price card as it is now."""

    items: list[PriceAnswer]


async def _list(call: Call) -> PriceList:
    found = await call.operations.prices.list_all(call.actor)
    return PriceList(
        items=[
            PriceAnswer(
                size_class=one.size_class,
                tier=one.tier.value,
                prompt_nano_usd_per_token=one.prompt_nano_usd_per_token,
                cached_nano_usd_per_token=one.cached_nano_usd_per_token,
                completion_nano_usd_per_token=one.completion_nano_usd_per_token,
                card_version=one.card_version,
            )
            for one in found
        ]
    )


ROUTES = (
    Route(
        "GET",
        "/v1/prices",
        "list_prices",
        "List the price card as it is now.",
        _list,
        Act.PRICE_LIST,
        PriceList,
    ),
)
