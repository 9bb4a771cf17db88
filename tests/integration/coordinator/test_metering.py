"""The metering service: the node is that of the certificate, and its batches are limited."""

from __future__ import annotations

from pathlib import Path

import pytest

from coordinator.rpc import metering
from coordinator.rpc.identity import Identity, IdentityKind
from coordinator.rpc.metering import MeteringService
from coordinator.store.store import Store
from protos.domain.errors import InvalidRequest, Overloaded
from protos.v1.usage_pb2 import SpooledRecord, UsageBatch, UsageCounters
from protos.wire.usage import encode_record
from tests.support.usage_fleet import NOW_UNIX_MS, SPOOL, ingesting, record


def message(**fields: object) -> UsageBatch:
    given = {
        "spool_id": SPOOL,
        "first_seq": 1,
        "last_seq": 1,
        "records": [SpooledRecord(seq=1, record=encode_record(record()))],
    }
    return UsageBatch(**(given | fields))  # type: ignore[arg-type]


@pytest.fixture
async def service(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The service, called by the node that ``caller`` names."""
    caller = ["gru-1"]
    monkeypatch.setattr(
        metering, "peer_identity", lambda context: Identity(IdentityKind.NODE, caller[0], 1)
    )
    async with ingesting(tmp_path / "usage.db") as (_, ingest):
        yield (
            MeteringService(
                ingest,
                store,
                zone="BR",
                now_mono_ms=lambda: 0.0,
                now_unix_ms=lambda: NOW_UNIX_MS,
            ),
            caller,
        )


async def test_a_spool_is_of_the_node_that_its_certificate_names(service):
    push, caller = service
    ack = await push.Push(message(), None)
    assert (ack.spool_id, ack.watermark, ack.coordinator_zone) == (SPOOL, 1, "BR")
    caller[0] = "gru-2"  # the same id of another node is another spool
    assert (await push.Push(message(first_seq=1, last_seq=0, records=[]), None)).watermark == 0


async def test_a_node_that_sends_without_pause_is_told_when_to_go_on(service):
    push, caller = service
    asked = message(first_seq=1, last_seq=0, records=[])

    async def without_pause() -> None:
        for _ in range(1_000):
            await push.Push(asked, None)

    with pytest.raises(Overloaded) as refused:
        await without_pause()
    assert refused.value.retry_after_s
    caller[0] = "iad-1"
    assert (await push.Push(asked, None)).watermark == 0


async def test_sums_that_cannot_be_read_are_held_and_the_rest_is_counted(service):
    push, _ = service
    torn = UsageCounters(account="acme", sums=[1, 2])
    ack = await push.Push(message(last_seq=2, counters=[torn]), None)
    assert (ack.watermark, ack.refused) == (2, False)
    assert push._ingest.counters.records == 1
    assert push._ingest.counters.quarantined == 1


async def test_a_batch_with_a_spool_that_is_no_name_is_refused(service):
    push, _ = service
    with pytest.raises(InvalidRequest, match="32 hexadecimal"):
        await push.Push(message(spool_id="'; DROP TABLE raw"), None)


@pytest.mark.parametrize(("agents", "pause_ms"), [(1, 3), (300, 1_000), (3_000, 10_000)])
async def test_agents_are_asked_to_send_less_often_the_more_there_are(service, agents, pause_ms):
    push, _ = service
    push._agents = lambda: agents
    assert (await push.Push(message(), None)).pause_ms == pause_ms
