"""Enrolment: exchanges a one-time token for a certificate, after pinning the CA."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

from agent.link import removal
from agent.link.certified_key import Issued, obtain
from agent.link.channel import enrolment_channel
from protos.enrolment.pinning import pinned_ca
from protos.enrolment.token_text import PREFIX_OF_NODE, EnrolmentToken
from protos.enrolment.token_text import parse_token as parse_any_token
from protos.v1 import enrolment_pb2, enrolment_pb2_grpc

if TYPE_CHECKING:
    from agent.link.identity import Identity

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

    async def ask(csr_der: bytes) -> Issued:
        request = enrolment_pb2.EnrolRequest(
            token_id=token.id, secret=token.secret, csr_der=csr_der
        )
        async with enrolment_channel(address, ca_pem) as channel:
            stub = enrolment_pb2_grpc.EnrolmentStub(channel)
            answer = await stub.Enrol(request, timeout=_TIMEOUT_S)
        return Issued(
            answer.certificate_pem,
            answer.ca_bundle_pem,
            node_id=answer.node_id,
            pop_id=answer.pop_id,
            fleet_address=answer.fleet_address,
            fleet_id=token.ca_sha256,
        )

    stored = await obtain(folder, ask)
    (folder / removal.FILE).unlink(missing_ok=True)
    return stored.identity
