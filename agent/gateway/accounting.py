"""What an answer took and cost, put where it is read: the record, the trail, the usage chunk."""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson

from agent.core.fill import filling_tokens
from agent.core.routes import GENERATION_PATHS, Api
from agent.core.token_usage import read_usage
from agent.relay.formats import body_usage
from protos.domain.pricing import Usage, cost_of, format_usd

if TYPE_CHECKING:
    from agent.gateway.context import GatewayContext
    from agent.gateway.records import RequestRecord
    from agent.gateway.stats import GatewayStats
    from agent.gateway.trail import Trail
    from agent.relay.exchange import Exchange
    from protos.domain.resources import Price, Tier


class Accounting:
    """One request's tokens and their price."""

    def __init__(
        self,
        around: GatewayContext,
        stats: GatewayStats,
        record: RequestRecord,
        trail: Trail,
    ) -> None:
        self._around = around
        self._stats = stats
        self._record = record
        self._trail = trail

    def cost_field(self, billing_tier: Tier, usage: bytes) -> bytes:
        """Return the field that tells the cost beside ``usage``; nothing for what has no price."""
        price = self._price(billing_tier)
        try:
            said = orjson.loads(usage)
        except orjson.JSONDecodeError:
            said = None
        if price is None or not isinstance(said, dict):
            return b""
        counted = read_usage(said)
        return b',"cost_usd":' + format_usd(cost_of(counted, price).total_nano_usd).encode()

    def account(self, exchange: Exchange, billing_tier: Tier) -> None:
        """Put tokens, first-token time and cost where they are read."""
        record, trail = self._record, self._trail
        if exchange.first_token_mono_ms is not None:
            first_byte = trail.request.first_byte_mono_ms
            trail.first_token_mono_ms = exchange.first_token_mono_ms
            record.ttft_ms = exchange.first_token_mono_ms - first_byte
        api = GENERATION_PATHS[trail.request.path]
        usage = usage_of(exchange, api)
        if usage is None:
            return
        trail.usage = usage
        record.prompt_tokens = usage.prompt_tokens
        record.completion_tokens = usage.completion_tokens
        self._stats.prompt_tokens += usage.prompt_tokens
        self._stats.completion_tokens += usage.completion_tokens
        if record.node_id == self._around.node_id and not exchange.streamed:
            tokens = filling_tokens(usage, embeds=api.embeds)
            self._around.own_fill.count(tokens, self._around.now_mono_ms())
        price = self._price(billing_tier)
        if price is not None:
            trail.cost = cost_of(usage, price)
            trail.card_version = price.card_version
            record.cost_nano_usd = trail.cost.total_nano_usd

    def _price(self, billing_tier: Tier) -> Price | None:
        view = self._around.view()
        model = view.models.get(self._trail.model)
        return view.prices.get((model.size_class, billing_tier)) if model else None


def usage_of(exchange: Exchange, api: Api) -> Usage | None:
    """Return the tokens that the engine counted, as far as it said; None when it did not."""
    if exchange.streamed and exchange.events is not None:
        found = exchange.events.usage()
    else:
        found = body_usage(api, exchange.body)
    return None if found is None else read_usage(found)
