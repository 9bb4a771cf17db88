"""Media in a conversation: inline data passes, an address that an engine would fetch does not.

The rules look where vLLM 0.32 looks, and nowhere else: a tool's schema or arguments may have a
field called ``image_url``. Source: vLLM 0.32, ``renderers/chat_utils.py``.
"""

from __future__ import annotations

from collections.abc import Mapping

from protos.domain.errors import InvalidRequest

#: Fields whose value is an address of media, or an object with one in ``url``.
ADDRESS_FIELDS = frozenset({"image_url", "audio_url", "video_url", "file_url"})
#: Types of parts with media, and the field that has the address.
_ADDRESS_OF_TYPE = {
    "image_url": "image_url",
    "audio_url": "audio_url",
    "video_url": "video_url",
    "input_image": "image_url",
}
#: Fields and types of parts that refer to what an engine or another server keeps, or that carry
#: tensors for it to load.
REFUSED_PARTS = frozenset(
    {
        "file_url",
        "input_video",
        "input_file",
        "image_embeds",
        "audio_embeds",
        "video_embeds",
        "prompt_embeds",
        "image_pil",
        "file_id",
    }
)
#: How a data URI begins. ``asked_tokens.MEDIA_MARKS`` has both.
_INLINE = ("data:", "DATA:")
_WATCHED_FIELDS = ADDRESS_FIELDS | REFUSED_PARTS | {"input_image", "uuid"}
_MEDIA = ADDRESS_FIELDS | REFUSED_PARTS | {"input_image", "input_audio"}
#: Fields of a block that hold a tool's input or output, in which every name is allowed.
_TOOL_DATA = frozenset({"input", "tool", "arguments"})
MAX_SCANNED_PARTS = 10_000
#: A tuple: ``dict | list`` in an expression is built at each evaluation, which takes 0.1 us.
_NESTED = (dict, list)
_HINT = "send it inline, as a data: URI in base64"


def check_media(name: str, conversation: object) -> None:
    """Refuse media by address anywhere in a conversation, except in the data of tools.

    Raises: InvalidRequest.
    """
    pending: list[object] = [conversation]
    scanned = 0
    while pending:
        current = pending.pop()
        if isinstance(current, list):
            pending += [one for one in current if isinstance(one, _NESTED)]
            continue
        if not isinstance(current, dict):
            continue
        scanned += 1
        if scanned > MAX_SCANNED_PARTS:
            raise InvalidRequest(f"more than {MAX_SCANNED_PARTS} message parts", param=name)
        problem = _problem(current)
        if problem:
            raise InvalidRequest(f"{problem} is not allowed here", _HINT, param=name)
        pending += [
            one
            for key, one in current.items()
            if isinstance(one, _NESTED) and key not in _TOOL_DATA
        ]


def _problem(part: Mapping[str, object]) -> str:
    """Return what of a part is refused; empty for none."""
    kind = part.get("type")
    address = _ADDRESS_OF_TYPE.get(kind) if isinstance(kind, str) else None
    if address is not None:
        if not _is_inline(part.get(address)):
            return "media by address"
    elif isinstance(kind, str) and kind in REFUSED_PARTS:
        return f"a part of the type {kind!r}"
    if not _WATCHED_FIELDS.isdisjoint(part):
        for field in _WATCHED_FIELDS.intersection(part):
            value = part[field]
            if value is None or (field in ADDRESS_FIELDS and _is_inline(value)):
                continue
            if field == "uuid":
                if not _has_media(part):
                    continue
                return "a 'uuid' of media"  # an engine would take what it keeps under this name
            return "media by address" if field in ADDRESS_FIELDS else f"{field!r} in a part"
    source = part.get("source")
    if isinstance(source, dict):
        url = source.get("url")
        if url is not None:
            return "" if _is_inline(url) else "media by address"
        if source.get("type") in ("url", "file"):
            return "media by address"
    return ""


def _has_media(part: Mapping[str, object]) -> bool:
    """Whether a part is one of media, by its fields or its type."""
    kind = part.get("type")
    return (isinstance(kind, str) and kind in _MEDIA) or not _MEDIA.isdisjoint(part)


def _is_inline(value: object) -> bool:
    """Whether a value is a data URI, or an object with one. Any other address is refused.

    Its scheme is in letters of one case, by which a body with media is known.
    """
    if isinstance(value, dict):
        value = value.get("url")
    return isinstance(value, str) and value[:5] in _INLINE
