"""Which account has shown that it has the bytes of a blob, by sending all of them.

Blobs are stored once for everyone, and a digest alone must not let an account read what another
one keeps private.
"""

from __future__ import annotations

from typing import Final

#: Proofs that are kept; the oldest go first, and their blobs are asked for again.
MAX_PROOFS: Final = 100_000


class BlobProofs:
    """Proofs since the process began; what is published needs none."""

    def __init__(self, max_proofs: int = MAX_PROOFS) -> None:
        self._max_proofs = max_proofs
        self._proofs: dict[tuple[str, bytes], None] = {}

    def add(self, account_id: str, sha256: bytes) -> None:
        """Remember that an account has sent all of a blob."""
        self._proofs.pop((account_id, sha256), None)
        self._proofs[account_id, sha256] = None
        while len(self._proofs) > self._max_proofs:
            del self._proofs[next(iter(self._proofs))]

    def holds(self, account_id: str, sha256: bytes) -> bool:
        """Return whether an account has sent all of a blob."""
        return (account_id, sha256) in self._proofs
