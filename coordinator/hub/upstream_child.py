"""Asks another hub, in a process of its own: ``python -I -m coordinator.hub.upstream_child``.

Standard input is one JSON object: ``action`` (``head`` or ``fetch``), ``endpoint``, ``repository``,
``revision``, ``token``, ``private_endpoint``, ``ca_file``, ``folder``, ``max_file_bytes`` and
``max_total_bytes``. Standard output is JSON lines: ``{"left_out": [...]}``, ``{"total_bytes": n}``,
then ``{"done": {...}}`` or ``{"refused": str, "hint": str}``.

Every connection of this process passes ``GuardedSocket.connect``, which judges the address that is
really connected to: a name that resolves otherwise the second time, and a redirect, are judged like
the first address. Only what an import keeps is downloaded; a download that was interrupted goes on
where it stopped, and what has arrived is compared with the digests that the hub lists.
"""

from __future__ import annotations

import hashlib
import json
import os
import resource
import socket
import ssl
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from coordinator.core.hub_versions import is_kept, missing_parts
from coordinator.core.public_addresses import refusal_of
from protos.domain.errors import InvalidRequest
from protos.domain.manifest import MAX_FILES, check_path

_MEMORY_BYTES = 4 * 1024**3
_MAX_DESCRIPTORS = 256
_CHUNK_BYTES = 1024**2
#: Names of a repository that are looked at.
_MAX_LISTED = 10_000
#: Of what is no file: 10,000 names with their digests.
_MAX_ANSWER_BYTES = 16 * 1024**2
_RESERVE_BYTES = 256 * 1024**2
_TIMEOUT_S = 30.0
_MAX_REDIRECTS = 5


class Refused(Exception):
    """What is wrong, and what to do. No retry of a library catches it."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class TooMuch(OSError):
    """More arrives of a file than the hub lists."""


#: Most bytes of an answer, now.
_most_bytes = [_MAX_ANSWER_BYTES]
#: Addresses and ports of a private endpoint that the configuration allows.
_allowed: set[tuple[str, int]] = set()
#: Refusals so far: a library may wrap what is raised.
_refusals: list[Refused] = []


def refuse(message: str, hint: str = "") -> Refused:
    """Remember a refusal and return it, to be raised."""
    _refusals.append(Refused(message, hint))
    return _refusals[-1]


class GuardedSocket(socket.socket):
    """Connects to public addresses only, and to the endpoint that the configuration allows."""

    def connect(self, address: Any, /) -> None:  # noqa: ANN401 - as the base has it
        check_address(self.family, address)
        super().connect(address)

    def connect_ex(self, address: Any, /) -> int:  # noqa: ANN401 - as the base has it
        check_address(self.family, address)
        return super().connect_ex(address)


def check_address(family: int, address: Any) -> None:  # noqa: ANN401 - as sockets have it
    """Raises: Refused."""
    if family not in (socket.AF_INET, socket.AF_INET6):
        raise refuse("a connection that is not to the Internet")
    host, port = str(address[0]), int(address[1])
    if (host, port) not in _allowed and (why := refusal_of(host)):
        raise refuse(
            f"the hub leads to a private address: {why}",
            "imports connect to public addresses only; see [upstream] in docs/CONFIG.md",
        )


def allow_endpoint(endpoint: str) -> None:
    """Allow the endpoint's own address and port, as its name resolves now."""
    parts = urlsplit(endpoint)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        found = socket.getaddrinfo(parts.hostname, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise refuse(f"the name {parts.hostname!r} is not found: {error.strerror}") from error
    _allowed.update((str(one[4][0]), port) for one in found)


def guard(job: dict[str, Any]) -> None:
    """Limit this process for good, before any library that connects is imported."""
    for kind, limit in (
        (resource.RLIMIT_AS, _MEMORY_BYTES),
        (resource.RLIMIT_NOFILE, _MAX_DESCRIPTORS),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, job["max_file_bytes"] + _CHUNK_BYTES),
    ):
        resource.setrlimit(kind, (limit, limit))
    if job["private_endpoint"]:
        allow_endpoint(job["endpoint"])
    socket.socket = GuardedSocket  # type: ignore[misc]
    # Its native client would not pass the guard.
    sys.modules["hf_xet"] = None  # type: ignore[assignment]


