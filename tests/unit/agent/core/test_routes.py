"""Which routes of an engine a client may reach."""

from __future__ import annotations

import pytest

from agent.core.routes import GENERATION_PATHS, Api, api_of

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
    assert path not in GENERATION_PATHS


def test_what_is_on_the_list_is_exact_and_of_the_public_api() -> None:
    assert GENERATION_PATHS
    for path in GENERATION_PATHS:
        assert path.startswith("/v1/")
        assert "//" not in path
        assert not path.endswith("/")


def test_a_path_names_its_format_exactly() -> None:
    assert api_of("/v1/messages") is Api.MESSAGES
    assert api_of("/v1/messages/count_tokens") is Api.COUNT_TOKENS
    assert api_of("/v1/messages/batches") is None
    assert api_of("/v1/models") is None
    assert [api for api in Api if api.embeds] == [Api.EMBEDDINGS]
    assert [api for api in Api if not api.generates] == [Api.EMBEDDINGS, Api.COUNT_TOKENS]
    assert [api for api in Api if api.is_anthropic] == [Api.MESSAGES, Api.COUNT_TOKENS]
