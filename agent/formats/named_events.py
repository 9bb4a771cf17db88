"""Event streams whose events have names: OpenAI Responses and Anthropic Messages.

Usage is part of these formats, so it is neither requested nor removed. An event is recognised by
its name; JSON is parsed only where a stream begins and ends.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import orjson

from agent.formats.generated_text import plain_delta_bytes, text_bytes
from agent.formats.json_size import loads_bounded
from agent.formats.model_names import Names, renamed
from agent.formats.service_tier import add_to
from agent.formats.sse import BesideUsage, EventStream, MalformedStream, counts_tokens

_EVENT = b"event: "
_END = b"\n\n"
_DATA = b"\ndata: "


class NamedEvents(EventStream, ABC):
    """The shared part of both formats: names, counts, and the error event."""

    #: Names of the events that carry content, reasoning or a tool call.
    token_names: frozenset[bytes]
    #: Names of the events by which an engine gives up.
    failure_names = frozenset({b"error"})
    #: Names of the events with an object that has the model's name, and the field of that object.
    envelope_names: frozenset[bytes]
    envelope: str
    #: Names of the events with usage.
    usage_names: frozenset[bytes]
    #: Whether the usage has the service tier, rather than the object around it.
    tells_tier_in_usage = False

    def __init__(self, beside_usage: BesideUsage | None = None, names: Names | None = None) -> None:
        super().__init__(
            include_usage=True, continuous_usage=True, beside_usage=beside_usage, names=names
        )
        self._usage: dict[str, object] | None = None
        self._service_tier = ""

    def tell_service_tier(self, word: str) -> None:
        self._service_tier = word

    def usage(self) -> dict[str, object] | None:
        """Return the usage; of a stream that was cut, the usage until then."""
        return self._usage

    def _filter(self, event: bytes) -> bytes:
        if self.error_event is not None:
            return b""
        if not event.startswith(_EVENT):
            if event[:1] in (b":", b""):  # a comment, padding
                return event
            raise MalformedStream("an event without a name")
        name, found, payload = event[len(_EVENT) :].partition(_DATA)
        if not found or not payload.endswith(b"}"):
            raise MalformedStream("an event that is no JSON object")
        if name in self.token_names:
            if not self.token_seen:
                _parse(payload)
                self.token_seen = self.progress_seen = True
            self.events += 1
            if self.measures:
                size_bytes = plain_delta_bytes(payload)
                if size_bytes < 0:
                    size_bytes = text_bytes(_parse(payload).get("delta"))
                self.text_bytes += size_bytes
        elif name in self.failure_names:
            self.error_event = payload
            return b""
        else:
            event = self._envelope_event(name, payload, event)
        self.passed += 1
        if self.done and not self._end_event:
            self._end_event = event + _END
            return b""
        return event

    def _envelope_event(self, name: bytes, payload: bytes, event: bytes) -> bytes:
        """Return what the client receives of an event that carries no token."""
        counts_all = self._counts_all(name, payload)
        if self._check_usage is not None and name in self.usage_names:
            payload = self._believable(payload)
            event = _EVENT + name + _DATA + payload
        if self._names is not None and name in self.envelope_names:
            payload = renamed(payload, self._names, self.envelope)
            event = _EVENT + name + _DATA + payload
        if self._service_tier and name in self.envelope_names:
            payload = self._with_service_tier(payload)
            event = _EVENT + name + _DATA + payload
        if counts_all and self._beside_usage is not None:
            counted = self._beside_usage(orjson.dumps(self._usage), self.token_seen)
            event = event[:-1] + counted + b"}"
        return event

    def _believable(self, payload: bytes) -> bytes:
        """Return an event with the usage to believe; unchanged if that is what it has."""
        check, usage = self._check_usage, self._usage
        if check is None or usage is None:
            return payload
        believed = self._checked(check, usage)
        if believed is usage:
            return payload
        self._usage = believed
        message = _parse(payload)
        envelope = _object(message.get(self.envelope))
        holder = envelope if "usage" in envelope else message
        said = _object(holder.get("usage"))
        holder["usage"] = {name: believed.get(name, value) for name, value in said.items()}
        return orjson.dumps(message)

    def _with_service_tier(self, payload: bytes) -> bytes:
        """Return an event whose object tells its service tier."""
        message = _parse(payload)
        if isinstance(answer := message.get(self.envelope), dict):
            add_to(answer, self._service_tier, in_usage=self.tells_tier_in_usage)
        return orjson.dumps(message)

    def _note_progress(self) -> None:
        if not self.progress_seen:
            self.progress_seen = counts_tokens(self._usage, "output_tokens")

    @abstractmethod
    def _counts_all(self, name: bytes, payload: bytes) -> bool:
        """Read an event that carries no token; True if it has the usage of the whole answer."""


class ResponsesEvents(NamedEvents):
    """OpenAI Responses: the event that ends the stream has the usage."""

    token_names = frozenset(
        {
            b"response.output_text.delta",
            b"response.refusal.delta",
            b"response.reasoning_text.delta",
            b"response.reasoning_summary_text.delta",
            b"response.function_call_arguments.delta",
            b"response.custom_tool_call_input.delta",
        }
    )
    failure_names = frozenset({b"error", b"response.failed"})
    envelope_names = frozenset(
        {
            b"response.created",
            b"response.in_progress",
            b"response.queued",
            b"response.completed",
            b"response.incomplete",
        }
    )
    envelope = "response"
    _ends = frozenset({b"response.completed", b"response.incomplete"})
    usage_names = frozenset({b"response.completed", b"response.incomplete"})

    def usage(self) -> dict[str, object] | None:
        """Return the engine's count; of a cut stream the number of deltas."""
        if self._usage is None and self.events:
            return {"input_tokens": 0, "output_tokens": self.events, "input_tokens_details": None}
        return self._usage

    def _counts_all(self, name: bytes, payload: bytes) -> bool:
        if name in self._ends:
            # an engine that says nothing has not said 0
            self._usage = _object(_object(_parse(payload).get("response")).get("usage")) or None
            self.done = True
            self._note_progress()
        elif not self.passed:
            _parse(payload)
        if not self.progress_seen and name.endswith(b".delta"):
            self.progress_seen = True  # of a kind that is not in token_names
        return self.done