def use_guarded_client(job: dict[str, Any]) -> None:
    """Have huggingface_hub use HTTPS only, without the proxies of the environment."""
    import httpx2
    from huggingface_hub import set_client_factory

    endpoint = urlsplit(job["endpoint"])

    def check_url(request: httpx2.Request) -> None:
        plain_allowed = job["private_endpoint"] and endpoint.scheme == "http"
        same = (request.url.host, request.url.port) == (endpoint.hostname, endpoint.port)
        if request.url.scheme != "https" and not (plain_allowed and same):
            raise refuse("the hub leads to an address that is not HTTPS")

    class Stream(httpx2.SyncByteStream):
        def __init__(self, stream: httpx2.SyncByteStream) -> None:
            self._stream = stream

        def __iter__(self) -> Iterator[bytes]:
            received_bytes = 0
            for chunk in self._stream:
                received_bytes += len(chunk)
                if received_bytes > _most_bytes[0]:
                    raise TooMuch(f"the answer has more than {_most_bytes[0]} bytes")
                yield chunk

        def close(self) -> None:
            self._stream.close()

    class Transport(httpx2.HTTPTransport):
        def handle_request(self, request: httpx2.Request) -> httpx2.Response:
            response = super().handle_request(request)
            if response.headers.get("Content-Encoding", "identity").lower() != "identity":
                response.close()
                raise refuse("the hub packs what it sends, which it was asked not to do")
            assert isinstance(response.stream, httpx2.SyncByteStream)
            response.stream = Stream(response.stream)
            return response

    def make() -> httpx2.Client:
        context = ssl.create_default_context(cafile=job["ca_file"] or None)
        return httpx2.Client(
            event_hooks={"request": [check_url]},
            follow_redirects=True,
            max_redirects=_MAX_REDIRECTS,
            timeout=_TIMEOUT_S,
            trust_env=False,
            headers={"Accept-Encoding": "identity"},
            transport=Transport(verify=context, trust_env=False),
        )

    set_client_factory(make)


def say(**line: object) -> None:
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


def head(job: dict[str, Any]) -> None:
    """Say which commit the revision is."""
    say(done={"sha": _info(job, files=False).sha})


def fetch(job: dict[str, Any]) -> None:
    """Download what an import keeps of a repository, and say what it is."""
    info = _info(job, files=True)
    kept, left_out = _kept(info.siblings or [], job)
    say(left_out=left_out[:50], left_out_count=len(left_out))
    total_bytes = sum(one.size for one in kept)
    say(total_bytes=total_bytes, files=len(kept))
    folder = Path(job["folder"])
    _check_space(folder, total_bytes)
    files = []
    for one in kept:
        path = _downloaded(job, info.sha, one, folder)
        files.append((one.rfilename, _sha256_of(path), one.size))
    say(done={"sha": info.sha, "licence": _licence_of(info), "files": files})


def _info(job: dict[str, Any], *, files: bool) -> Any:  # noqa: ANN401 - huggingface_hub's
    from huggingface_hub import HfApi
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    api = HfApi(endpoint=job["endpoint"], token=job["token"] or False)
    name = f"hf://{job['repository']}@{job['revision']}"
    try:
        info = api.model_info(
            job["repository"], revision=job["revision"], files_metadata=files, timeout=_TIMEOUT_S
        )
    except GatedRepoError:
        raise refuse(
            f"{name} is gated",
            "accept its terms at the hub, and give the token: edgeforge upstream token set",
        ) from None
    except RevisionNotFoundError:
        raise refuse(f"{name}: there is no such revision") from None
    except RepositoryNotFoundError:
        raise refuse(
            f"{name} is not found",
            "check its name; a private one needs a token: edgeforge upstream token set",
        ) from None
    except HfHubHTTPError as error:
        status = error.response.status_code
        raise refuse(f"{name}: the hub answered {status}", "try again later") from None
    if not isinstance(info.sha, str) or len(info.sha) != 40 or not info.sha.isalnum():
        raise refuse(f"{name}: the hub names no commit")
    return info


def _kept(siblings: list[Any], job: dict[str, Any]) -> tuple[list[Any], list[str]]:
    """Return what is downloaded and what is left out. Nothing was downloaded yet."""
    if len(siblings) > _MAX_LISTED:
        raise refuse(f"the repository lists more than {_MAX_LISTED} files")
    kept, left_out = [], []
    for one in siblings:
        if _is_allowed(one.rfilename):
            kept.append(one)
        else:
            left_out.append(ascii(one.rfilename[:200]))
    if missing := missing_parts({one.rfilename for one in kept}, None):
        raise refuse(
            f"the repository has no {' and no '.join(missing)}",
            "weights in safetensors and a config.json, or a PEFT adapter, can be imported",
        )
    if len(kept) > MAX_FILES:
        raise refuse(f"{len(kept)} files are more than {MAX_FILES}")
    for one in kept:
        if not isinstance(one.size, int) or not 0 < one.size <= job["max_file_bytes"]:
            raise refuse(f"{one.rfilename} has {one.size} bytes, which is not allowed")
        if one.lfs is None and not (isinstance(one.blob_id, str) and len(one.blob_id) == 40):
            raise refuse(f"the hub lists no digest of {one.rfilename}")
    total_bytes = sum(one.size for one in kept)
    if total_bytes > job["max_total_bytes"]:
        raise refuse(f"{total_bytes} bytes are more than {job['max_total_bytes']}")
    return kept, left_out


