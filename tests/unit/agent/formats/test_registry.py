"""Which routes of an engine a client may reach."""

from __future__ import annotations

import pytest

from agent.formats import FORMATS
from agent.formats.count_tokens import COUNT_TOKENS
from agent.formats.embeddings import EMBEDDINGS
from agent.formats.messages import MESSAGES

#: Development and administration routes that vLLM 0.32 serves.
PRIVATE_PATHS = [
    "/collective_rpc",
    "/pause",
    "/resume",
    "/sleep",
    "/wake_up",
    "/reset_prefix_cache",
    "/server_info",
    "/v1/load_lora_adapter",
    "/v1/unload_lora_adapter",
    "/metrics",
]


@pytest.mark.parametrize("path", PRIVATE_PATHS)
def test_private_routes_are_not_on_the_list(path: str) -> None:
    assert path not in FORMATS


def test_what_is_on_the_list_is_exact_and_of_the_public_api() -> None:
    assert FORMATS
    for path in FORMATS:
        assert path.startswith("/v1/")
        assert "//" not in path
        assert not path.endswith("/")


def test_a_path_names_its_format_exactly() -> None:
    assert FORMATS["/v1/messages"] is MESSAGES
    assert FORMATS["/v1/messages/count_tokens"] is COUNT_TOKENS
    assert "/v1/messages/batches" not in FORMATS
    assert "/v1/models" not in FORMATS
    assert [api for api in FORMATS.values() if api.embeds] == [EMBEDDINGS]
    assert [api for api in FORMATS.values() if not api.generates] == [EMBEDDINGS, COUNT_TOKENS]
    assert [api for api in FORMATS.values() if api.is_anthropic] == [MESSAGES, COUNT_TOKENS]
