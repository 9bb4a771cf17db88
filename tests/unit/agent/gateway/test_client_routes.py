"""Routes of the client port beside a plain generation: paths, methods, answers, refusals."""

from __future__ import annotations

import gzip
import hashlib
import json

import pytest

from agent.formats import FORMATS
from agent.gateway.client_routes import ClientRoutes, render_refusal
from agent.gateway.health import Health
from agent.relay.messages import Request
from protos.domain.customers import Account, ApiKey
from protos.domain.errors import HeadersTooLarge
from tests.support.fleets import deployment, model, view
from tests.support.in_process_gateway import gateway_context

CHAT, MESSAGES = "/v1/chat/completions", "/v1/messages"
SECRET = b"ef-secret"
KEY = ApiKey("k1", hashlib.sha256(SECRET).digest(), "acme", (), 0)
WORLD = view(model(), deployment("small"), Account("acme"), KEY)
SIGNED = {b"authorization": b"Bearer ef-secret"}
ORIGIN = ((b"access-control-allow-origin", b"https://app.example.com"), (b"vary", b"origin"))
HEALTH = ("/health", "/ping", "/readyz", "/livez", "/version")


class Routes:
    """The routes over a table of one deployment."""

    def __init__(self, *, ready: bool = True) -> None:
        self._routes = ClientRoutes(
            gateway_context(WORLD),
            Health(lambda: ready, "1.2.3"),
            1_024,
            lambda request, size_bytes: None,
        )
        self.request = Request("GET", b"/", {}, b"", True, 0.0)

    def ask(self, method: str, target: str, headers=None, body: bytes = b"", cors=()):
        """Return status, headers and body; None for a generation."""
        self.request = Request(method, target.encode(), headers or {}, body, True, 0.0)
        self.request.cors_headers = cors
        answering = self._routes.answer(self.request)
        with pytest.raises(StopIteration) as stopped:
            answering.send(None)
        answer = stopped.value.value
        return answer and (answer[0], dict(answer[1]), answer[2])


@pytest.mark.parametrize("path", HEALTH)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_health_on_the_client_port_needs_no_key(path: str, method: str) -> None:
    status, headers, body = Routes().ask(method, path)
    assert status == 200
    assert headers[b"cache-control"] == b"no-store"
    assert len(body) < 30, "it says nothing else of the agent"


def test_version_is_said_as_vllm_says_it() -> None:
    assert json.loads(Routes().ask("GET", "/version")[2]) == {"version": "1.2.3"}


@pytest.mark.parametrize("path", ["/health", "/ping", "/readyz"])
def test_an_agent_that_is_draining_or_not_ready_is_503_to_load_balancers(path: str) -> None:
    status, headers, _ = Routes(ready=False).ask("GET", path)
    assert status == 503
    assert headers[b"retry-after"] == b"1"


@pytest.mark.parametrize("path", ["/livez", "/version"])
def test_an_agent_that_is_not_ready_is_alive(path: str) -> None:
    assert Routes(ready=False).ask("GET", path)[0] == 200


@pytest.mark.parametrize(
    ("path", "allowed"),
    [(path, b"POST, OPTIONS") for path in FORMATS]
    + [(path, b"GET, HEAD, OPTIONS") for path in (*HEALTH, "/v1/models", "/v1/models/small")],
)
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "PUT", "PATCH", "CONNECT"])
def test_a_wrong_method_is_405_with_what_is_allowed(path: str, allowed: bytes, method: str) -> None:
    if method in allowed.decode():
        return
    status, headers, body = Routes().ask(method, path)
    assert status == 405
    assert headers[b"allow"] == allowed
    error = json.loads(body)
    assert method in error["error"]["message"]
    assert (error.get("type") == "error") is path.startswith("/v1/messages"), "the format's words"


@pytest.mark.parametrize("path", [*HEALTH, *FORMATS, "/v1/models"])
def test_options_without_an_origin_says_what_is_allowed(path: str) -> None:
    status, headers, body = Routes().ask("OPTIONS", path)
    assert (status, body) == (204, b"")
    assert b"OPTIONS" in headers[b"allow"]
    assert not [name for name in headers if name.startswith(b"access-control")]


@pytest.mark.parametrize("path", [*FORMATS, "/v1/models", "/health", "/nosuch"])
def test_a_preflight_of_an_allowed_origin_needs_no_key(path: str) -> None:
    asked = {
        b"origin": b"https://app.example.com",
        b"access-control-request-method": b"POST",
        b"access-control-request-headers": b"authorization,content-type,x-stainless-os",
    }
    status, headers, body = Routes().ask("OPTIONS", path, asked, cors=ORIGIN)
    assert (status, body) == (204, b"")
    assert b"POST" in headers[b"access-control-allow-methods"]
    assert headers[b"access-control-allow-headers"] == asked[b"access-control-request-headers"]
    assert int(headers[b"access-control-max-age"]) > 0
    assert b"access-control-allow-credentials" not in headers


