"""The heads of the peer port's answers and of what it asks the engine."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import orjson

from agent.relay.far_times import ENGINE_MODEL_HEADER, far_times_header
from protos.domain.errors import NoReplica, Overloaded
from protos.domain.trace import FarTimes

if TYPE_CHECKING:
    from agent.core.engine_place import Place
    from agent.core.engine_status import EngineEndpoint
    from agent.formats.body import GenerationBody
    from agent.relay.messages import Header, Request
    from protos.domain.errors import EdgeForgeError

JSON: Header = (b"content-type", b"application/json")
EVENT_STREAM: Header = (b"content-type", b"text/event-stream")
#: What the asking agent may name a request, in logs and to the engine.
_TRACE_ID = re.compile(rb"[0-9A-Za-z-]{1,64}")


def trace_id(request: Request) -> bytes:
    """Return the id that the asking agent gave a request; "none" where it is not well formed."""
    given = request.headers.get(b"x-edgeforge-trace-id", b"")
    return given if _TRACE_ID.fullmatch(given) else b"none"


def engine_headers(request: Request, body: GenerationBody) -> list[Header]:
    """Return the headers of the request to the engine."""
    return [
        (b"content-type", b"application/json"),
        (b"accept", b"text/event-stream" if body.stream else b"application/json"),
        (b"x-request-id", trace_id(request)),
    ]


def engine_model(endpoint: EngineEndpoint, model: str) -> list[Header]:
    """Return the header with an external engine's own name for the model."""
    name = endpoint.model.encode("utf-8", "replace")
    if endpoint.model == model or not name.isascii() or not endpoint.model.isprintable():
        return []
    return [(ENGINE_MODEL_HEADER, name)]


def timing(request: Request, place: Place, load_ms: float, now_mono_ms: float) -> Header:
    """Return the time spent here up to the first token, or up to the whole answer."""
    entered_mono_ms = place.entered_mono_ms
    admission_ms = max(0.0, entered_mono_ms - request.first_byte_mono_ms - load_ms)
    here_ms = now_mono_ms - entered_mono_ms
    return far_times_header(FarTimes(admission_ms, place.queue_ms(now_mono_ms), here_ms, load_ms))


def render_error(error: EdgeForgeError) -> tuple[int, list[Header], bytes]:
    """Return status, headers and body of a refusal."""
    told = {"message": error.message, "type": error.openai_type}
    if error.code:
        told["code"] = error.code
    body = orjson.dumps({"error": told})
    # only for a 5xx does the asking agent place the request elsewhere
    status = NoReplica.http_status if isinstance(error, Overloaded) else error.http_status
    return status, [JSON], body
