"""Names of the registry's objects."""

from __future__ import annotations

import pytest

from protos.domain.errors import InvalidRequest
from protos.domain.object_names import (
    ObjectRef,
    check_new_name,
    owner_of,
    parse_ref,
    repository_of,
    revision_of,
)


@pytest.mark.parametrize(
    ("text", "ref"),
    [
        ("acme/m@1", ObjectRef("acme/m", "1")),
        ("acme/m", ObjectRef("acme/m", "")),
        ("acme/m@latest", ObjectRef("acme/m", "")),
        ("acme/Llama-3.1_8B@2026-11-27", ObjectRef("acme/Llama-3.1_8B", "2026-11-27")),
    ],
)
def test_a_reference_names_a_version_or_the_latest(text, ref):
    assert parse_ref(text) == ref
    assert ref.owner == owner_of(text) == "acme"
    assert repository_of(text) == ref.repository


@pytest.mark.parametrize(
    "text",
    ["", "m", "m@1", "acme/m@", "acme/../m@1", "Acme/m@1", "acme/m@1/2", "acme/m@" + "1" * 33],
)
def test_what_is_no_name_is_refused(text):
    with pytest.raises(InvalidRequest):
        parse_ref(text)


@pytest.mark.parametrize("name", ["acme/m", "acme/m@latest", "acme/m@main"])
def test_a_new_version_has_a_name_of_its_own(name):
    with pytest.raises(InvalidRequest):
        check_new_name(name)


def test_a_revision_is_40_hex_digits():
    assert revision_of(bytes(range(32))) == bytes(range(20)).hex()
