"""What of a hostile or mistaken body reaches an engine."""

from __future__ import annotations

import gzip
import json
import sys
import zlib
from typing import Any

import orjson
import pytest

from agent.core.prefixes import MAX_HASHED_BYTES
from agent.formats import FORMATS, ApiFormat
from agent.formats.asked_tokens import asked_tokens
from agent.formats.body import GenerationBody, read_body
from agent.formats.body_rules import BodyCaps
from agent.formats.chat import CHAT
from agent.formats.completions import COMPLETIONS
from agent.formats.embeddings import EMBEDDINGS
from agent.formats.messages import MESSAGES
from agent.formats.responses import RESPONSES
from protos.domain.errors import InvalidRequest

CAPS = BodyCaps(max_n=4, max_prompt_logprobs=5, max_inputs=3)


def read(body: bytes | dict[str, Any], api: ApiFormat = CHAT) -> GenerationBody:
    data = body if isinstance(body, bytes) else json.dumps({"model": "chat"} | body).encode()
    return read_body(data, api, caps=CAPS)


def sent(
    body: bytes | dict[str, Any], api: ApiFormat = CHAT, *, continuous_usage: bool = False
) -> dict[str, Any]:
    out = read(body, api).for_engine("m@1", continuous_usage=continuous_usage, cache_salt="ours")
    return dict(json.loads(out))


def message(part: object) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": [part]}]}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'"text"',
        b'{"a": NaN}',
        b'{"a": Infinity}',
        b'{"a": "\xff\xfe"}',
        b'{"a": "\\ud800"}',
        b'{"a": 1} trailing',
        b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    ],
)
def test_what_is_not_a_json_object_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidRequest):
        read(body)


@pytest.mark.parametrize("depth", [200, 300, 900, 1_020, 2_000])
def test_deep_nesting_passes_or_is_refused_but_is_never_a_bug_of_ours(depth: int) -> None:
    body = b'{"model": "a", "a": ' + b"[" * depth + b"]" * depth + b"}"
    try:
        sent(body)
    except InvalidRequest:
        assert depth > 200


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("chat_template", "{{ x }}"),
        ("kv_transfer_params", {"remote_host": "h"}),
        ("priority", -1),
        ("priority", "1"),
        ("priority", True),
        ("bootstrap_host", "10.0.0.1"),
        ("bootstrap_port", 1),
        ("bootstrap_room", 1),
        ("custom_logit_processor", "gASV"),
        ("data_parallel_rank", 3),
        ("id_slot", 1),
        ("input_embeds", [[0.1]]),
        ("logits_processors", ["os.system"]),
        ("lora_path", "/tmp/x"),
    ],
)
def test_fields_that_command_the_engine_are_refused_by_name(name: str, value: object) -> None:
    with pytest.raises(InvalidRequest) as caught:
        read({name: value})
    assert caught.value.param == name


@pytest.mark.parametrize("api", FORMATS.values(), ids=list(FORMATS))
@pytest.mark.parametrize("value", [None, 0, 0.0, "0", "", False, [], {}])
def test_a_refused_field_that_requests_nothing_is_dropped(api: ApiFormat, value: object) -> None:
    names = ["priority"] if value in (0, "0") and value is not False else api.rules.refused
    body = sent(dict.fromkeys(names, value), api)
    assert not set(names) & set(body)


@pytest.mark.parametrize("number", [1, 1.5], ids=["token", "float"])
@pytest.mark.parametrize(
    ("api", "field"), [(COMPLETIONS, "prompt"), (EMBEDDINGS, "input")], ids=["prompt", "input"]
)
def test_a_prompt_of_300_000_numbers_is_not_looked_at_one_by_one(
    api: ApiFormat, field: str, number: float
) -> None:
    """It took 60 ms of the event loop: counted are the calls of functions of Python."""
    fields: dict[str, object] = {"model": "m", "user": "u", field: [number] * 300_000}
    calls = 0

    def count(_frame: object, event: str, _arg: object) -> None:
        nonlocal calls
        calls += event == "call"

    sys.setprofile(count)
    try:
        body = read_body(b"", api, caps=CAPS, fields=fields)
        api.prompt_prefix(body.fields, MAX_HASHED_BYTES)
        asked_tokens(api, body.fields, b"", 4_096)
    finally:
        sys.setprofile(None)
    assert calls < 1_000


def test_a_template_hidden_in_its_arguments_is_refused() -> None:
    with pytest.raises(InvalidRequest):
        read({"chat_template_kwargs": {"chat_template": "{{ x }}"}})
    passed = {"chat_template_kwargs": {"enable_thinking": False}}
    assert sent(passed)["chat_template_kwargs"] == {"enable_thinking": False}


