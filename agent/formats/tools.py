"""What all formats do with the tools of a request, and the tools of Chat Completions.

Clients that nobody configured name tools that their vendor's servers run. No engine runs them, so
they are left out; the model then answers without. What a client runs itself is passed on.
"""

from __future__ import annotations

import re

from protos.domain.errors import InvalidRequest

#: Types of tools that a server runs, in the formats of all vendors, without their version. vLLM
#: 0.32 shows none of them to a model. Sources: OpenAI's and Anthropic's API references, "Tools".
HOSTED = frozenset(
    {
        "advisor",
        "code_execution",
        "code_interpreter",
        "computer",
        "computer-preview",
        "computer_use",
        "computer_use_preview",
        "file_search",
        "image_generation",
        "mcp",
        "mcp_toolset",
        "tool_search_tool_bm25",
        "tool_search_tool_regex",
        "web_fetch",
        "web_search",
        "web_search_preview",
    }
)
_VERSION = re.compile(r"_(?:\d{8}|\d{4}_\d{2}_\d{2})\Z")


def family(kind: str) -> str:
    """Return a tool's type without its version: ``web_search`` for ``web_search_20250305``."""
    return _VERSION.sub("", kind)


def unknown_tool(kind: object) -> InvalidRequest:
    """Return the error for a tool of a type that no client of the format has."""
    shown = f"of the type {kind[:64]!r}" if isinstance(kind, str) else "of a type that is no text"
    return InvalidRequest(
        f"a tool {shown} is not known here", "send tools that the client answers", param="tools"
    )


def text_of(value: object) -> str:
    """Return ``value`` if it is text, else an empty text."""
    return value if isinstance(value, str) else ""


def object_of(value: object) -> dict[str, object]:
    """Return ``value`` if it is an object, else an empty one."""
    return value if isinstance(value, dict) else {}


def free_text_parameters() -> dict[str, object]:
    """Return the schema of a function in place of a custom tool, whose input is one text.

    Source: vLLM 0.32, ``tool_parsers/utils.py``, ``custom_tool_parameters``.
    """
    text = {"type": "string", "description": "The freeform text payload for this tool."}
    return {
        "type": "object",
        "properties": {"input": text},
        "required": ["input"],
        "additionalProperties": False,
    }


def with_grammar(description: str, tool_format: object) -> str:
    """Return a custom tool's description with its grammar, which vLLM 0.32 does not take."""
    given = object_of(tool_format)
    grammar = object_of(given.get("grammar")) or given
    definition = text_of(grammar.get("definition"))
    if not definition:
        return description
    syntax = text_of(grammar.get("syntax"))
    return f"{description}\n\nThe input follows this {syntax} grammar:\n{definition}".strip()


def fit_chat_tools(fields: dict[str, object]) -> None:
    """Keep the tools that a client of Chat Completions runs. Raises: InvalidRequest.

    vLLM 0.32 takes functions only: a custom tool becomes a function with one text. It refuses an
    empty list of tools, and any choice without tools.
    """
    tools = fields.get("tools")
    if not isinstance(tools, list):
        if tools is None and fields.get("tool_choice") == "auto":
            del fields["tool_choice"]
        return
    kept: list[object] = []
    names: set[str] = set()
    for tool in tools:
        kind = tool.get("type") if isinstance(tool, dict) else None
        if kind is None or kind == "function":
            kept.append(tool)
        elif kind == "custom":
            tool = _custom_as_function(tool)
            kept.append(tool)
        elif isinstance(kind, str) and family(kind) in HOSTED:
            continue
        else:
            raise unknown_tool(kind)
        names.add(text_of(object_of(object_of(tool).get("function")).get("name")))
    if not kept:
        del fields["tools"]
        fields.pop("tool_choice", None)
        return
    fields["tools"] = kept
    _fit_choice(fields, names)


def _custom_as_function(tool: dict[str, object]) -> dict[str, object]:
    custom = object_of(tool.get("custom"))
    described = with_grammar(text_of(custom.get("description")), custom.get("format"))
    function = {
        "name": custom.get("name"),
        "description": described,
        "parameters": free_text_parameters(),
    }
    return {"type": "function", "function": function}


def _fit_choice(fields: dict[str, object], names: set[str]) -> None:
    """Replace the choice of a tool that was replaced or dropped."""
    choice = fields.get("tool_choice")
    if not isinstance(choice, dict):
        return
    kind = choice.get("type")
    if kind == "custom":
        name = text_of(object_of(choice.get("custom")).get("name"))
        if name in names:
            fields["tool_choice"] = {"type": "function", "function": {"name": name}}
            return
    elif not isinstance(kind, str) or family(kind) not in HOSTED:
        return
    fields["tool_choice"] = "auto"
