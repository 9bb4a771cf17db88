"""Hypothesis strategies for request bodies of every format: valid, partly and wholly invalid."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

Strategy = st.SearchStrategy[Any]

#: Unexpected values of every JSON type, and NaN and infinities, which are not JSON.
JUNK: Strategy = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(["true", "http://169.254.169.254/", "\x00", "9" * 400, "../..", "\ud800"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=12,
)
_SAYING = st.text(max_size=40)
_CITY = {"type": "object", "properties": {"city": {"type": "string"}}}
_TEXT_PARTS = st.lists(st.fixed_dictionaries({"type": st.just("text"), "text": _SAYING}))
_MESSAGES = st.lists(
    st.fixed_dictionaries(
        {
            "role": st.sampled_from(["user", "assistant", "system", "tool", "developer"]),
            "content": _SAYING | _TEXT_PARTS,
        }
    ),
    max_size=4,
)
_SAMPLING: dict[str, Strategy] = {
    "temperature": st.floats(-1.0, 3.0),
    "top_p": st.floats(0.0, 1.0),
    "stream": st.booleans(),
    "user": _SAYING,
    "metadata": st.dictionaries(st.text(max_size=5), _SAYING, max_size=2),
}
_OPENAI = _SAMPLING | {
    "n": st.integers(0, 200),
    "seed": st.integers(),
    "stop": _SAYING | st.lists(_SAYING, max_size=5),
    "logprobs": st.booleans() | st.integers(0, 30),
    "max_tokens": st.integers(-1, 20),
    "frequency_penalty": st.floats(-3.0, 3.0),
    "logit_bias": st.dictionaries(st.text(max_size=4), st.integers(-200, 200), max_size=3),
    "stream_options": st.fixed_dictionaries(
        {}, optional={"include_usage": st.booleans(), "continuous_usage_stats": st.booleans()}
    ),
}
_TOOLS = st.lists(
    st.just({"type": "function", "function": {"name": "weather", "parameters": _CITY}})
    | st.just({"type": "mcp", "server_url": "http://169.254.169.254/"}),
    max_size=2,
)
_SYSTEM: dict[str, Strategy] = {
    "messages": _MESSAGES,
    "system": _SAYING | _TEXT_PARTS,
    "tools": st.lists(st.just({"name": "weather", "input_schema": _CITY}), max_size=2),
    "tool_choice": st.sampled_from([{"type": "auto"}, {"type": "any"}, {"type": "none"}]),
    "thinking": st.just({"type": "disabled"}),
}
#: path -> its fields and valid values of each.
SCHEMAS: dict[str, dict[str, Strategy]] = {
    "/v1/chat/completions": _OPENAI
    | {
        "messages": _MESSAGES,
        "tools": _TOOLS,
        "tool_choice": st.sampled_from(["auto", "none", "required"]),
        "response_format": st.sampled_from(
            [
                {"type": "json_object"},
                {"type": "json_schema", "json_schema": {"name": "c", "schema": _CITY}},
            ]
        ),
        "top_logprobs": st.integers(-1, 30),
        "prompt_logprobs": st.integers(-2, 30),
        "chat_template": _SAYING,
        "chat_template_kwargs": st.dictionaries(st.just("chat_template"), _SAYING),
        "continue_final_message": st.booleans(),
    },
    "/v1/completions": _OPENAI
    | {
        "prompt": _SAYING | st.lists(_SAYING, max_size=20) | st.lists(st.integers(), max_size=20),
        "best_of": st.integers(0, 200),
        "echo": st.booleans(),
        "suffix": _SAYING,
    },
    "/v1/responses": _SAMPLING
    | {
        "input": _SAYING | _MESSAGES,
        "instructions": _SAYING,
        "store": st.booleans(),
        "background": st.booleans(),
        "previous_response_id": _SAYING,
        "max_output_tokens": st.integers(-1, 20),
        "tools": _TOOLS,
        "text": st.just({"format": {"type": "text"}}),
        "truncation": st.sampled_from(["auto", "disabled"]),
    },
    "/v1/embeddings": {
        "input": _SAYING | st.lists(_SAYING, max_size=20) | st.lists(st.integers(), max_size=20),
        "encoding_format": st.sampled_from(["float", "base64", "bytes"]),
        "dimensions": st.integers(-1, 2_000),
        "user": _SAYING,
    },
    "/v1/messages": _SAMPLING
    | _SYSTEM
    | {
        "max_tokens": st.integers(-1, 20),
        "stop_sequences": st.lists(_SAYING, max_size=4),
        "top_k": st.integers(-1, 100),
        "mcp_servers": st.just([{"type": "url", "url": "http://169.254.169.254/"}]),
    },
    "/v1/messages/count_tokens": _SYSTEM | {"stream": st.booleans()},
}


@st.composite
def bodies(draw: st.DrawFn, path: str, model: str) -> dict[str, Any]:
    """A body of ``path``: some of its fields, up to three of them wrong, or of no schema at all."""
    schema = SCHEMAS[path]
    names = draw(st.sets(st.sampled_from(sorted(schema))))
    body = {"model": model} | {name: draw(schema[name]) for name in sorted(names)}
    wrong = st.sampled_from([*sorted(schema), "model"]) | st.text(max_size=8)
    for name in draw(st.lists(wrong, max_size=3)):
        body[name] = draw(JUNK)
    return body
