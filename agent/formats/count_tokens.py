"""Anthropic's token counting: a Messages body that is not generated for."""

from __future__ import annotations

from agent.formats.anthropic_errors import (
    ANTHROPIC_WORDS,
    anthropic_body,
    event_data,
    rate_headers,
    response_body,
)
from agent.formats.body_rules import make_rules
from agent.formats.descriptor import ApiFormat
from agent.formats.errors import ErrorWords, engine_message
from agent.formats.messages import CONVERSATION, MESSAGES, REFUSED_FIELDS
from agent.formats.messages_tools import fit_messages_tools

_NOT_SERVED = "the engine of this model counts no tokens. Send the message: its usage tells them."


def _refusal(status: int, body: bytes) -> bytes:
    """Explain a 404: engines without this route answer it in their framework's shape."""
    if status == 404 and engine_message(body) is None:
        return anthropic_body(status, _NOT_SERVED)
    return ANTHROPIC_WORDS.refusal(status, body)


COUNT_TOKENS = ApiFormat(
    path="/v1/messages/count_tokens",
    operation="generate_content",
    rules=make_rules(
        refused=REFUSED_FIELDS, fit_tools=fit_messages_tools, conversation=CONVERSATION
    ),
    words=ErrorWords(
        body=response_body,
        event_data=event_data,
        refusal=_refusal,
        rate_headers=rate_headers,
        no_quota_status=402,
    ),
    prefix_fields=(),
    # counting must not be refused because of an estimate
    size_fields=(),
    generates=False,
    is_anthropic=True,
    token_mark=MESSAGES.token_mark,
    heartbeat=MESSAGES.heartbeat,
)
