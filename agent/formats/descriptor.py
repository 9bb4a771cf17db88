"""What one API format is: plain data and functions, looked up once a request by its path."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent.formats.continuing import ContinuableStream
from agent.formats.model_names import Names, renamed
from agent.formats.prompt_prefix import long_prompt_prefix, prompt_prefix
from agent.formats.prompt_size import estimate_prompt_tokens
from agent.formats.sse import (
    CHUNK_MARK,
    COMMENT,
    BesideUsage,
    EventStream,
    find_usage,
    open_event_stream,
)

if TYPE_CHECKING:
    from agent.formats.body_rules import BodyRules
    from agent.formats.continuation import Continuation
    from agent.formats.errors import ErrorWords, Header
    from protos.domain.errors import EdgeForgeError


@dataclass(frozen=True, slots=True, eq=False)
class ApiFormat:
    """One API format, compared by identity."""

    #: Its path on the client port and on the engine.
    path: str
    #: ``gen_ai.operation.name``. Source: OpenTelemetry, semantic conventions for generative AI.
    operation: str
    #: What a body may request.
    rules: BodyRules
    #: How its clients read errors.
    words: ErrorWords
    #: Fields that make the prompt, in the order in which templates put them: tools before messages.
    #: Empty where an engine keeps no prefixes.
    prefix_fields: tuple[str, ...]
    #: Fields whose text counts as prompt; empty where no prompt is refused for its length.
    size_fields: tuple[str, ...]
    #: Fields that limit the tokens of an answer; an engine ignores the words of other formats.
    limit_fields: tuple[str, ...] = ("max_tokens",)
    #: Whether the prompt may be a list of prompts, each of them a request of its own to an engine.
    is_batched: bool = False
    #: Whether it needs an engine that embeds; all others need one that generates.
    embeds: bool = False
    #: Whether it is answered with text, which may come as a stream.
    generates: bool = True
    #: Whether it is one of Anthropic's, whose clients send their key as ``x-api-key``.
    is_anthropic: bool = False
    #: Whether usage in a stream must be requested, rather than being part of the format.
    has_stream_options: bool = False
    #: Bytes found once in nearly every event that carries a token: for counting without parsing.
    token_mark: bytes = CHUNK_MARK
    #: An event that means nothing to a client but keeps its connection open.
    heartbeat: bytes = COMMENT
    #: Makes a stream reader of (include_usage, continuous_usage, beside_usage, names).
    open_stream: Callable[[bool, bool, BesideUsage | None, Names | None], EventStream] = (
        open_event_stream
    )
    #: How a broken stream is continued on another engine; None: it is not.
    continuation: Continuation | None = None
    #: Returns the usage object of a whole response, or None.
    body_usage: Callable[[bytes], dict[str, object] | None] = find_usage

    def event_stream(
        self,
        *,
        include_usage: bool,
        continuous_usage: bool,
        beside_usage: BesideUsage | None = None,
        names: Names | None = None,
    ) -> EventStream:
        """Return a reader for one stream.

        What the client requested of usage counts where there are stream options only. ``names``:
        the engine's name of the model and the client's; None when they are equal.
        """
        return self.open_stream(include_usage, continuous_usage, beside_usage, names)

    def continuable_stream(
        self,
        fields: dict[str, object],
        *,
        include_usage: bool,
        continuous_usage: bool,
        beside_usage: BesideUsage | None = None,
        names: Names | None = None,
    ) -> ContinuableStream | None:
        """Return a reader that can change engines; None when this request cannot be continued."""
        if self.continuation is None or not self.continuation.can_continue(fields):
            return None
        return ContinuableStream(
            include_usage=include_usage,
            continuous_usage=continuous_usage,
            beside_usage=beside_usage,
            names=names,
        )

    def as_asked(self, body: bytes, names: Names | None) -> bytes:
        """Return a whole response with the name of the model that the client asked for."""
        return body if names is None else renamed(body, names)

    def continued(
        self, fields: dict[str, object], text: str, completion_tokens: int
    ) -> dict[str, object] | None:
        """Return the body that requests the rest after ``text``; None when nothing is left."""
        if self.continuation is None:
            return None
        return self.continuation.continued(fields, text, completion_tokens)

    def prompt_prefix(self, fields: Mapping[str, object], most_bytes: int | None = None) -> bytes:
        """Return bytes that begin alike where two prompts do, at least ``most_bytes`` of them."""
        if most_bytes is None:
            return prompt_prefix(self.prefix_fields, fields)
        return long_prompt_prefix(self.prefix_fields, fields, most_bytes)

    def estimate_prompt_tokens(self, fields: Mapping[str, object]) -> int:
        """Return the least number of tokens that the prompt can have, at least 1."""
        return estimate_prompt_tokens(self.size_fields, fields, is_batched=self.is_batched)

    def render_error(
        self, error: EdgeForgeError, status: int | None = None
    ) -> tuple[int, list[Header], bytes]:
        """Return status, headers and body of a response."""
        return self.words.render(error, status)

    def error_event(self, error: EdgeForgeError, events_before: int = 0) -> bytes:
        """Return the event that ends a stream which broke after its first byte.

        ``events_before``: events that the client has received; Responses numbers its events.
        """
        return b"event: error\ndata: " + self.words.event_data(error, events_before) + b"\n\n"

    def engine_refusal(self, status: int, body: bytes) -> bytes:
        """Return the body for the client in place of an engine's own error body."""
        return self.words.refusal(status, body)
