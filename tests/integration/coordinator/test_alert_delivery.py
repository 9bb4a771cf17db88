"""Alerts to real receivers: webhooks over HTTP, mail to an SMTP server."""

from __future__ import annotations

import asyncio
import json
import ssl
from email import message_from_bytes

import pytest
from aiohttp import web
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult

from coordinator.billing import alerting, customers
from coordinator.billing.mail import Mailer, SmtpServer
from coordinator.billing.webhooks import WebhookSender
from coordinator.ca.authority import CertificateAuthority
from coordinator.clock import now_unix_ms
from coordinator.core.webhook_signature import HEADER, verify
from protos.domain.errors import InvalidRequest, LinkDown
from tests.support.billing import CENT, FEBRUARY
from tests.support.billing_service import billed_fleet
from tests.support.ports import free_ports
from tests.support.waiting import wait_until_async

pytestmark = pytest.mark.integration

SECRET = "shared"


class Receiver:
    """A customer's server: answers as a test sets, and keeps what it got."""

    def __init__(self) -> None:
        self.statuses: list[int] = []
        self.got: list[tuple[str, str, bytes]] = []
        self.location = ""
        self.waits: list[asyncio.Event] = []
        self.url = ""

    async def handle(self, request: web.Request) -> web.Response:
        body = await request.read()
        self.got.append((request.headers[HEADER], request.headers["EdgeForge-Delivery"], body))
        if self.waits:
            await self.waits.pop(0).wait()
        status = self.statuses.pop(0) if self.statuses else 200
        headers = {"Location": self.location} if self.location else {}
        return web.Response(status=status, headers=headers)


@pytest.fixture
async def receiver():
    found = Receiver()
    application = web.Application()
    application.router.add_post("/hook", found.handle)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    found.url = f"http://127.0.0.1:{runner.addresses[0][1]}/hook"
    yield found
    await runner.cleanup()


async def set_alerts(fleet, **changes) -> None:
    account = customers.BilledAccount("acme", cap_nano_usd=10 * CENT, **changes)
    await fleet.database.write(lambda one: customers.save(one, account))
    await fleet.billing.changed()


