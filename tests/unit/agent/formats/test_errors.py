"""Our errors as an OpenAI client reads them."""

from __future__ import annotations

import json

import pytest

from agent.formats import FORMATS, ApiFormat
from agent.formats.chat import CHAT
from agent.formats.count_tokens import COUNT_TOKENS
from agent.formats.errors import engine_error, internal_error, read_overflow, reset_text
from agent.formats.messages import MESSAGES
from agent.formats.registry import render_error
from agent.formats.responses import RESPONSES
from protos.domain.errors import (
    EdgeForgeError,
    InsufficientQuota,
    InvalidRequest,
    NoReplica,
    NotFound,
    Overloaded,
    RateLimited,
    Unauthenticated,
)
from protos.domain.quota import RateState


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (InvalidRequest("m"), 400),
        (Unauthenticated("m"), 401),
        (NotFound("m"), 404),
        (Overloaded("m"), 429),
        (NoReplica("m"), 503),
        (internal_error(), 500),
    ],
)
def test_every_error_has_its_status_and_an_openai_body(error: EdgeForgeError, status: int) -> None:
    given, headers, body = render_error(error)
    assert given == status
    assert dict(headers)[b"content-type"] == b"application/json"
    assert set(json.loads(body)["error"]) == {"message", "type", "param", "code"}


@pytest.mark.parametrize(("asked_s", "said"), [(None, b"1"), (0.01, b"1"), (1.2, b"2")])
def test_who_shall_wait_is_told_whole_seconds_and_never_zero(
    asked_s: float | None, said: bytes
) -> None:
    _, headers, _ = render_error(Overloaded("m", retry_after_s=asked_s))
    assert dict(headers)[b"retry-after"] == said


def test_an_error_mid_stream_is_one_event_even_if_its_message_has_line_breaks() -> None:
    event = CHAT.error_event(NoReplica("first\n\ndata: [DONE]\r\n"))
    assert event.endswith(b"\n\n")
    assert event.count(b"\n") == 3


#: What vLLM says, in its several places, and how many tokens were requested at least.
OVERFLOWS = [
    (
        "This model's maximum context length is 2048 tokens. However, your prompt contains at "
        "least 2049 input tokens, which exceeds this limit even without any output tokens.",
        2_049,
    ),
    (
        "This model's maximum context length is 2048 tokens. However, you requested 500 output "
        "tokens and your prompt contains 1600 input tokens, for a total of 2100 tokens.",
        2_100,
    ),
    (
        "This model's maximum context length is 2048 tokens. However, your prompt contains 99999 "
        "characters (more than 40960 characters, the upper bound for 2048 input tokens).",
        2_049,
    ),
    ("Input length (3000) exceeds model's maximum context length (2048).", 3_000),
    ("max_tokens=32000 cannot be greater than max_model_len=2048. Please request fewer.", 32_000),
]


def refused(message: object, **fields: object) -> bytes:
    error = {"message": message, "type": "BadRequestError", "param": None, "code": 400} | fields
    return json.dumps({"error": error}).encode()


@pytest.mark.parametrize("api", FORMATS.values(), ids=list(FORMATS))
@pytest.mark.parametrize(("message", "requested"), OVERFLOWS)
def test_an_engines_overflow_is_said_in_one_wording_with_the_code_that_clients_recognise(
    api: ApiFormat, message: str, requested: int
) -> None:
    found = json.loads(api.engine_refusal(400, refused(message)))["error"]
    assert "maximum context length is 2048 tokens" in found["message"]
    assert found["type"] == "invalid_request_error"
    if not api.is_anthropic:
        assert found["code"] == "context_length_exceeded"
    elif "max_tokens" in message:
        assert found["message"].startswith("max_tokens: 32000 > 2048")
    else:
        begin = f"prompt is too long: {requested} tokens > 2048 maximum"
        assert found["message"].startswith(begin)
    again = json.loads(api.engine_refusal(400, json.dumps({"error": found}).encode()))["error"]
    assert again["message"] == found["message"], "what a peer has put into words is not changed"
    event = api.error_event(engine_error(400, refused(message)))
    assert b"maximum context length is 2048 tokens" in event


@pytest.mark.parametrize("api", FORMATS.values(), ids=list(FORMATS))
def test_an_overflow_found_here_is_said_like_an_engines(api: ApiFormat) -> None:
    said = "This model's maximum context length is 2048 tokens. However, your prompt contains at "
    error = InvalidRequest(f"{said}least 3000 input tokens", code="context_length_exceeded")
    _, _, body = api.render_error(error)
    message = json.loads(body)["error"]["message"]
    assert "maximum context length is 2048 tokens" in message
    if api.is_anthropic:
        assert message.startswith("prompt is too long: 3000 tokens > 2048 maximum")