class MessagesEvents(NamedEvents):
    """Anthropic Messages: the first event has the prompt's usage, the last the answer's."""

    token_names = frozenset({b"content_block_delta"})
    envelope_names = frozenset({b"message_start"})
    envelope = "message"
    tells_tier_in_usage = True
    usage_names = frozenset({b"message_start", b"message_delta"})

    def __init__(self, beside_usage: BesideUsage | None = None, names: Names | None = None) -> None:
        super().__init__(beside_usage, names)
        self._counted = False

    def usage(self) -> dict[str, object] | None:
        """Return both counts; of a cut stream, each delta counts as a token of the answer."""
        if self._usage is None or self._counted:
            return self._usage
        return self._usage | {"output_tokens": self.events}

    def _counts_all(self, name: bytes, payload: bytes) -> bool:
        if name == b"message_start":
            self._usage = _object(_object(_parse(payload).get("message")).get("usage"))
        elif name == b"message_delta":
            said = _object(_parse(payload).get("usage"))
            self._usage = (self._usage or {}) | said
            self._counted = "output_tokens" in said
            self._note_progress()
            return True
        elif name == b"message_stop":
            self.done = True
        return False


def _parse(payload: bytes) -> dict[str, object]:
    try:
        message = loads_bounded(payload)
    except orjson.JSONDecodeError as error:
        raise MalformedStream("an event that is no JSON object") from error
    return _object(message)


def _object(value: object) -> dict[str, object]:
    return value if isinstance(value, dict) else {}
