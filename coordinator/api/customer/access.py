"""Who calls the customers' API, and how often: tokens of members, limits of each and of sources."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

from coordinator.core.rate_limit import RateLimit
from protos.domain.connection_shares import source_group
from protos.domain.errors import InvalidRequest, RateLimited, Unauthenticated

if TYPE_CHECKING:
    from aiohttp import web

    from coordinator.operations.actor import Actor
    from coordinator.operations.member_secrets import MemberLogins

#: Downloads that are sent chunk by chunk, of one account at once.
MAX_DOWNLOADS_OF_ACCOUNT = 2
_DOWNLOAD_RETRY_S = 5.0
_MAX_TOKEN_CHARS = 200
_HINT = "send a member's token as 'Authorization: Bearer efm-...'; an API key opens no account"


@dataclass(frozen=True, slots=True)
class Rates:
    """Requests at once, and a second on average: of one source, one token, one account.

    ``failures``: wrong tokens of one source.
    """

    source_at_once: float = 600.0
    source_per_s: float = 60.0
    token_at_once: float = 200.0
    token_per_s: float = 20.0
    account_at_once: float = 600.0
    account_per_s: float = 60.0
    failures_at_once: float = 20.0
    failures_per_s: float = 0.2


DEFAULT_RATES = Rates()


class ApiAccess:
    """Admits requests. One for a listener."""

    def __init__(
        self,
        logins: MemberLogins,
        now_mono_ms: Callable[[], float],
        rates: Rates = DEFAULT_RATES,
    ) -> None:
        self._logins = logins
        self._now_mono_ms = now_mono_ms
        self._failures = RateLimit(per_s=rates.failures_per_s, burst=rates.failures_at_once)
        self._sources = RateLimit(per_s=rates.source_per_s, burst=rates.source_at_once)
        self._tokens = RateLimit(per_s=rates.token_per_s, burst=rates.token_at_once)
        self._accounts = RateLimit(per_s=rates.account_per_s, burst=rates.account_at_once)
        self._downloads: Counter[str] = Counter()

    def check_source(self, request: web.Request) -> None:
        """Count a request of a source, with or without a token. Raises: RateLimited."""
        self._take(self._sources, source_group(request.remote or ""), "this address")

    def actor_of(self, request: web.Request) -> Actor:
        """Return the member that calls. Raises: Unauthenticated, InvalidRequest, RateLimited."""
        text, actor = self._found(request)
        self._take(self._tokens, self._logins.token_id(text), "this token")
        self._take(self._accounts, actor.account_id, "this account")
        return actor

    def still(self, request: web.Request) -> Actor:
        """Return the member that calls as it is now. Raises: Unauthenticated, RateLimited."""
        return self._found(request)[1]

    @contextlib.contextmanager
    def download(self, actor: Actor) -> Iterator[None]:
        """Count a download while it is sent: one that is read slowly holds its connection.

        Raises: RateLimited.
        """
        account_id = actor.account_id
        if self._downloads[account_id] >= MAX_DOWNLOADS_OF_ACCOUNT:
            raise RateLimited(
                f"the account has {MAX_DOWNLOADS_OF_ACCOUNT} downloads open",
                "read one to its end first",
                retry_after_s=_DOWNLOAD_RETRY_S,
            )
        self._downloads[account_id] += 1
        try:
            yield
        finally:
            self._downloads[account_id] -= 1
            if not self._downloads[account_id]:
                del self._downloads[account_id]

    def _found(self, request: web.Request) -> tuple[str, Actor]:
        """Return the token that was sent, and whose it is. Raises: as ``actor_of``."""
        headers = request.headers.getall("Authorization", [])
        if len(headers) > 1:
            raise InvalidRequest("the request has two Authorization headers", "send one")
        scheme, _, text = (headers[0] if headers else "").partition(" ")
        text, address = text.strip(), request.remote or ""
        actor = None
        if scheme.lower() == "bearer" and 0 < len(text) <= _MAX_TOKEN_CHARS:
            actor = self._logins.actor_of(text, address)
        if actor is None:
            self._fail(address, is_given=bool(headers))
        return text, actor

    def _fail(self, address: str, *, is_given: bool) -> NoReturn:
        if not is_given:
            raise Unauthenticated("no token was given", _HINT)
        self._take(self._failures, source_group(address), "this address with a wrong token")
        raise Unauthenticated("this token is not valid", _HINT)

    def _take(self, limit: RateLimit, key: str, whose: str) -> None:
        wait_s = limit.take(key, self._now_mono_ms())
        if wait_s:
            raise RateLimited(f"too many requests of {whose}", "slow down", retry_after_s=wait_s)
