"""Server-sent events as bytes: framing, first token, usage, removal of what was not requested.

Events are searched, not parsed: once for their usage, once for their end. JSON is parsed only
until the first token and for the last usage of a stream.
"""

from __future__ import annotations

from collections.abc import Callable

import orjson

from agent.formats.choice_counts import ChoiceCounts
from agent.formats.generated_text import plain_text_bytes, text_bytes
from agent.formats.json_size import loads_bounded
from agent.formats.model_names import Names, name_field
from agent.formats.service_tier import as_field, with_field

#: Returns fields (``,"name":value``) to add beside a usage object, from its JSON and whether the
#: client has something to see.
BesideUsage = Callable[[bytes, bool], bytes]

#: Returns the usage to believe, from the one that was counted elsewhere, the number of events and
#: the bytes of text; the same object if it is believed.
CheckUsage = Callable[[dict[str, object], int, int], dict[str, object]]

#: Larger events are malformed.
MAX_EVENT_BYTES = 4 * 1024 * 1024
#: A usage object is not longer; looking for its end takes time by the square of this.
MAX_USAGE_BYTES = 4_096
#: Choices whose first event is expected to carry no token; more events than this prove progress.
MAX_CHOICES = 128
#: A comment: clients of every format ignore it. Source: WHATWG HTML, "Server-sent events".
COMMENT = b": keep-alive\n\n"
#: How an event of the chat and completions formats begins.
CHUNK_MARK = b'data: {"'

_END = b"\n\n"
_DATA = b"data: "
_DONE = b"data: [DONE]"
_USAGE = b'"usage":{'
_NO_CHOICES = b'"choices":[]'
#: The reason of a choice that is finished; of all others it is null.
_FINISHED = b'"finish_reason":"'
_FINGERPRINT = b'"system_fingerprint":"'
_ERROR_STARTS = (b'data: {"error"', b'data: {"object":"error"')
_TOKEN_FIELDS = ("content", "reasoning", "reasoning_content", "tool_calls", "refusal")


class MalformedStream(ValueError):
    """The engine sent something that is no event stream."""


