"""Versions: the latest is the one that was published last, and what makes two the same."""

from __future__ import annotations

from dataclasses import replace

from coordinator.core.publications import (
    Publication,
    content_sha256,
    find,
    kind_of,
    latest_of,
    revision_digest,
)
from protos.domain.object_names import ObjectKind, parse_ref
from protos.domain.resources import Adapter, Model, ModelSource, Runtime

MODEL = Model("acme/m@1", ModelSource.MANAGED, "llama", "xs", 2_048, 100, b"m" * 32)
ADAPTER = Adapter("acme/a@1", "acme/m@1", 8, 100, b"a" * 32)
RUNTIME = Runtime("acme/r@1", args=("--seed=1",))


def version(name: str, order: int, removed_unix_ms: int = 0) -> Publication:
    return Publication(name, ObjectKind.MODEL, b"", order=order, removed_unix_ms=removed_unix_ms)


VERSIONS = [
    version("acme/m@10", 1),
    version("acme/m@9", 2),
    version("acme/m@11", 3, removed_unix_ms=5),
    version("acme/other@1", 4),
]


def test_the_latest_is_the_last_that_was_published_and_is_there():
    latest = latest_of(VERSIONS[:3])
    assert latest is not None
    assert latest.name == "acme/m@9"
    assert latest_of([]) is None


def test_a_reference_means_a_version_or_the_latest():
    def found(text: str) -> str:
        one = find(VERSIONS, parse_ref(text))
        return one.name if one else ""

    assert found("acme/m") == found("acme/m@latest") == "acme/m@9"
    assert found("acme/m@10") == "acme/m@10"
    assert found("acme/m@11") == "", "removed"
    assert found("acme/none") == ""


def test_who_owns_a_version_and_what_follows_from_its_files_is_not_its_content():
    same = replace(MODEL, account_id="acme", swap_key=b"s" * 32, family="x")
    assert content_sha256(same) == content_sha256(MODEL)
    assert content_sha256(replace(RUNTIME, name="b/r@2", account_id="b")) == content_sha256(RUNTIME)


def test_other_files_another_base_or_another_setting_is_other_content():
    for one, other in (
        (MODEL, replace(MODEL, manifest_sha256=b"x" * 32)),
        (MODEL, replace(MODEL, context_tokens=1_024)),
        (ADAPTER, replace(ADAPTER, model="acme/m@2")),
        (RUNTIME, replace(RUNTIME, args=("--seed=2",))),
    ):
        assert content_sha256(one) != content_sha256(other)


def test_a_revision_is_cut_from_the_manifest_or_from_the_settings():
    assert [revision_digest(one) for one in (MODEL, ADAPTER)] == [b"m" * 32, b"a" * 32]
    assert revision_digest(RUNTIME) == content_sha256(RUNTIME)
    assert [kind_of(one) for one in (MODEL, ADAPTER, RUNTIME)] == list(ObjectKind)
