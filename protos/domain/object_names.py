"""What the registry's objects are called: ``owner/name@version``, the latest one, and revisions."""

from __future__ import annotations

import enum
import re
from typing import NamedTuple

from protos.domain.errors import InvalidRequest
from protos.domain.ids import check_model_name

LATEST = "latest"
#: Words that name no version: each means the latest one, in a reference or in the hub's protocol.
RESERVED_VERSIONS = frozenset({LATEST, "main", "refs", "HEAD"})
REVISION_CHARS = 40

_REPOSITORY = re.compile(r"[a-z0-9][a-z0-9_.-]{0,63}/[A-Za-z0-9][A-Za-z0-9_.-]{0,95}")


class ObjectKind(enum.StrEnum):
    """A kind of the registry's objects."""

    MODEL = "model"
    ADAPTER = "adapter"
    RUNTIME = "runtime"


class ObjectRef(NamedTuple):
    """A reference to an object. ``version`` is empty for the latest one."""

    repository: str
    version: str

    @property
    def owner(self) -> str:
        """What is before the slash."""
        return self.repository.partition("/")[0]


def parse_ref(text: str) -> ObjectRef:
    """Return what ``owner/name``, ``owner/name@latest`` or a full name refers to.

    Raises: InvalidRequest.
    """
    repository, at, version = text.partition("@")
    if _REPOSITORY.fullmatch(repository) is None or (at and not version):
        raise InvalidRequest(
            f"{text[:80]!a} is not the name of an object",
            "use owner/name@version, or owner/name for the latest version",
        )
    if not at or version in RESERVED_VERSIONS:
        return ObjectRef(repository, "")
    check_model_name(text)
    return ObjectRef(repository, version)


def check_new_name(text: str) -> ObjectRef:
    """Return the parts of a name under which something may be published. Raises: InvalidRequest."""
    check_model_name(text)
    repository, _, version = text.partition("@")
    if version in RESERVED_VERSIONS:
        raise InvalidRequest(
            f"{version!r} is no version: it means the latest one", "use a number or a date"
        )
    return ObjectRef(repository, version)


def repository_of(name: str) -> str:
    """Return ``owner/name`` of a full name."""
    return name.partition("@")[0]


def owner_of(name: str) -> str:
    """Return the owner in a name."""
    return name.partition("/")[0]


def revision_of(manifest_sha256: bytes) -> str:
    """Return the revision of a manifest: 40 hex digits, as a Git commit has."""
    return manifest_sha256.hex()[:REVISION_CHARS]
