"""A commit of the Hugging Face hub's protocol: its lines, and the files that it leaves.

One JSON object a line: a header, then operations. Source: huggingface_hub, ``_commit_api.py``.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from protos.domain.errors import InvalidRequest, TooLarge
from protos.domain.manifest import MAX_FILES, check_path

#: Largest file inside a commit; larger ones are uploaded before it.
MAX_INLINE_BYTES = 4 * 1024**2
#: Longest line: an inline file in base64, with room for its path.
MAX_LINE_BYTES = MAX_INLINE_BYTES * 4 // 3 + 4_096
#: More operations than files are allowed: one commit may delete all and add all.
MAX_OPERATIONS = 2 * MAX_FILES
#: Lines without anything.
MAX_BLANK_LINES = 100
_MAX_SUMMARY_CHARS = 500
_SHA256_HEX_CHARS = 64
_HEX = frozenset("0123456789abcdef")


@dataclass(frozen=True, slots=True)
class TreeFile:
    """A file of a repository."""

    path: str
    sha256: bytes
    size_bytes: int


@dataclass(frozen=True, slots=True)
class InlineFile:
    """Adds a file whose content is in the commit."""

    path: str
    content: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class UploadedFile:
    """Adds a file that was uploaded before. ``size_bytes`` None: not said."""

    path: str
    sha256: bytes
    size_bytes: int | None


@dataclass(frozen=True, slots=True)
class Deletion:
    """Deletes a file, or all files of a folder."""

    path: str
    is_folder: bool


Operation = InlineFile | UploadedFile | Deletion


@dataclass(frozen=True, slots=True)
class Commit:
    """What a client asks for. ``parent`` is the revision that it must follow; empty: any."""

    summary: str
    parent: str
    operations: tuple[Operation, ...]


class CommitReader:
    """Reads a commit line by line."""

    def __init__(self) -> None:
        self._header: Mapping[str, Any] | None = None
        self._operations: list[Operation] = []
        self._blank = 0

    def take(self, line: bytes) -> None:
        """Take one line without its end. Raises: InvalidRequest, TooLarge."""
        if not line.strip():
            self._blank += 1
            if self._blank > MAX_BLANK_LINES:
                raise TooLarge(f"a commit has at most {MAX_BLANK_LINES} empty lines")
            return
        if len(line) > MAX_LINE_BYTES:
            raise TooLarge(f"a line of a commit has at most {MAX_LINE_BYTES} bytes")
        try:
            content = json.loads(line)
        except (ValueError, RecursionError):
            raise InvalidRequest("a line of the commit is not JSON") from None
        key = content.get("key") if isinstance(content, dict) else None
        value = content.get("value") if isinstance(content, dict) else None
        if not isinstance(key, str) or not isinstance(value, dict):
            raise InvalidRequest("a line of the commit has no key and value")
        if key == "header":
            if self._header is not None:
                raise InvalidRequest("the commit has two headers")
            self._header = value
            return
        if self._header is None:
            raise InvalidRequest("the commit does not begin with its header")
        if len(self._operations) >= MAX_OPERATIONS:
            raise TooLarge(f"a commit has at most {MAX_OPERATIONS} operations")
        self._operations.append(_operation(key, value))

    def finish(self) -> Commit:
        """Return the commit. Raises: InvalidRequest."""
        if self._header is None:
            raise InvalidRequest("the commit is empty")
        if not self._operations:
            raise InvalidRequest("the commit changes nothing")
        return Commit(
            summary=_text(self._header, "summary")[:_MAX_SUMMARY_CHARS],
            parent=_text(self._header, "parentCommit"),
            operations=tuple(self._operations),
        )


def apply(files: Iterable[TreeFile], operations: Sequence[Operation]) -> tuple[TreeFile, ...]:
    """Return ``files`` after ``operations``, by path. Inline files must be stored by then.

    Raises: InvalidRequest when a deleted path is not there, or an addition's size is not known.
    """
    tree = {file.path: file for file in files}
    for one in operations:
        match one:
            case Deletion(path, is_folder):
                gone = [
                    name
                    for name in tree
                    if (name.startswith(path.rstrip("/") + "/") if is_folder else name == path)
                ]
                if not gone:
                    raise InvalidRequest(f"A file with this name doesn't exist: {path[:200]!r}")
                for name in gone:
                    del tree[name]
            case UploadedFile(path, sha256, size_bytes):
                if size_bytes is None:
                    raise InvalidRequest(f"the size of {path!r} is not known", "upload it first")
                tree[path] = TreeFile(path, sha256, size_bytes)
            case InlineFile(path):
                raise InvalidRequest(f"the content of {path!r} was not stored")
    return tuple(tree[path] for path in sorted(tree))


def sha256_of(text: object) -> bytes:
    """Return the digest in a client's ``oid``. Raises: InvalidRequest."""
    if not isinstance(text, str) or len(text) != _SHA256_HEX_CHARS or not _HEX.issuperset(text):
        raise InvalidRequest("an oid is 64 lower-case hexadecimal digits, a SHA-256")
    return bytes.fromhex(text)


def _operation(key: str, value: Mapping[str, Any]) -> Operation:
    path = _text(value, "path")
    match key:
        case "file":
            return InlineFile(check_path(path), _content(path, value))
        case "lfsFile":
            size = value.get("size")
            if size is not None and (isinstance(size, bool) or not isinstance(size, int)):
                raise InvalidRequest(f"the size of {path[:200]!a} is not a number")
            return UploadedFile(check_path(path), sha256_of(value.get("oid")), size)
        case "deletedFile" | "deletedFolder":
            return Deletion(check_folder(path), key == "deletedFolder")
        case _:
            raise InvalidRequest(f"a commit cannot {key[:40]!a}", "add and delete files")


def check_folder(path: str) -> str:
    """Return the path of a folder or file that is asked about. Raises: InvalidRequest."""
    bare = path.rstrip("/")
    if not bare or len(bare) > 200 or any(part in ("", ".", "..") for part in bare.split("/")):
        raise InvalidRequest(f"path {path[:200]!a} is not allowed", "relative, without . and ..")
    if not bare.isprintable():
        raise InvalidRequest(f"path {path[:200]!a} is not allowed")
    return bare


def _content(path: str, value: Mapping[str, Any]) -> bytes:
    text = value.get("content")
    if not isinstance(text, str) or value.get("encoding", "base64") not in ("base64", "utf-8"):
        raise InvalidRequest(f"{path[:200]!a} has no content in base64")
    if value.get("encoding") == "utf-8":
        content = text.encode(errors="replace")
    else:
        try:
            content = base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError):
            raise InvalidRequest(f"the content of {path[:200]!a} is not base64") from None
    if len(content) > MAX_INLINE_BYTES:
        raise TooLarge(
            f"{path[:200]!a} has {len(content)} bytes inside a commit, {MAX_INLINE_BYTES} are"
            " allowed",
            "upload it over LFS",
        )
    return content


def _text(value: Mapping[str, Any], name: str) -> str:
    text = value.get(name, "")
    if not isinstance(text, str):
        raise InvalidRequest(f"{name} of a commit is not text")
    return text
