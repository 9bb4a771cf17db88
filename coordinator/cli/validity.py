"""How long an operator's certificate is valid still."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cryptography import x509

from protos.domain.certificates import DAY_MS, OPERATOR_LIFE_MS

#: A certificate is renewed when less than this share of its life is left.
DUE_SHARE = 1 / 3


@dataclass(frozen=True, slots=True)
class Validity:
    """Until when a certificate is valid. Its beginning is long before its issue, and not used."""

    not_after_unix_ms: int

    def due(self, now_unix_ms: int) -> bool:
        """Return whether to renew; not once it has expired, when it no longer opens the door."""
        return 0 < self.not_after_unix_ms - now_unix_ms < OPERATOR_LIFE_MS * DUE_SHARE

    def days_left(self, now_unix_ms: int) -> float:
        """Return how long it is valid still; negative: it has expired."""
        return (self.not_after_unix_ms - now_unix_ms) / DAY_MS


def certificate_in(pem: bytes) -> x509.Certificate | None:
    """Return the first certificate in a PEM, None if there is none."""
    try:
        return x509.load_pem_x509_certificate(pem)
    except ValueError:
        return None


def validity_of(path: Path) -> Validity | None:
    """Return the validity of the certificate in a file, None if it cannot be read."""
    try:
        certificate = certificate_in(path.read_bytes())
    except OSError:
        return None
    if certificate is None:
        return None
    return Validity(int(certificate.not_valid_after_utc.timestamp() * 1_000))
