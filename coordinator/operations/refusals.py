"""Records refusals: each is logged, and at most a limited rate for each actor is audited."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from coordinator.core.rate_limit import RateLimit
from coordinator.store import audit
from protos.domain.errors import StoreUnavailable

if TYPE_CHECKING:
    from coordinator.store.records import AuditNote
    from coordinator.store.store import Store

_log = logging.getLogger(__name__)

_AUDITED_PER_S = 0.1
_AUDITED_BURST = 10.0


class RefusalRecorder:
    """Logs and audits refusals."""

    def __init__(self, store: Store, now_mono_ms: Callable[[], float]) -> None:
        self._store = store
        self._now_mono_ms = now_mono_ms
        self._audited = RateLimit(per_s=_AUDITED_PER_S, burst=_AUDITED_BURST)

    async def record(self, note: AuditNote) -> None:
        """Log ``note`` and audit it; a database that is unavailable only costs the audit entry."""
        _log.warning(
            "refused action=%s actor=%s subject=%s: %s",
            *(note.action, note.actor, note.subject, note.detail),
        )
        if self._audited.take(note.actor, self._now_mono_ms()) > 0.0:
            return
        try:
            await self._store.write(audit.append(note))
        except StoreUnavailable as error:
            _log.error("refusal not audited actor=%s: %s", note.actor, error)
