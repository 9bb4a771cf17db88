"""A body of any format, however hostile, is refused or made harmless."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from agent.formats import FORMATS, ApiFormat
from agent.formats.body import read_body
from agent.formats.body_rules import REFUSED_FIELDS, BodyCaps
from agent.formats.chat import CHAT
from agent.formats.completions import COMPLETIONS
from agent.formats.count_tokens import COUNT_TOKENS
from agent.formats.embeddings import EMBEDDINGS
from agent.formats.media import ADDRESS_FIELDS, REFUSED_PARTS
from agent.formats.messages import MESSAGES
from agent.formats.responses import RESPONSES
from protos.domain.errors import EdgeForgeError

CAPS = BodyCaps(max_n=4, max_prompt_logprobs=5, max_inputs=16)
SALT = "the-accounts-own"
MEDIA_PARTS = ADDRESS_FIELDS | REFUSED_PARTS | {"input_image"}
#: Field names with a meaning in some format, so that random bodies contain them.
NAMES = sorted(
    {
        *(name for api in FORMATS.values() for name in api.rules.refused),
        *MEDIA_PARTS,
        *("model", "messages", "prompt", "input", "system", "instructions", "content", "type"),
        *("tools", "tool_choice", "stream", "stream_options", "include_usage", "store", "source"),
        *("n", "best_of", "echo", "logprobs", "prompt_logprobs", "cache_salt", "request_id"),
        *(
            "previous_input_messages",
            "url",
            "text",
            "role",
            "output",
            "chat_template_kwargs",
            "vllm_xargs",
            "truncation",
        ),
        *("encoding_format", "truncate_prompt_tokens", "data", "id", "arguments", "tool"),
    }
)
WORDS = st.sampled_from([*NAMES, "mcp", "web_search", "function", "true", "yes", "-1", "1e400"])
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats()
    | WORDS
    | st.text(max_size=20)
    | st.just("http://169.254.169.254/")
    | st.just("data:image/png;base64,AA")
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(NAMES) | st.text(max_size=5), inner, max_size=5)
    ),
    max_leaves=25,
)
BODIES = st.dictionaries(st.sampled_from(NAMES) | st.text(max_size=8), VALUES, max_size=8)
EVERY_FORMAT = pytest.mark.parametrize("api", FORMATS.values())


def sent_for(api: ApiFormat, body: bytes) -> Any:
    """Return the body that an engine would get, or None if it is refused."""
    try:
        read = read_body(body, api, caps=CAPS)
        assert read.prompt_tokens_estimate >= 1
        return json.loads(read.for_engine("m@1", continuous_usage=True, cache_salt=SALT))
    except EdgeForgeError:
        return None


@EVERY_FORMAT
@given(body=st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_arbitrary_bytes_are_accepted_or_refused(api: ApiFormat, body: bytes) -> None:
    sent = sent_for(api, body)
    assert sent is None or sent["cache_salt"] == SALT


@EVERY_FORMAT
@given(body=BODIES)
@example(body={"vllm_xargs": {"kv_transfer_params": {}}})
@example(body={"stream": "Yes", "stream_options": {"include_usage": False}})
@example(body={"input": [[{"content": [{"file_url": "http://h/"}]}]]})
def test_accepted_bodies_are_harmless_and_salted_for_the_account(
    api: ApiFormat, body: dict[str, Any]
) -> None:
    sent = sent_for(api, orjson.dumps({"model": "chat"} | body))
    if sent is None:
        return
    assert sent["model"] == "m@1"
    assert sent["cache_salt"] == SALT
    assert "request_id" not in sent
    assert not sent.get("store")
    for place in (sent, sent.get("chat_template_kwargs"), sent.get("vllm_xargs")):
        if isinstance(place, dict):
            assert all(place.get(name) is None for name in REFUSED_FIELDS)
    assert all(not sent.get(name) for name in api.rules.refused)
    if sent.get("stream") is True and api.has_stream_options:
        assert sent["stream_options"]["include_usage"] is True
    for name in CONVERSATION_OF[api]:
        assert not list(media_in(sent.get(name)))
    tools = sent.get("tools")
    if api is not EMBEDDINGS and api is not COMPLETIONS and isinstance(tools, list):
        kinds = [tool["type"] for tool in tools if isinstance(tool, dict) and "type" in tool]
        assert not {"mcp", "web_search"} & {kind for kind in kinds if isinstance(kind, str)}


@EVERY_FORMAT
@given(body=BODIES)
@example(body={"tools": [{"type": "custom", "custom": {"name": "a"}}], "tool_choice": "auto"})
@example(body={"tools": [{"type": "bash_20250124", "name": "bash"}]})
@example(body={"stream": "on", "cache_salt": "theirs", "priority": 0})
def test_what_one_agent_sends_a_peer_the_peer_accepts_and_asks_of_its_engine(
    api: ApiFormat, body: dict[str, Any]
) -> None:
    try:
        asked = read_body(orjson.dumps({"model": "chat"} | body), api, caps=CAPS)
        hop = asked.for_engine("m@1", continuous_usage=True, cache_salt=None)
    except EdgeForgeError:
        return
    assert "cache_salt" not in json.loads(hop)
    served = read_body(hop, api, caps=CAPS)
    assert served.stream is asked.stream
    here = served.for_engine("m@1", continuous_usage=True, cache_salt=SALT)
    assert json.loads(here) == json.loads(hop) | {"cache_salt": SALT}


#: The fields that hold each format's conversation.
CONVERSATION_OF = {
    CHAT: ("messages",),
    COMPLETIONS: (),
    RESPONSES: ("input", "previous_input_messages"),
    EMBEDDINGS: ("messages", "input"),
    MESSAGES: ("messages", "system"),
    COUNT_TOKENS: ("messages", "system"),
}


def is_inline(value: Any) -> bool:
    url = value.get("url") if isinstance(value, dict) else value
    return isinstance(url, str) and url.lower().startswith("data:")


def media_in(value: Any) -> Any:
    """Every part of a conversation that an engine would fetch, except in the data of tools."""
    if isinstance(value, list):
        for one in value:
            yield from media_in(one)
    elif isinstance(value, dict):
        for name in MEDIA_PARTS:
            if value.get(name) is not None and not is_inline(value[name]):
                yield value
        kind = value.get("type")
        field = "image_url" if kind == "input_image" else kind
        if isinstance(kind, str) and kind in MEDIA_PARTS and not is_inline(value.get(field)):
            yield value
        source = value.get("source")
        url = source.get("url") if isinstance(source, dict) else None
        if url is not None and not is_inline(url):
            yield value
        for name, one in value.items():
            if name not in ("input", "tool", "arguments"):
                yield from media_in(one)


@EVERY_FORMAT
@given(text=st.text(min_size=0, max_size=300), times=st.integers(1, 20))
def test_the_estimate_is_never_more_than_an_eighth_of_the_text(
    api: ApiFormat, text: str, times: int
) -> None:
    body: dict[str, object] = {"model": "chat", "prompt": text, "input": text}
    body["messages"] = [{"role": "user", "content": text}] * times
    if api is RESPONSES:
        del body["prompt"]
    read = read_body(orjson.dumps(body), api, caps=CAPS)
    assert read.prompt_tokens_estimate <= max(1, len(text) * times // 8)
