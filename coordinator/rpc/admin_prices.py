"""The services of ``prices.proto``: the price card and quotes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from coordinator.rpc.admin_base import AdminServicerBase
from coordinator.rpc.price_messages import (
    card_to_wire,
    change_to_wire,
    info_to_wire,
    proposal_from_wire,
    quoted_to_wire,
)
from protos.v1 import prices_pb2, prices_pb2_grpc

if TYPE_CHECKING:
    from coordinator.rpc.identity import Context


class PriceService(AdminServicerBase, prices_pb2_grpc.PricesServicer):
    """Every call of the service Prices: a request, a use case, a message."""

    async def ShowCard(
        self, request: prices_pb2.ShowCardRequest, context: Context
    ) -> prices_pb2.CardInfo:
        """Return a version of the card."""
        shown = await self._operations.prices.show(
            self._actor(context), request.version, request.at_unix_ms
        )
        return info_to_wire(shown)

    async def ListCards(
        self, request: prices_pb2.ListCardsRequest, context: Context
    ) -> prices_pb2.ListCardsResponse:
        """Return every version, the newest first."""
        found = await self._operations.prices.history(self._actor(context))
        return prices_pb2.ListCardsResponse(cards=map(info_to_wire, found))

    async def ProposeCard(
        self, request: prices_pb2.ProposeCardRequest, context: Context
    ) -> prices_pb2.ProposeCardResponse:
        """Keep a draft, or only check it."""
        card, valid_from_unix_ms = proposal_from_wire(request)
        made = await self._operations.prices.propose(
            self._actor(context),
            card,
            valid_from_unix_ms=valid_from_unix_ms,
            dry_run=request.dry_run,
        )
        return prices_pb2.ProposeCardResponse(
            card=card_to_wire(made.card),
            against=made.against,
            changes=map(change_to_wire, made.changes),
        )

    async def PublishCard(
        self, request: prices_pb2.PublishCardRequest, context: Context
    ) -> prices_pb2.CardInfo:
        """Publish a draft."""
        shown = await self._operations.prices.publish(self._actor(context), request.version)
        return info_to_wire(shown)

    async def Quote(
        self, request: prices_pb2.QuoteRequest, context: Context
    ) -> prices_pb2.QuoteResponse:
        """Replay recent requests under other budgets."""
        quoted = await self._operations.quotes.quote(
            self._actor(context), request.deployment, request.budgets_ms, request.hours
        )
        return quoted_to_wire(quoted)
