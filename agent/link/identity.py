"""The node's identity: one file, ``identity.pem``, replaced whole at enrolment and every renewal.

Its first line is ``EdgeForge identity`` and a JSON object: the facts, and the SHA-256 of what
follows. Then come the private key, the certificate, and after ``Authorities`` the CA bundle, in
PEM. A key whose certificate has not arrived yet is in a file of its own, ``pending-key.pem``.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import ssl
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

from agent.core.samples import Sample, Samples
from protos.domain.certificates import node_issued_unix_ms
from protos.domain.errors import ConfigInvalid
from protos.host.files import make_private_folder, write_whole
from protos.host.ownership import not_allowed

FILE = "identity.pem"
#: The key made for an enrolment or renewal whose answer has not arrived yet.
PENDING_KEY = "pending-key.pem"
#: The layout of earlier versions, which a kill could leave half renewed.
_OLD_KEY, _OLD_CERT, _OLD_CA, _OLD_FACTS = "key.pem", "cert.pem", "ca.pem", "identity.json"

_HEAD = b"EdgeForge identity "
_AUTHORITIES = b"\nAuthorities\n"
_HINT = "enrol this host: edgeforge-agent enroll --config FILE --token-file -"


@dataclass(frozen=True, slots=True)
class Identity:
    """What the coordinator assigned at enrolment; the times are those of the certificate."""

    node_id: str
    pop_id: str
    fleet_address: str
    not_before_unix_ms: int
    not_after_unix_ms: int
    #: Digest of the authority that the enrolment token pinned: which fleet this is.
    fleet_id: str = ""

    @property
    def issued_unix_ms(self) -> int:
        """When the certificate was issued, by the coordinator's clock."""
        return node_issued_unix_ms(self.not_after_unix_ms)

    @property
    def owner(self) -> str:
        """What the state on disk belongs to: a node of a fleet."""
        return f"{self.fleet_id}/{self.node_id}"

    def age_s(self, now_unix_ms: int) -> float:
        """Return how long ago the certificate was issued."""
        return max(0.0, (now_unix_ms - self.issued_unix_ms) / 1_000)


@dataclass(frozen=True, slots=True)
class StoredIdentity:
    """The whole file: the facts, the key (not shown), its certificate, and the CA bundle."""

    identity: Identity
    key_pem: bytes = field(repr=False)
    cert_pem: bytes
    ca_pem: bytes


@dataclass(slots=True)
class CurrentIdentity:
    """The identity in use, replaced at each renewal, and the URL that clients reach it at."""

    stored: StoredIdentity
    client_url: str
    #: The coordinator's clock, as this host knows it.
    now_unix_ms: Callable[[], int]
    #: Why the last renewal failed; empty when it did not.
    renewal_error: Callable[[], str] = lambda: ""

    @property
    def value(self) -> Identity:
        """The facts of the identity."""
        return self.stored.identity

    def certificate_age_s(self) -> float:
        """Return seconds since the certificate was issued."""
        return self.value.age_s(self.now_unix_ms())

    def certificate_remaining_s(self) -> float:
        """Return seconds until the certificate ends; negative afterwards."""
        return (self.value.not_after_unix_ms - self.now_unix_ms()) / 1_000

    def samples(self, _now_mono_ms: float) -> Samples:
        """Yield the certificate's age and what is left of it."""
        yield Sample(
            "edgeforge_certificate_age_seconds",
            "Since this node's certificate was issued.",
            self.certificate_age_s(),
        )
        yield Sample(
            "edgeforge_certificate_remaining_seconds",
            "Until this node's certificate ends, by the coordinator's clock.",
            self.certificate_remaining_s(),
        )

    def status(self, _now_mono_ms: float) -> dict[str, object]:
        """Return the node's names and its certificate's times."""
        return {
            "node": self.value.node_id,
            "pop": self.value.pop_id,
            "client_url": self.client_url,
            "certificate_age_s": self.certificate_age_s(),
            "certificate_remaining_s": self.certificate_remaining_s(),
            "certificate_not_after_unix_ms": self.value.not_after_unix_ms,
            "renewal_error": self.renewal_error(),
        }


def load_identity(folder: Path) -> Identity:
    """Return the facts of the stored identity. Raises: ConfigInvalid."""
    return load_stored(folder).identity


