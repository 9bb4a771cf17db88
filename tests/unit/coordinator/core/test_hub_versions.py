from __future__ import annotations

import pytest

from coordinator.core.hub_commit import TreeFile
from coordinator.core.hub_versions import (
    Version,
    check_branch,
    check_repository,
    find_version,
    folders_of,
    is_kept,
    kind_of,
    missing_parts,
    next_tag,
    range_of,
)
from protos.domain.errors import InvalidRequest, NotFound
from protos.domain.object_names import ObjectKind


def version(tag: str, revision: str) -> Version:
    return Version(f"acme/m@{tag}", ObjectKind.MODEL, revision * 40, 0, ())


OLD, NEW = version("1", "a"), version("v2", "b")


@pytest.mark.parametrize(
    ("revision", "found"),
    [
        ("main", NEW),
        ("latest", NEW),
        ("refs/heads/main", NEW),
        ("1", OLD),
        ("refs/tags/1", OLD),
        ("a" * 40, OLD),
        ("a" * 39, None),
        ("3", None),
        ("", None),
    ],
)
def test_what_a_revision_names(revision, found):
    assert find_version([OLD, NEW], revision) is found


def test_main_of_an_empty_repository_names_nothing():
    assert find_version([], "main") is None


def test_a_commit_to_main_publishes_the_next_number():
    assert check_branch("main") == check_branch("refs/heads/main") == ""
    assert next_tag([]) == "1"
    assert next_tag(["1", "v2", "10", "2", "9" * 40]) == "11"


def test_a_commit_to_another_name_publishes_that_version():
    assert check_branch("v2.1") == "v2.1"
    for wrong in ("a" * 40, "a b", "../x", "", "x" * 33):
        with pytest.raises(InvalidRequest):
            check_branch(wrong)


@pytest.mark.parametrize("name", ["acme/llama-8b", "a/B.c_d"])
def test_a_repository(name):
    assert check_repository(name) == name


@pytest.mark.parametrize("name", ["", "gpt2", "A/b", "a/b/c", "a/b@1", "../b", "a/..", "a/b\0"])
def test_what_names_no_repository(name):
    with pytest.raises(InvalidRequest):
        check_repository(name)


def test_what_an_object_still_lacks():
    assert missing_parts({"config.json", "model.safetensors"}, None) == []
    assert missing_parts({"config.json"}, None) == ["model.safetensors"]
    assert missing_parts({"model.safetensors"}, None) == ["config.json"]
    index = {"weight_map": {"a": "x-1.safetensors", "b": "x-2.safetensors"}}
    assert missing_parts({"config.json", "x-1.safetensors"}, index) == ["x-2.safetensors"]
    assert missing_parts({"adapter_config.json"}, None) == ["adapter_model.safetensors"]
    assert missing_parts({"adapter_config.json", "adapter_model.safetensors"}, None) == []


def test_an_adapter_is_known_by_its_configuration():
    assert kind_of({"adapter_config.json", "tokenizer.json"}) is ObjectKind.ADAPTER
    assert kind_of({"config.json"}) is ObjectKind.MODEL


def test_what_no_engine_reads_is_left_out():
    assert is_kept("config.json")
    assert is_kept("adapter_config.json")
    assert not is_kept(".gitattributes")
    assert not is_kept("onnx/.gitignore")
    assert not is_kept("trainer_state.json")
    assert not is_kept("consolidated.safetensors")


def test_folders_of_a_tree():
    files = [TreeFile("a/b/c.json", b"", 1), TreeFile("d.json", b"", 1)]
    assert folders_of(files) == ["a", "a/b"]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("bytes=0-", (0, 9)),
        ("bytes=3-5", (3, 5)),
        ("bytes=3-99", (3, 9)),
        ("bytes=-4", (6, 9)),
        ("bytes=-99", (0, 9)),
        ("bytes=5-3", None),
        ("bytes=-", None),
        ("bytes=0-1,3-4", None),
        ("items=0-1", None),
        ("bytes=a-b", None),
        ("", None),
    ],
)
def test_a_range(text, found):
    assert range_of(text, 10) == found


@pytest.mark.parametrize("text", ["bytes=10-", "bytes=99-100", "bytes=-0"])
def test_a_range_behind_the_end(text):
    with pytest.raises(NotFound):
        range_of(text, 10)
