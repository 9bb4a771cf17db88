"""The input of OpenAI Responses: items that are no part of a conversation, which vLLM refuses.

Codex sends tools as an item. The Vercel AI SDK sends references to what it has, by default, the
server keep: nothing is kept here. Source: vLLM 0.32, ``entrypoints/openai/responses/utils.py``.
"""

from __future__ import annotations

from protos.domain.errors import InvalidRequest

_MORE_TOOLS = "additional_tools"
_REFERENCE = "item_reference"
_UNSUPPORTED = frozenset({_MORE_TOOLS, _REFERENCE})
#: How identifiers of reasoning begin, in OpenAI's responses and in vLLM's.
_REASONING = "rs_"
_CALLS = frozenset({"function_call", "custom_tool_call"})


def fit_responses_input(fields: dict[str, object]) -> list[object]:
    """Remove what an engine does not take; return the tools that were found in the input.

    Raises: InvalidRequest for a reference to text, which would be missing in the conversation.
    """
    items = fields.get("input")
    if not isinstance(items, list) or not any(_kind(item) in _UNSUPPORTED for item in items):
        return []
    kept: list[object] = []
    tools: list[object] = []
    following = ""  # the kind of the next item that is no reference
    for item in reversed(items):
        kind = _kind(item)
        if kind == _MORE_TOOLS:
            found = item.get("tools")
            tools[:0] = found if isinstance(found, list) else []
        elif kind == _REFERENCE:
            _check_reference(item.get("id"), following)
        else:
            following = kind
            kept.append(item)
    kept.reverse()
    fields["input"] = kept
    return tools


def _check_reference(identifier: object, following: str) -> None:
    """Allow only what a conversation can miss: reasoning, and words before a tool call."""
    if isinstance(identifier, str) and identifier.startswith(_REASONING):
        return
    if following in _CALLS:
        return
    raise InvalidRequest(
        "the input refers to an item of an earlier response, and none are kept here",
        'send the item itself, which clients do with "store": false',
        param="input",
    )


def _kind(item: object) -> str:
    kind = item.get("type") if isinstance(item, dict) else None
    return kind if isinstance(kind, str) else ""
