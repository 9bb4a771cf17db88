from __future__ import annotations

from coordinator.native_log import is_native, passed_on, refused_cause

PREFIX = b"I1124 08:41:54.803193   13360 ssl_transport_security.cc:2563] "
OTHER_CA = (
    PREFIX + b"Handshake failed with error SSL_ERROR_SSL: error:1000007d:SSL routines:"
    b"OPENSSL_internal:CERTIFICATE_VERIFY_FAILED: unable to get local issuer certificate\n"
)
NONE = (
    PREFIX + b"Handshake failed with error SSL_ERROR_SSL: error:100000c0:SSL routines:"
    b"OPENSSL_internal:PEER_DID_NOT_RETURN_A_CERTIFICATE: Invalid context\n"
)
PORT_SCAN = PREFIX + b"Handshake failed with error SSL_ERROR_SSL: WRONG_VERSION_NUMBER\n"
OURS = b"2026-11-24 09:05:51,438 INFO coordinator.main coordinator ready epoch=1\n"


def test_a_certificate_of_another_authority_is_noticed():
    assert refused_cause(OTHER_CA) == (
        "CERTIFICATE_VERIFY_FAILED: unable to get local issuer certificate"
    )
    assert refused_cause(NONE) == "PEER_DID_NOT_RETURN_A_CERTIFICATE"


def test_clients_that_do_not_speak_tls_are_ignored():
    assert refused_cause(PORT_SCAN) is None


def test_lines_of_the_product_pass_unchanged():
    assert not is_native(OURS)
    assert is_native(PORT_SCAN)
    assert refused_cause(OURS) is None
    assert not is_native(b"Traceback (most recent call last):\n")


def test_an_error_of_the_c_core_is_passed_on_escaped():
    line = b"E" + PREFIX[1:] + b"peer said \x1b]0;x\x07\xff\n"
    assert passed_on(line).decode() == "grpc: peer said \\x1b]0;x\\x07\ufffd\n"
    assert passed_on(PORT_SCAN) == b""
    assert passed_on(OURS) == OURS