class EventStream:
    """Reads an engine's stream and returns the part that the client should receive.

    ``include_usage``: the client requested the usage chunk. ``continuous_usage``: it also requested
    usage in every chunk. Engines are asked for usage in every stream; what the client did not
    request is removed here.
    ``beside_usage``: returns further fields for the usage chunk.
    ``names``: the model's name in events, and the one to write instead.
    """

    def __init__(
        self,
        *,
        include_usage: bool,
        continuous_usage: bool,
        beside_usage: BesideUsage | None = None,
        names: Names | None = None,
    ) -> None:
        self._include_usage = include_usage
        self._continuous_usage = continuous_usage
        self._beside_usage = beside_usage
        self.use_names(names)
        #: The last chunk with a finish reason, kept until the next event: an engine that is asked
        #: for usage puts its fingerprint into the usage chunk, which this client does not receive.
        self._held = b""
        self._rest = b""
        #: The field with which every chunk tells its service tier; empty: none does.
        self._tier_field = b""
        self._last_usage: bytes | None = None
        #: Counts by choice, until one of all comes; None: there is one choice.
        self._choice_counts: ChoiceCounts | None = None
        #: Events that carried choices, from the first token on: about one a token.
        self.events = 0
        #: Bytes of text that came, if they are measured.
        self.text_bytes = 0
        self.measures = False
        #: Checks the counts of another host; None: they are those of this host's engine.
        self._check_usage: CheckUsage | None = None
        #: Events passed on, where the format numbers them.
        self.passed = 0
        #: True from the first content, reasoning or tool delta on.
        self.token_seen = False
        #: True from the first event on which proves that the engine has generated a token, even
        #: when the client sees none of it.
        self.progress_seen = False
        self._choices_begun: list[int] = []
        self.done = False
        #: The event that ends the stream. It is not passed on with the others: what must be durable
        #: before the client sees the end is written first.
        self._end_event = b""
        #: The engine's own error event, if it sent one.
        self.error_event: bytes | None = None

    def check_usage_by(self, check: CheckUsage) -> None:
        """Have every usage checked from now on, and the text measured."""
        self._check_usage = check
        self.measures = True

    def count_choices(self, answers: int) -> None:
        """Add up the counts of several choices, ``answers`` to each prompt."""
        self._choice_counts = ChoiceCounts(answers)

    def tell_service_tier(self, word: str) -> None:
        """Tell the client ``word`` as the service tier that it got."""
        self._tier_field = as_field(word)

    def use_names(self, names: Names | None) -> None:
        """Replace the engine's name of the model by the client's from now on; None: do not."""
        self._names = names
        #: The name as engines write it in an event, and what is written instead.
        self._engine_name = b"" if names is None else name_field(names[0])
        self._asked_name = b"" if names is None else name_field(names[1])

    def feed(self, data: bytes) -> bytes:
        """Return the bytes to pass on for one read. Raises: MalformedStream."""
        if self._rest:
            data = self._rest + data
        if data.find(b"\r") >= 0:
            data = data.replace(b"\r\n", b"\n")
        end = len(data) - len(_END)
        if data.find(_END) == end >= 0:  # one whole event, as an engine sends it
            self._rest = b""
            event = self._filter(data[:end])
            return event + _END if event else b""
        *events, rest = data.split(_END)
        if len(rest) > MAX_EVENT_BYTES:
            raise MalformedStream(f"an event of more than {MAX_EVENT_BYTES} bytes")
        self._rest = rest
        counted = self._last_usage, self.events
        try:
            kept = [event for event in map(self._filter, events) if event]
        except MalformedStream:
            self._last_usage, self.events = counted  # none of this read reaches the client
            raise
        if not kept:
            return b""
        kept.append(b"")
        return _END.join(kept)

    def last_events(self) -> bytes:
        """Return what ends the stream, once everything before it has been passed on."""
        if self._held:
            return self._released() + _END + self._end_event
        return self._end_event

    def kept_back(self) -> bytes:
        """Return what was kept back, once: a stream that breaks has been billed with it."""
        held = self._released()
        return held + _END if held else b""

    def usage(self) -> dict[str, object] | None:
        """Return the last usage of the stream so far, or None."""
        usage = None if self._last_usage is None else _usage_of(self._last_usage)
        if usage is not None and self._choice_counts is not None:
            usage = self._choice_counts.total(usage)
        check = self._check_usage
        return usage if usage is None or check is None else self._checked(check, usage)

    def _checked(self, check: CheckUsage, usage: dict[str, object]) -> dict[str, object]:
        """Return what to believe of ``usage``. One more event counts: it may carry the usage."""
        return check(usage, self.events + 1, self.text_bytes)

    def _believed(self, counted: dict[str, object]) -> dict[str, object]:
        """Return what to believe of the count of one event."""
        check = self._check_usage
        return counted if check is None else self._checked(check, counted)

    def _count_choice(self, counts: ChoiceCounts, event: bytes, ends: bool) -> None:
        if ends:
            self._choice_counts = None  # this is the count of all
        elif self._last_usage is not None:
            usage = _usage_of(self._last_usage)
            if usage is not None:
                counts.note(event[len(_DATA) :], usage)

    def _filter(self, event: bytes) -> bytes:
        if self.error_event is not None:
            return b""  # after its error an engine sends [DONE], which a client must not receive
        if not event.startswith(_DATA):
            if event[:1] in (b":", b"e", b"i", b"r", b""):  # comment, event, id, retry, padding
                return event
            raise MalformedStream("an event without data")
        if event == _DONE or event.startswith(_ERROR_STARTS):
            self._note_end(event)
            return self._released()
        if self._engine_name:
            event = event.replace(self._engine_name, self._asked_name, 1)
        if self._tier_field:
            event = with_field(event, self._tier_field)
        if self.measures:
            self._measure(event)
        if not self.token_seen:
            self._look_for_token(event)
        elif not event.endswith(b"}"):
            raise MalformedStream("an event that is no JSON object")
        at = event.find(_USAGE)
        if at >= 0:
            return self._with_usage(event, at)
        self.events += self.token_seen
        if self._include_usage or not (self._held or event.find(_FINISHED) >= 0):
            return event
        return self._ordered(event)

    def _note_end(self, event: bytes) -> None:
        if event == _DONE:
            self.done = True
            self._end_event = event + _END
        else:
            self.error_event = event[len(_DATA) :]

    def _with_usage(self, event: bytes, at: int) -> bytes:
        """Keep the usage of an event, and return what the client receives of the event."""
        opens = at + len(_USAGE) - 1
        end = event.find(b"}", opens) + 1
        if event.find(b"{", opens + 1, end) >= 0 or end == 0:  # it contains another, or has no end
            end = _object_end(event, opens)
        self._last_usage = event[opens:end]
        ends = _NO_CHOICES in event
        if self._choice_counts is not None:
            self._count_choice(self._choice_counts, event, ends)
        if self._check_usage is not None and (ends or self._continuous_usage):
            counted = _usage_of(self._last_usage)
            if counted is not None and (believed := self._believed(counted)) != counted:
                self._last_usage = orjson.dumps(believed)
                event = event[:opens] + self._last_usage + event[end:]
                end = opens + len(self._last_usage)
        if ends:
            return self._usage_chunk(event, end)
        self.events += self.token_seen
        if not self._continuous_usage:
            event = _without_field(event, at, end)
        return event if self._include_usage else self._ordered(event)

    def _ordered(self, event: bytes) -> bytes:
        """Return the event, or keep it back until the next one if it finishes a choice."""
        before = self._released()
        if event.find(_FINISHED) >= 0:
            self._held = event
            return before
        return before + _END + event if before else event

    def _released(self) -> bytes:
        """Return the event that was kept back, if any."""
        held, self._held = self._held, b""
        return held

    def _measure(self, event: bytes) -> None:
        """Add the text of an event to ``text_bytes``."""
        size_bytes = plain_text_bytes(event)
        if size_bytes < 0:
            message = _parsed(event[len(_DATA) :])
            size_bytes = text_bytes(message.get("choices")) if isinstance(message, dict) else 0
        self.text_bytes += size_bytes

    def _look_for_token(self, event: bytes) -> None:
        """Set ``token_seen`` and ``progress_seen``; not called once a token has been seen."""
        message = _parsed(event[len(_DATA) :])
        fields = message if isinstance(message, dict) else {}
        choices = fields.get("choices")
        if not isinstance(choices, list):  # another shape: its first event counts as a token
            self.token_seen = self.progress_seen = True
            return
        for choice in choices:
            if _has_token(choice):
                self.token_seen = self.progress_seen = True
                return
        if not self.progress_seen:
            self.progress_seen = self._is_begun(choices) or counts_tokens(
                fields.get("usage"), "completion_tokens"
            )

    def _is_begun(self, choices: list[object]) -> bool:
        """Whether one of ``choices`` was in an event before: the first may carry a role only."""
        begun = self._choices_begun
        for choice in choices:
            given = choice.get("index") if isinstance(choice, dict) else None
            index = given if isinstance(given, int) else 0
            if index in begun or len(begun) == MAX_CHOICES:
                return True
            begun.append(index)
        return False

    def _usage_chunk(self, event: bytes, usage_end: int) -> bytes:
        """Return the chunk that only carries usage, or nothing if the client did not request it."""
        if not self._include_usage:
            return _with_fingerprint(self._released(), event)
        if self._beside_usage is None or self._last_usage is None:
            return event
        return (
            event[:usage_end]
            + self._beside_usage(self._last_usage, self.token_seen)
            + event[usage_end:]
        )


