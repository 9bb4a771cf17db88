"""Every resource has its own key and type."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, fields
from typing import get_args

import pytest

from protos.domain.resources import Resource, ResourceType, resource_type, row_key
from tests.support.rows import ONE_OF_EACH

KEYS = [
    ("pop/GRU", ResourceType.TOPOLOGY),
    ("node/gru-1", ResourceType.TOPOLOGY),
    ("model/acme/m@1", ResourceType.DEPLOYMENTS),
    ("adapter/acme/fr@1", ResourceType.DEPLOYMENTS),
    ("deployment/chat", ResourceType.DEPLOYMENTS),
    ("replica/gru-1/acme/m@1", ResourceType.DEPLOYMENTS),
    ("replica/gru-1/acme/m@1+acme/fr@1", ResourceType.DEPLOYMENTS),
    ("key/k1", ResourceType.CREDENTIALS),
    ("key/k2", ResourceType.CREDENTIALS),
    ("account/acme", ResourceType.CREDENTIALS),
    ("price/xs/central", ResourceType.PRICES),
    ("terms", ResourceType.PRICES),
    ("replica/acme/m@1", ResourceType.DESIRED),
    ("adapter/acme/fr@1", ResourceType.DESIRED),
]


@pytest.mark.parametrize(("resource", "expected"), list(zip(ONE_OF_EACH, KEYS, strict=True)))
def test_keys_and_types(resource, expected):
    assert (row_key(resource), resource_type(resource)) == expected


def test_every_kind_of_resource_is_tested():
    assert {type(each) for each in ONE_OF_EACH} == set(get_args(Resource))
    assert {stream for _, stream in KEYS} == set(ResourceType)


@pytest.mark.parametrize("resource", ONE_OF_EACH)
def test_resources_cannot_be_changed_in_place(resource):
    name = fields(resource)[0].name
    with pytest.raises(FrozenInstanceError):
        setattr(resource, name, "x")
