"""Enrolment: exchanges a one-time token for a certificate, after pinning the CA."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

from cryptography import x509
from grpc import aio

from agent.link import removal
from agent.link.channel import enrolment_channel
from agent.link.errors import rpc_error
from agent.link.identity import PENDING_KEY, Identity, save_identity
from protos.enrolment.keys import key_in, key_pem, new_key, signing_request
from protos.enrolment.pinning import pinned_ca
from protos.enrolment.token_text import PREFIX_OF_NODE, EnrolmentToken
from protos.enrolment.token_text import parse_token as parse_any_token
from protos.host.files import make_private_folder, write_whole
from protos.v1 import enrolment_pb2, enrolment_pb2_grpc

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric import ec

_TIMEOUT_S = 15.0
_HINT = "check coordinator.enrolment_address and that its enrolment port is open"


def parse_token(text: str) -> EnrolmentToken:
    """Parse a host's token. Raises: InvalidRequest, without the token in its text."""
    return parse_any_token(text, PREFIX_OF_NODE)


async def enrol(address: str, token: EnrolmentToken, folder: Path) -> Identity:
    """Enrol this host at ``address`` and save the identity in ``folder``.

    The key is on disk before the token is sent: after a lost answer, a retry with the same key
    returns the same certificate. Raises: LinkDown, Unauthenticated.
    """
    ca_pem = await asyncio.to_thread(pinned_ca, address, token.ca_sha256, _HINT)
    key = load_or_make_key(folder)
    request = enrolment_pb2.EnrolRequest(
        token_id=token.id, secret=token.secret, csr_der=signing_request(key)
    )
    async with enrolment_channel(address, ca_pem) as channel:
        stub = enrolment_pb2_grpc.EnrolmentStub(channel)
        try:
            response = await stub.Enrol(request, timeout=_TIMEOUT_S)
        except aio.AioRpcError as error:
            raise rpc_error(error) from error
    identity = identity_of(
        response.certificate_pem,
        node_id=response.node_id,
        pop_id=response.pop_id,
        fleet_address=response.fleet_address,
        fleet_id=token.ca_sha256,
    )
    save_identity(
        folder,
        identity,
        key_pem=key_pem(key),
        cert_pem=response.certificate_pem,
        ca_pem=response.ca_bundle_pem,
    )
    (folder / removal.FILE).unlink(missing_ok=True)
    return identity


def load_or_make_key(folder: Path, *, unlike: bytes = b"") -> ec.EllipticCurvePrivateKey:
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


def identity_of(
    certificate_pem: bytes, *, node_id: str, pop_id: str, fleet_address: str, fleet_id: str = ""
) -> Identity:
    """Return the identity to save beside a certificate."""
    certificate = x509.load_pem_x509_certificate(certificate_pem)
    return Identity(
        node_id=node_id,
        pop_id=pop_id,
        fleet_address=fleet_address,
        not_before_unix_ms=int(certificate.not_valid_before_utc.timestamp() * 1_000),
        not_after_unix_ms=int(certificate.not_valid_after_utc.timestamp() * 1_000),
        fleet_id=fleet_id,
    )
