"""The server's own certificate: made in memory, replaced in the running listeners when due."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, cast

import grpc

from coordinator.core.server_certificate import is_due

if TYPE_CHECKING:
    from collections.abc import Callable

    from coordinator.ca.authority import CertificateAuthority

_log = logging.getLogger(__name__)

CHECK_INTERVAL_S = 60.0

Configuration = grpc.ServerCertificateConfiguration


class ServerCredentials:
    """One certificate for all listeners; a handshake takes the newest, streams are not cut."""

    def __init__(
        self, authority: CertificateAuthority, name: str, now_unix_ms: Callable[[], int]
    ) -> None:
        self._authority = authority
        self._name = name
        self._now_unix_ms = now_unix_ms
        self._issued_unix_ms = 0
        #: One for clients with a certificate, one for those without. Read by gRPC's threads.
        self._configurations: dict[bool, Configuration] = {}
        self._make()

    def mutual(self) -> grpc.ServerCredentials:
        """Return credentials that require a client certificate of this authority."""
        return self._dynamic(mutual=True)

    def server_only(self) -> grpc.ServerCredentials:
        """Return credentials that require no client certificate."""
        return self._dynamic(mutual=False)

    def renew_if_due(self) -> bool:
        """Make a new certificate if the present one is not right by the clock of now."""
        now_unix_ms = self._now_unix_ms()
        if not is_due(self._issued_unix_ms, now_unix_ms):
            return False
        was = self._issued_unix_ms
        self._make()
        _log.warning(
            "server certificate made anew issued_unix_ms=%d now_unix_ms=%d", was, now_unix_ms
        )
        return True

    async def run(self) -> None:
        """Look every minute, until cancelled."""
        while True:
            await asyncio.sleep(CHECK_INTERVAL_S)
            try:
                self.renew_if_due()
            except Exception:
                _log.exception("server certificate not looked at, trying again")

    def _make(self) -> None:
        now_unix_ms = self._now_unix_ms()
        pair, roots = [self._authority.new_coordinator(self._name)], self._authority.bundle_pem
        self._configurations = {
            True: grpc.ssl_server_certificate_configuration(pair, roots),
            False: grpc.ssl_server_certificate_configuration(pair),
        }
        self._issued_unix_ms = now_unix_ms

    def _dynamic(self, *, mutual: bool) -> grpc.ServerCredentials:
        given = self._configurations[mutual]

        def newer() -> Configuration | None:
            """Return what the next handshake is to use, None when that is what it has."""
            nonlocal given
            current = self._configurations[mutual]
            if current is given:
                return None
            given = current
            return current

        # gRPC's stubs do not know that None is allowed.
        fetch = cast("Callable[[], Configuration]", newer)
        return grpc.dynamic_ssl_server_credentials(
            given, fetch, require_client_authentication=mutual
        )
