"""What stays unchanged from a request's admission to its end."""

from __future__ import annotations

from protos.domain.fleet_view import with_changes
from protos.domain.resources import Tier
from tests.support import fleets
from tests.support.router_states import request_context, router_state


def test_a_price_pushed_during_a_request_does_not_change_what_it_pays() -> None:
    view = fleets.view(fleets.model(), fleets.price(Tier.EDGE, 12))
    request = request_context(router_state(view))
    newer = with_changes(view, (), (fleets.price(Tier.EDGE, 99),))
    before, after = request.price(Tier.EDGE), request_context(router_state(newer)).price(Tier.EDGE)
    assert before is not None
    assert after is not None
    assert before.prompt_nano_usd_per_token == 12
    assert after.prompt_nano_usd_per_token == 99


def test_a_tier_or_a_model_without_a_price_costs_nothing() -> None:
    unpriced = request_context(router_state(fleets.view(fleets.model())))
    assert unpriced.price(Tier.EDGE) is None
    unknown = request_context(router_state(fleets.view(fleets.price(Tier.EDGE, 12))))
    assert unknown.price(Tier.EDGE) is None
