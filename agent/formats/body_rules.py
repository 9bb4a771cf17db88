"""What a body may not request: templates, outgoing connections, stored state, priority.

Source: vLLM 0.32, ``entrypoints/*/protocol.py``. See ``media`` and ``tools`` for the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from agent.formats.media import check_media
from protos.domain.errors import InvalidRequest

#: Fields that could make an engine run a template, unpickle, connect elsewhere, load what it names,
#: choose another's cache, or skip its queue. Sources: vLLM 0.32 and SGLang 0.5, ``protocol.py``;
#: llama.cpp, ``tools/server/README.md``.
REFUSED_FIELDS = (
    "bootstrap_host",
    "bootstrap_port",
    "bootstrap_room",
    "chat_template",
    "custom_logit_processor",
    "data_parallel_rank",
    "ec_transfer_params",
    "id_slot",
    "input_embeds",
    "kv_transfer_params",
    "logits_processors",
    "lora_path",
    "priority",
    "prompt_embeds",
)
#: Objects whose fields an engine copies to places where such a field has an effect.
_CARRIERS = ("chat_template_kwargs", "vllm_xargs")
_INPUT_TYPES = frozenset({str, list})
_CAPPED = ("n", "best_of", "prompt_logprobs", "echo")


@dataclass(frozen=True, slots=True)
class BodyCaps:
    """Upper limits of the costly fields of one request."""

    max_n: int
    #: Below 0: none at all, not even of the prompt's own tokens.
    max_prompt_logprobs: int
    max_inputs: int
    #: Prompts times answers of a request for text.
    max_sequences: int = 128


@dataclass(frozen=True, slots=True, eq=False)
class BodyRules:
    """What the bodies of one format may request; made by ``make_rules``."""

    #: Fields that are refused, those of every format included.
    refused: tuple[str, ...]
    #: Few bodies have one of these fields: only those are examined further.
    watched: frozenset[str]
    #: Replaces or drops the tools that an engine does not take; None: the format has no tools.
    fit_tools: Callable[[dict[str, object]], None] | None
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
    fit_tools: Callable[[dict[str, object]], None] | None = None,
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
        fit_tools=fit_tools,
        conversation=conversation,
        takes_batches=takes_batches,
        calls_tools=calls_tools,
        check_more=check_more,
        always=always or {},
    )


def check_body(rules: BodyRules, fields: dict[str, object], caps: BodyCaps) -> None:
    """Make a body one that may reach an engine. Raises: InvalidRequest."""
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
    if rules.fit_tools is not None:
        rules.fit_tools(fields)
    for name in rules.conversation:
        check_media(name, fields.get(name))


def _check_refused(rules: BodyRules, fields: dict[str, object]) -> None:
    """Remove refused fields that request nothing; an engine may not take them as null."""
    for name in rules.refused:
        if name not in fields:
            continue
        if _requests(name, fields[name]):
            raise InvalidRequest(f"{name!r} is not allowed here", "leave it out", param=name)
        del fields[name]
    for carrier in _CARRIERS:
        carried = fields.get(carrier)
        if not isinstance(carried, dict):
            continue
        for name in REFUSED_FIELDS:
            if carried.get(name) is not None:
                raise InvalidRequest(f"{name!r} is not allowed here", "leave it out", param=carrier)


def _requests(name: str, value: object) -> bool:
    """Whether a refused field requests something: null, false and empty values do not."""
    if not value:
        return False
    return name != "priority" or _as_number(value) != 0.0


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
        if most < 0 and fields.get(name) is not None:
            raise InvalidRequest(
                "logprobs of a prompt are not served by engines that take adapters",
                f"leave out {name!r}",
                param=name,
            )
        _check_cap(fields, name, most)
        if _as_number(fields.get(name)) == -1:  # vLLM: the whole vocabulary
            raise InvalidRequest(f"{name!r} of -1 is not allowed", param=name)


def _check_inputs(fields: Mapping[str, object], name: str, most: int) -> None:
    value = fields.get(name)
    if not isinstance(value, list) or len(value) <= most:
        return
    # else: one prompt or conversation; one comparison for all, a prompt may have 300,000 tokens
    if not _INPUT_TYPES.isdisjoint(map(type, value)):
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


def needs_tool_parser(rules: BodyRules, fields: Mapping[str, object]) -> bool:
    """Whether an engine must be able to find a tool call in the output of its model.

    Responses without a parser are text. Source: vLLM 0.32, ``renderers/online_renderer.py``.
    """
    if rules.calls_tools is None or not fields.get("tools"):
        return False
    return rules.calls_tools(fields.get("tool_choice", "auto"))
