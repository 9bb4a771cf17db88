"""Webhooks of the payment provider, for the listener that it can reach."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

from aiohttp import web

from protos.domain.errors import EdgeForgeError

_log = logging.getLogger(__name__)

PATH = "/payments/webhook"
MAX_BODY_BYTES = 256 * 1024

Accept = Callable[[bytes, str], Awaitable[None]]


def make_payment_webhook(accept: Accept) -> Callable[[web.Request], Awaitable[web.Response]]:
    """Return the handler of ``POST /payments/webhook``.

    ``accept(payload, signature)`` checks the signature over the bytes as they came. An event that
    could not be stored is answered 503, so that the provider sends it again.
    """

    async def handle(request: web.Request) -> web.Response:
        if (request.content_length or 0) > MAX_BODY_BYTES:
            return web.json_response({"error": "too large"}, status=413)
        body = await request.content.read(MAX_BODY_BYTES + 1)
        while len(body) <= MAX_BODY_BYTES and not request.content.at_eof():
            body += await request.content.read(MAX_BODY_BYTES + 1 - len(body))
        if len(body) > MAX_BODY_BYTES:
            return web.json_response({"error": "too large"}, status=413)
        try:
            await accept(body, request.headers.get("Stripe-Signature", ""))
        except EdgeForgeError as error:
            _log.warning("payment webhook refused: %s", error.message)
            return web.json_response({"error": error.message}, status=error.http_status)
        return web.json_response({"received": True})

    return handle
