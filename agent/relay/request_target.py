"""The path that a request's target names, in every form that HTTP allows for it."""

from __future__ import annotations

import re

from protos.domain.errors import InvalidRequest

_ABSOLUTE = re.compile(rb"https?://[^/?#]*", re.IGNORECASE)
_ESCAPE = re.compile(rb"%([0-9A-Fa-f]{2})?")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def request_path(target: bytes) -> str:
    """Return the path of ``target``: without query, decoded once, without one trailing slash.

    Scheme and authority of an absolute form are dropped. ``.`` and ``..`` are kept, because the
    path is only compared with known routes.
    Raises: InvalidRequest. Source: RFC 9112, 3.2; RFC 3986, 2.1.
    """
    if not target.startswith(b"/"):
        absolute = _ABSOLUTE.match(target)
        if absolute is not None:
            target = target[absolute.end() :]
            if not target.startswith(b"/"):
                target = b"/" + target
    path, _, _ = target.partition(b"?")
    if b"%" in path:
        path = _ESCAPE.sub(_unescape, path)
    try:
        text = path.decode("utf-8")
    except UnicodeDecodeError:
        raise InvalidRequest("the path is not UTF-8", "encode it as RFC 3986 does") from None
    if _CONTROL.search(text):
        raise InvalidRequest("the path holds a control character")
    return text[:-1] if len(text) > 1 and text.endswith("/") else text


def _unescape(escape: re.Match[bytes]) -> bytes:
    digits = escape.group(1)
    if digits is None:
        raise InvalidRequest("the path holds a '%' without two hexadecimal digits")
    return bytes((int(digits, 16),))
