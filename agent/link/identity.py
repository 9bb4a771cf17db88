"""The node's identity: files in ``state_dir/identity``, written at enrolment and every renewal."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from agent.core.samples import Sample, Samples
from protos.domain.errors import ConfigInvalid

KEY = "key.pem"
CERT = "cert.pem"
CA = "ca.pem"
FACTS = "identity.json"
#: The key made for an enrolment or renewal whose answer has not arrived yet.
PENDING_KEY = "pending-key.pem"

_HINT = "enrol this host: edgeforge-agent enroll --config FILE --token-file -"


@dataclass(frozen=True, slots=True)
class Identity:
    """What the coordinator assigned at enrolment; the times are those of the certificate."""

    node_id: str
    pop_id: str
    fleet_address: str
    not_before_unix_ms: int
    not_after_unix_ms: int

    def age_s(self, now_unix_ms: int) -> float:
        """Return how long ago the certificate was issued."""
        return max(0.0, (now_unix_ms - self.not_before_unix_ms) / 1_000)


@dataclass(slots=True)
class CurrentIdentity:
    """The identity in use, replaced at each renewal, and the URL that clients reach it at."""

    value: Identity
    client_url: str
    now_unix_ms: Callable[[], int]

    def certificate_age_s(self) -> float:
        """Return seconds since the certificate was issued."""
        return self.value.age_s(self.now_unix_ms())

    def samples(self, _now_mono_ms: float) -> Samples:
        """Yield the certificate's age."""
        yield Sample(
            "edgeforge_certificate_age_seconds",
            "Since this node's certificate was issued.",
            self.certificate_age_s(),
        )

    def status(self, _now_mono_ms: float) -> dict[str, object]:
        """Return the node's names and its certificate's times."""
        return {
            "node": self.value.node_id,
            "pop": self.value.pop_id,
            "client_url": self.client_url,
            "certificate_age_s": self.certificate_age_s(),
            "certificate_not_after_unix_ms": self.value.not_after_unix_ms,
        }


def load_identity(folder: Path) -> Identity:
    """Read the identity. Raises: ConfigInvalid when this host is not enrolled."""
    for name in (KEY, CERT, CA, FACTS):
        if not (folder / name).is_file():
            raise ConfigInvalid([f"this host is not enrolled: no {folder / name}"], _HINT)
    try:
        facts = json.loads((folder / FACTS).read_text(encoding="utf-8"))
        return Identity(**facts)
    except (ValueError, TypeError) as error:
        raise ConfigInvalid([f"{folder / FACTS} is damaged: {error}"], _HINT) from error


def save_identity(
    folder: Path, identity: Identity, *, key_pem: bytes, cert_pem: bytes, ca_pem: bytes
) -> None:
    """Write all files, ``identity.json`` last: without it the others are not an identity."""
    make_private_folder(folder)
    (folder / FACTS).unlink(missing_ok=True)
    write_private(folder / KEY, key_pem)
    write_private(folder / CERT, cert_pem)
    write_private(folder / CA, ca_pem)
    write_private(folder / FACTS, json.dumps(asdict(identity), indent=1).encode())
    (folder / PENDING_KEY).unlink(missing_ok=True)


def make_private_folder(folder: Path) -> None:
    """Make ``folder``, accessible to its owner only."""
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)


def write_private(path: Path, data: bytes) -> None:
    """Write ``data`` atomically, readable by its owner only."""
    partial = path.with_suffix(path.suffix + ".partial")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    partial.rename(path)
