"""Repositories of the hub's protocol as versions of the registry.

``owner/name`` is a repository, each ``owner/name@version`` a commit and a tag of it, ``main`` the
latest. A commit to ``main`` publishes the next number, one to another name that version.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from protos.domain.errors import InvalidRequest, NotFound
from protos.domain.ids import check_model_name
from protos.domain.model_folder import is_read
from protos.domain.object_names import RESERVED_VERSIONS, ObjectKind

if TYPE_CHECKING:
    from coordinator.core.hub_commit import TreeFile

MAIN = "main"
ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
INDEX = "model.safetensors.index.json"
#: What downloads contain and no engine needs.
_IGNORED = frozenset({".gitattributes", ".gitignore"})
_REVISION = re.compile(r"[0-9a-f]{40}")
_WEIGHTS = ".safetensors"


@dataclass(frozen=True, slots=True)
class Version:
    """A published object, as a commit. ``name`` is ``owner/name@version``."""

    name: str
    kind: ObjectKind
    revision: str
    published_unix_ms: int
    files: tuple[TreeFile, ...]
    account_id: str = ""
    #: An adapter's base.
    base: str = ""
    licence: str = ""

    @property
    def tag(self) -> str:
        """The part behind ``@``."""
        return self.name.rpartition("@")[2]


def check_repository(text: str) -> str:
    """Return ``owner/name`` if it may name a repository. Raises: InvalidRequest."""
    try:
        check_model_name(f"{text}@1")
    except InvalidRequest:
        raise InvalidRequest(
            f"{text[:100]!a} names no repository", "owner/name, such as acme/llama-8b"
        ) from None
    return text


def find_version(versions: Sequence[Version], revision: str) -> Version | None:
    """Return what ``revision`` names among ``versions``, oldest first; None: none of them."""
    bare = revision.removeprefix("refs/heads/").removeprefix("refs/tags/")
    if bare in RESERVED_VERSIONS:
        return versions[-1] if versions else None
    for version in reversed(versions):
        if bare == version.tag or bare == version.revision:
            return version
    return None


def check_branch(revision: str) -> str:
    """Return the version that a commit to ``revision`` publishes; empty: the next number.

    Raises: InvalidRequest.
    """
    bare = revision.removeprefix("refs/heads/")
    if bare in RESERVED_VERSIONS:
        return ""
    if _REVISION.fullmatch(bare):
        raise InvalidRequest("a published version never changes", "commit to main")
    try:
        check_model_name(f"a/b@{bare}")
    except InvalidRequest:
        raise InvalidRequest(
            f"{bare[:60]!a} names no version", "1 to 32 of letters, digits, _ . -, or main"
        ) from None
    return bare


def next_tag(tags: Iterable[str]) -> str:
    """Return the number above every version that is a number."""
    return str(max((int(tag) for tag in tags if tag.isdecimal() and len(tag) < 9), default=0) + 1)


def is_kept(path: str) -> bool:
    """Return whether a file is part of an object; others are left out, as by an import."""
    name = path.rpartition("/")[2]
    return name not in _IGNORED and (path == ADAPTER_CONFIG or is_read(path))


def kind_of(paths: Collection[str]) -> ObjectKind:
    """Return what files of these names make."""
    return ObjectKind.ADAPTER if ADAPTER_CONFIG in paths else ObjectKind.MODEL


def missing_parts(paths: Collection[str], index: Mapping[str, object] | None) -> list[str]:
    """Return what the files lack to be an object: further commits may bring it.

    ``index`` is the content of the file that names the parts of the weights.
    """
    if kind_of(paths) is ObjectKind.ADAPTER:
        return [] if ADAPTER_WEIGHTS in paths else [ADAPTER_WEIGHTS]
    missing = [] if "config.json" in paths else ["config.json"]
    weight_map = index.get("weight_map") if index else None
    if isinstance(weight_map, Mapping):
        missing += sorted({str(part) for part in weight_map.values()} - set(paths))
    elif not any(path.endswith(_WEIGHTS) for path in paths):
        missing.append("model.safetensors")
    return missing


def folders_of(files: Iterable[TreeFile]) -> list[str]:
    """Return the folders that the files are in, parents too."""
    found = set()
    for file in files:
        parts = file.path.split("/")[:-1]
        found |= {"/".join(parts[:depth]) for depth in range(1, len(parts) + 1)}
    return sorted(found)


def range_of(text: str, size_bytes: int) -> tuple[int, int] | None:
    """Return first and last byte of an HTTP Range of one part; None: it is ignored.

    Raises: NotFound when it lies behind the end (status 416).
    """
    found = re.fullmatch(r"bytes=([0-9]{0,19})-([0-9]{0,19})", text.strip())
    if found is None or found[0] == "bytes=-":
        return None
    first, last = found[1], found[2]
    if not first:
        length = min(int(last), size_bytes)
        if length == 0:
            raise NotFound(f"{text[:60]!a} lies behind the end at {size_bytes}")
        return size_bytes - length, size_bytes - 1
    start, end = int(first), int(last) if last else size_bytes - 1
    if start >= size_bytes:
        raise NotFound(f"{text[:60]!a} lies behind the end at {size_bytes}")
    return (start, min(end, size_bytes - 1)) if end >= start else None
