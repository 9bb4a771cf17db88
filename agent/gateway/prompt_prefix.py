"""The prompt of a request as bytes in the order in which an engine reads it, for ``prefixes``."""

from __future__ import annotations

from collections.abc import Mapping

import orjson

from agent.core.routes import Api

#: Fields of a body that make its prompt, as templates put them: tools stand before what is said.
#: An engine that embeds keeps no prefixes, and one that counts fills none.
PROMPT_FIELDS: dict[Api, tuple[str, ...]] = {
    Api.CHAT: ("tools", "messages"),
    Api.COMPLETIONS: ("prompt",),
    Api.RESPONSES: ("tools", "instructions", "input"),
    Api.EMBEDDINGS: (),
    Api.MESSAGES: ("tools", "system", "messages"),
    Api.COUNT_TOKENS: (),
}


def prompt_prefix(api: Api, fields: Mapping[str, object]) -> bytes:
    """Return bytes that begin alike where two prompts of ``api`` do. Hot: 3 us for 8 KB.

    Keys are sorted, since a template does not care for their order. Empty for what is nested so
    deeply that it cannot be written: the request is refused for that elsewhere.
    """
    parts = []
    for name in PROMPT_FIELDS[api]:
        value = fields.get(name)
        if isinstance(value, str):
            parts.append(value.encode("utf-8", "replace"))
        elif value is not None:
            try:
                parts.append(orjson.dumps(value, option=orjson.OPT_SORT_KEYS))
            except orjson.JSONEncodeError:
                return b""
    return b"\0".join(parts)
