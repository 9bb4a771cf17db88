"""Proofs that an account has the bytes of a blob."""

from __future__ import annotations

from coordinator.core.blob_proofs import BlobProofs


def test_a_proof_is_of_one_account():
    proofs = BlobProofs()
    proofs.add("acme", b"a", 1)
    assert proofs.holds("acme", b"a")
    assert not proofs.holds("globex", b"a")
    assert not proofs.holds("acme", b"b")


def test_the_oldest_proofs_go_first():
    proofs = BlobProofs(max_proofs=2)
    for sha256 in (b"a", b"b", b"a", b"c"):
        proofs.add("acme", sha256, 1)
    assert [proofs.holds("acme", one) for one in (b"a", b"b", b"c")] == [True, False, True]


def test_what_an_account_has_sent_is_counted_once_and_forgotten():
    proofs = BlobProofs()
    for sha256, size_bytes in ((b"a", 5), (b"b", 7), (b"a", 5)):
        proofs.add("acme", sha256, size_bytes)
    proofs.add("globex", b"a", 5)
    assert proofs.sent_by("acme") == {b"a": 5, b"b": 7}
    proofs.forget("acme", b"a")
    proofs.forget("acme", b"never")
    assert proofs.sent_by("acme") == {b"b": 7}
    assert proofs.holds("globex", b"a")
    assert proofs.sent_by("nobody") == {}
