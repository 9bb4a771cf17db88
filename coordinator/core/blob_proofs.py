"""Which account has shown that it has the bytes of a blob, by sending all of them.

Blobs are stored once for everyone, and a digest alone must not let an account read what another
one keeps private.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

#: Proofs that are kept; the oldest go first, and their blobs are asked for again.
MAX_PROOFS: Final = 100_000


class BlobProofs:
    """Proofs since the process began; what is published needs none."""

    def __init__(self, max_proofs: int = MAX_PROOFS) -> None:
        self._max_proofs = max_proofs
        #: (account, digest), the oldest first
        self._order: dict[tuple[str, bytes], None] = {}
        #: account -> digest -> bytes
        self._sent: dict[str, dict[bytes, int]] = {}

    def add(self, account_id: str, sha256: bytes, size_bytes: int) -> None:
        """Remember that an account has sent all of a blob."""
        self.forget(account_id, sha256)
        self._order[account_id, sha256] = None
        self._sent.setdefault(account_id, {})[sha256] = size_bytes
        while len(self._order) > self._max_proofs:
            self.forget(*next(iter(self._order)))

    def holds(self, account_id: str, sha256: bytes) -> bool:
        """Return whether an account has sent all of a blob."""
        return (account_id, sha256) in self._order

    def sent_by(self, account_id: str) -> Mapping[bytes, int]:
        """Return what an account has sent: digest -> bytes."""
        return self._sent.get(account_id, {})

    def forget(self, account_id: str, sha256: bytes) -> None:
        """Forget one proof, if there is one."""
        if self._order.pop((account_id, sha256), self) is None:
            sent = self._sent[account_id]
            del sent[sha256]
            if not sent:
                del self._sent[account_id]
