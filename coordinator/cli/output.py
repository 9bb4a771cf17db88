"""Protobuf messages as commands print them; ``protos.output.terminal`` prints."""

from __future__ import annotations

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message


def as_json(message: Message) -> dict[str, object]:
    """Return a message with its field names as in the .proto, defaults included."""
    return dict(
        MessageToDict(
            message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
        )
    )


def enum_word(name: str, prefix: str) -> str:
    """Return the word for an enum value: TIER_EDGE is "edge"."""
    return name.removeprefix(prefix).lower()
