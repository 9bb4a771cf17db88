"""Tokens as their holders bring them: the secret is proved before anything else is read."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from coordinator.operations.secret_texts import is_proved
from coordinator.store import audit, tokens
from coordinator.store.records import AuditNote, RefusalCause, TokenRefused
from protos.domain.errors import InvalidRequest, Unauthenticated

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable

    from coordinator.ca.certificates import IssuedCertificate
    from coordinator.store.records import Purpose, Redemption, TokenRecord
    from coordinator.store.store import Store

_log = logging.getLogger(__name__)

_MAX_ID_CHARS = 64


class TokenProof:
    """Proves tokens of one purpose, and refuses all others without saying why."""

    def __init__(
        self, store: Store, purpose: Purpose, now_unix_ms: Callable[[], int], hint: str
    ) -> None:
        """``hint`` is what the caller of a refused token should do."""
        self._store = store
        self._purpose = purpose
        self._now_unix_ms = now_unix_ms
        self._hint = hint

    async def redeem(
        self,
        caller: str,
        token_id: str,
        secret: str,
        issue: Callable[[str], Awaitable[IssuedCertificate]],
    ) -> Redemption:
        """Redeem a token for the holder of a key. Raises: Unauthenticated, InvalidRequest.

        ``issue`` is called once the secret is proved, with the name to certify. A refusal does not
        say why; the log and the audit do.
        """
        async with self._refusals_noted(caller, token_id):
            token = await self._prove(token_id, secret)
            # Sent only if this call is the one that uses the token.
            issued = await issue(token.name)
            return await self._store.write(
                tokens.redeem(
                    token.id,
                    self._purpose,
                    public_key_sha256=issued.public_key_sha256,
                    certificate_pem=issued.pem,
                    serial=issued.serial,
                    not_after_unix_ms=issued.not_after_unix_ms,
                    actor=caller,
                )
            )

    async def _prove(self, token_id: str, secret: str) -> TokenRecord:
        """Return the token whose secret this is. Raises: TokenRefused."""
        token = await self._store.read(tokens.by_id(token_id[:_MAX_ID_CHARS]))
        proved = is_proved(secret, token.secret_sha256 if token else None)
        if token is None:
            raise TokenRefused(RefusalCause.UNKNOWN)
        if not proved:
            raise TokenRefused(RefusalCause.FORGED, token.name)
        if token.purpose is not self._purpose:
            raise TokenRefused(RefusalCause.OTHER_PURPOSE, token.name)
        if token.expires_unix_ms <= self._now_unix_ms():
            raise TokenRefused(RefusalCause.EXPIRED, token.name)
        return token

    @asynccontextmanager
    async def _refusals_noted(self, actor: str, token_id: str) -> AsyncIterator[None]:
        """Log and audit the refusal of a token. The caller is not told the reason.

        Raises: Unauthenticated, InvalidRequest.
        """
        subject = f"token/{token_id[:_MAX_ID_CHARS]!a}"
        try:
            yield
        except InvalidRequest as error:
            _log.warning("enrolment refused by=%s cause=bad_request: %s", actor, error)
            await self._note(AuditNote(actor, "enrolment.refused", subject, error.message))
            raise
        except TokenRefused as refused:
            detail = f"cause={refused.cause} {self._purpose}={refused.name or 'unknown'}"
            _log.warning("enrolment refused by=%s %s %s", actor, subject, detail)
            await self._note(AuditNote(actor, "enrolment.refused", subject, detail))
            raise Unauthenticated(
                "the enrolment token is not valid", self._hint, code="enrolment_refused"
            ) from None

    async def _note(self, note: AuditNote) -> None:
        await self._store.write(audit.append(note))
