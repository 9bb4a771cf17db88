"""The tools of OpenAI Responses: an unconfigured Codex sends half a dozen types in each turn.

vLLM 0.32 shows functions, custom tools and functions in namespaces to a model. It accepts most
other types without using them, refuses some, and refuses a custom tool with a grammar. Source:
vLLM 0.32, ``entrypoints/openai/responses/protocol.py`` and ``tool_parsers/utils.py``.
"""

from __future__ import annotations

from agent.formats.responses_input import fit_responses_input
from agent.formats.tools import HOSTED, family, object_of, text_of, unknown_tool, with_grammar

#: Types of tools that a client runs, and of which vLLM makes nothing.
_RUN_BY_CLIENTS = frozenset({"apply_patch", "local_shell", "shell", "tool_search"})
#: Types that vLLM takes as a choice.
_CHOICES = frozenset({"allowed_tools", "apply_patch", "custom", "function", "shell"})


def fit_responses_tools(fields: dict[str, object]) -> None:
    """Keep the tools that a client of Responses runs. Raises: InvalidRequest."""
    for name in ("tools", "tool_choice"):  # the engine takes them, but not as null
        if name in fields and fields[name] is None:
            del fields[name]
    more = fit_responses_input(fields)
    tools = fields.get("tools", [] if more else None)
    if not isinstance(tools, list):
        return
    kept: list[object] = []
    for tool in [*tools, *more]:
        kept += _fitted(tool)
    if not kept:
        fields.pop("tools", None)
        fields.pop("tool_choice", None)
        return
    fields["tools"] = kept
    _fit_choice(fields, kept)


def _fitted(tool: object) -> list[object]:
    """Return what an engine gets in place of one tool."""
    kind = tool.get("type") if isinstance(tool, dict) else None
    if not isinstance(tool, dict) or kind is None or kind == "function":
        return [tool]
    if kind == "custom":
        return [_without_grammar(tool)]
    if kind == "namespace":
        return _namespace(tool)
    if not isinstance(kind, str):
        raise unknown_tool(kind)
    if kind == "shell" and object_of(tool.get("environment")).get("type", "local") != "local":
        return []  # a shell in a container of OpenAI's
    if kind in _RUN_BY_CLIENTS:
        return [tool]
    if family(kind) in HOSTED:
        return []
    raise unknown_tool(kind)


def _namespace(namespace: dict[str, object]) -> list[object]:
    """Return a namespace with its functions, and beside it its custom tools.

    vLLM 0.32 shows only the functions of a namespace, and refuses one with hosted tools.
    """
    nested = namespace.get("tools")
    if not isinstance(nested, list):
        return [namespace]
    functions: list[object] = []
    beside: list[object] = []
    for one in nested:
        for tool in _fitted(one):
            kind = tool.get("type") if isinstance(tool, dict) else None
            if kind in ("function", None):
                functions.append(tool)
            else:
                beside.append(tool)
    if functions:
        beside.insert(0, namespace | {"tools": functions})
    return beside


def _without_grammar(tool: dict[str, object]) -> dict[str, object]:
    given = tool.get("format")
    if object_of(given).get("type") != "grammar":
        return tool
    described = with_grammar(text_of(tool.get("description")), given)
    return tool | {"description": described, "format": {"type": "text"}}


def _fit_choice(fields: dict[str, object], tools: list[object]) -> None:
    """Leave the choice to the model where the request names a tool that was dropped."""
    choice = fields.get("tool_choice")
    if choice == "required" and not any(_is_shown(tool) for tool in tools):
        del fields["tool_choice"]
    elif isinstance(choice, dict):
        kind = choice.get("type")
        if not isinstance(kind, str) or kind in _CHOICES:
            return
        if family(kind) in HOSTED or kind in _RUN_BY_CLIENTS:
            del fields["tool_choice"]


def _is_shown(tool: object) -> bool:
    """Whether vLLM shows a tool to a model."""
    return object_of(tool).get("type") in ("function", "custom", "namespace")
