"""What is left of finished requests here: a bounded ring, and how the latest were served."""

from __future__ import annotations

from agent.core.promises import Shed
from agent.gateway.records import (
    MAX_DEPLOYMENTS,
    MAX_SUMMARISED,
    RequestRecord,
    RequestRecords,
)


def record(deployment: str = "chat", **fields: object) -> RequestRecord:
    return RequestRecord("0" * 32, 1_700_000_000_000, "/v1/x", deployment=deployment, **fields)  # type: ignore[arg-type]


def test_the_ring_keeps_the_latest() -> None:
    records = RequestRecords(3)
    for number in range(5):
        records.add(record(status=number))
    assert [one.status for one in records.latest(10)] == [4, 3, 2]
    assert records.latest(0) == []


def test_what_users_felt_is_told_with_what_was_shed_and_mistakes_count_for_nothing() -> None:
    records = RequestRecords(100)
    records.add(record(ttft_ms=100.0, last_mile_ms=20.0))
    records.add(record(status=200))
    records.add(record(status=429, shed=Shed.BUDGET))
    records.add(record("", status=503, shed=Shed.NO_REPLICA))  # before it had a deployment
    records.add(record("", status=401))
    service = records.service()
    assert (service.admitted, service.shed, service.first_tokens) == (2, 2, 1)
    assert service.ttft_ms_p99 == 120.0
    assert records.service_by_deployment()["chat"].shed == 1


def test_no_more_than_the_latest_are_looked_back_on() -> None:
    records = RequestRecords(MAX_SUMMARISED * 2)
    for _ in range(MAX_SUMMARISED):
        records.add(record(shed=Shed.OVERLOADED))
    for _ in range(MAX_SUMMARISED):
        records.add(record())
    service = records.service()
    assert (service.admitted, service.shed) == (MAX_SUMMARISED, 0)


def test_no_more_than_the_busiest_deployments_are_told_one_by_one() -> None:
    records = RequestRecords(1_000)
    for number in range(MAX_DEPLOYMENTS + 5):
        for _ in range(number + 1):
            records.add(record(f"d-{number}"))
    told = records.service_by_deployment()
    assert len(told) == MAX_DEPLOYMENTS
    assert next(iter(told)) == f"d-{MAX_DEPLOYMENTS + 4}"
    assert "d-0" not in told
