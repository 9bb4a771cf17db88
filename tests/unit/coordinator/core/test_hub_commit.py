from __future__ import annotations

import base64
import json

import pytest

from coordinator.core.hub_commit import (
    MAX_INLINE_BYTES,
    MAX_LINE_BYTES,
    MAX_OPERATIONS,
    CommitReader,
    Deletion,
    InlineFile,
    TreeFile,
    UploadedFile,
    apply,
    check_folder,
    sha256_of,
)
from protos.domain.errors import EdgeForgeError, InvalidRequest, TooLarge

SHA = bytes(32)
HEADER = {"key": "header", "value": {"summary": "s", "parentCommit": "p"}}


def read(*lines: object):
    reader = CommitReader()
    for line in lines:
        reader.take(json.dumps(line).encode())
    return reader.finish()


def test_a_commit_is_its_header_and_its_operations():
    content = base64.b64encode(b"{}").decode()
    commit = read(
        HEADER,
        {"key": "file", "value": {"path": "config.json", "content": content}},
        {"key": "file", "value": {"path": "a.txt", "content": "hi", "encoding": "utf-8"}},
        {"key": "lfsFile", "value": {"path": "model.safetensors", "oid": "00" * 32, "size": 3}},
        {"key": "deletedFile", "value": {"path": "old.json"}},
        {"key": "deletedFolder", "value": {"path": "onnx/"}},
    )
    assert (commit.summary, commit.parent) == ("s", "p")
    assert commit.operations == (
        InlineFile("config.json", b"{}"),
        InlineFile("a.txt", b"hi"),
        UploadedFile("model.safetensors", SHA, 3),
        Deletion("old.json", is_folder=False),
        Deletion("onnx", is_folder=True),
    )


@pytest.mark.parametrize(
    "value",
    [
        {"path": "../x.json", "content": ""},
        {"path": "/x.json", "content": ""},
        {"path": "a\0.json", "content": ""},
        {"path": "x.pkl", "content": ""},
        {"path": 3, "content": ""},
        {"path": "x.json"},
        {"path": "x.json", "content": "***"},
        {"path": "x.json", "content": "", "encoding": "rot13"},
    ],
)
def test_a_file_that_may_not_be_is_refused(value):
    with pytest.raises(InvalidRequest):
        read(HEADER, {"key": "file", "value": value})


@pytest.mark.parametrize("oid", [None, "", "0" * 63, "G" * 64, "A" * 64, "0" * 65, 3])
def test_an_oid_that_is_no_sha256_is_refused(oid):
    with pytest.raises(InvalidRequest):
        sha256_of(oid)


@pytest.mark.parametrize("size", [True, "3", 1.5])
def test_a_size_that_is_no_number_is_refused(size):
    with pytest.raises(InvalidRequest):
        read(HEADER, {"key": "lfsFile", "value": {"path": "a.json", "oid": "0" * 64, "size": size}})


def test_everything_has_a_limit():
    reader = CommitReader()
    with pytest.raises(TooLarge):
        reader.take(b"x" * (MAX_LINE_BYTES + 1))
    large = base64.b64encode(bytes(MAX_INLINE_BYTES + 1)).decode()
    with pytest.raises(TooLarge):
        read(HEADER, {"key": "file", "value": {"path": "a.json", "content": large}})
    deletion = {"key": "deletedFile", "value": {"path": "a.json"}}
    with pytest.raises(TooLarge):
        read(HEADER, *[deletion] * (MAX_OPERATIONS + 1))


def test_operations_apply_in_their_order():
    files = [TreeFile("a.json", SHA, 1), TreeFile("onnx/b.json", SHA, 1), TreeFile("c.txt", SHA, 1)]
    left = apply(
        files,
        [
            Deletion("onnx", is_folder=True),
            UploadedFile("a.json", b"1" * 32, 2),
            Deletion("c.txt", is_folder=False),
            UploadedFile("c.txt", b"2" * 32, 3),
        ],
    )
    assert left == (TreeFile("a.json", b"1" * 32, 2), TreeFile("c.txt", b"2" * 32, 3))


@pytest.mark.parametrize(
    "operation",
    [
        Deletion("none", is_folder=False),
        Deletion("a", is_folder=True),
        UploadedFile("b.json", SHA, None),
        InlineFile("b.json", b""),
    ],
)
def test_what_cannot_be_applied_is_refused(operation):
    with pytest.raises(EdgeForgeError):
        apply([TreeFile("a.json", SHA, 1)], [operation])


@pytest.mark.parametrize("path", ["", "/", "..", "a/../b", "a//b", "./a", "a\nb", "x" * 300])
def test_a_folder_that_may_not_be_asked_about(path):
    with pytest.raises(InvalidRequest):
        check_folder(path)
