"""Sends signed webhooks to customers' addresses, and to no private one."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import urlsplit

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver

from coordinator.core.public_addresses import refusal_of
from coordinator.core.webhook_signature import HEADER, sign
from protos.domain.errors import InvalidRequest, LinkDown

TIMEOUT_S: Final = 10.0
MAX_URL_CHARS: Final = 1_000
#: Of an answer, read to reuse nothing: the rest is not read.
_MAX_ANSWER_BYTES: Final = 1_024
_HTTP_OK: Final = range(200, 300)


class WebhookSender:
    """Posts JSON over HTTPS; the address is judged at every connection."""

    def __init__(
        self, now_unix_ms: Callable[[], int], *, allow_private: bool, timeout_s: float = TIMEOUT_S
    ) -> None:
        self._now_unix_ms = now_unix_ms
        self._allow_private = allow_private
        self._timeout_s = timeout_s

    async def send(self, url: str, secret: str, delivery_id: str, body: bytes) -> None:
        """Deliver once. Raises: InvalidRequest for an address that may not be; LinkDown."""
        check_url(url, allow_private=self._allow_private)
        headers = {
            "Content-Type": "application/json",
            "EdgeForge-Delivery": delivery_id,
            "User-Agent": "EdgeForge-Webhook",
            HEADER: sign(secret, body, self._now_unix_ms() // 1_000),
        }
        resolver = None if self._allow_private else _PublicResolver()
        connector = aiohttp.TCPConnector(
            resolver=resolver, force_close=True, use_dns_cache=False, limit=1
        )
        timeout = aiohttp.ClientTimeout(total=self._timeout_s)
        try:
            async with (
                aiohttp.ClientSession(
                    connector=connector, timeout=timeout, trust_env=False
                ) as session,
                session.post(url, data=body, headers=headers, allow_redirects=False) as answer,
            ):
                await answer.content.read(_MAX_ANSWER_BYTES)
                if answer.status not in _HTTP_OK:
                    raise LinkDown(f"the webhook answered {answer.status}")
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise LinkDown(f"the webhook cannot be reached: {type(error).__name__}") from error


class _PublicResolver(AbstractResolver):
    """Resolves names, and drops every address that is not public."""

    def __init__(self) -> None:
        self._resolver = ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Return public addresses. Raises: OSError if there is none."""
        found = await self._resolver.resolve(host, port, family)
        public = [one for one in found if not refusal_of(one["host"])]
        if not public:
            raise OSError(f"{host} has no public address")
        return public

    async def close(self) -> None:
        """Close the resolver."""
        await self._resolver.close()


def check_url(url: str, *, allow_private: bool) -> str:
    """Return an address that alerts may be sent to. Raises: InvalidRequest."""
    try:
        parts: Any = urlsplit(url)
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    schemes = ("https", "http") if allow_private else ("https",)
    if (
        len(url) > MAX_URL_CHARS
        or not url.isascii()
        or not url.isprintable()
        or parts.scheme not in schemes
        or not parts.hostname
        or parts.username is not None
        or port == 0
    ):
        raise InvalidRequest(f"{url[:80]!a} is no address for a webhook", "https://host/path")
    if not allow_private and _is_address(parts.hostname) and (why := refusal_of(parts.hostname)):
        raise InvalidRequest(f"the webhook's address is refused: {why}", "use a public one")
    return url


def _is_address(host: str) -> bool:
    """Return whether a host is an IP address in any of the ways that a resolver reads."""
    if ":" in host:
        return True
    last = host.rstrip(".").rpartition(".")[2]
    return last.isdigit() or last.startswith("0x")
