"""What is left of finished requests here: a bounded ring, and how the latest were served."""

from __future__ import annotations

from agent.core.promises import Shed
from agent.core.request.log import RequestLog
from agent.gateway.records import MAX_DEPLOYMENTS, MAX_STRANGERS, MAX_SUMMARISED, RequestRecords


def log(deployment: str = "chat", **fields: object) -> RequestLog:
    made = RequestLog("0" * 32, 1_700_000_000_000, "/v1/x", 1_000.0, deployment=deployment)
    made.account = "acme" if deployment else ""
    for name, value in fields.items():
        setattr(made, name, value)
    return made


def test_the_ring_keeps_the_latest() -> None:
    records = RequestRecords(3)
    for number in range(5):
        records.add(log(status=number))
    assert [one.status for one in records.latest(10)] == [4, 3, 2]
    assert records.latest(0) == []


def test_a_flood_without_keys_hides_no_customers_request_and_empties_no_summary() -> None:
    records = RequestRecords(10_000)
    records.add(log(status=200))
    for _ in range(20_000):
        records.add(log("", status=401))
    service = records.service()
    assert (service.admitted, service.shed) == (1, 0)
    assert records.service_by_deployment()["chat"].admitted == 1
    records.add(log(status=201))
    kept = records.latest(10_000)
    assert len(kept) == MAX_STRANGERS + 2
    assert [kept[0].status, kept[1].status, kept[-1].status] == [201, 401, 200]


def test_what_users_felt_is_reported_with_what_was_shed_and_mistakes_count_for_nothing() -> None:
    records = RequestRecords(100)
    records.add(log(first_token_mono_ms=1_100.0, last_mile_ms=20.0))
    records.add(log(status=200))
    records.add(log(status=429, shed=Shed.BUDGET))
    records.add(log("", status=503, shed=Shed.NO_REPLICA))  # before it had a deployment
    records.add(log("", status=401))
    service = records.service()
    assert (service.admitted, service.shed, service.first_tokens) == (2, 2, 1)
    assert service.ttft_ms_p99 == 120.0
    assert records.service_by_deployment()["chat"].shed == 1


def test_no_more_than_the_latest_are_looked_back_on() -> None:
    records = RequestRecords(MAX_SUMMARISED * 2)
    for _ in range(MAX_SUMMARISED):
        records.add(log(shed=Shed.OVERLOADED))
    for _ in range(MAX_SUMMARISED):
        records.add(log())
    service = records.service()
    assert (service.admitted, service.shed) == (MAX_SUMMARISED, 0)


def test_no_more_than_the_busiest_deployments_are_reported_one_by_one() -> None:
    records = RequestRecords(1_000)
    for number in range(MAX_DEPLOYMENTS + 5):
        for _ in range(number + 1):
            records.add(log(f"d-{number}"))
    reported = records.service_by_deployment()
    assert len(reported) == MAX_DEPLOYMENTS
    assert next(iter(reported)) == f"d-{MAX_DEPLOYMENTS + 4}"
    assert "d-0" not in reported
