"""The first certificate of a node and each later one come from one place."""

from __future__ import annotations

import pytest
from cryptography import x509

from coordinator.operations.node_certificates import NodeCertificates
from protos.domain.errors import InvalidRequest, NotFound, Unauthenticated
from tests.support.certificates import p256_key, request_der
from tests.support.operations import actor

STRANGER = "anonymous@192.0.2.9"


@pytest.fixture
def certificates(fleet):
    return NodeCertificates(fleet.store, fleet.authority, fleet.clock)


@pytest.fixture
async def token(ops):
    made = await ops.enrolment_tokens.create(actor(), "GRU", node_id="gru-9", ttl_s=0)
    return made.text.split(".")[2:]


def facts(certificate_pem: bytes):
    certificate = x509.load_pem_x509_certificate(certificate_pem)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    life = certificate.not_valid_after_utc - certificate.not_valid_before_utc
    return certificate.issuer, list(names), life


async def test_a_renewed_certificate_differs_from_the_first_in_its_key_only(certificates, token):
    first = await certificates.enrol(STRANGER, *token, request_der(p256_key()))
    later = await certificates.renew("gru-9", request_der(p256_key()))
    assert (later.node_id, later.pop_id) == (first.node_id, first.pop_id) == ("gru-9", "GRU")
    assert later.ca_bundle_pem == first.ca_bundle_pem
    assert facts(later.certificate_pem) == facts(first.certificate_pem)
    assert later.certificate_pem != first.certificate_pem


@pytest.mark.parametrize("csr", [b"", b"junk", bytes(5_000)])
async def test_both_refuse_the_same_requests(certificates, token, csr):
    with pytest.raises(InvalidRequest):
        await certificates.enrol(STRANGER, *token, csr)
    await certificates.enrol(STRANGER, *token, request_der())
    with pytest.raises(InvalidRequest):
        await certificates.renew("gru-9", csr)


async def test_a_request_is_not_read_before_its_token_is_proved(fleet, certificates, token):
    with pytest.raises(Unauthenticated):
        await certificates.enrol(STRANGER, token[0], "wrong", b"junk")
    (_, action, _, detail) = (await fleet.notes())[0]
    assert (action, detail) == ("enrolment.refused", "cause=forged node=gru-9")


async def test_a_node_that_is_not_enrolled_renews_nothing(certificates):
    with pytest.raises(NotFound):
        await certificates.renew("gru-9", request_der())
