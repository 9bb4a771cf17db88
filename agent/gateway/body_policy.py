"""What of a request's body reaches an engine: one parse, refusals, caps, and what is always set.

Unknown fields pass, and a wrong type goes on to become the engine's own 400: it knows best.
"""

from __future__ import annotations

from dataclasses import dataclass

import orjson

from protos.domain.errors import InvalidRequest

#: Fields that could make an engine run a template, reach out, or jump the queue.
REFUSED_FIELDS = ("chat_template", "kv_transfer_params", "priority")
#: Parts of a message that make an engine fetch an address.
_MEDIA_PARTS = frozenset({"image_url", "audio_url", "video_url", "input_image", "input_video"})
#: Bytes of text in one token, for a guess that does not over-estimate prompts.
_BYTES_PER_TOKEN = 8
_MAX_SCANNED_PARTS = 10_000


@dataclass(slots=True)
class GenerationBody:
    """A request's body, parsed once and rewritten at most once a target."""

    fields: dict[str, object]
    stream: bool
    include_usage: bool
    continuous_usage: bool
    prompt_tokens_estimate: int

    @property
    def model(self) -> object:
        """What the client put into ``model``; any type."""
        return self.fields.get("model")

    def for_engine(self, model: str, *, continuous_usage: bool) -> bytes:
        """Return the body for an engine that calls the model ``model``."""
        fields = self.fields
        fields["model"] = model
        if self.stream:
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


def read_body(
    body: bytes, *, cache_salt: str, max_n: int, max_prompt_logprobs: int
) -> GenerationBody:
    """Parse and check ``body``. Raises: InvalidRequest."""
    try:
        fields = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise InvalidRequest(f"the body is not valid JSON: {error}") from error
    if not isinstance(fields, dict):
        raise InvalidRequest("the body must be a JSON object")
    for name in REFUSED_FIELDS:
        if fields.get(name) is not None:
            raise InvalidRequest(f"{name!r} is not allowed here", "leave it out", param=name)
    template = fields.get("chat_template_kwargs")
    if isinstance(template, dict) and template.get("chat_template") is not None:
        raise InvalidRequest(
            "'chat_template' is not allowed here", "leave it out", param="chat_template_kwargs"
        )
    _check_cap(fields, "n", max_n)
    _check_cap(fields, "best_of", max_n)
    _check_cap(fields, "prompt_logprobs", max_prompt_logprobs)
    if _as_number(fields.get("prompt_logprobs")) == -1:  # vLLM's "all of the vocabulary"
        raise InvalidRequest("'prompt_logprobs' of -1 is not allowed", param="prompt_logprobs")
    _check_media(fields.get("messages"))
    fields.pop("store", None)
    fields["cache_salt"] = cache_salt
    stream = fields.get("stream") is True
    given = fields.get("stream_options")
    asked = given if isinstance(given, dict) else {}
    return GenerationBody(
        fields=fields,
        stream=stream,
        include_usage=asked.get("include_usage") is True,
        continuous_usage=asked.get("continuous_usage_stats") is True,
        prompt_tokens_estimate=max(1, len(body) // _BYTES_PER_TOKEN),
    )


def _check_cap(fields: dict[str, object], name: str, most: int) -> None:
    value = _as_number(fields.get(name))
    if value is not None and value > most:
        raise InvalidRequest(f"{name!r} is {value:g}, and at most {most} is allowed", param=name)


def _as_number(value: object) -> float | None:
    """Return what an engine would read: it takes 3.0 and "3" for 3."""
    if isinstance(value, int | float | str):
        try:
            return float(value)
        except ValueError:
            return None
    return None


def _check_media(messages: object) -> None:
    if not isinstance(messages, list):
        return
    scanned = 0
    for message in messages:
        content = message.get("content") if isinstance(message, dict) else None
        if not isinstance(content, list):
            continue
        for part in content:
            scanned += 1
            if scanned > _MAX_SCANNED_PARTS:
                raise InvalidRequest(f"more than {_MAX_SCANNED_PARTS} message parts")
            if isinstance(part, dict) and (
                _is_media(part.get("type")) or not _MEDIA_PARTS.isdisjoint(part)
            ):
                raise InvalidRequest(
                    "media by address is not allowed here", "send text", param="messages"
                )


def _is_media(kind: object) -> bool:
    return isinstance(kind, str) and kind in _MEDIA_PARTS
