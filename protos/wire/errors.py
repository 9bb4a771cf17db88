"""Conversion of errors to and from gRPC's trailing metadata."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from protos.domain.errors import ConfigInvalid, EdgeForgeError

_KIND = "edgeforge-error"
_HINT = "edgeforge-hint-bin"
_RETRYABLE = "edgeforge-retryable"
_CODE = "edgeforge-code"
_RETRY_AFTER = "edgeforge-retry-after-ms"

#: Longest text that is sent: the peer's limit for all metadata is a few kilobytes.
MAX_TEXT_BYTES = 1_500


def error_details(error: EdgeForgeError) -> str:
    """Return the message for the status itself."""
    return _cut(error.message).decode()


def error_to_metadata(error: EdgeForgeError) -> tuple[tuple[str, str | bytes], ...]:
    """Return the trailing metadata that carries the rest of ``error``."""
    metadata: list[tuple[str, str | bytes]] = [
        (_KIND, type(error).__name__),
        (_HINT, _cut(error.hint)),
        (_RETRYABLE, "true" if error.retryable else "false"),
    ]
    if error.code is not None and error.code.isascii():
        metadata.append((_CODE, error.code[:100]))
    if error.retry_after_s is not None:
        metadata.append((_RETRY_AFTER, str(int(error.retry_after_s * 1_000))))
    return tuple(metadata)


def error_from_metadata(
    status_code: str, details: str, metadata: Iterable[tuple[str, str | bytes]]
) -> EdgeForgeError:
    """Return the error for a status; ``status_code`` as in ``UNAVAILABLE``.

    One that did not come from ``error_to_metadata`` (the channel's own) is retryable when the other
    side was unavailable or late.
    """
    fields = dict(metadata)
    known = {kind.__name__: kind for kind in _kinds(EdgeForgeError)}
    kind = known.get(_text(fields.get(_KIND, "")))
    if kind is None:
        lost = status_code in ("UNAVAILABLE", "DEADLINE_EXCEEDED")
        kind = known["LinkDown"] if lost else EdgeForgeError
    retryable = _text(fields[_RETRYABLE]) == "true" if _RETRYABLE in fields else None
    after_ms = _text(fields.get(_RETRY_AFTER, ""))
    return kind(
        details,
        _text(fields.get(_HINT, "")),
        retryable=retryable,
        code=_text(fields[_CODE]) if _CODE in fields else None,
        retry_after_s=int(after_ms) / 1_000 if after_ms.isdecimal() else None,
    )


def _kinds(base: type[EdgeForgeError]) -> Iterator[type[EdgeForgeError]]:
    for kind in base.__subclasses__():
        if kind is not ConfigInvalid:  # has a list of problems, and is never sent
            yield kind
            yield from _kinds(kind)


def _cut(text: str) -> bytes:
    return text.encode()[:MAX_TEXT_BYTES].decode(errors="ignore").encode()


def _text(value: str | bytes) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else value
