"""Who this node is: files in ``state_dir/identity``, written at enrolment and at every renewal."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

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
    """What enrolment taught; the times are those of the certificate."""

    node_id: str
    pop_id: str
    fleet_address: str
    not_before_unix_ms: int
    not_after_unix_ms: int

    def age_s(self, now_unix_ms: int) -> float:
        """Return how long ago the certificate was issued."""
        return max(0.0, (now_unix_ms - self.not_before_unix_ms) / 1_000)


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
    """Write all files; the facts last, so that a half-written identity is none."""
    make_private_folder(folder)
    (folder / FACTS).unlink(missing_ok=True)
    write_private(folder / KEY, key_pem)
    write_private(folder / CERT, cert_pem)
    write_private(folder / CA, ca_pem)
    write_private(folder / FACTS, json.dumps(asdict(identity), indent=1).encode())
    (folder / PENDING_KEY).unlink(missing_ok=True)


def make_private_folder(folder: Path) -> None:
    """Make ``folder`` so that only its owner may look inside."""
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)


def write_private(path: Path, data: bytes) -> None:
    """Write ``data`` whole or not at all, readable by its owner only."""
    partial = path.with_suffix(path.suffix + ".partial")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    partial.rename(path)
