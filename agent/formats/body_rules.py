"""What a body may not request: templates, outgoing connections, stored state, priority.

The rules look where vLLM 0.32 looks, and nowhere else: a tool's schema or arguments may have a
field called ``image_url``. Source: vLLM 0.32, ``entrypoints/*/protocol.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from protos.domain.errors import InvalidRequest

#: Fields that could make an engine run a template, unpickle, connect elsewhere, or skip its queue.
REFUSED_FIELDS = (
    "chat_template",
    "kv_transfer_params",
    "ec_transfer_params",
    "priority",
    "prompt_embeds",
)
#: Objects whose fields an engine copies to places where such a field has an effect.
_CARRIERS = ("chat_template_kwargs", "vllm_xargs")
_CAPPED = ("n", "best_of", "prompt_logprobs", "echo")
#: Parts of a message that make an engine fetch an address, or use what it fetched before.
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
#: Fields of a block that hold a tool's input or output, in which every name is allowed.
_TOOL_DATA = frozenset({"input", "tool", "arguments"})
MAX_SCANNED_PARTS = 10_000
#: A tuple: ``dict | list`` in an expression is built at each evaluation, which takes 0.1 us.
_NESTED = (dict, list)


@dataclass(frozen=True, slots=True)
class BodyCaps:
    """Upper limits of the costly fields of one request."""

    max_n: int
    max_prompt_logprobs: int
    max_inputs: int


@dataclass(frozen=True, slots=True, eq=False)
class BodyRules:
    """What the bodies of one format may request; made by ``make_rules``."""

    #: Fields that are refused, those of every format included.
    refused: tuple[str, ...]
    #: Few bodies have one of these fields: only those are examined further.
    watched: frozenset[str]
    #: Types of tools that a client runs itself; every other type needs a server. None: no tools.
    client_tools: frozenset[str] | None
    #: Fields that hold the conversation.
    conversation: tuple[str, ...]
    #: Whether the prompt may be a list of prompts, whose number is limited.
    takes_batches: bool
    #: Whether tools with this ``tool_choice`` need a parser; None: never.
    calls_tools: Callable[[object], bool] | None
    #: Raises InvalidRequest for what only this format refuses.
    check_more: Callable[[Mapping[str, object]], None] | None
    #: Fields that every body for an engine has.
    always: Mapping[str, object]


def make_rules(
    *,
    refused: tuple[str, ...] = (),
    client_tools: frozenset[str] | None = None,
    conversation: tuple[str, ...] = (),
    takes_batches: bool = False,
    calls_tools: Callable[[object], bool] | None = None,
    check_more: Callable[[Mapping[str, object]], None] | None = None,
    always: Mapping[str, object] | None = None,
) -> BodyRules:
    """Return the rules of a format that refuses ``refused`` besides ``REFUSED_FIELDS``."""
    refused = (*REFUSED_FIELDS, *refused)
    return BodyRules(
        refused=refused,
        watched=frozenset({*refused, *_CARRIERS, *_CAPPED}),
        client_tools=client_tools,
        conversation=conversation,
        takes_batches=takes_batches,
        calls_tools=calls_tools,
        check_more=check_more,
        always=always or {},
    )


def check_body(rules: BodyRules, fields: Mapping[str, object], caps: BodyCaps) -> None:
    """Raise InvalidRequest for a body that may not reach an engine."""
    if not rules.watched.isdisjoint(fields):
        _check_refused(rules, fields)
        for name in ("n", "best_of"):
            _check_cap(fields, name, caps.max_n)
        _check_logprobs(fields, caps.max_prompt_logprobs)
    if rules.takes_batches:
        for name in ("prompt", "input", "messages"):
            _check_inputs(fields, name, caps.max_inputs)
    if rules.check_more is not None:
        rules.check_more(fields)
    if rules.client_tools is not None:
        _check_tools(rules.client_tools, fields)
    for name in rules.conversation:
        _check_media(name, fields.get(name))


def _check_refused(rules: BodyRules, fields: Mapping[str, object]) -> None:
    for name in rules.refused:
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
    """Cap logprobs of the prompt; an echoed prompt has them in the field ``logprobs``."""
    names = ["prompt_logprobs"]
    if fields.get("echo"):
        names.append("logprobs")
    for name in names:
        _check_cap(fields, name, most)
        if _as_number(fields.get(name)) == -1:  # vLLM: the whole vocabulary
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
    """Return the number that an engine would read: it accepts 3.0 and "3" as 3."""
    if isinstance(value, int | float | str):
        try:
            return float(value)
        except ValueError:
            return None
    return None


def _check_tools(allowed: frozenset[str], fields: Mapping[str, object]) -> None:
    tools = fields.get("tools")
    if not isinstance(tools, list):
        return
    for kind in _tool_kinds(tools):
        if kind is not None and kind not in allowed:
            shown = repr(kind[:64]) if isinstance(kind, str) else "of no known type"
            raise InvalidRequest(
                f"the tool {shown} would be run by a server, which is not done here",
                "send tools that the client answers",
                param="tools",
            )


def needs_tool_parser(rules: BodyRules, fields: Mapping[str, object]) -> bool:
    """Whether an engine must be able to find a tool call in the output of its model.

    Responses without a parser are text. Source: vLLM 0.32, ``renderers/online_renderer.py``.
    """
    if rules.calls_tools is None or not fields.get("tools"):
        return False
    return rules.calls_tools(fields.get("tool_choice", "auto"))


def _tool_kinds(tools: list[object]) -> Iterator[object]:
    for tool in tools:
        if isinstance(tool, dict):
            kind = tool.get("type")
            yield kind if isinstance(kind, str | None) else ""
            nested = tool.get("tools")
            if kind == "namespace" and isinstance(nested, list):
                yield from (one.get("type") for one in nested if isinstance(one, dict))


def _check_media(name: str, conversation: object) -> None:
    """Refuse media by address anywhere in a conversation, except in the data of tools."""
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
            if isinstance(one, _NESTED) and key not in _TOOL_DATA
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