def _is_allowed(path: str) -> bool:
    try:
        check_path(path)
    except InvalidRequest:
        return False
    return is_kept(path)


def _downloaded(job: dict[str, Any], sha: str, one: Any, folder: Path) -> Path:  # noqa: ANN401
    """Return a file that is as the hub lists it; one that is not is downloaded once more.

    A partial file goes on where it stopped, also in another process than the one that began it.
    """
    path = folder / str(one.rfilename)
    if path.is_file() and _is_listed(path, one):
        return path
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    for _ in range(2):
        _receive(job, sha, one, partial)
        if _is_listed(partial, one):
            partial.rename(path)
            return path
        # What came before may be of other bytes than the rest.
        partial.unlink()
    raise refuse(
        f"{one.rfilename}: the hub does not send the bytes that it lists",
        "try again; if it stays so, the hub or what is between is at fault",
    )


def _receive(job: dict[str, Any], sha: str, one: Any, partial: Path) -> None:  # noqa: ANN401
    """Add to a partial file what is missing of it. Raises: what the client raises."""
    from huggingface_hub import hf_hub_url
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils._headers import build_hf_headers

    url = hf_hub_url(job["repository"], one.rfilename, revision=sha, endpoint=job["endpoint"])
    partial.touch(0o600)
    with partial.open("r+b") as file:
        have_bytes = file.seek(0, os.SEEK_END)
        if have_bytes > one.size:
            file.truncate(0)
            have_bytes = file.seek(0)
        if have_bytes == one.size:
            return
        _most_bytes[0] = one.size
        try:
            http_get(
                url,
                file,
                resume_size=have_bytes,
                headers=build_hf_headers(token=job["token"] or False),
                expected_size=one.size,
            )
        except TooMuch:
            return
        except OSError as error:
            if "Consistency check failed" not in str(error):
                raise


def _is_listed(path: Path, one: Any) -> bool:  # noqa: ANN401
    """Return whether a file has the size and the digest that the hub lists."""
    if path.stat().st_size != one.size:
        return False
    if one.lfs is not None:
        return bool(_sha256_of(path) == one.lfs.sha256)
    if one.blob_id and len(one.blob_id) == 40:
        hasher = hashlib.sha1(f"blob {one.size}\0".encode(), usedforsecurity=False)
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                hasher.update(chunk)
        return bool(hasher.hexdigest() == one.blob_id)
    return False


def _sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _licence_of(info: Any) -> str:  # noqa: ANN401
    card = info.card_data
    licence = getattr(card, "license", None) if card is not None else None
    if not licence:
        tags = [tag for tag in info.tags or [] if isinstance(tag, str)]
        licence = next((tag[8:] for tag in tags if tag.startswith("license:")), "")
    if isinstance(licence, list):
        licence = ", ".join(map(str, licence))
    return str(licence or "")[:100]


def _check_space(folder: Path, needed_bytes: int) -> None:
    disk = os.statvfs(folder)
    free_bytes = disk.f_bavail * disk.f_frsize
    if free_bytes < needed_bytes + _RESERVE_BYTES:
        raise refuse(
            f"the import needs {needed_bytes} bytes, {free_bytes} are free",
            "free space on the coordinator's disk, then import again: it goes on where it stopped",
        )


def main() -> int:
    """Do one job and return the exit code."""
    job = json.loads(sys.stdin.buffer.read())
    try:
        guard(job)
        use_guarded_client(job)
        {"head": head, "fetch": fetch}[job["action"]](job)
    except Exception as error:
        why = _refusals[0] if _refusals else Refused(_text_of(error), "try again later")
        say(refused=why.message, hint=why.hint)
        return 1
    return 0


def _text_of(error: Exception) -> str:
    if isinstance(error, MemoryError):
        return "the hub's answer is too large"
    return f"the hub cannot be reached: {type(error).__name__}: {str(error)[:300]}"


if __name__ == "__main__":
    sys.exit(main())
