"""Errors survive the conversion to a status with trailing metadata and back."""

from __future__ import annotations

import pytest

from protos.domain import errors
from protos.domain.errors import EdgeForgeError, InvalidRequest, LinkDown, Overloaded
from protos.wire.errors import (
    MAX_TEXT_BYTES,
    error_details,
    error_from_metadata,
    error_to_metadata,
)

TRAVELLING = [
    kind
    for kind in vars(errors).values()
    if isinstance(kind, type)
    and issubclass(kind, EdgeForgeError)
    and kind is not EdgeForgeError
    and not issubclass(kind, errors.ConfigInvalid)
]


def round_trip(error):
    return error_from_metadata(error.grpc_code, error_details(error), error_to_metadata(error))


@pytest.mark.parametrize("kind", TRAVELLING)
def test_every_kind_comes_back_as_itself(kind):
    sent = kind("São Paulo is gone", "ask — later", retryable=True, code="x", retry_after_s=1.5)
    got = round_trip(sent)
    assert type(got) is kind
    for field in ("message", "hint", "retryable", "code", "retry_after_s"):
        assert getattr(got, field) == getattr(sent, field)


def test_a_status_of_the_channel_itself():
    lost = error_from_metadata("UNAVAILABLE", "connection refused", ())
    assert type(lost) is LinkDown
    assert lost.retryable
    other = error_from_metadata("UNIMPLEMENTED", "no such method", ())
    assert type(other) is EdgeForgeError
    assert not other.retryable


def test_an_unknown_kind_of_error():
    got = error_from_metadata(
        "INTERNAL", "new", (("edgeforge-error", "FromTheFuture"), ("edgeforge-retryable", "true"))
    )
    assert type(got) is EdgeForgeError
    assert got.retryable


def test_texts_are_cut_between_characters():
    sent = InvalidRequest("é" * 5_000, "é" * 5_000)
    assert len(error_details(sent).encode()) <= MAX_TEXT_BYTES
    assert set(round_trip(sent).hint) == {"é"}


def test_an_invalid_retry_time_is_ignored():
    metadata = (("edgeforge-error", "Overloaded"), ("edgeforge-retry-after-ms", "soon"))
    got = error_from_metadata("RESOURCE_EXHAUSTED", "busy", metadata)
    assert type(got) is Overloaded
    assert got.retry_after_s is None