def load_stored(folder: Path) -> StoredIdentity:
    """Read the identity, in the present layout or that of earlier versions.

    Raises: ConfigInvalid when this host is not enrolled, or may not read the file.
    """
    path = folder / FILE
    try:
        return _decoded(path.read_bytes(), path)
    except FileNotFoundError:
        pass
    except PermissionError as error:
        raise not_allowed(path, below=folder.parent) from error
    except OSError as error:
        raise ConfigInvalid([f"{path} cannot be read: {error.strerror}"], _HINT) from error
    old = _load_old(folder)
    if old is None:
        raise ConfigInvalid([f"this host is not enrolled: no {path}"], _HINT)
    return old


def is_enrolled(folder: Path) -> bool:
    """Whether there is an identity of either layout, damaged or not."""
    return (folder / FILE).exists() or (folder / _OLD_FACTS).exists()


def save_identity(
    folder: Path, identity: Identity, *, key_pem: bytes, cert_pem: bytes, ca_pem: bytes
) -> StoredIdentity:
    """Replace the identity in one rename; the pending key goes after it. Raises: OSError."""
    make_private_folder(folder)
    stored = StoredIdentity(identity, key_pem, cert_pem, ca_pem)
    write_whole(folder / FILE, _encoded(stored))
    for name in (PENDING_KEY, _OLD_FACTS, _OLD_KEY, _OLD_CERT, _OLD_CA):
        (folder / name).unlink(missing_ok=True)
    return stored


def use_in(context: ssl.SSLContext, stored: StoredIdentity) -> None:
    """Load the identity into a TLS context. Raises: ConfigInvalid when it is damaged."""
    try:
        with _in_memory(stored.key_pem + stored.cert_pem) as path:
            context.load_cert_chain(path)
        context.load_verify_locations(cadata=stored.ca_pem.decode("ascii"))
    except (ssl.SSLError, UnicodeDecodeError) as error:
        raise ConfigInvalid([f"the identity of this node is damaged: {error}"], _HINT) from error


def has_old_layout(folder: Path) -> bool:
    """Whether the identity is in the four files of an earlier version."""
    return not (folder / FILE).exists() and (folder / _OLD_FACTS).exists()


def resave(folder: Path, stored: StoredIdentity) -> None:
    """Write ``stored`` in the present layout. Raises: OSError."""
    pem = {"key_pem": stored.key_pem, "cert_pem": stored.cert_pem, "ca_pem": stored.ca_pem}
    save_identity(folder, stored.identity, **pem)


def _load_old(folder: Path) -> StoredIdentity | None:
    """Return the identity in the layout of earlier versions, None if a file is missing."""
    names = (_OLD_FACTS, _OLD_KEY, _OLD_CERT, _OLD_CA)
    try:
        facts, key_pem, cert_pem, ca_pem = ((folder / name).read_bytes() for name in names)
        first_ca = ca_pem.decode("ascii").partition("-----END CERTIFICATE-----")
        der = ssl.PEM_cert_to_DER_cert("".join(first_ca[:2]).strip())
        fleet_id = hashlib.sha256(der).hexdigest()
        identity = Identity(**{**json.loads(facts), "fleet_id": fleet_id})
    except FileNotFoundError:
        return None
    except PermissionError as error:
        raise not_allowed(Path(error.filename), below=folder.parent) from error
    except (ValueError, TypeError) as error:
        raise ConfigInvalid([f"{folder / _OLD_FACTS} is damaged: {error}"], _HINT) from error
    return StoredIdentity(identity, key_pem, cert_pem, ca_pem)


def _encoded(stored: StoredIdentity) -> bytes:
    body = stored.key_pem + stored.cert_pem.rstrip() + _AUTHORITIES + stored.ca_pem
    facts = {**asdict(stored.identity), "sha256": hashlib.sha256(body).hexdigest()}
    return _HEAD + json.dumps(facts).encode() + b"\n" + body


def _decoded(data: bytes, path: Path) -> StoredIdentity:
    """Raises: ConfigInvalid."""
    head, _, body = data.partition(b"\n")
    try:
        facts = json.loads(head.removeprefix(_HEAD))
        if facts.pop("sha256") != hashlib.sha256(body).hexdigest():
            raise ValueError("its digest does not match")
        identity = Identity(**facts)
        private, _, ca_pem = body.partition(_AUTHORITIES)
        key_pem, cut, cert_pem = private.partition(b"-----BEGIN CERTIFICATE-----")
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ConfigInvalid([f"{path} is damaged: {error}"], _HINT) from error
    return StoredIdentity(identity, key_pem, cut + cert_pem + b"\n", ca_pem)


@contextlib.contextmanager
def _in_memory(data: bytes) -> Iterator[str]:
    """Make a file of ``data`` that only this process sees: the TLS library reads files only."""
    descriptor = os.memfd_create("identity", os.MFD_CLOEXEC)
    try:
        os.write(descriptor, data)
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)
