"""Arbitrary bytes give a resource, none, or one clear refusal."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from protos import wire
from protos.domain.errors import InvalidRequest
from protos.domain.resources import ResourceType, resource_type
from tests.support.rows import ONE_OF_EACH

types = st.sampled_from(list(ResourceType))


def decoded(type_, payload):
    try:
        return wire.decode_row(type_, payload)
    except InvalidRequest:
        return None


@given(types, st.binary(max_size=300))
def test_arbitrary_bytes_are_decoded_or_refused(type_, payload):
    resource = decoded(type_, payload)
    assert resource is None or resource_type(resource) is type_


@given(st.sampled_from(ONE_OF_EACH), st.data())
def test_damaged_rows_are_decoded_or_refused(resource, data):
    payload = bytearray(wire.encode_row(resource))
    for _ in range(data.draw(st.integers(1, 4))):
        payload[data.draw(st.integers(0, len(payload) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(payload)))
    found = decoded(resource_type(resource), bytes(payload[:cut]))
    assert found is None or resource_type(found) is resource_type(resource)


@given(types, st.binary(max_size=300))
def test_what_was_decoded_survives_being_written_again(type_, payload):
    resource = decoded(type_, payload)
    if resource is not None:
        assert wire.decode_row(type_, wire.encode_row(resource)) == resource
