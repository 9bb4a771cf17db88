"""OpenAI Chat Completions."""

from __future__ import annotations

from agent.formats.body_rules import make_rules
from agent.formats.continuation import Continuation
from agent.formats.descriptor import ApiFormat
from agent.formats.errors import OPENAI_WORDS
from agent.formats.tools import fit_chat_tools


def _calls_tools(choice: object) -> bool:
    """No choice means "auto", which is the default; a choice of null leaves the tools out."""
    return choice not in (None, "none")


def _can_continue(fields: dict[str, object]) -> bool:
    messages = fields.get("messages")
    if not isinstance(messages, list) or not messages:
        return False
    last = messages[-1]
    return isinstance(last, dict) and last.get("role") != "assistant"


def _with_answer(fields: dict[str, object], text: str) -> bool:
    """Append ``text`` as the beginning of the answer.

    White space at its end is left out: templates trim it, so the engine repeats it, and the client
    must not see it twice.
    """
    so_far = text.rstrip()
    messages = fields["messages"]
    if not so_far or not isinstance(messages, list):
        return False
    fields["messages"] = [*messages, {"role": "assistant", "content": so_far}]
    fields["continue_final_message"] = True
    fields["add_generation_prompt"] = False
    return True


CHAT = ApiFormat(
    path="/v1/chat/completions",
    operation="chat",
    rules=make_rules(
        fit_tools=fit_chat_tools,
        conversation=("messages",),
        calls_tools=_calls_tools,
    ),
    words=OPENAI_WORDS,
    prefix_fields=("tools", "messages"),
    size_fields=("messages",),
    limit_fields=("max_completion_tokens", "max_tokens"),
    has_stream_options=True,
    continuation=Continuation(_can_continue, _with_answer),
)
