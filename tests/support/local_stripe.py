"""A localstripe process: a stateful double of Stripe's API on a free port."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import aiohttp

from tests.support.ports import free_ports
from tests.support.waiting import wait_until

KEY = "sk_test_12345"
SECRET = "whsec_test"


class LocalStripe:
    """What a test asks of it beside what the product does."""

    def __init__(self, port: int) -> None:
        self.base = f"http://127.0.0.1:{port}"

    async def post(self, path: str, form: dict[str, str]) -> dict[str, Any]:
        """Call the API as a customer's browser would."""
        async with (
            aiohttp.ClientSession(headers={"Authorization": f"Bearer {KEY}"}) as session,
            session.post(f"{self.base}{path}", data=form) as answer,
        ):
            return dict(await answer.json())

    async def store_card(self, customer: str, setup: str, secret: str, card: str) -> None:
        """Confirm a card's setup, and attach it: localstripe leaves that to the caller."""
        number = {"visa": "4242424242424242", "fails": "4000000000000341"}[card]
        method = await self.post(
            "/v1/payment_methods",
            {
                "type": "card",
                "card[number]": number,
                "card[exp_month]": "12",
                "card[exp_year]": "2030",
                "card[cvc]": "123",
            },
        )
        await self.post(
            f"/v1/setup_intents/{setup}/confirm",
            {"client_secret": secret, "payment_method": method["id"]},
        )
        await self.post(f"/v1/payment_methods/{method['id']}/attach", {"customer": customer})


def signed(event: dict[str, Any], unix_s: int, secret: str = SECRET) -> tuple[bytes, str]:
    """Return a webhook's body and its signature."""
    body = json.dumps(event).encode()
    digest = hmac.new(secret.encode(), b"%d.%s" % (unix_s, body), hashlib.sha256).hexdigest()
    return body, f"t={unix_s},v1={digest}"


@contextlib.contextmanager
def local_stripe() -> Iterator[LocalStripe]:
    """Run the process until the end of the block."""
    (port,) = free_ports(1)
    process = subprocess.Popen(
        [sys.executable, "-m", "localstripe", "--port", str(port), "--from-scratch"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_until(lambda: _answers(process, port), 30, "localstripe listens")
        yield LocalStripe(port)
    finally:
        process.kill()
        process.wait()


def _answers(process: subprocess.Popen[bytes], port: int) -> bool:
    assert process.poll() is None, "localstripe has ended"
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False