def test_other_refusals_are_no_overflow_and_pass_as_they_are() -> None:
    body = refused("max_tokens must be at least 1, got 0.", param="max_tokens")
    assert CHAT.engine_refusal(400, body) == body
    assert read_overflow("max_tokens must be at least 1, got 0.") is None


TRACE = (
    'EngineCore died\nTraceback (most recent call last):\n  File "/opt/v/engine.py", line 3, in f\n'
    "    run()\nRuntimeError: CUDA"
)


@pytest.mark.parametrize("api", FORMATS.values(), ids=list(FORMATS))
@pytest.mark.parametrize(
    "body",
    [
        refused(TRACE, type="InternalServerError", code=500),
        refused("no /usr/lib/libcuda.so.1 for <object at 0x7f00deadbeef>", code=500),
        refused('bad\n  File "/opt/v/engine.py", line 3, in f\n    run()', code=500),
        refused(None),
        TRACE.encode(),
        b"Internal Server Error",
        b"<html>/usr/lib/x</html>",
        b'{"detail":"/opt/v/engine.py"}',
        b"",
        b"[]",
    ],
)
def test_an_engines_500_is_well_formed_in_the_formats_words_and_says_nothing_internal(
    api: ApiFormat, body: bytes
) -> None:
    for status in (500, 501, 503):
        given = api.engine_refusal(status, body)
        found = json.loads(given)["error"]
        assert found["message"]
        for internal in (b"Traceback", b"/opt/", b"/usr/", b".py", b"0x7f", b"run()"):
            assert internal not in given
            assert internal not in api.error_event(engine_error(status, body))
        if api.is_anthropic:
            assert json.loads(given)["type"] == "error"
        else:
            assert set(found) == {"message", "type", "param", "code"}


def test_an_engines_500_keeps_what_it_says_to_a_client() -> None:
    body = refused("the KV cache is full, see https://docs/x/y", code=500)
    for api in (CHAT, MESSAGES):
        message = json.loads(api.engine_refusal(500, body))["error"]["message"]
        assert message == "the KV cache is full, see https://docs/x/y"


def test_a_long_message_of_a_500_is_cut() -> None:
    assert len(CHAT.engine_refusal(500, refused("x" * 100_000))) < 2_000


def _limited(reset_ms: float = 2_400.0) -> RateLimited:
    error = RateLimited("used up", retry_after_s=2.4)
    error.limited = (RateState("tokens", 1_000, 12, reset_ms, 1_790_000_002_400),)
    return error


def test_a_limit_of_an_account_is_told_in_openais_headers() -> None:
    for api in (CHAT, RESPONSES):
        status, headers, _ = api.render_error(_limited())
        assert status == 429
        assert dict(headers).items() >= {
            (b"retry-after", b"3"),
            (b"x-ratelimit-limit-tokens", b"1000"),
            (b"x-ratelimit-remaining-tokens", b"12"),
            (b"x-ratelimit-reset-tokens", b"2.4s"),
        }
    _, plain, _ = CHAT.render_error(RateLimited("at once", retry_after_s=1.0))
    assert not [name for name, _ in plain if name.startswith(b"x-ratelimit")]


def test_a_limit_of_an_account_is_told_in_anthropics_headers() -> None:
    status, headers, body = MESSAGES.render_error(_limited())
    assert status == 429
    assert json.loads(body)["error"]["type"] == "rate_limit_error"
    assert dict(headers).items() >= {
        (b"retry-after", b"3"),
        (b"anthropic-ratelimit-tokens-limit", b"1000"),
        (b"anthropic-ratelimit-tokens-remaining", b"12"),
        (b"anthropic-ratelimit-tokens-reset", b"2026-09-21T14:13:22Z"),
    }


@pytest.mark.parametrize(
    ("reset_ms", "text"),
    [
        (0.0, b"0ms"),
        (19.2, b"20ms"),
        (1_000.0, b"1s"),
        (8_640.0, b"8.64s"),
        (60_000.0, b"1m0s"),
        (360_000.0, b"6m0s"),
        (61_500.0, b"1m1.5s"),
    ],
)
def test_a_reset_is_written_as_openai_does(reset_ms: float, text: bytes) -> None:
    assert reset_text(reset_ms) == text


def test_a_used_up_balance_is_told_in_each_vendors_words_and_is_not_retried() -> None:
    error = InsufficientQuota("nothing is left", "add credit")
    status, headers, body = CHAT.render_error(error)
    assert status == 429
    assert b"retry-after" not in dict(headers)
    found = json.loads(body)["error"]
    assert (found["type"], found["code"]) == ("insufficient_quota", "insufficient_quota")
    for api in (MESSAGES, COUNT_TOKENS):
        status, headers, body = api.render_error(error)
        assert (status, json.loads(body)["error"]["type"]) == (402, "billing_error")
