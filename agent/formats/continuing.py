"""An event stream that can continue on another engine without its client noticing.

It keeps the text that the client has received, and rewrites the second engine's events to look like
the first's: same id and time, no second role, usage of one request. It parses every event, so it is
used only for deployments that request it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import orjson

from agent.formats.json_size import loads_bounded
from agent.formats.sse import BesideUsage, EventStream, MalformedStream

if TYPE_CHECKING:
    from agent.formats.model_names import Names

#: Text kept of one stream; a stream with more is not continued.
MAX_TEXT_BYTES = 1024 * 1024
_DATA = b"data: "
_END = b"\n\n"
#: Fields that every event of a continued stream has from the first engine.
_KEPT_FIELDS = ("id", "object", "created", "model")
_CHUNK = "chat.completion.chunk"


@dataclass(slots=True)
class _Counts:
    """Usage that the client receives. ``prompt_tokens`` None: no engine has said it; 0 is said."""

    prompt_tokens: int | None = None
    completion_tokens: int = 0
    prompt_details: object = None


class ContinuableStream(EventStream):
    """An ``EventStream`` that can change its engine."""

    def __init__(
        self,
        *,
        include_usage: bool,
        continuous_usage: bool,
        beside_usage: BesideUsage | None = None,
        names: Names | None = None,
    ) -> None:
        super().__init__(
            include_usage=include_usage,
            continuous_usage=continuous_usage,
            beside_usage=beside_usage,
            names=names,
        )
        self.measures = True  # another engine may go on, whose counts are checked
        self._texts: list[str] = []
        self._text_bytes = 0
        self._first: dict[str, object] = {}
        self._plain = True
        self._finished = False
        #: At the last read that was passed on.
        self._known_usage: bytes | None = None
        self._known_events = 0
        self._before = _Counts()
        #: White space that the next engine repeats.
        self._owed = ""
        #: Number of times that another engine continued.
        self.seams = 0

    @property
    def text(self) -> str:
        """The answer's text that the client has received."""
        if len(self._texts) > 1:
            self._texts = ["".join(self._texts)]
        return self._texts[0] if self._texts else ""

    @property
    def completion_tokens(self) -> int:
        """Tokens that the client has received: the engines' count, else one for each event."""
        return self._counts().completion_tokens

    @property
    def can_go_on(self) -> bool:
        """Whether the client has received plain text only, and not all of it."""
        finished = self._finished or self._held
        return self._plain and not finished and not self.done and bool(self._texts)

    def go_on(self) -> None:
        """Expect the bytes of another engine from now on."""
        self._last_usage, self.events = self._known_usage, self._known_events
        self._before = self._counts()
        text = self.text
        self._owed = text[len(text.rstrip()) :] if self._first.get("object") == _CHUNK else ""
        self._rest = b""
        self.error_event = None
        self.seams += 1

    @property
    def lacks_only_its_end(self) -> bool:
        """Whether the whole text and its finish reason have come, but not the last event."""
        return self._plain and (self._finished or bool(self._held)) and not self.done

    @property
    def can_end(self) -> bool:
        """Whether the missing end can be written: not when it lacks a usage that was requested."""
        return self.lacks_only_its_end and not (self._include_usage and self._known_usage is None)

    def last_events(self) -> bytes:
        """Return what ends the stream; made here when its engine was lost after the last text."""
        if self.lacks_only_its_end:
            return self._missing_end() + self._end_event
        return self._end_event

    def _missing_end(self) -> bytes:
        """Return the usage of a stream that lost its engine after its finish reason."""
        self._last_usage = self._known_usage
        usage = self.usage()
        if usage is None and self._include_usage:
            return b""
        self._rest, self.error_event = b"", None
        events = [b"data: [DONE]"]
        if usage is not None:
            last = self._first | {"choices": [], "usage": usage}
            events.insert(0, _DATA + orjson.dumps(last))
        passed = [super(ContinuableStream, self)._filter(event) for event in events]
        return b"".join(event + _END for event in passed if event)

    def feed(self, data: bytes) -> bytes:
        """Return the bytes to pass on for one read. Raises: MalformedStream."""
        passed = super().feed(data)
        if passed and self._plain:
            for event in passed.split(_END):
                if event.startswith(_DATA) and not event.startswith(b"data: [DONE]"):
                    self._note(event[len(_DATA) :])
        self._known_usage, self._known_events = self._last_usage, self.events
        return passed

    def _filter(self, event: bytes) -> bytes:
        if self.seams and self.error_event is None and event.startswith(b"data: {"):
            event = self._as_before(event)
            if not event:
                return b""
        return super()._filter(event)

    def _note(self, payload: bytes) -> None:
        """Keep the text of one event that the client receives."""
        message = _parsed(payload)
        if not self._first:
            self._first = {name: message[name] for name in _KEPT_FIELDS if name in message}
        choices = message.get("choices")
        if not isinstance(choices, list) or len(choices) > 1:
            self._plain = False
            return
        for choice in choices:
            said = _plain_text_of(choice)
            if said is None:
                self._plain = False
                return
            self._finished = self._finished or choice.get("finish_reason") is not None
            self._text_bytes += len(said)
            if said:
                self._texts.append(said)
        if self._text_bytes > MAX_TEXT_BYTES:
            self._plain = False
            self._texts.clear()

    def _as_before(self, event: bytes) -> bytes:
        """Return another engine's event as the first would have sent it; empty to omit it."""
        message = _parsed(event[len(_DATA) :])
        if "error" in message:
            return event
        message.update(self._first)
        usage = message.get("usage")
        if isinstance(usage, dict):
            message["usage"] = self._summed(usage)
        choices = message.get("choices")
        if isinstance(choices, list) and len(choices) == 1 and isinstance(choices[0], dict):
            choice = choices[0]
            self._drop_owed(choice)
            if choice.get("finish_reason") is None and _plain_text_of(choice) == "":
                if "usage" in message:
                    self._last_usage = orjson.dumps(message["usage"])
                return b""
        return _DATA + orjson.dumps(message)

    def _drop_owed(self, choice: dict[str, object]) -> None:
        """Remove from a delta its role, and the white space that the client already has."""
        delta = choice.get("delta")
        if not isinstance(delta, dict):
            return
        delta.pop("role", None)
        content = delta.get("content")
        if not self._owed or not isinstance(content, str) or not content:
            return
        owed = self._owed
        if content.startswith(owed):
            delta["content"], self._owed = content[len(owed) :], ""
        elif owed.startswith(content):
            delta["content"], self._owed = "", owed[len(content) :]
        else:
            self._owed = ""

    def _summed(self, usage: dict[str, object]) -> dict[str, object]:
        """Return the usage of both engines as one: the client's prompt, and the whole answer."""
        before = self._before
        completion = before.completion_tokens + _count(usage.get("completion_tokens"))
        prompt = before.prompt_tokens
        if prompt is None:  # the first engine sent no usage
            prompt = _count(usage.get("prompt_tokens")) - before.completion_tokens
            prompt = before.prompt_tokens = max(1, prompt)
        summed = usage | {
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "total_tokens": prompt + completion,
        }
        if "prompt_tokens_details" in usage or before.prompt_details is not None:
            summed["prompt_tokens_details"] = before.prompt_details
        return summed

    def _counts(self) -> _Counts:
        usage = self.usage()
        if usage is None:
            return _Counts(None, self.events, None)
        return _Counts(
            _count(usage["prompt_tokens"]) if "prompt_tokens" in usage else None,
            _count(usage.get("completion_tokens")),
            usage.get("prompt_tokens_details"),
        )


def _parsed(payload: bytes) -> dict[str, object]:
    try:
        message = loads_bounded(payload)
    except orjson.JSONDecodeError as error:
        raise MalformedStream("an event that is no JSON object") from error
    if not isinstance(message, dict):
        raise MalformedStream("an event that is no JSON object")
    return message


def _plain_text_of(choice: object) -> str | None:
    """Return the text of a choice, empty for none; None when it has more than plain text."""
    if not isinstance(choice, dict) or choice.get("logprobs") or choice.get("index", 0) != 0:
        return None
    text = choice.get("text")
    if isinstance(text, str):
        return text
    delta = choice.get("delta")
    if not isinstance(delta, dict):
        return None
    if any(value and name not in ("role", "content") for name, value in delta.items()):
        return None
    content = delta.get("content")
    return content if isinstance(content, str) else ""


def _count(value: object) -> int:
    return value if isinstance(value, int) and value > 0 else 0
