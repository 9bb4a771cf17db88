"""One turn of each kind through LiteLLM, in its own environment; prints what came as JSON."""

from __future__ import annotations

import json
import sys
from typing import Any

import litellm

litellm.telemetry = False
litellm.num_retries = 0
URL, API_KEY, MODEL, EMBEDDER, LONG_CHARS = sys.argv[1:]
MESSAGES = [{"role": "user", "content": "hello"}]
TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}
#: Its three ways to such an address.
PROVIDERS = {
    "openai": {"model": f"openai/{MODEL}", "api_base": f"{URL}/v1"},
    "hosted_vllm": {"model": f"hosted_vllm/{MODEL}", "api_base": f"{URL}/v1"},
    "anthropic": {"model": f"anthropic/{MODEL}", "api_base": URL},
}


def turns(where: dict[str, str]) -> dict[str, Any]:
    """Return a whole answer, a streamed one and a call of a tool."""
    asked: dict[str, Any] = where | {"api_key": API_KEY, "max_tokens": 100}
    whole = litellm.completion(messages=MESSAGES, **asked)
    pieces = list(
        litellm.completion(
            messages=MESSAGES, stream=True, stream_options={"include_usage": True}, **asked
        )
    )
    usages = [piece.usage for piece in pieces if getattr(piece, "usage", None)]
    called = litellm.completion(messages=MESSAGES, tools=[TOOL], **asked)
    (call,) = called.choices[0].message.tool_calls
    return {
        "text": whole.choices[0].message.content,
        "tokens": whole.usage.completion_tokens,
        "streamed": "".join(
            piece.choices[0].delta.content or "" for piece in pieces if piece.choices
        ),
        "streamed_tokens": usages[-1].completion_tokens,
        "call": [call.function.name, json.loads(call.function.arguments)],
    }


def error_of(**changes: Any) -> str:
    """Return the class that LiteLLM makes of a refusal."""
    asked: dict[str, Any] = PROVIDERS["openai"] | {"api_key": API_KEY, "messages": MESSAGES}
    try:
        litellm.completion(**asked | changes)
    except Exception as error:
        return type(error).__name__
    return ""


def main() -> None:
    """Print every turn."""
    told: dict[str, Any] = {}
    for name, where in PROVIDERS.items():
        try:
            told[name] = turns(where)
        except Exception as error:
            told[name] = {"error": str(error)}
    vectors = litellm.embedding(
        model=f"openai/{EMBEDDER}",
        input=["one", "two"],
        api_base=f"{URL}/v1",
        api_key=API_KEY,
        encoding_format="float",
    )
    told["vectors"] = [one["embedding"] for one in vectors.data]
    told["unknown"] = error_of(model="openai/nothing")
    told["stranger"] = error_of(api_key="wrong")
    long = [{"role": "user", "content": "word " * (int(LONG_CHARS) // 5)}]
    told["too_long"] = error_of(messages=long)
    print(json.dumps(told))


if __name__ == "__main__":
    main()
