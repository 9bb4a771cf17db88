"""The part of a request's body that reaches an engine: one parse, refusals, caps, fixed fields.

Unknown fields pass, and a value of a wrong type too: the engine answers it with its own 400.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import orjson

from agent.formats.body_rules import BodyCaps, check_body, needs_tool_parser
from agent.formats.emptiness import free_end_tokens, tells_prompt
from agent.formats.sequences import count_sequences, most_answer_tokens
from agent.formats.service_tier import served_word, take_service_tier
from protos.domain.errors import InvalidRequest

if TYPE_CHECKING:
    from agent.formats.descriptor import ApiFormat
    from agent.formats.model_names import Names
    from protos.domain.resources import SlaTier

__all__ = ["BodyCaps", "GenerationBody", "read_body"]

_NO_OPTIONS: Mapping[str, object] = {}
#: What vLLM reads as true: a stream in any of these spellings is metered as a stream.
_TRUE_WORDS = frozenset({"1", "true", "t", "yes", "y", "on"})
_FALSE_WORDS = frozenset({"0", "false", "f", "no", "n", "off"})
_UTF8_MARK = b"\xef\xbb\xbf"
_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")


@dataclass(slots=True)
class GenerationBody:
    """A request's body, parsed once and written once for each target."""

    api: ApiFormat
    #: The client's name of the model; ``fields`` has the engine's once one was asked.
    asked_model: str
    fields: dict[str, object]
    stream: bool
    include_usage: bool
    continuous_usage: bool
    prompt_tokens_estimate: int
    #: Whether the model may or must call a tool, which an engine has to find in its output.
    needs_tool_parser: bool
    #: What an engine computes for it: prompts times answers.
    sequences: int = 1
    #: Tokens without anything to see that are the ends of its sequences, and free.
    free_ends: int = 1
    #: Whether the answer contains its prompt or its probabilities, so that the prompt is billed.
    tells_prompt: bool = False
    #: Most tokens of one answer; infinite without a limit, 0 where none is generated.
    max_answer_tokens: float = math.inf
    #: Whether the client's body has a mark of media; None: not looked for yet.
    has_media: bool | None = None
    #: What ``write_ahead`` has written: the model, whether usage is continuous, the salt, the body.
    ahead: tuple[str, bool, str | None, bytes] | None = None
    #: What the client asked for in ``service_tier``; empty: nothing.
    service_tier: str = ""

    @property
    def model(self) -> str:
        """The client's name of the model."""
        return self.asked_model

    def service_word(self, sla_tier: SlaTier) -> str:
        """Return the ``service_tier`` of the answer; empty: the client did not ask for one."""
        if not self.service_tier:
            return ""
        return served_word(sla_tier, is_anthropic=self.api.is_anthropic)

    def names(self, engine_model: str) -> Names | None:
        """Return both names of the model for the answer's reader; None when they are equal."""
        if engine_model == self.asked_model:
            return None
        return orjson.dumps(engine_model), orjson.dumps(self.asked_model)

    def write_ahead(self, model: str, *, continuous_usage: bool, cache_salt: str | None) -> None:
        """Write the body now, as it is going to be asked for; a large one takes milliseconds.

        Raises: InvalidRequest.
        """
        written = self.for_engine(model, continuous_usage=continuous_usage, cache_salt=cache_salt)
        self.ahead = (model, continuous_usage, cache_salt, written)

    def for_engine(
        self,
        model: str,
        *,
        continuous_usage: bool,
        cache_salt: str | None,
        fields: dict[str, object] | None = None,
    ) -> bytes:
        """Return the body for an engine that calls the model ``model``.

        ``cache_salt`` is the account's on this node; None for a peer, which adds its own.
        ``fields`` replaces the body's own, for the rest of a broken stream. Raises: InvalidRequest.
        """
        if fields is None:
            fields = self.fields
        ahead, self.ahead = self.ahead, None
        if ahead is not None and fields is self.fields:
            ahead_model, ahead_usage, ahead_salt, written = ahead
            if (ahead_model, ahead_usage, ahead_salt) == (model, continuous_usage, cache_salt):
                return written
        fields["model"] = model
        if cache_salt is None:
            fields.pop("cache_salt", None)  # from an earlier attempt at this node's own engine
        else:
            fields["cache_salt"] = cache_salt
        if self.stream and self.api.has_stream_options:
            given = fields.get("stream_options")
            options = dict(given) if isinstance(given, dict) else {}
            options["include_usage"] = True
            if continuous_usage:
                options["continuous_usage_stats"] = True
            else:
                options.pop("continuous_usage_stats", None)
            fields["stream_options"] = options
        try:
            return orjson.dumps(fields)
        except orjson.JSONEncodeError as error:  # orjson reads deeper values than it writes
            raise InvalidRequest("the body is nested too deeply") from error


