"""Anthropic Messages."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.formats.anthropic_errors import ANTHROPIC_WORDS
from agent.formats.body_rules import make_rules
from agent.formats.descriptor import ApiFormat
from agent.formats.messages_tools import fit_messages_tools
from agent.formats.named_events import MessagesEvents

if TYPE_CHECKING:
    from agent.formats.model_names import Names
    from agent.formats.sse import BesideUsage, EventStream

#: What would make an engine call other servers.
REFUSED_FIELDS = ("mcp_servers", "container")
CONVERSATION = ("messages", "system")


def _open_stream(
    _include_usage: bool,
    _continuous_usage: bool,
    beside_usage: BesideUsage | None,
    names: Names | None,
) -> EventStream:
    return MessagesEvents(beside_usage, names)


def _calls_tools(choice: object) -> bool:
    return choice != {"type": "none"}


MESSAGES = ApiFormat(
    path="/v1/messages",
    operation="chat",
    rules=make_rules(
        refused=REFUSED_FIELDS,
        fit_tools=fit_messages_tools,
        conversation=CONVERSATION,
        calls_tools=_calls_tools,
    ),
    words=ANTHROPIC_WORDS,
    prefix_fields=("tools", "system", "messages"),
    size_fields=("system", "messages"),
    is_anthropic=True,
    token_mark=b"event: content_block_delta\n",
    #: Source: Anthropic's API reference, "Streaming Messages", ping events.
    heartbeat=b'event: ping\ndata: {"type": "ping"}\n\n',
    open_stream=_open_stream,
)
