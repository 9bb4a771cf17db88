"""The routes of an engine that a client may reach, and no other."""

from __future__ import annotations

import enum


class Api(enum.StrEnum):
    """A request format, named by its path on the client port and on the engine."""

    CHAT = "/v1/chat/completions"
    COMPLETIONS = "/v1/completions"
    RESPONSES = "/v1/responses"
    EMBEDDINGS = "/v1/embeddings"
    MESSAGES = "/v1/messages"
    COUNT_TOKENS = "/v1/messages/count_tokens"

    @property
    def embeds(self) -> bool:
        """Whether it needs an engine that embeds; all others need one that generates."""
        return self is Api.EMBEDDINGS

    @property
    def generates(self) -> bool:
        """Whether it is answered with text, which may come as a stream."""
        return self is not Api.EMBEDDINGS and self is not Api.COUNT_TOKENS

    @property
    def is_anthropic(self) -> bool:
        """Whether it is one of Anthropic's, whose clients send their key as ``x-api-key``."""
        return self is Api.MESSAGES or self is Api.COUNT_TOKENS

    @property
    def has_stream_options(self) -> bool:
        """Whether usage in a stream must be asked for, rather than being part of the format."""
        return self is Api.CHAT or self is Api.COMPLETIONS


#: Development routes of an engine are kept off by this being an allowlist.
GENERATION_PATHS: dict[str, Api] = {api.value: api for api in Api}


def api_of(path: str) -> Api | None:
    """Return the format that ``path`` speaks, or None: then errors are told as OpenAI does."""
    return GENERATION_PATHS.get(path)
