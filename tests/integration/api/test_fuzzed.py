"""schemathesis against the running API: it does as its own OpenAPI document says."""

from __future__ import annotations

import asyncio
import warnings
from typing import Any

import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import HypothesisWarning
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from coordinator.api.customer.table import ROUTES
from tests.support.customer_api import RunningApi

CHECKS = (
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    negative_data_rejection,
    unsupported_method,
)
#: Requests for one operation, of valid data and of invalid.
EXAMPLES = 9


def fuzz(origin: str, token: str) -> dict[str, set[int]]:
    """Send what schemathesis makes of the document; return the statuses of each route."""
    schema: Any = schemathesis.openapi.from_url(f"{origin}/openapi.json")
    sent: dict[str, set[int]] = {}

    def one_of(operation: Any) -> None:
        for mode in schemathesis.GenerationMode:

            @settings(
                max_examples=EXAMPLES,
                deadline=None,
                database=None,
                derandomize=True,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            )
            @given(case=operation.as_strategy(generation_mode=mode))
            def send(case: Any) -> None:
                case.headers = {**(case.headers or {}), "Authorization": f"Bearer {token}"}
                response = case.call()
                case.validate_response(response, checks=CHECKS)
                name = operation.definition.raw["operationId"]
                sent.setdefault(name, set()).add(response.status_code)

            send()

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", HypothesisWarning)
        for result in schema.get_all_operations():
            one_of(result.ok())
    return sent


async def test_the_running_api_is_as_its_document_says_for_valid_and_for_invalid_requests(
    api: RunningApi,
) -> None:
    sent = await asyncio.to_thread(fuzz, api.origin, api.token())
    assert set(sent) == {route.name for route in ROUTES}
    assert all(429 not in statuses for statuses in sent.values()), "nothing was left out"
    lists = {route.name for route in ROUTES if route.name.startswith("list_")}
    assert all(200 in sent[name] for name in lists), "valid requests were among them"