def open_event_stream(
    include_usage: bool,
    continuous_usage: bool,
    beside_usage: BesideUsage | None,
    names: Names | None,
) -> EventStream:
    """Return a reader for the chat and completions formats."""
    return EventStream(
        include_usage=include_usage,
        continuous_usage=continuous_usage,
        beside_usage=beside_usage,
        names=names,
    )


def _with_fingerprint(event: bytes, usage_chunk: bytes) -> bytes:
    """Return ``event`` with the system fingerprint that only the usage chunk has."""
    at = usage_chunk.find(_FINGERPRINT)
    if at < 0 or not event.endswith(b"}") or event.find(_FINGERPRINT) >= 0:
        return event
    end = usage_chunk.find(b'"', at + len(_FINGERPRINT)) + 1  # it is hexadecimal, or a plain name
    if end == 0 or usage_chunk.find(b"\\", at, end) >= 0:
        return event
    return event[:-1] + b"," + usage_chunk[at:end] + b"}"


def _without_field(event: bytes, start: int, end: int) -> bytes:
    """Return ``event`` without the field at that place and without its comma."""
    if event[start - 1 : start] == b",":
        start -= 1
    elif event[end : end + 1] == b",":
        end += 1
    return event[:start] + event[end:]


def find_usage(body: bytes) -> dict[str, object] | None:
    """Return the usage of a whole response body, or None. Parses nothing but the usage."""
    at = body.rfind(_USAGE)
    if at < 0:
        return None
    start = at + len(_USAGE) - 1
    try:
        usage = orjson.loads(body[start : _object_end(body, start)])
    except (orjson.JSONDecodeError, MalformedStream):
        return None
    return usage if isinstance(usage, dict) else None


def _object_end(data: bytes, start: int) -> int:
    """Return the index after the object that opens at ``start``; its strings contain no braces.

    Raises: MalformedStream for an object without its end, or a longer one than engines write.
    """
    close, most = start, start + MAX_USAGE_BYTES
    while True:
        close = data.find(b"}", close, most) + 1
        if close == 0:
            raise MalformedStream("a usage object without its end")
        if data.count(b"{", start, close) == data.count(b"}", start, close):
            return close


def _usage_of(usage: bytes) -> dict[str, object] | None:
    """Return a usage object, None if the bytes are none."""
    try:
        found = orjson.loads(usage)
    except orjson.JSONDecodeError:
        return None
    return found if isinstance(found, dict) else None


def counts_tokens(usage: object, name: str) -> bool:
    """Whether a usage object has a positive count in its field ``name``."""
    value = usage.get(name) if isinstance(usage, dict) else None
    return isinstance(value, int) and value >= 1


def _parsed(payload: bytes) -> object:
    try:
        return loads_bounded(payload)
    except orjson.JSONDecodeError as error:
        raise MalformedStream("an event that is no JSON object") from error


def _has_token(choice: object) -> bool:
    """Whether a choice carries content, reasoning or a tool call; a role alone is no token."""
    if not isinstance(choice, dict):
        return False
    if choice.get("text"):
        return True
    delta = choice.get("delta")
    return isinstance(delta, dict) and any(delta.get(name) for name in _TOKEN_FIELDS)
