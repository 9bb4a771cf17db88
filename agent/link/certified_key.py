"""A new key of this node and its certificate: made, certified by the coordinator, and saved."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cryptography import x509
from grpc import aio

from agent.link.errors import rpc_error
from agent.link.identity import PENDING_KEY, Identity, StoredIdentity, save_identity
from protos.enrolment.keys import key_in, key_pem, new_key, signing_request
from protos.host.files import make_private_folder, write_whole

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate from the coordinator, the CA bundle, and what the node is called there."""

    certificate_pem: bytes
    ca_pem: bytes
    node_id: str
    pop_id: str
    fleet_address: str
    fleet_id: str = ""


async def obtain(
    folder: Path, ask: Callable[[bytes], Awaitable[Issued]], *, unlike: bytes = b""
) -> StoredIdentity:
    """Have a key certified by ``ask``, which is given a CSR in DER, and save both in ``folder``.

    ``unlike`` is the key in use. Raises: EdgeForgeError; OSError when the disk does not take it.
    """
    key = _load_or_make_key(folder, unlike=unlike)
    try:
        issued = await ask(signing_request(key))
    except aio.AioRpcError as error:
        raise rpc_error(error) from error
    return save_issued(folder, key_pem(key), issued)


def save_issued(folder: Path, private_pem: bytes, issued: Issued) -> StoredIdentity:
    """Save a key and its certificate as the identity in ``folder``. Raises: OSError."""
    return save_identity(
        folder,
        _identity_of(issued),
        key_pem=private_pem,
        cert_pem=issued.certificate_pem,
        ca_pem=issued.ca_pem,
    )


def _load_or_make_key(folder: Path, *, unlike: bytes = b"") -> EllipticCurvePrivateKey:
    """Return the key of an unanswered request, or a new one after writing it to disk.

    ``unlike`` is the key in use: pending still, its answer has arrived, but was not tidied up.
    """
    make_private_folder(folder)
    pending = folder / PENDING_KEY
    if pending.is_file():
        kept = key_in(pending.read_bytes())
        if kept is not None and key_pem(kept) != unlike:
            return kept
    key = new_key()
    write_whole(pending, key_pem(key))
    return key


def _identity_of(issued: Issued) -> Identity:
    """Return the identity to save beside a certificate."""
    certificate = x509.load_pem_x509_certificate(issued.certificate_pem)
    return Identity(
        node_id=issued.node_id,
        pop_id=issued.pop_id,
        fleet_address=issued.fleet_address,
        not_before_unix_ms=int(certificate.not_valid_before_utc.timestamp() * 1_000),
        not_after_unix_ms=int(certificate.not_valid_after_utc.timestamp() * 1_000),
        fleet_id=issued.fleet_id,
    )