async def test_a_webhook_is_signed_and_tried_again_with_the_same_id(tmp_path, receiver):
    async with billed_fleet(tmp_path) as fleet:
        await set_alerts(fleet, alert_url=receiver.url, alert_secret=SECRET)
        receiver.statuses = [500, 204]
        await fleet.use()
        await fleet.billing.tick()
        await fleet.billing.tick()
        assert len(receiver.got) == 1
        fleet.forward(11_000)
        await fleet.billing.tick()
        fleet.forward(3_600_000)
        await fleet.billing.tick()
        assert len(receiver.got) == 2
        (_, first_id, first), (signature, second_id, second) = receiver.got
        assert (first_id, first) == (second_id, second)
        verify(SECRET, second, signature, fleet.clock() // 1_000 - 3_600)
        told = json.loads(second)
        assert (told["percent"], told["spent_nano_usd"]) == (50, 5 * CENT)


async def test_a_test_neither_waits_for_a_slow_receiver_nor_repeats_what_is_on_its_way(
    tmp_path, receiver
):
    async with billed_fleet(tmp_path) as fleet:
        await set_alerts(fleet, alert_url=receiver.url, alert_secret=SECRET)
        slow, answers = asyncio.Event(), []
        receiver.waits = [slow]
        first = asyncio.create_task(fleet.billing.alerts.test("acme"))
        await wait_until_async(lambda: receiver.got, 10, "the first is on its way")
        async with asyncio.timeout(10):
            answers = await fleet.billing.alerts.test("acme")
        assert [one.state for one in answers] == ["done"]
        slow.set()
        await first
        ids = [delivery_id for _, delivery_id, _ in receiver.got]
        assert len(ids) == len(set(ids)) == 2


async def test_a_redirect_is_not_followed(receiver):
    receiver.statuses, receiver.location = [307], receiver.url
    sender = WebhookSender(lambda: FEBRUARY, allow_private=True)
    with pytest.raises(LinkDown, match="answered 307"):
        await sender.send(receiver.url, SECRET, "1", b"{}")
    assert len(receiver.got) == 1


async def test_a_name_that_leads_to_a_private_address_is_not_asked(receiver):
    sender = WebhookSender(lambda: FEBRUARY, allow_private=False)
    port = receiver.url.split(":")[2].split("/")[0]
    with pytest.raises(LinkDown):
        await sender.send(f"https://localhost:{port}/hook", SECRET, "1", b"{}")
    with pytest.raises(InvalidRequest):
        await sender.send(receiver.url, SECRET, "1", b"{}")
    assert receiver.got == []


class Mailbox:
    """Keeps messages."""

    def __init__(self) -> None:
        self.messages: list[tuple[list[str], bytes]] = []

    async def handle_DATA(self, server, session, envelope) -> str:
        self.messages.append((envelope.rcpt_tos, envelope.content))
        return "250 kept"


def tls_of(folder) -> tuple[ssl.SSLContext, str]:
    """Return a server's TLS for 127.0.0.1, and the file of its authority."""
    authority = CertificateAuthority.create(folder / "ca", now_unix_ms=now_unix_ms)
    key_pem, chain_pem = authority.new_coordinator("mail", ["127.0.0.1"])
    chain, bundle = folder / "chain.pem", folder / "bundle.pem"
    chain.write_bytes(key_pem + chain_pem)
    bundle.write_bytes(authority.bundle_pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain)
    return context, str(bundle)


async def test_an_alert_comes_by_mail_once(tmp_path):
    mailbox = Mailbox()
    (port,) = free_ports(1)
    server = Controller(mailbox, hostname="127.0.0.1", port=port)
    server.start()
    try:
        mailer = Mailer(
            SmtpServer("127.0.0.1", port, "billing@edgeforge.example", "none"), lambda: FEBRUARY
        )
        async with billed_fleet(tmp_path, mailer=mailer) as fleet:
            await set_alerts(fleet, alert_email="cfo@acme.example")
            await fleet.use()
            await fleet.billing.tick()
            await fleet.restarted(mailer=mailer).start()
            await fleet.billing.tick()
            (one,) = await fleet.database.read(lambda books: alerting.deliveries(books, "acme"))
            assert one.state == "done"
    finally:
        server.stop()
    ((to, content),) = mailbox.messages
    message = message_from_bytes(content)
    assert to == ["cfo@acme.example"]
    assert message["Subject"] == "EdgeForge: 50 % of the monthly cap of acme is used"
    assert message["Message-ID"] == f"<{one.id}@edgeforge.example>"
    assert "0.050000000 USD of 0.100000000 USD in 2028-02" in message.get_payload()


async def test_a_mail_server_that_is_away_is_named(tmp_path):
    (port,) = free_ports(1)
    server = SmtpServer("127.0.0.1", port, "billing@edgeforge.example", "none")
    with pytest.raises(LinkDown, match="did not take the message"):
        await Mailer(server, lambda: FEBRUARY).send("a@b.example", "s", "t", "1")


def logged_in(server, session, envelope, mechanism, data) -> AuthResult:
    return AuthResult(success=(data.login, data.password) == (b"mailer", b"secret"))


# aiosmtpd does not count TLS from the first byte as TLS.
@pytest.mark.filterwarnings("ignore:Requiring AUTH while not requiring TLS")
@pytest.mark.parametrize("tls", ["starttls", "tls"])
async def test_mail_goes_over_tls_with_a_login_and_only_to_a_server_that_is_trusted(tmp_path, tls):
    mailbox = Mailbox()
    context, bundle = tls_of(tmp_path)
    (port,) = free_ports(1)
    how = {"ssl_context": context} if tls == "tls" else {"tls_context": context}
    server = Controller(
        mailbox,
        hostname="127.0.0.1",
        port=port,
        authenticator=logged_in,
        auth_required=True,
        auth_require_tls=tls == "starttls",
        **how,
    )
    server.start()
    try:

        def mailer(password: str = "secret", ca_file: str = bundle) -> Mailer:
            smtp = SmtpServer(
                *("127.0.0.1", port, "b@edgeforge.example", tls, "mailer", password),
                timeout_s=1,
                ca_file=ca_file,
            )
            return Mailer(smtp, lambda: FEBRUARY)

        await mailer().send("a@b.example", "subject", "text", "1")
        for wrong in (mailer("wrong"), mailer(ca_file="")):
            with pytest.raises(LinkDown) as found:
                await wrong.send("a@b.example", "subject", "text", "2")
            assert "secret" not in str(found.value)
    finally:
        server.stop()
    assert len(mailbox.messages) == 1


async def test_mail_is_not_sent_without_tls_where_tls_is_asked_for():
    mailbox = Mailbox()
    (port,) = free_ports(1)
    plain = Controller(mailbox, hostname="127.0.0.1", port=port)
    plain.start()
    try:
        for tls in ("starttls", "tls"):
            server = SmtpServer("127.0.0.1", port, "b@edgeforge.example", tls, timeout_s=2)
            with pytest.raises(LinkDown):
                await Mailer(server, lambda: FEBRUARY).send("a@b.example", "s", "t", "1")
    finally:
        plain.stop()
    assert mailbox.messages == []
