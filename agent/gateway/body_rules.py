"""What a body may not ask for, in every format: to run a template, reach out, keep, or jump ahead.

The rules look where vLLM 0.32 looks, and nowhere else: a tool's schema or arguments may well have
a field called ``image_url``. Source: vLLM 0.32, ``entrypoints/*/protocol.py``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from agent.core.routes import Api
from protos.domain.errors import InvalidRequest

#: Fields that could make an engine run a template, unpickle, reach out, or jump the queue.
REFUSED_FIELDS = (
    "chat_template",
    "kv_transfer_params",
    "ec_transfer_params",
    "priority",
    "prompt_embeds",
)
#: Further ones of one format: what is kept between requests, and what asks other servers.
REFUSED_FIELDS_OF: Mapping[Api, tuple[str, ...]] = {
    Api.RESPONSES: ("previous_response_id", "conversation", "prompt", "background"),
    Api.MESSAGES: ("mcp_servers", "container"),
    Api.COUNT_TOKENS: ("mcp_servers", "container"),
}
#: Objects that are handed on, field by field, into places where such a field would count.
_CARRIERS = ("chat_template_kwargs", "vllm_xargs")
#: Few requests have one of these: only those are looked at more closely.
_WATCHED: Mapping[Api, frozenset[str]] = {
    api: frozenset(
        {*REFUSED_FIELDS, *REFUSED_FIELDS_OF.get(api, ()), *_CARRIERS}
        | {"n", "best_of", "prompt_logprobs", "echo"}
    )
    for api in Api
}
#: Parts of a message that make an engine fetch an address, or take what it once fetched.
MEDIA_PARTS = frozenset(
    {
        "image_url",
        "audio_url",
        "video_url",
        "file_url",
        "input_image",
        "input_video",
        "input_file",
        "image_embeds",
        "audio_embeds",
        "file_id",
    }
)
#: Tools that a client answers itself; every other kind is a server's work.
_CLIENT_TOOLS: Mapping[Api, frozenset[str]] = {
    Api.CHAT: frozenset({"function", "custom"}),
    Api.RESPONSES: frozenset({"function", "custom", "namespace"}),
    Api.MESSAGES: frozenset({"custom"}),
    Api.COUNT_TOKENS: frozenset({"custom"}),
}
_ENCODINGS = ("float", "base64")
_CONVERSATION = {
    Api.CHAT: ("messages",),
    Api.RESPONSES: ("input", "previous_input_messages"),
    Api.EMBEDDINGS: ("messages", "input"),
    Api.MESSAGES: ("messages", "system"),
    Api.COUNT_TOKENS: ("messages", "system"),
}
#: Fields of a block that hold a tool's own words, in which every name is allowed.
_TOOL_WORDS = frozenset({"input", "tool", "arguments"})
MAX_SCANNED_PARTS = 10_000
#: A tuple, since ``dict | list`` written at a test is made anew each time: 0.1 us.
_NESTED = (dict, list)


@dataclass(frozen=True, slots=True)
class BodyCaps:
    """How much of the dear things one request may ask for."""

    max_n: int
    max_prompt_logprobs: int
    max_inputs: int


def check_body(api: Api, fields: Mapping[str, object], caps: BodyCaps) -> None:
    """Raise InvalidRequest for a body that may not reach an engine."""
    if not _WATCHED[api].isdisjoint(fields):
        _check_refused(api, fields)
        for name in ("n", "best_of"):
            _check_cap(fields, name, caps.max_n)
        _check_logprobs(fields, caps.max_prompt_logprobs)
    if api is Api.COMPLETIONS or api is Api.EMBEDDINGS:
        for name in ("prompt", "input", "messages"):
            _check_inputs(fields, name, caps.max_inputs)
    if api is Api.EMBEDDINGS:
        encoding = fields.get("encoding_format")
        if encoding is not None and encoding not in _ENCODINGS:
            raise InvalidRequest(
                "'encoding_format' is not known here",
                "use float or base64",
                param="encoding_format",
            )
    else:
        _check_tools(api, fields)
    for name in _CONVERSATION.get(api, ()):
        _check_media(name, fields.get(name))


def _check_refused(api: Api, fields: Mapping[str, object]) -> None:
    for name in (*REFUSED_FIELDS, *REFUSED_FIELDS_OF.get(api, ())):
        value = fields.get(name)
        if value is None or (name == "background" and value is False):
            continue
        raise InvalidRequest(f"{name!r} is not allowed here", "leave it out", param=name)
    for carrier in _CARRIERS:
        carried = fields.get(carrier)
        if not isinstance(carried, dict):
            continue
        for name in REFUSED_FIELDS:
            if carried.get(name) is not None:
                raise InvalidRequest(f"{name!r} is not allowed here", "leave it out", param=carrier)


def _check_cap(fields: Mapping[str, object], name: str, most: int) -> None:
    value = _as_number(fields.get(name))
    if value is not None and value > most:
        raise InvalidRequest(f"{name!r} is {value:g}, and at most {most} is allowed", param=name)


def _check_logprobs(fields: Mapping[str, object], most: int) -> None:
    """Cap logprobs of the prompt; a completion that echoes its prompt has them by another name."""
    names = ["prompt_logprobs"]
    if fields.get("echo"):
        names.append("logprobs")
    for name in names:
        _check_cap(fields, name, most)
        if _as_number(fields.get(name)) == -1:  # vLLM's "all of the vocabulary"
            raise InvalidRequest(f"{name!r} of -1 is not allowed", param=name)


def _check_inputs(fields: Mapping[str, object], name: str, most: int) -> None:
    value = fields.get(name)
    if not isinstance(value, list) or len(value) <= most:
        return
    if any(isinstance(one, str | list) for one in value):  # else: one prompt or conversation
        raise InvalidRequest(
            f"{name!r} has {len(value)} inputs, and at most {most} are allowed",
            "send them in several requests",
            param=name,
        )


def _as_number(value: object) -> float | None:
    """Return what an engine would read: it takes 3.0 and "3" for 3."""
    if isinstance(value, int | float | str):
        try:
            return float(value)
        except ValueError:
            return None
    return None


def _check_tools(api: Api, fields: Mapping[str, object]) -> None:
    allowed = _CLIENT_TOOLS.get(api)
    tools = fields.get("tools")
    if allowed is None or not isinstance(tools, list):
        return
    for kind in _tool_kinds(tools):
        if kind is not None and kind not in allowed:
            shown = repr(kind[:64]) if isinstance(kind, str) else "of no known type"
            raise InvalidRequest(
                f"the tool {shown} would be run by a server, which is not done here",
                "send tools that the client answers",
                param="tools",
            )


def needs_tool_parser(api: Api, fields: Mapping[str, object]) -> bool:
    """Whether an engine must be able to find a tool's call in what its model says.

    Chat without a choice means "auto", Messages too; a choice of null leaves the tools of chat out.
    Responses without a parser are text. Source: vLLM 0.32, ``renderers/online_renderer.py``.
    """
    if not fields.get("tools"):
        return False
    choice = fields.get("tool_choice", "auto")
    if api is Api.CHAT:
        return choice not in (None, "none")
    return api is Api.MESSAGES and choice != {"type": "none"}


def _tool_kinds(tools: list[object]) -> Iterator[object]:
    for tool in tools:
        if isinstance(tool, dict):
            kind = tool.get("type")
            yield kind if isinstance(kind, str | None) else ""
            nested = tool.get("tools")
            if kind == "namespace" and isinstance(nested, list):
                yield from (one.get("type") for one in nested if isinstance(one, dict))


def _check_media(name: str, conversation: object) -> None:
    """Refuse media by address anywhere in a conversation, but in the words of its tools."""
    pending: list[object] = [conversation]
    scanned = 0
    while pending:
        current = pending.pop()
        if isinstance(current, list):
            pending += [one for one in current if isinstance(one, _NESTED)]
            continue
        if not isinstance(current, dict):
            continue
        scanned += 1
        if scanned > MAX_SCANNED_PARTS:
            raise InvalidRequest(f"more than {MAX_SCANNED_PARTS} message parts", param=name)
        if _is_media(current):
            raise InvalidRequest("media by address is not allowed here", "send text", param=name)
        pending += [
            one
            for key, one in current.items()
            if isinstance(one, _NESTED) and key not in _TOOL_WORDS
        ]


def _is_media(part: Mapping[str, object]) -> bool:
    kind = part.get("type")
    if isinstance(kind, str) and kind in MEDIA_PARTS:
        return True
    if not MEDIA_PARTS.isdisjoint(part) and any(
        part[name] is not None for name in MEDIA_PARTS.intersection(part)
    ):
        return True
    source = part.get("source")
    return isinstance(source, dict) and (
        source.get("type") in ("url", "file") or source.get("url") is not None
    )