@pytest.mark.parametrize("name", ["n", "best_of", "prompt_logprobs"])
@pytest.mark.parametrize("value", [6, 6.0, "6", " 6 ", 10**30, 1e300, "inf"])
def test_a_cap_holds_in_every_spelling_that_an_engine_reads_as_a_number(
    name: str, value: object
) -> None:
    with pytest.raises(InvalidRequest) as caught:
        read({name: value})
    assert caught.value.param == name


@pytest.mark.parametrize("value", [-1, -1.0, "-1"])
def test_prompt_logprobs_of_the_whole_vocabulary_are_refused(value: object) -> None:
    with pytest.raises(InvalidRequest):
        read({"prompt_logprobs": value})


@pytest.mark.parametrize("value", [4, "many", [9], {"a": 9}, None, True, -3])
def test_within_the_cap_or_of_a_wrong_type_goes_on_to_the_engine(value: object) -> None:
    assert sent({"n": value})["n"] == value


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image_url", "image_url": {"url": "http://169.254.169.254/"}},
        {"type": "video_url"},
        {"image_url": "file:///etc/passwd"},
        {"type": "text", "audio_url": {"url": "http://h/"}},
        {"type": [], "input_image": "http://h/"},
    ],
)
def test_media_by_address_is_refused_with_or_without_its_type(part: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest):
        read(message(part))


@pytest.mark.parametrize("part", [{"type": []}, {"type": {}}, 5, None, "text", {"type": "text"}])
def test_parts_of_a_wrong_type_go_on_to_the_engine(part: object) -> None:
    body = message(part)
    assert sent(body)["messages"] == body["messages"]


def test_more_parts_than_are_looked_at_are_refused() -> None:
    body = {"messages": [{"content": [{"type": "text"}] * 10_001}]}
    with pytest.raises(InvalidRequest):
        read(body)


@pytest.mark.parametrize("given", ["theirs", "", None, 5, ["x"]])
def test_the_cache_salt_is_the_accounts_whatever_the_client_says(given: object) -> None:
    assert sent({"cache_salt": given})["cache_salt"] == "ours"


@pytest.mark.parametrize("given", ["theirs", "", None, 5, ["x"]])
def test_no_salt_travels_to_a_peer_not_even_after_an_attempt_at_this_nodes_engine(
    given: object,
) -> None:
    body = read({"cache_salt": given})
    here = body.for_engine("m@1", continuous_usage=True, cache_salt="ours")
    assert json.loads(here)["cache_salt"] == "ours"
    there = body.for_engine("m@1", continuous_usage=True, cache_salt=None)
    assert "cache_salt" not in json.loads(there)


def test_an_engine_that_counts_only_at_the_end_is_not_asked_for_more() -> None:
    body = {"stream": True, "stream_options": {"continuous_usage_stats": True}}
    assert sent(body)["stream_options"] == {"include_usage": True}


def test_store_never_reaches_the_engine_and_unknown_fields_do() -> None:
    body = sent({"store": True, "future_field": {"a": [1]}})
    assert "store" not in body
    assert body["future_field"] == {"a": [1]}


def test_of_duplicate_keys_the_engine_sees_the_one_that_was_checked() -> None:
    out = read(b'{"model": "a", "n": 99, "n": 2, "cache_salt": "a", "cache_salt": "b"}').for_engine(
        "m@1", continuous_usage=False, cache_salt="ours"
    )
    assert out.count(b'"n"') == 1
    assert json.loads(out) == {"n": 2, "cache_salt": "ours", "model": "m@1"}
    with pytest.raises(InvalidRequest, match="'n' is 99"):
        read(b'{"model": "a", "n": 2, "n": 99}')


def test_huge_numbers_do_not_break_the_rewriting() -> None:
    assert sent(b'{"model": "a", "seed": ' + b"9" * 300 + b"}")["seed"] == pytest.approx(1e300)


@pytest.mark.parametrize("options", [None, "yes", [], {"include_usage": False}])
def test_a_stream_always_asks_for_usage_and_remembers_whether_the_client_did(
    options: object,
) -> None:
    body = {"stream": True, "stream_options": options}
    assert sent(body, continuous_usage=True)["stream_options"] == {
        "include_usage": True,
        "continuous_usage_stats": True,
    }
    assert read(body).include_usage is False


@pytest.mark.parametrize("value", [True, 1, 1.0, "true", "True", "1", "yes", "ON"])
def test_a_stream_in_every_spelling_that_an_engine_takes_is_metered_as_one(value: object) -> None:
    body = sent({"stream": value})
    assert body["stream"] is True
    assert body["stream_options"]["include_usage"] is True


@pytest.mark.parametrize("value", [False, 0, 0.0, "false", "No", "off", None])
def test_no_stream_in_any_spelling_is_none(value: object) -> None:
    assert not read({"stream": value}).stream
    assert not sent({"stream": value}).get("stream")


