"""Media: inline data passes, an address does not."""

from __future__ import annotations

from typing import Any

import pytest

from agent.formats import ApiFormat
from agent.formats.body_rules import BodyCaps, check_body
from agent.formats.chat import CHAT
from agent.formats.media import ADDRESS_FIELDS, MAX_SCANNED_PARTS, REFUSED_PARTS, check_media
from agent.formats.messages import MESSAGES
from agent.formats.responses import RESPONSES
from protos.domain.errors import InvalidRequest

CAPS = BodyCaps(max_n=4, max_prompt_logprobs=5, max_inputs=3)
DATA = "data:image/png;base64,iVBORw0KGgo="
ADDRESSES = [
    "http://169.254.169.254/",
    "https://h/a.png",
    "HTTPS://h/",
    "file:///etc/passwd",
    "ftp://h/",
    " data:image/png;base64,AA",
    "//h/a.png",
    "xdata:,",
    "Data:image/png;base64,AA",
    "",
    7,
    [DATA],
    {"url": "http://h/"},
    {"url": [DATA]},
    {},
]


def refuses(api: ApiFormat, part: dict[str, Any]) -> bool:
    name = "input" if api is RESPONSES else "messages"
    try:
        check_body(api.rules, {name: [{"role": "user", "content": [part]}]}, CAPS)
    except InvalidRequest as error:
        return error.param == name
    return False


@pytest.mark.parametrize(
    ("api", "part"),
    [
        (CHAT, {"type": "image_url", "image_url": {"url": DATA, "detail": "high"}}),
        (CHAT, {"type": "image_url", "image_url": {"url": DATA.replace("data", "DATA")}}),
        (CHAT, {"type": "video_url", "video_url": {"url": "data:video/mp4;base64,AA"}}),
        (CHAT, {"type": "audio_url", "audio_url": {"url": "data:audio/wav;base64,AA"}}),
        (CHAT, {"type": "input_audio", "input_audio": {"data": "AA", "format": "wav"}}),
        (CHAT, {"image_url": DATA}),
        (CHAT, {"type": "text", "text": "http://h/", "image_url": None, "uuid": None}),
        (RESPONSES, {"type": "input_image", "image_url": DATA, "detail": "auto"}),
        (RESPONSES, {"type": "computer_screenshot", "image_url": DATA}),
        (
            MESSAGES,
            {
                "type": "image",
                "source": {"type": "base64", "media_type": "image/png", "data": "AA"},
            },
        ),
        (MESSAGES, {"type": "image", "source": {"type": "url", "url": DATA}}),
        (MESSAGES, {"type": "tool_use", "id": "x", "input": {"uuid": "u", "image_url": "h"}}),
    ],
)
def test_inline_media_pass(api: ApiFormat, part: dict[str, Any]) -> None:
    assert not refuses(api, part)


@pytest.mark.parametrize("address", ADDRESSES)
@pytest.mark.parametrize("field", sorted(ADDRESS_FIELDS))
def test_media_by_address_are_refused_in_a_conversation(field: str, address: object) -> None:
    for part in (
        {field: address},
        {"type": field, field: address},
        {"type": "text", field: address},
    ):
        assert refuses(CHAT, part)
    for part in ({"type": "input_image", "image_url": address}, {"image_url": address}):
        assert refuses(RESPONSES, part)


@pytest.mark.parametrize(
    "source",
    [{"type": "url", "url": "http://h/"}, {"url": "h"}, {"type": "file", "file_id": "f"}],
)
def test_sources_by_address_are_refused_in_messages(source: dict[str, str]) -> None:
    image = {"type": "image", "source": source}
    assert refuses(MESSAGES, image)
    assert refuses(MESSAGES, {"type": "tool_result", "content": [image]})


@pytest.mark.parametrize("name", sorted(REFUSED_PARTS | {"input_image"}))
def test_what_is_kept_elsewhere_or_unpacked_by_the_engine_is_refused(name: str) -> None:
    assert refuses(CHAT, {"type": name})
    assert refuses(CHAT, {name: {"file_id": "f"}})
    assert refuses(CHAT, {name: "AA"})


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image_url", "image_url": {"url": DATA}},
        {"image_url": None},
        {"image_pil": None},
        {"image_embeds": None},
        {"type": "input_audio", "input_audio": {"data": "AA", "format": "wav"}},
        {"type": "input_image", "image_url": DATA},
    ],
)
def test_a_name_under_which_an_engine_keeps_media_is_refused(part: dict[str, Any]) -> None:
    assert refuses(CHAT, part | {"uuid": "of-another-account"})


def test_parts_are_scanned_up_to_a_limit() -> None:
    check_media("messages", [{}] * MAX_SCANNED_PARTS)
    with pytest.raises(InvalidRequest):
        check_media("messages", [{}] * (MAX_SCANNED_PARTS + 1))
