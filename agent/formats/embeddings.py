"""OpenAI Embeddings."""

from __future__ import annotations

from collections.abc import Mapping

from agent.formats.body_rules import make_rules
from agent.formats.descriptor import ApiFormat
from agent.formats.errors import OPENAI_WORDS
from protos.domain.errors import InvalidRequest

_ENCODINGS = ("float", "base64")


def _check_encoding(fields: Mapping[str, object]) -> None:
    encoding = fields.get("encoding_format")
    if encoding is not None and encoding not in _ENCODINGS:
        raise InvalidRequest(
            "'encoding_format' is not known here", "use float or base64", param="encoding_format"
        )


EMBEDDINGS = ApiFormat(
    path="/v1/embeddings",
    operation="embeddings",
    rules=make_rules(
        conversation=("messages", "input"), takes_batches=True, check_more=_check_encoding
    ),
    words=OPENAI_WORDS,
    prefix_fields=(),
    size_fields=("input", "messages"),
    is_batched=True,
    embeds=True,
    generates=False,
)
