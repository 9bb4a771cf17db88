"""Proofs that an account has the bytes of a blob."""

from __future__ import annotations

from coordinator.core.blob_proofs import BlobProofs


def test_a_proof_is_of_one_account():
    proofs = BlobProofs()
    proofs.add("acme", b"a")
    assert proofs.holds("acme", b"a")
    assert not proofs.holds("globex", b"a")
    assert not proofs.holds("acme", b"b")


def test_the_oldest_proofs_go_first():
    proofs = BlobProofs(max_proofs=2)
    for sha256 in (b"a", b"b", b"a", b"c"):
        proofs.add("acme", sha256)
    assert [proofs.holds("acme", one) for one in (b"a", b"b", b"c")] == [True, False, True]
