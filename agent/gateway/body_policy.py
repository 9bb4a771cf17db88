"""What of a request's body reaches an engine: one parse, refusals, caps, and what is always set.

Unknown fields pass, and a wrong type goes on to become the engine's own 400: it knows best.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import orjson

from agent.core.routes import Api
from agent.gateway.body_rules import BodyCaps, check_body, needs_tool_parser
from agent.gateway.prompt_size import estimate_prompt_tokens
from protos.domain.errors import InvalidRequest

_NOTHING_ASKED: Mapping[str, object] = {}
#: What a vLLM reads as true; a stream by any of these names is metered as a stream.
_TRUE_WORDS = frozenset({"1", "true", "t", "yes", "y", "on"})


@dataclass(slots=True)
class GenerationBody:
    """A request's body, parsed once and rewritten at most once a target."""

    api: Api
    fields: dict[str, object]
    stream: bool
    include_usage: bool
    continuous_usage: bool
    prompt_tokens_estimate: int
    #: The model may or must call a tool, which an engine has to find in its words.
    needs_tool_parser: bool

    @property
    def model(self) -> object:
        """What the client put into ``model``; any type."""
        return self.fields.get("model")

    def for_engine(self, model: str, *, continuous_usage: bool) -> bytes:
        """Return the body for an engine that calls the model ``model``. Raises: InvalidRequest."""
        fields = self.fields
        fields["model"] = model
        if self.stream and self.api.has_stream_options:
            given = fields.get("stream_options")
            options = dict(given) if isinstance(given, dict) else {}
            options["include_usage"] = True
            if continuous_usage:
                options["continuous_usage_stats"] = True
            fields["stream_options"] = options
        try:
            return orjson.dumps(fields)
        except orjson.JSONEncodeError as error:  # it writes less deep than it reads
            raise InvalidRequest("the body is nested too deeply") from error


def read_body(body: bytes, api: Api, *, cache_salt: str, caps: BodyCaps) -> GenerationBody:
    """Parse and check ``body``. Raises: InvalidRequest."""
    try:
        fields = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise InvalidRequest(f"the body is not valid JSON: {error}") from error
    if not isinstance(fields, dict):
        raise InvalidRequest("the body must be a JSON object")
    check_body(api, fields, caps)
    fields.pop("store", None)
    fields.pop("request_id", None)  # an engine takes it for the request's own, ours is a header
    fields["cache_salt"] = cache_salt
    if api is Api.RESPONSES:
        fields["store"] = False  # left out it is true
    stream = api.generates and _is_true(fields.get("stream"))
    if stream:
        fields["stream"] = True
    given = fields.get("stream_options")
    asked = given if isinstance(given, dict) else _NOTHING_ASKED
    return GenerationBody(
        api=api,
        fields=fields,
        stream=stream,
        include_usage=_is_true(asked.get("include_usage")),
        continuous_usage=_is_true(asked.get("continuous_usage_stats")),
        prompt_tokens_estimate=estimate_prompt_tokens(api, fields),
        needs_tool_parser="tools" in fields and needs_tool_parser(api, fields),
    )


def _is_true(value: object) -> bool:
    if value is None:
        return False
    if isinstance(value, str):
        return value.lower() in _TRUE_WORDS
    return isinstance(value, int | float) and value == 1
