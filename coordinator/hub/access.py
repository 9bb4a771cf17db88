"""Who calls: the account of an API key, or of a signed address of an upload."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

from coordinator.core.rate_limit import RateLimit
from coordinator.operations.actor import Actor
from protos.domain.connection_shares import source_group
from protos.domain.errors import Forbidden, InvalidRequest, RateLimited, Unauthenticated
from protos.domain.key_scopes import check_scopes

if TYPE_CHECKING:
    from aiohttp import web

    from coordinator.operations.member_secrets import MemberLogins
    from protos.domain.customers import ApiKey

#: Wrong keys from one address: at once, and on average.
_FAILURES_AT_ONCE, _FAILURES_PER_S = 30.0, 1.0
#: Requests of one account.
_REQUESTS_AT_ONCE, _REQUESTS_PER_S = 600.0, 60.0
_MAX_KEY_CHARS = 200
_MAX_TICKET_CHARS = 1_000
#: How long an address of an upload is good for.
TICKET_LIFE_MS = 24 * 3_600_000


@dataclass(frozen=True, slots=True)
class Ticket:
    """What a signed address allows: the receipt of one file, or of one part of it."""

    account_id: str
    sha256: bytes
    size_bytes: int
    #: From 1; 0: the whole file, or the end of an upload in parts.
    part: int
    expires_unix_ms: int


class Access:
    """Admits requests. One for a listener."""

    def __init__(
        self,
        keys: Callable[[], Mapping[bytes, ApiKey]],
        secret: bytes,
        now_mono_ms: Callable[[], float],
        now_unix_ms: Callable[[], int],
        logins: MemberLogins | None = None,
    ) -> None:
        self._logins = logins
        self._keys = keys
        self._secret = secret
        self._now_mono_ms = now_mono_ms
        self._now_unix_ms = now_unix_ms
        self._failures = RateLimit(per_s=_FAILURES_PER_S, burst=_FAILURES_AT_ONCE)
        self._requests = RateLimit(per_s=_REQUESTS_PER_S, burst=_REQUESTS_AT_ONCE)

    def actor_of(self, request: web.Request) -> Actor:
        """Return the account that calls, by an API key or by the token of a member.

        The key is looked up by its digest, which tells nothing about other keys by its time.
        Raises: Unauthenticated, Forbidden for a key of single deployments, RateLimited.
        """
        headers = request.headers.getall("Authorization", [])
        if len(headers) > 1:
            raise InvalidRequest("the request has two Authorization headers", "send one")
        scheme, _, text = (headers[0] if headers else "").partition(" ")
        text = text.strip()
        key = None
        if scheme.lower() == "bearer" and 0 < len(text) <= _MAX_KEY_CHARS:
            digest = hashlib.sha256(text.encode(errors="replace")).digest()
            key = self._keys().get(digest)
            if key is None and (member := self._member_of(text, request)) is not None:
                return self._admitted(member)
        if key is None or not self._is_live(key):
            self._fail(request.remote or "")
        if key.deployments:
            raise Forbidden(
                "this key opens single deployments only",
                "use a key of the whole account: `edgeforge key create --account NAME`",
            )
        check_scopes(key, "", request.remote or "")
        if key.endpoints:
            raise Forbidden(
                "this key opens single endpoints only",
                "use a key of the whole account, or a token of a member who is a developer",
            )
        return self._admitted(Actor.of_account(key.account_id, request.remote or ""))

    def ticket(self, ticket: Ticket) -> str:
        """Return ``ticket`` as a segment of an address."""
        payload = json.dumps(
            [
                ticket.account_id,
                ticket.sha256.hex(),
                ticket.size_bytes,
                ticket.part,
                ticket.expires_unix_ms,
            ],
            separators=(",", ":"),
        ).encode()
        return _text_of(payload) + "." + _text_of(self._signature(payload))

    def redeemed(self, request: web.Request, text: str) -> tuple[Ticket, Actor]:
        """Return what a signed address allows, and the account it was made for.

        Clients send no key to it; it opens nothing once the account has none.
        Raises: Unauthenticated, RateLimited.
        """
        payload_text, _, signature_text = text[:_MAX_TICKET_CHARS].partition(".")
        payload, signature = _bytes_of(payload_text), _bytes_of(signature_text)
        if not hmac.compare_digest(signature, self._signature(payload)):
            self._fail(request.remote or "")
        account_id, sha256_hex, size_bytes, part, expires_unix_ms = json.loads(payload)
        if expires_unix_ms <= self._now_unix_ms():
            raise Unauthenticated("the address of this upload has expired", "upload again")
        if not self._has_live_secret(account_id):
            raise Unauthenticated("the account of this upload has no key any more")
        ticket = Ticket(account_id, bytes.fromhex(sha256_hex), size_bytes, part, expires_unix_ms)
        return ticket, self._admitted(Actor.of_account(account_id, request.remote or ""))

    def _has_live_secret(self, account_id: str) -> bool:
        if self._logins is not None and self._logins.has_live_token(account_id):
            return True
        return any(
            key.account_id == account_id and not key.deployments and self._is_live(key)
            for key in self._keys().values()
        )

    def _member_of(self, text: str, request: web.Request) -> Actor | None:
        if self._logins is None:
            return None
        return self._logins.actor_of(text, request.remote or "")

    def _is_live(self, key: ApiKey) -> bool:
        return not 0 < key.expires_unix_ms <= self._now_unix_ms()

    def _admitted(self, actor: Actor) -> Actor:
        wait_s = self._requests.take(actor.account_id, self._now_mono_ms())
        if wait_s:
            raise RateLimited("too many requests of this account", retry_after_s=wait_s)
        return actor

    def _fail(self, remote: str) -> NoReturn:
        wait_s = self._failures.take(source_group(remote), self._now_mono_ms())
        if wait_s:
            raise RateLimited("too many wrong keys from this address", retry_after_s=wait_s)
        raise Unauthenticated(
            "no valid key",
            "HF_TOKEN is a member's token, or an API key: `edgeforge key create --account NAME`",
        )

    def _signature(self, payload: bytes) -> bytes:
        return hmac.digest(self._secret, payload, "sha256")


def _text_of(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _bytes_of(text: str) -> bytes:
    try:
        return base64.urlsafe_b64decode(text.encode() + b"=" * (-len(text) % 4))
    except (binascii.Error, ValueError):
        return b""
