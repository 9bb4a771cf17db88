"""Payments by the stripe library against a localstripe process, and its webhook's door."""

from __future__ import annotations

import stat
import time

import pytest
from aiohttp import web

from coordinator.api.customer.listener import MAX_EVENT_BYTES, WEBHOOK_PATH
from coordinator.billing import account_credits, invoices
from coordinator.billing.payments import Charge, ChargeState
from coordinator.billing.stripe_payments import StripePayments, open_stripe
from coordinator.core.months import DAY_MS
from protos.domain.errors import ConfigInvalid, LinkDown, Unauthenticated
from tests.support.billing import CENT, USD, usage
from tests.support.billing_service import billed_fleet
from tests.support.customer_api import RunningApi, running_api
from tests.support.local_stripe import KEY, SECRET, local_stripe, signed

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def stripe_server():
    with local_stripe() as server:
        yield server


def provider(base: str, key: str = KEY) -> StripePayments:
    return StripePayments(key, SECRET, api_base=base, timeout_s=10)


@pytest.fixture
async def fleet(tmp_path, stripe_server):
    async with billed_fleet(tmp_path) as found:
        found.provider = provider(stripe_server.base)
        await found.restarted().start()
        yield found


async def store_card(fleet, server, card: str) -> None:
    customer = await fleet.billing.collection.customer_of("acme")
    setup = await fleet.provider.set_up_card(customer)
    assert setup.client_secret.startswith(setup.setup_id)
    await server.store_card(customer, setup.setup_id, setup.client_secret, card)


async def invoiced(fleet) -> str:
    await fleet.use(usage(nano_usd=100 * CENT))
    fleet.forward(29 * DAY_MS)
    (made,) = await fleet.billing.close_month("2028-02")
    return made.number


async def open_cents(fleet, number: str) -> int:
    return (await fleet.database.read(lambda one: invoices.find(one, number))).open_cents


async def test_a_card_is_set_up_and_an_invoice_charged_to_it(fleet, stripe_server):
    number = await invoiced(fleet)
    customer = await fleet.billing.collection.customer_of("acme")
    assert not await fleet.provider.has_card(customer)
    await store_card(fleet, stripe_server, "visa")
    assert await fleet.provider.has_card(customer)
    assert await fleet.billing.collection.customer_of("acme") == customer
    paid = await fleet.billing.collection.charge_invoice(number)
    assert paid.state is ChargeState.SUCCEEDED
    assert paid.provider_id.startswith("pi_")
    assert await open_cents(fleet, number) == 0


async def test_without_a_card_and_with_one_that_is_declined_the_invoice_stays_open(
    fleet, stripe_server
):
    number = await invoiced(fleet)
    failed = await fleet.billing.collection.charge_invoice(number)
    assert (failed.state, failed.error) == (ChargeState.FAILED, "no card is stored")
    await store_card(fleet, stripe_server, "fails")
    failed = await fleet.billing.collection.charge_invoice(number)
    assert failed.state is ChargeState.FAILED
    assert "declined" in failed.error
    assert await open_cents(fleet, number) == 100


async def test_a_top_up_is_charged_and_becomes_credit(fleet, stripe_server):
    await store_card(fleet, stripe_server, "visa")
    await fleet.billing.collection.top_up("acme", 2_500)
    (left,) = await fleet.database.read(lambda one: account_credits.left_of(one, "acme"))
    assert left.remaining_nano_usd == 25 * USD


async def test_a_provider_that_is_away_leaves_the_charge_to_be_asked_again(fleet, stripe_server):
    number = await invoiced(fleet)
    await store_card(fleet, stripe_server, "visa")
    there = fleet.provider
    away = StripePayments(KEY, SECRET, api_base="http://127.0.0.1:1", timeout_s=1)
    away._client = away._client.__class__(  # no waits between retries in a test
        KEY, base_addresses={"api": "http://127.0.0.1:1"}, max_network_retries=0
    )
    fleet.billing.collection.provider = away
    with pytest.raises(LinkDown, match="could not be asked"):
        await fleet.billing.collection.charge_invoice(number)
    fleet.billing.collection.provider = there
    paid = await fleet.billing.collection.charge_invoice(number)
    assert paid.key == f"{number}-1"


