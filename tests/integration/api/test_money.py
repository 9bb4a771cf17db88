"""What customers do about money themselves: a cap of their own, their promises, their card."""

from __future__ import annotations

from coordinator.operations.actor import Actor
from coordinator.usage.rollups import Rollups
from protos.domain.resources import SlaTier
from tests.support.customer_api import RunningApi
from tests.support.operations import actor
from tests.support.usage_fleet import record

USD = 10**9
CENTS = 10**7


async def set_cap(api: RunningApi, cents: int, role: str = "billing"):
    body = {"monthly_cents": cents}
    return await api.call("PUT", "/v1/spending-cap", body, token=api.token(role))


async def test_an_account_caps_itself_and_never_lifts_what_an_operator_has_set(api: RunningApi):
    own = await set_cap(api, 500)
    assert own.body == {
        "own_nano_usd": 5 * USD,
        "operators_nano_usd": 0,
        "holds_nano_usd": 5 * USD,
    }
    assert api.fleet.store.view().accounts["acme"].funded
    await api.operations.credits.set_funds(actor(), "acme", cap_nano_usd=3 * USD)
    for cents, holds in ((1_000, 3 * USD), (0, 3 * USD), (200, 2 * USD)):
        told = await set_cap(api, cents)
        assert told.body["operators_nano_usd"] == 3 * USD
        assert told.body["holds_nano_usd"] == holds
        assert api.fleet.billing.remaining_of("acme") == holds
    await api.operations.credits.set_funds(actor(), "acme", cap_nano_usd=0)
    assert api.fleet.billing.remaining_of("acme") == 2 * USD, "the own one is left"
    await set_cap(api, 0)
    assert api.fleet.billing.remaining_of("acme") is None
    assert not api.fleet.store.view().accounts["acme"].funded
    assert api.fleet.billing.remaining_of("globex") is None


async def test_only_who_pays_caps_and_no_cap_is_negative_or_beyond_all_bounds(api: RunningApi):
    for role in ("viewer", "developer"):
        assert (await set_cap(api, 1, role)).status == 403
    for cents in (-1, 10**12):
        assert (await set_cap(api, cents)).status == 400
    assert api.fleet.billing.remaining_of("acme") is None


async def test_a_customer_sees_how_its_own_promises_were_kept_and_no_other_accounts(
    api: RunningApi,
):
    began = api.fleet.clock() - 600_000
    mine = {"sla_tier": SlaTier.REALTIME, "began_unix_ms": began}
    used = [
        record(1, "acme", ttft_us=40_000, **mine),
        *(record(number, "acme", ttft_us=900_000, **mine) for number in range(2, 10)),
        record(10, "globex", sla_tier=SlaTier.STANDARD, ttft_us=900_000, began_unix_ms=began),
    ]
    await api.fleet.usage_db.write(lambda one: Rollups().add(one, used, (), 0))
    told = await api.call("GET", "/v1/sla", token=api.token("viewer"))
    assert told.status == 200, told
    (line,) = told.body["lines"]
    assert (line["sla_tier"], line["streams"], line["streams_in_time"]) == ("realtime", 9, 1)
    assert line["kept"] is False
    assert line["first_token_ms_p99"] > 800
    assert line["tokens_per_s_p50"] > 0
    (credit,) = told.body["credits"]
    assert credit["sla_tier"] == "realtime"
    assert credit["credit_nano_usd"] > 0
    whole = await api.operations.reports.sla(actor())
    assert {one.sla_tier for one in whole.lines} == {"realtime", "standard"}
    other = await api.operations.reports.sla(Actor.of_member(api.member("globex")))
    assert [one.sla_tier for one in other.lines] == ["standard"]


async def test_a_deployment_that_no_node_can_serve_is_refused_without_a_nodes_name(
    api: RunningApi,
):
    nodes = list(api.fleet.store.node_records())
    assert nodes
    models = (await api.call("GET", "/v1/models")).body["items"]
    body = {"name": "acme/x", "model": models[0]["name"], "ttft_budget_ms": 100}
    refused = await api.call("POST", "/v1/deployments", body | {"residency_zones": ["JP"]})
    assert refused.status == 400, refused
    assert not [node for node in nodes if node in str(refused.body)]


async def test_a_charge_without_a_card_says_how_to_store_one(api: RunningApi, monkeypatch):
    async def has_none(customer: str) -> bool:
        return False

    monkeypatch.setattr(api.fleet.billing.collection.provider, "has_card", has_none)
    await api.fleet.billing.collection.customer_of("acme")
    refused = await api.call("POST", "/v1/payments", {"top_up_cents": 2_000})
    assert refused.status == 400, refused
    assert refused.body["error"]["code"] == "no_card"
    assert "POST /v1/payments:set-up" in refused.body["error"]["hint"]
    assert (await api.call("GET", "/v1/payments")).body["payments"] == []
