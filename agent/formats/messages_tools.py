"""The tools of Anthropic Messages: those with a version are known to Anthropic's models only.

vLLM 0.32 takes tools with a schema. Those that a client runs (a shell, an editor) get the schema
that Anthropic documents; those that Anthropic's servers run are left out.
Source: Anthropic's API reference, "Tool use", and vLLM 0.32, ``entrypoints/anthropic/protocol.py``.
"""

from __future__ import annotations

from agent.formats.tools import HOSTED, family, object_of, unknown_tool

_TEXT: dict[str, object] = {"type": "string"}
_NUMBER: dict[str, object] = {"type": "integer"}
_NUMBERS: dict[str, object] = {"type": "array", "items": _NUMBER}


def _schema(required: tuple[str, ...], **properties: object) -> dict[str, object]:
    return {"type": "object", "properties": properties, "required": list(required)}


def _one_of(*values: str) -> dict[str, object]:
    return {"type": "string", "enum": list(values)}


#: Description and input schema by type without its version.
_RUN_BY_CLIENTS: dict[str, tuple[str, dict[str, object]]] = {
    "bash": (
        "Run a command in a bash shell that stays open between calls; restart opens a new one.",
        _schema((), command=_TEXT, restart={"type": "boolean"}),
    ),
    "text_editor": (
        "View, create and edit text files.",
        _schema(
            ("command", "path"),
            command=_one_of("view", "create", "str_replace", "insert", "undo_edit"),
            path=_TEXT,
            file_text=_TEXT,
            old_str=_TEXT,
            new_str=_TEXT,
            insert_line=_NUMBER,
            insert_text=_TEXT,
            view_range=_NUMBERS,
        ),
    ),
    "memory": (
        "View and edit the files in which memory is kept between conversations.",
        _schema(
            ("command",),
            command=_one_of("view", "create", "str_replace", "insert", "delete", "rename"),
            path=_TEXT,
            file_text=_TEXT,
            old_str=_TEXT,
            new_str=_TEXT,
            insert_line=_NUMBER,
            insert_text=_TEXT,
            view_range=_NUMBERS,
            old_path=_TEXT,
            new_path=_TEXT,
        ),
    ),
    "computer": (
        "Use a computer's screen, mouse and keyboard; coordinates are [x, y] in pixels.",
        _schema(
            ("action",),
            action=_TEXT,
            coordinate=_NUMBERS,
            start_coordinate=_NUMBERS,
            text=_TEXT,
            duration={"type": "number"},
            scroll_direction=_one_of("up", "down", "left", "right"),
            scroll_amount=_NUMBER,
            region=_NUMBERS,
        ),
    ),
}


def fit_messages_tools(fields: dict[str, object]) -> None:
    """Keep the tools that a client of Messages runs. Raises: InvalidRequest."""
    tools = fields.get("tools")
    if not isinstance(tools, list):
        return
    kept: list[object] = []
    dropped: set[object] = set()
    for tool in tools:
        fitted = _fitted(tool)
        if fitted is not None:
            kept.append(fitted)
        elif isinstance(tool, dict) and isinstance(tool.get("name"), str):
            dropped.add(tool["name"])
    if not kept:
        del fields["tools"]
        fields.pop("tool_choice", None)
        return
    fields["tools"] = kept
    choice = object_of(fields.get("tool_choice"))
    if isinstance(choice.get("name"), str) and choice["name"] in dropped:
        fields["tool_choice"] = {"type": "auto"}


def _fitted(tool: object) -> object | None:
    """Return what an engine gets in place of one tool; None for nothing."""
    kind = tool.get("type") if isinstance(tool, dict) else None
    if not isinstance(tool, dict) or kind is None or kind == "custom":
        return tool
    if not isinstance(kind, str):
        raise unknown_tool(kind)
    known = _RUN_BY_CLIENTS.get(family(kind))
    if known is not None:
        description, schema = known
        return {"name": tool.get("name"), "description": description, "input_schema": schema}
    if family(kind) in HOSTED:
        return None
    raise unknown_tool(kind)
