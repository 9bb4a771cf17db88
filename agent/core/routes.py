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

    def __init__(self, path: str) -> None:
        #: Whether it needs an engine that embeds; all others need one that generates.
        self.embeds = path == "/v1/embeddings"
        #: Whether it is one of Anthropic's, whose clients send their key as ``x-api-key``.
        self.is_anthropic = path.startswith("/v1/messages")
        #: Whether it is answered with text, which may come as a stream.
        self.generates = not self.embeds and path != "/v1/messages/count_tokens"
        #: Whether usage in a stream must be asked for, rather than being part of the format.
        self.has_stream_options = path in ("/v1/chat/completions", "/v1/completions")


#: Development routes of an engine are kept off by this being an allowlist.
GENERATION_PATHS: dict[str, Api] = {api.value: api for api in Api}


def api_of(path: str) -> Api | None:
    """Return the format that ``path`` speaks, or None: then errors are told as OpenAI does."""
    return GENERATION_PATHS.get(path)
