"""Sends email by SMTP, in a thread with a deadline."""

from __future__ import annotations

import asyncio
import smtplib
import ssl
from dataclasses import dataclass, field
from email.message import EmailMessage
from email.utils import formatdate
from typing import TYPE_CHECKING, Final

from protos.domain.errors import LinkDown

if TYPE_CHECKING:
    from collections.abc import Callable

_MAX_ERROR_CHARS: Final = 200


@dataclass(frozen=True, slots=True)
class SmtpServer:
    """Where mail is handed over. ``tls``: "starttls", "tls" from the first byte, or "none"."""

    host: str
    port: int
    sender: str
    tls: str = "starttls"
    user: str = ""
    password: str = field(default="", repr=False)
    timeout_s: float = 20.0
    #: Authorities of the server's certificate; empty: the system's.
    ca_file: str = ""


class Mailer:
    """Hands over one message at a time."""

    def __init__(self, server: SmtpServer, now_unix_ms: Callable[[], int]) -> None:
        self._server = server
        self._now_unix_ms = now_unix_ms
        self._turn = asyncio.Lock()

    async def send(self, to: str, subject: str, text: str, delivery_id: str) -> None:
        """Hand over a message. Raises: LinkDown."""
        message = EmailMessage()
        message["From"] = self._server.sender
        message["To"] = to
        message["Subject"] = subject
        message["Date"] = formatdate(self._now_unix_ms() / 1_000)
        domain = self._server.sender.rpartition("@")[2] or "edgeforge.invalid"
        message["Message-ID"] = f"<{delivery_id}@{domain}>"
        message["Auto-Submitted"] = "auto-generated"
        message.set_content(text)
        async with self._turn:
            try:
                await asyncio.to_thread(self._hand_over, message)
            except (smtplib.SMTPException, OSError) as error:
                text = f"{type(error).__name__}: {error}"[:_MAX_ERROR_CHARS]
                raise LinkDown(f"the mail server did not take the message: {text}") from error

    def _hand_over(self, message: EmailMessage) -> None:
        server = self._server
        context = ssl.create_default_context(cafile=server.ca_file or None)
        if server.tls == "tls":
            client: smtplib.SMTP = smtplib.SMTP_SSL(
                server.host, server.port, timeout=server.timeout_s, context=context
            )
        else:
            client = smtplib.SMTP(server.host, server.port, timeout=server.timeout_s)
        with client:
            if server.tls == "starttls":
                client.starttls(context=context)
            if server.user:
                client.login(server.user, server.password)
            client.send_message(message)