def parse_body(body: bytes) -> dict[str, object]:
    """Return the fields of ``body``. Raises: InvalidRequest. A large one is counted before."""
    try:
        fields = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        fields = _read_again(body, error)
    if not isinstance(fields, dict):
        raise InvalidRequest("the body must be a JSON object")
    return fields


def read_body(
    body: bytes, api: ApiFormat, *, caps: BodyCaps, fields: dict[str, object] | None = None
) -> GenerationBody:
    """Parse and check ``body``, of a client or of a peer. Raises: InvalidRequest.

    What it accepts for a peer it accepts there again, unchanged. ``fields`` are its own, if it is
    parsed already.
    """
    if fields is None:
        fields = parse_body(body)
    model = fields.get("model")
    if not isinstance(model, str) or not model:
        problem = "is missing" if model in (None, "") else "must be a string"
        raise InvalidRequest(f"'model' {problem}", "name a model", param="model")
    check_body(api.rules, fields, caps)
    fields.pop("store", None)
    fields.pop("request_id", None)  # an engine would prefer it to the header that is sent
    fields.pop("cache_salt", None)  # only the agent at the engine knows it
    service_tier = take_service_tier(fields)
    if api.rules.always:
        fields.update(api.rules.always)
    sequences = count_sequences(fields, is_batched=api.is_batched)
    if api.generates and sequences > caps.max_sequences:
        raise InvalidRequest(
            f"the request is for {sequences} sequences, its prompts times its answers to each, and"
            f" at most {caps.max_sequences} are allowed",
            "send them in several requests",
            param="n",
        )
    stream = _asks_for_stream(fields, api)
    given = fields.get("stream_options")
    options = given if isinstance(given, dict) else _NO_OPTIONS
    return GenerationBody(
        api=api,
        asked_model=model,
        fields=fields,
        stream=stream,
        include_usage=_is_true(options.get("include_usage")),
        continuous_usage=_is_true(options.get("continuous_usage_stats")),
        prompt_tokens_estimate=api.estimate_prompt_tokens(fields),
        needs_tool_parser="tools" in fields and needs_tool_parser(api.rules, fields),
        sequences=sequences,
        free_ends=free_end_tokens(fields, sequences),
        tells_prompt=tells_prompt(fields),
        max_answer_tokens=most_answer_tokens(fields, api.limit_fields) if api.generates else 0.0,
        service_tier=service_tier,
    )


def _asks_for_stream(fields: dict[str, object], api: ApiFormat) -> bool:
    """Return whether a stream is asked for, written so that no engine reads it otherwise.

    An answer of another kind than was asked for counts as a failure of the engine.
    Raises: InvalidRequest.
    """
    given = fields.get("stream")
    if given is None or not api.generates:
        fields.pop("stream", None)
        return False
    if given is True or given is False:
        return given
    stream = _is_true(given)
    if not stream and not _is_false(given):
        raise InvalidRequest("'stream' is neither true nor false", param="stream")
    fields["stream"] = stream
    return stream


def _read_again(body: bytes, error: orjson.JSONDecodeError) -> object:
    """Read what the parser refused, or say what is wrong with it. Raises: InvalidRequest."""
    if body.startswith(_UTF8_MARK):  # allowed to be ignored. Source: RFC 8259, section 8.1
        body = body[len(_UTF8_MARK) :]
        try:
            return orjson.loads(body)
        except orjson.JSONDecodeError as again:
            error = again
    if body.startswith(_UTF16_MARKS) or b"\0" in body[:2]:
        raise InvalidRequest("the body is in UTF-16 or UTF-32", "send JSON text in UTF-8")
    try:
        body.decode()
    except UnicodeDecodeError:
        raise InvalidRequest(
            "the body is not JSON text in UTF-8",
            "a compressed body needs its content-encoding header",
        ) from error
    raise InvalidRequest(f"the body is not valid JSON: {error}") from error


def _is_true(value: object) -> bool:
    if value is None:
        return False
    if isinstance(value, str):
        return value.lower() in _TRUE_WORDS
    return isinstance(value, int | float) and value == 1


def _is_false(value: object) -> bool:
    if isinstance(value, str):
        return value.lower() in _FALSE_WORDS
    return isinstance(value, int | float) and value == 0