async def test_a_charge_that_was_made_is_found_by_its_key_among_those_of_its_customer():
    """localstripe cannot list payments of a customer, so the answers are written here."""
    asked: list[dict[str, str]] = []

    async def listed(request: web.Request) -> web.Response:
        asked.append(dict(request.query))
        first = "starting_after" not in request.query
        key, status = ("acme-1", "succeeded") if first else ("acme-2", "requires_payment_method")
        one = {
            "id": f"pi_{key}",
            "object": "payment_intent",
            "status": status,
            "metadata": {"edgeforge_key": key},
        }
        about = {"object": "list", "url": "/v1/payment_intents", "has_more": first}
        return web.json_response(about | {"data": [one]})

    application = web.Application()
    application.router.add_get("/v1/payment_intents", listed)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        there = provider(f"http://127.0.0.1:{runner.addresses[0][1]}")
        found = [await there.find(Charge(f"acme-{n}", "cus_1", 700, "x")) for n in (1, 2, 3)]
    finally:
        await runner.cleanup()
    assert [one and (one.state, one.provider_id) for one in found] == [
        (ChargeState.SUCCEEDED, "pi_acme-1"),
        (ChargeState.FAILED, "pi_acme-2"),
        None,
    ]
    assert all(one["customer"] == "cus_1" for one in asked)


async def test_a_key_that_stripe_refuses_is_named_and_not_shown(stripe_server):
    with pytest.raises(LinkDown, match="refused the API key") as found:
        await provider(stripe_server.base, "wrong").charge(Charge("k", "cus_1", 100, "x"))
    assert "wrong" not in str(found.value)


@pytest.fixture
async def door(fleet, tmp_path):
    """The listener that the provider reaches, with this billing behind it."""
    folder = tmp_path / "api"
    folder.mkdir()
    async with running_api(folder, payment_event=fleet.billing.payment_event) as api:
        yield api


async def sent(door: RunningApi, body: bytes, signature: str) -> int:
    headers = {"Stripe-Signature": signature}
    return (await door.call("POST", WEBHOOK_PATH, data=body, token=None, headers=headers)).status


def succeeded(key: str, event: str = "evt_1") -> dict[str, object]:
    intent = {"object": "payment_intent", "id": "pi_9", "metadata": {"edgeforge_key": key}}
    return {
        "id": event,
        "object": "event",
        "type": "payment_intent.succeeded",
        "data": {"object": intent},
    }


async def test_a_signed_webhook_settles_an_invoice_once(fleet, door):
    number = await invoiced(fleet)
    await fleet.billing.collection.charge_invoice(number)  # fails: no card
    now = int(time.time())
    body, signature = signed(succeeded(f"{number}-1"), now)
    assert [await sent(door, body, signature) for _ in range(2)] == [204, 204]
    assert await open_cents(fleet, number) == 0
    left = await fleet.database.read(lambda one: account_credits.left_of(one, "acme"))
    assert left == []


async def test_forged_replayed_and_malformed_webhooks_are_refused(fleet, door):
    number = await invoiced(fleet)
    await fleet.billing.collection.charge_invoice(number)
    now = int(time.time())
    event = succeeded(f"{number}-1")
    body, signature = signed(event, now)
    for bad_body, bad_signature in (
        (body, ""),
        (body + b" ", signature),
        signed(event, now, "whsec_other"),
        signed(event, now - 301),
        (b"{", signature),
    ):
        assert await sent(door, bad_body, bad_signature) == 401
    assert await sent(door, b"x" * (MAX_EVENT_BYTES + 1), signature) == 413
    assert await open_cents(fleet, number) == 100


async def test_an_event_about_something_else_is_taken_and_changes_nothing(fleet):
    other = {"id": "evt_2", "object": "event", "type": "customer.created", "data": {"object": {}}}
    body, signature = signed(other, int(time.time()))
    await fleet.billing.payment_event(body, signature)
    with pytest.raises(Unauthenticated):
        fleet.provider.event_of(body, "t=1,v1=00")


def test_secrets_are_files_that_nobody_else_may_read(tmp_path):
    key, secret = tmp_path / "key", tmp_path / "secret"
    key.write_text(KEY)
    secret.write_text(SECRET)
    secret.chmod(0o600)
    key.chmod(0o640)
    with pytest.raises(ConfigInvalid, match="others can read") as found:
        open_stripe(key, secret, api_base="https://api.stripe.com", timeout_s=1)
    assert KEY not in str(found.value)
    key.chmod(stat.S_IRUSR)
    key_is_empty = tmp_path / "empty"
    key_is_empty.touch(mode=0o600)
    with pytest.raises(ConfigInvalid, match="not one line"):
        open_stripe(key_is_empty, secret, api_base="https://api.stripe.com", timeout_s=1)
    with pytest.raises(ConfigInvalid, match="cannot be read"):
        open_stripe(tmp_path / "none", secret, api_base="https://api.stripe.com", timeout_s=1)