@pytest.mark.parametrize("value", ["maybe", 2, -1, {}, [], [True], "", {"a": 1}])
def test_a_stream_that_an_engine_might_read_otherwise_than_this_agent_is_refused(
    value: object,
) -> None:
    with pytest.raises(InvalidRequest, match="'stream'"):
        read({"stream": value})


@pytest.mark.parametrize("api", [RESPONSES, MESSAGES])
def test_stream_options_are_only_set_where_the_format_has_them(api: ApiFormat) -> None:
    body = sent({"stream": True}, api, continuous_usage=True)
    assert body["stream"] is True
    assert "stream_options" not in body
    assert body["cache_salt"] == "ours"


def test_nothing_is_kept_between_requests_and_ids_are_ours() -> None:
    assert sent({"store": True, "request_id": "x"}, RESPONSES)["store"] is False
    assert "request_id" not in sent({"request_id": "x"})
    assert "store" not in sent({"store": True}, MESSAGES)


EVERY_FORMAT = pytest.mark.parametrize("api", FORMATS.values(), ids=list(FORMATS))


@EVERY_FORMAT
@pytest.mark.parametrize("model", [None, "", 7, [], {}, True])
def test_a_body_without_a_model_or_with_one_of_a_wrong_type_is_refused_by_its_param(
    api: ApiFormat, model: object
) -> None:
    with pytest.raises(InvalidRequest) as caught:
        read({"model": model}, api)
    assert caught.value.param == "model"
    assert "NoneType" not in caught.value.message
    with pytest.raises(InvalidRequest, match="'model' is missing"):
        read(b"{}", api)


@EVERY_FORMAT
def test_the_name_that_was_asked_for_outlives_the_engines(api: ApiFormat) -> None:
    body = read({"model": "chat"}, api)
    assert (
        json.loads(body.for_engine("o/n@1", continuous_usage=False, cache_salt="s"))["model"]
        == "o/n@1"
    )
    assert body.asked_model == body.model == "chat"
    assert body.names("o/n@1") == (b'"o/n@1"', b'"chat"')
    assert body.names("chat") is None


def test_a_byte_order_mark_before_the_json_is_accepted() -> None:
    assert sent(b'\xef\xbb\xbf{"model": "chat", "n": 2}')["n"] == 2
    with pytest.raises(InvalidRequest, match="not valid JSON"):
        read(b'\xef\xbb\xbf{"model"')


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-be"])
def test_a_body_in_utf_16_or_32_is_refused_by_name(encoding: str) -> None:
    with pytest.raises(InvalidRequest, match="UTF-16 or UTF-32"):
        read('{"model": "chat"}'.encode(encoding))


@pytest.mark.parametrize("compress", [gzip.compress, zlib.compress])
def test_a_compressed_body_that_was_not_declared_is_refused_in_plain_words(compress: Any) -> None:
    with pytest.raises(InvalidRequest, match="the body is not JSON text in UTF-8") as caught:
        read(compress(b'{"model": "chat"}'))
    assert "str" not in caught.value.message


@pytest.mark.parametrize("tier", ["auto", "default", "flex", "scale", "priority", None, "fast"])
def test_a_service_tier_is_accepted_in_every_format(tier: object) -> None:
    noted = {None: "", "fast": "other"}.get(tier, tier)
    for api in FORMATS.values():
        assert read({"service_tier": tier}, api).service_tier == noted
        assert "service_tier" not in sent({"service_tier": tier, "input": "a"}, api)


@pytest.mark.parametrize("tier", [7, True, ["auto"], {}, 0])
def test_a_service_tier_of_a_wrong_type_is_refused_by_its_field(tier: object) -> None:
    for api in FORMATS.values():
        with pytest.raises(InvalidRequest, match="'service_tier' is not a text") as caught:
            read({"service_tier": tier}, api)
        assert caught.value.param == "service_tier"


def test_a_body_counts_as_its_sequences_and_too_many_are_refused() -> None:
    caps = BodyCaps(max_n=4, max_prompt_logprobs=5, max_inputs=3, max_sequences=8)
    fields = {"model": "m", "prompt": ["a", "b"], "n": 4, "max_tokens": 16}
    body = read_body(orjson.dumps(fields), FORMATS["/v1/completions"], caps=caps)
    assert (body.sequences, body.max_answer_tokens) == (8, 16.0)
    wider = orjson.dumps(fields | {"prompt": ["a", "b", "c"]})
    with pytest.raises(InvalidRequest, match="12 sequences"):
        read_body(wider, FORMATS["/v1/completions"], caps=caps)


def test_inputs_of_embeddings_are_sequences_without_answers() -> None:
    fields = orjson.dumps({"model": "m", "input": ["a", "b", "c"]})
    caps = BodyCaps(max_n=4, max_prompt_logprobs=5, max_inputs=3, max_sequences=1)
    body = read_body(fields, FORMATS["/v1/embeddings"], caps=caps)
    assert (body.sequences, body.max_answer_tokens) == (3, 0.0)
