"""The public price card over HTTP: without a login, cached no longer than it is in force."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

import aiohttp
import pytest
from prometheus_client import CollectorRegistry

from coordinator.api.http import HttpListener, HttpParts
from coordinator.core.price_card import first_card, numbered
from protos.domain.price_card import PriceCard

NOW = 1_790_000_000_000
CARD = first_card("ana", NOW)


@contextlib.asynccontextmanager
async def serving(upcoming: PriceCard | None = None) -> AsyncIterator[aiohttp.ClientSession]:
    parts = HttpParts(
        missing=list,
        card=lambda: (CARD, upcoming),
        now_unix_ms=lambda: NOW,
        metrics=CollectorRegistry(),
    )
    listener = HttpListener(parts, "127.0.0.1", 0, max_connections=8)
    await listener.start()
    try:
        async with aiohttp.ClientSession(f"http://127.0.0.1:{listener.port}") as session:
            yield session
    finally:
        await listener.close()


@pytest.mark.parametrize("path", ["/pricing", "/prices", "/pricing.json", "/v1/prices"])
async def test_prices_are_public_and_may_be_cached_for_a_minute(path):
    async with serving() as http, http.get(path) as answer:
        assert answer.status == 200
        assert answer.headers["Cache-Control"] == "public, max-age=60"
        assert answer.headers["Access-Control-Allow-Origin"] == "*"


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("application/json", "application/json"),
        ("text/html,application/xhtml+xml,application/json;q=0.5", "text/html"),
        ("*/*", "text/html"),
    ],
)
async def test_pricing_is_a_page_for_people_and_json_for_programs(accept, kind):
    async with serving() as http, http.get("/pricing", headers={"Accept": accept}) as answer:
        assert answer.content_type == kind
        assert answer.headers["Vary"] == "Accept"


async def test_who_has_the_card_gets_no_body_until_it_changes():
    async with serving() as http:
        async with http.get("/pricing.json") as answer:
            tag = answer.headers["ETag"]
        async with http.get("/pricing.json", headers={"If-None-Match": f'"old", {tag}'}) as again:
            assert (again.status, await again.read()) == (304, b"")
            assert again.headers["ETag"] == tag
    known = {"If-None-Match": tag}
    async with (
        serving(numbered(CARD, 2, NOW + 1)) as http,
        http.get("/pricing.json", headers=known) as changed,
    ):
        assert changed.status == 200


@pytest.mark.parametrize(("left_ms", "max_age_s"), [(1_000_000, 60), (30_000, 30), (-5_000, 0)])
async def test_a_card_is_cached_no_longer_than_it_is_in_force(left_ms, max_age_s):
    async with serving(numbered(CARD, 2, NOW + left_ms)) as http, http.get("/pricing") as answer:
        assert answer.headers["Cache-Control"] == f"public, max-age={max_age_s}"