def test_a_preflight_of_another_origin_allows_nothing() -> None:
    asked = {b"origin": b"https://evil.test", b"access-control-request-method": b"POST"}
    _, headers, _ = Routes().ask("OPTIONS", CHAT, asked)
    assert not [name for name in headers if name.startswith(b"access-control")]


@pytest.mark.parametrize(
    "names", [b"a: b", b"x\x00y", b", ,", b"a" * 5_000, b'"quoted"', b""], ids=range(6)
)
def test_what_is_no_list_of_header_names_is_not_sent_back(names: bytes) -> None:
    asked = {b"access-control-request-method": b"POST", b"access-control-request-headers": names}
    _, headers, _ = Routes().ask("OPTIONS", CHAT, asked, cors=ORIGIN)
    assert headers[b"access-control-allow-headers"] == b"authorization, content-type, x-api-key"


@pytest.mark.parametrize("target", ["/nosuch", "/v1", "//health", "/v1/%2e%2e/pause", "*"])
@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
def test_an_unknown_route_is_404(method: str, target: str) -> None:
    status, _, body = Routes().ask(method, target, SIGNED)
    assert status == 404
    assert json.loads(body)["error"]["code"] == "unknown_url"


@pytest.mark.parametrize(
    "target", ["/v1/%63hat/completions", "/v1/chat/completions/", "http://x/v1/chat/completions"]
)
def test_a_generation_is_handled_however_its_path_is_spelled(target: str) -> None:
    routes = Routes()
    assert routes.ask("POST", target, SIGNED, b"{}") is None
    assert routes.request.path == CHAT


def test_a_broken_escape_is_400_in_words() -> None:
    status, _, body = Routes().ask("POST", "/v1/%zz")
    assert status == 400
    assert "hexadecimal" in json.loads(body)["error"]["message"]


def test_an_unknown_content_encoding_is_415_with_those_that_are_accepted() -> None:
    headers = SIGNED | {b"content-encoding": b"br"}
    status, answered, body = Routes().ask("POST", MESSAGES, headers, b"{}")
    assert status == 415
    assert answered[b"accept-encoding"] == b"gzip, deflate, zstd"
    assert json.loads(body)["type"] == "error"


@pytest.mark.parametrize("key", [b"", b"Bearer wrong"])
def test_nothing_is_decoded_for_a_client_without_a_valid_key(key: bytes) -> None:
    headers = {b"authorization": key, b"content-encoding": b"gzip"}
    assert Routes().ask("POST", CHAT, headers, gzip.compress(bytes(10**6)))[0] == 401


def test_a_refusal_before_its_request_is_whole_has_its_formats_words() -> None:
    error = HeadersTooLarge("too large")
    assert json.loads(render_refusal(error, "/v1/%6dessages/")[2])["type"] == "error"
    assert "type" not in json.loads(render_refusal(error, "/v1/chat/completions")[2])
    assert render_refusal(error, "/%zz")[0] == 431


@pytest.mark.parametrize("name", ["small", "acme/small@1", "acme%2Fsmall%401"])
def test_a_model_is_found_by_both_names_with_its_served_context(name: str) -> None:
    status, _, body = Routes().ask("GET", f"/v1/models/{name}", SIGNED)
    found = json.loads(body)
    assert (status, found["max_model_len"]) == (200, 8_192)
    assert found["id"] == name.replace("%2F", "/").replace("%40", "@"), "as it was asked for"


def test_lists_of_models_say_what_is_served_in_both_shapes() -> None:
    (listed,) = json.loads(Routes().ask("GET", "/v1/models", SIGNED)[2])["data"]
    assert (listed["id"], listed["max_model_len"]) == ("small", 8_192)
    anthropic = SIGNED | {b"anthropic-version": b"2023-06-01"}
    page = json.loads(Routes().ask("GET", "/v1/models", anthropic)[2])
    assert page["data"][0]["max_input_tokens"] == 8_192
    assert (page["first_id"], page["last_id"], page["has_more"]) == ("small", "small", False)


def test_models_are_not_listed_without_a_key() -> None:
    for path in ("/v1/models", "/v1/models/small"):
        assert Routes().ask("GET", path)[0] == 401
    status, _, body = Routes().ask("GET", "/v1/models/nosuch", SIGNED)
    assert (status, json.loads(body)["error"]["code"]) == (404, "model_not_found")
