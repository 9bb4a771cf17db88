"""Usage records of requests on real sockets: durable before the end of an answer, one for each."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace

import orjson
import pytest

from protos.domain.customers import Account, AccountState
from protos.domain.errors import NoReplica
from protos.domain.fleet_view import FleetView, with_changes
from protos.domain.resources import CardTerms, Resource, SlaTier, Tier
from protos.domain.usage_record import BillingReason, UsageCause, UsageRecord
from tests.support.fleets import MODEL, deployment, price
from tests.support.in_process_gateway import (
    InProcessGateway,
    chat_request,
    in_process_gateway,
    table,
)
from tests.support.meters import KeptMeter
from tests.support.stepwise_engine import (
    COUNTS,
    StepwiseEngine,
    data,
    end,
    stepwise_engine,
    token,
    whole,
)
from tests.support.waiting import wait_until_async

ASK_WHOLE = chat_request(b'{"model":"small","messages":[]}')
ASK_STREAM = chat_request()
ASK_USAGE = chat_request(
    b'{"model":"small","stream":true,"stream_options":{"include_usage":true},"messages":[]}'
)
#: Ten prompt tokens, four of them cached and free here, and three tokens, at 10 nano-USD each.
COST_NANO_USD = 6 * 10 + 3 * 10
ENDED = b"0\r\n\r\n"


@dataclass
class World:
    """A gateway, its engine, and the meter that it writes to."""

    port: InProcessGateway
    engine: StepwiseEngine
    meter: KeptMeter
    writers: list[asyncio.StreamWriter] = field(default_factory=list)

    async def client(self, request: bytes) -> Client:
        reader, writer = await self.port.server.connect()
        self.writers.append(writer)
        writer.write(request)
        return Client(reader, writer)

    def change(
        self, removes: tuple[Resource, ...] = (), upserts: tuple[Resource, ...] = ()
    ) -> None:
        """Change the table, as a push of the coordinator would."""
        state = self.port.gateway.state
        newer = with_changes(state.view(), removes, upserts)
        state.view = lambda: newer
        self.port.gateway.running.table_changed()

    @property
    def record(self) -> UsageRecord:
        """The one that was written."""
        (only,) = self.meter.records
        return only

    async def recorded(self, count: int = 1) -> None:
        await until(lambda: len(self.meter.records) == count, "a record is written")

    async def ended(self, number: int = 1) -> UsageCause:
        await until(lambda: number in self.meter.ends, "the end of the record is said")
        return self.meter.ends[number]


@dataclass
class Client:
    """One connection of a customer's."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    got: bytes = b""

    async def reads(self, until_bytes: bytes) -> bytes:
        """Read until ``until_bytes``; return all since the last call."""
        data = await asyncio.wait_for(self.reader.readuntil(until_bytes), 10)
        self.got += data
        return data

    async def nothing(self) -> None:
        """Check that nothing more comes for now."""
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(self.reader.readexactly(1), 0.1)

    def leaves(self) -> None:
        self.writer.transport.abort()


async def until(condition: Callable[[], bool], what: str) -> None:
    await wait_until_async(condition, 10.0, what)


@contextlib.asynccontextmanager
async def world(view: FleetView | None = None, *, held: bool = False) -> AsyncIterator[World]:
    """One node with a price card; nothing stays reserved at the end."""
    meter = KeptMeter(holds=held)
    async with (
        stepwise_engine() as engine,
        in_process_gateway(
            {"near": engine.pool}, view or table({"near": 20.0}), meter=meter
        ) as port,
    ):
        made = World(port, engine, meter)
        try:
            yield made
        finally:
            for writer in made.writers:
                writer.close()
    assert meter.reserved == 0


def body_of(answer: bytes) -> dict[str, object]:
    found: dict[str, object] = orjson.loads(answer.partition(b"\r\n\r\n")[2])
    return found


def counts(record: UsageRecord) -> tuple[int, int, int, int]:
    return record.prompt_tokens, record.cached_tokens, record.completion_tokens, record.nano_usd


# -- the end waits for the disk


async def test_a_whole_answer_is_sent_only_after_its_record_is_on_disk() -> None:
    async with world(held=True) as w:
        client = await w.client(ASK_WHOLE)
        await w.engine.asked()
        w.engine.answers(whole())
        await w.recorded()
        await client.nothing()
        assert not w.meter.ends
        w.meter.let_durable()
        head = await client.reads(b"\r\n\r\n")
        assert b"x-edgeforge-cost-usd: 0.000000090\r\n" in head
        assert await w.ended() is UsageCause.COMPLETE
        record = w.record
    assert counts(record) == (10, 4, 3, COST_NANO_USD)
    assert (record.cause, record.status, record.stream) == (UsageCause.COMPLETE, 200, False)
    assert (record.account, record.key_id, record.deployment) == ("acme", "k1", "small")
    assert (record.serving_node, record.ingress_pop, record.card_version) == ("near", "NEAR", 1)
    assert record.billing_reason is BillingReason.CHEAPEST


async def test_tokens_pass_while_the_disk_is_slow_and_only_the_end_of_a_stream_waits() -> None:
    async with world(held=True) as w:
        client = await w.client(ASK_USAGE)
        await w.engine.asked()
        w.engine.begins(token("a"))
        await client.reads(b'"content":"a"}}]}\n\n\r\n')
        assert not w.meter.records, "nothing is written for a first token"
        w.engine.ends(token("b") + end())
        await client.reads(b'"cost_usd":0.000000090}\n\n\r\n')
        await w.recorded()
        await client.nothing()
        w.meter.let_durable()
        assert b"[DONE]" in await client.reads(ENDED)
        assert await w.ended() is UsageCause.COMPLETE
        record = w.record
    assert counts(record) == (10, 4, 3, COST_NANO_USD)
    assert record.ttft_us > 0


@pytest.mark.parametrize("request_bytes", [ASK_STREAM, ASK_USAGE], ids=["silent", "asked"])
async def test_a_stream_is_billed_alike_whether_its_client_asks_for_usage(
    request_bytes: bytes,
) -> None:
    async with world() as w:
        client = await w.client(request_bytes)
        await w.engine.asked()
        w.engine.begins(token("a"))
        w.engine.ends(token("b") + end())
        await client.reads(ENDED)
        assert await w.ended() is UsageCause.COMPLETE
        assert (b'"usage"' in client.got) is (request_bytes is ASK_USAGE)
        assert counts(w.record) == (10, 4, 3, COST_NANO_USD)


async def test_a_connection_serves_its_next_requests_after_it_waited_for_the_disk() -> None:
    async with world(held=True) as w:
        client = await w.client(ASK_WHOLE * 3)  # pipelined
        for number in range(1, 4):
            await w.engine.asked(number)
            w.engine.answers(whole(f"answer {number}"))
            await w.recorded(number)
            assert len(w.engine.requests) == number, "one request of a connection at a time"
            w.meter.let_durable()
            assert await w.ended(number) is UsageCause.COMPLETE
            await client.reads(f"answer {number}".encode())
    assert len({record.trace_id for record in w.meter.records}) == 3


async def test_a_client_that_closes_after_its_answer_has_seen_it() -> None:
    closing = ASK_WHOLE.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n", 1)
    async with world() as w:
        client = await w.client(closing)
        await w.engine.asked()
        w.engine.answers(whole())
        assert await client.reader.read() != b""
        assert await w.ended() is UsageCause.COMPLETE


# -- while the record waits for the disk


async def test_a_client_that_leaves_while_its_record_waits_is_recorded_once_and_as_gone() -> None:
    async with world(held=True) as w:
        client = await w.client(ASK_WHOLE)
        await w.engine.asked()
        w.engine.answers(whole())
        await w.recorded()
        client.leaves()
        assert await w.ended() is UsageCause.CLIENT_GONE
        w.meter.let_durable()
        assert w.record.cause is UsageCause.COMPLETE, "it is what was made; its end says why"
        assert w.port.stats.in_flight == 0
        other = await w.client(ASK_WHOLE)
        await w.engine.asked(2)
        w.engine.answers(whole())
        await w.recorded(2)
        w.meter.let_durable()
        await other.reads(b"\r\n\r\n")


async def test_neither_a_revoked_key_nor_a_stop_changes_an_answer_whose_record_waits() -> None:
    async with world(held=True) as w:
        client = await w.client(ASK_STREAM)
        await w.engine.asked()
        w.engine.begins(token("a"))
        w.engine.ends(end())
        await w.recorded()
        w.change(removes=tuple(w.port.gateway.state.view().keys.values()))
        assert w.port.gateway.running.cut_short(NoReplica("this site stops")) == 1
        w.meter.let_durable()
        assert b"[DONE]" in await client.reads(ENDED)
        assert await w.ended() is UsageCause.COMPLETE
        assert w.record.cause is UsageCause.COMPLETE


async def test_an_agent_that_is_killed_by_its_stop_while_a_record_waits_says_so() -> None:
    async with world(held=True) as w:
        client = await w.client(ASK_STREAM)
        await w.engine.asked()
        w.engine.begins(token("a"))
        w.engine.ends(end())
        await w.recorded()
        w.port.gateway.running.cut_short(NoReplica("this site stops"))
        for connection in list(w.port.server.connections.live):
            connection.abort()
        assert await w.ended() is UsageCause.CUT_SHORT
        client.leaves()


# -- what ends a stream before its time


async def test_client_gone_mid_stream_pays_for_what_was_made_until_then() -> None:
    async with world() as w:
        client = await w.client(ASK_STREAM)
        await w.engine.asked()
        w.engine.begins(token("a", 1), token("b", 2))
        await client.reads(b'"content":"b"}}]}\n\n\r\n')
        client.leaves()
        await w.recorded()
        await until(lambda: w.engine.cut_by_agent == 1, "the engine is cut")
        record = w.record
    assert counts(record) == (10, 4, 2, 6 * 10 + 2 * 10)
    assert record.cause is UsageCause.CLIENT_GONE
    assert not w.meter.ends, "nothing is to be said of a record that names its own cause"


async def test_client_gone_before_the_first_token_pays_nothing() -> None:
    async with world() as w:
        client = await w.client(ASK_STREAM)
        await w.engine.asked()
        client.leaves()
        await w.recorded()
        record = w.record
    assert counts(record) == (0, 0, 0, 0)
    assert (record.cause, record.billing_reason) == (UsageCause.CLIENT_GONE, BillingReason.FREE)


async def test_client_gone_from_an_engine_that_counts_at_the_end_only_pays_for_the_tokens_it_got():
    async with world() as w:
        client = await w.client(ASK_STREAM)
        await w.engine.asked()
        w.engine.begins(token("a"), token("b"))
        await client.reads(b'"content":"b"}}]}\n\n\r\n')
        client.leaves()
        await w.recorded()
        record = w.record
    assert counts(record) == (1, 0, 2, 30), "no engine has counted its prompt, which is a token"


async def test_engine_dead_mid_stream_is_billed_for_what_came_and_names_the_engine() -> None:
    async with world(held=True) as w:
        client = await w.client(ASK_STREAM)
        await w.engine.asked()
        w.engine.begins(token("a", 1), token("b", 2))
        await client.reads(b'"content":"b"}}]}\n\n\r\n')
        w.engine.dies()
        await w.recorded()
        await client.nothing()
        w.meter.let_durable()
        assert b"event: error" in await client.reads(ENDED)
        record = w.record
    assert counts(record) == (10, 4, 2, 80)
    assert record.cause is UsageCause.ENGINE_LOST


async def test_a_billed_token_reaches_its_client_though_the_stream_breaks_behind_it() -> None:
    """The event with the finish reason is kept back until the next one."""
    async with world() as w:
        client = await w.client(ASK_STREAM)
        await w.engine.asked()
        last = {"index": 0, "delta": {"content": "b"}, "finish_reason": "length"}
        usage = COUNTS | {"completion_tokens": 2}
        w.engine.begins(token("a", 1), data(choices=[last], usage=usage))
        await client.reads(b'"content":"a"}}]}\n\n\r\n')
        w.engine.dies()
        rest = await client.reads(ENDED)
        record = w.record
    assert rest.index(b'"content":"b"') < rest.index(b"event: error")
    assert counts(record) == (10, 4, 2, 80)
    assert record.cause is UsageCause.ENGINE_LOST


async def test_tokens_of_a_read_that_is_refused_are_not_billed() -> None:
    """Events before a malformed one in the same read do not reach the client."""
    async with world() as w:
        client = await w.client(ASK_STREAM)
        await w.engine.asked()
        w.engine.begins(token("a", 1))
        await client.reads(b'"content":"a"}}]}\n\n\r\n')
        w.engine.says(token("b", 2) + b"no event\n\n")
        rest = await client.reads(ENDED)
        record = w.record
    assert b"event: error" in rest
    assert b'"content":"b"' not in rest
    assert counts(record) == (10, 4, 1, 70)


def _key(view: FleetView) -> tuple[Resource, ...]:
    return tuple(view.keys.values())


def _deployment(view: FleetView) -> tuple[Resource, ...]:
    return tuple(view.deployments.values())


@pytest.mark.parametrize(
    ("row", "status"), [(_key, 401), (_deployment, 404)], ids=["key", "deployment"]
)
async def test_a_key_or_deployment_revoked_mid_stream_ends_it_and_bills_what_was_made(
    row: Callable[[FleetView], tuple[Resource, ...]], status: int
) -> None:
    async with world() as w:
        client = await w.client(ASK_STREAM)
        await w.engine.asked()
        w.engine.begins(token("a", 1), token("b", 2))
        await client.reads(b'"content":"b"}}]}\n\n\r\n')
        w.change(removes=row(w.port.gateway.state.view()))
        assert b"event: error" in await client.reads(ENDED)
        record = w.record
    assert counts(record) == (10, 4, 2, 80)
    assert (record.cause, record.status) == (UsageCause.REVOKED, status)


async def test_account_suspended_mid_stream_lets_the_stream_run_to_its_end() -> None:
    async with world() as w:
        client = await w.client(ASK_STREAM)
        await w.engine.asked()
        w.engine.begins(token("a", 1))
        w.change(upserts=(Account("acme", state=AccountState.SUSPENDED),))
        w.engine.ends(token("b", 2) + end())
        assert b"[DONE]" in await client.reads(ENDED)
        assert await w.ended() is UsageCause.COMPLETE
        assert counts(w.record) == (10, 4, 3, COST_NANO_USD)


async def test_price_card_changed_mid_stream_changes_neither_the_chunk_nor_the_record() -> None:
    async with world() as w:
        client = await w.client(ASK_USAGE)
        await w.engine.asked()
        w.engine.begins(token("a"))
        dearer = replace(price(Tier.CENTRAL, 1_000), card_version=2)
        w.change(upserts=(dearer, CardTerms(2, standard_percent=50)))
        w.engine.ends(end())
        await client.reads(ENDED)
        assert b'"cost_usd":0.000000090' in client.got
        next_one = await w.client(ASK_WHOLE)
        await w.engine.asked(2)
        w.engine.answers(whole())
        await next_one.reads(b"x-edgeforge-cost-usd: 0.000013500\r\n")
        before, after = w.meter.records
    assert (before.nano_usd, before.card_version) == (COST_NANO_USD, 1)
    assert (after.nano_usd, after.card_version) == (9 * 1_500, 2)


async def test_agent_stopped_mid_stream_cuts_it_short_and_bills_what_was_made() -> None:
    async with world() as w:
        client = await w.client(ASK_STREAM)
        await w.engine.asked()
        w.engine.begins(token("a", 1))
        await client.reads(b'"content":"a"}}]}\n\n\r\n')
        w.port.gateway.running.cut_short(NoReplica("this site stops"))
        assert b"event: error" in await client.reads(ENDED)
        record = w.record
    assert counts(record) == (10, 4, 1, 70)
    assert record.cause is UsageCause.CUT_SHORT


async def test_a_client_that_reads_nothing_and_leaves_has_not_seen_its_answer() -> None:
    async with world() as w:
        client = await w.client(ASK_WHOLE)
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await w.engine.asked()
        w.engine.answers(whole("y" * 20_000_000))
        await w.recorded()
        (connection,) = w.port.server.connections.live
        transport = connection.transport
        assert transport is not None
        await until(lambda: transport.get_write_buffer_size() > 0, "the end waits in memory")
        await until(lambda: len(connection.deadlines) > 0, "it is looked at again")
        assert not w.meter.ends
        client.leaves()
        assert await w.ended() is UsageCause.CLIENT_GONE


# -- what costs nothing


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("completion_tokens", [0, 1])
async def test_an_empty_answer_costs_nothing_and_says_so(
    completion_tokens: int, stream: bool
) -> None:
    nothing = COUNTS | {"completion_tokens": completion_tokens}
    async with world() as w:
        client = await w.client(ASK_USAGE if stream else ASK_WHOLE)
        await w.engine.asked()
        if stream:
            w.engine.begins(token(""))
            w.engine.ends(end(nothing))
            await client.reads(ENDED)
            assert b'"cost_usd":0.000000000' in client.got
        else:
            w.engine.answers(whole("", nothing))
            await client.reads(b"x-edgeforge-cost-usd: 0.000000000\r\n")
        record = w.record
    assert counts(record) == (10, 4, completion_tokens, 0)
    assert (record.cause, record.billing_reason) == (UsageCause.EMPTY, BillingReason.FREE)
    assert record.prompt_nano_usd_per_token == record.completion_nano_usd_per_token == 0


@pytest.mark.parametrize("status", [400, 500])
async def test_a_failed_answer_costs_nothing_and_is_on_record(status: int) -> None:
    async with world() as w:
        client = await w.client(ASK_WHOLE)
        await w.engine.asked()
        w.engine.answers(b'{"error":{"message":"no"},"usage":{"prompt_tokens":9}}', status)
        assert str(status).encode() in await client.reads(b"\r\n\r\n")
        record = w.record
    assert counts(record) == (0, 0, 0, 0)
    assert (record.cause, record.status) == (UsageCause.FAILED, status)


# -- admission


async def test_a_full_disk_refuses_requests_visibly_and_they_resume_by_themselves() -> None:
    async with world() as w:
        w.meter.full = True
        client = await w.client(ASK_WHOLE)
        head = await client.reads(b"\r\n\r\n")
        assert b" 503 " in head.split(b"\r\n")[0]
        await client.reads(b"usage_storage_full")
        assert not w.engine.requests
        assert w.meter.shed_by == {("acme", "small", MODEL, SlaTier.STANDARD): 1}
        assert w.port.records.latest(1)[0].shed == "usage_storage_full"
        w.meter.full = False
        again = await w.client(ASK_WHOLE)
        await w.engine.asked()
        w.engine.answers(whole())
        await again.reads(b"a b c")
    assert len(w.meter.records) == 1


async def test_a_shed_request_is_counted_and_leaves_no_record() -> None:
    nobody = with_changes(table({"near": 20.0}), tuple(table({"near": 20.0}).nodes.values()), ())
    async with world(nobody) as w:
        client = await w.client(ASK_WHOLE)
        assert b" 503 " in (await client.reads(b"\r\n\r\n")).split(b"\r\n")[0]
        assert (w.meter.records, len(w.meter.shed_by)) == ([], 1)


@pytest.mark.parametrize("body", [b"{", b'{"model":"other"}', b'{"model":"small","n":99}'])
async def test_what_is_not_admitted_leaves_no_record(body: bytes) -> None:
    async with world() as w:
        client = await w.client(chat_request(body))
        await client.reads(b"\r\n\r\n")
        assert (w.meter.records, w.meter.shed_by) == ([], {})


# -- the serving agent's own count


@pytest.mark.parametrize(("served", "differed"), [(b"3", 0), (b"4", 1)])
async def test_a_peers_own_count_agrees_with_the_record_or_is_reported(
    served: bytes, differed: int
) -> None:
    meter = KeptMeter()
    async with (
        stepwise_engine() as far,
        in_process_gateway({"far": far.pool}, table({"far": 20.0}), meter=meter) as port,
    ):
        _, writer = await port.server.connect()
        writer.write(ASK_STREAM)
        await far.asked()
        far.begins(token("a"))
        far.says(end())
        far.ends(trailers=b"x-edgeforge-served: prompt=10;cached=4;completion=" + served)
        await until(lambda: len(meter.records) == 1, "the record is written")
        told = port.gateway.served
        writer.close()
    assert counts(meter.records[0]) == (10, 4, 3, COST_NANO_USD)
    assert (told.agreed, told.differed) == (1 - differed, differed)
    if differed:
        trace_id = meter.records[0].trace_id
        assert told.status(0.0)["counts_compared"]["nodes"]["far"]["trace_id"] == trace_id


# -- surcharges and words


async def test_surcharges_of_the_sla_tier_and_of_residency_are_in_header_and_record() -> None:
    bound = deployment(sla_tier=SlaTier.REALTIME, zones=("EU", "BR"))
    terms = CardTerms(1, realtime_percent=50, residency_percent=10)
    view = with_changes(table({"near": 20.0}, bound), (), (terms,))
    zone = view.pops["NEAR"].zone
    bound = replace(bound, residency_zones=(zone, "AA"))
    async with world(with_changes(view, (), (bound,))) as w:
        client = await w.client(ASK_WHOLE)
        await w.engine.asked()
        w.engine.answers(whole())
        await client.reads(b"x-edgeforge-cost-usd: 0.000000144\r\n")
        record = w.record
    assert (record.nano_usd, record.prompt_nano_usd_per_token) == (9 * 16, 16)
    assert record.zones == tuple(sorted(("AA", zone)))


@pytest.mark.parametrize(
    ("sla_tier", "word"), [(SlaTier.STANDARD, "default"), (SlaTier.REALTIME, "priority")]
)
async def test_a_service_tier_is_noted_answered_and_kept_from_the_engine(
    sla_tier: SlaTier, word: str
) -> None:
    view = table({"near": 20.0}, deployment(sla_tier=sla_tier))
    asked = b'{"model":"small","service_tier":"flex","messages":[]%b}'
    async with world(view) as w:
        client = await w.client(chat_request(asked % b""))
        await w.engine.asked()
        w.engine.answers(whole())
        await client.reads(b'"service_tier":"' + word.encode() + b'"')
        stream = await w.client(chat_request(asked % b',"stream":true'))
        await w.engine.asked(2)
        w.engine.begins(token("a"))
        w.engine.ends(end())
        await stream.reads(ENDED)
        assert stream.got.count(b'"service_tier":"' + word.encode() + b'"}') == 1
        await w.recorded(2)
    assert [record.service_tier for record in w.meter.records] == ["flex", "flex"]
    assert all("service_tier" not in request for request in w.engine.requests)


def choice(index: int, text: str, completion_tokens: int) -> bytes:
    """Return a token of one of several choices, which vLLM counts each by itself."""
    counted = {"prompt_tokens": 10, "completion_tokens": completion_tokens}
    return data(choices=[{"index": index, "delta": {"content": text}}], usage=counted)


@pytest.mark.parametrize("ends", [False, True], ids=["cut", "to its end"])
async def test_of_a_stream_of_several_answers_each_is_billed_wherever_it_is_cut(ends: bool) -> None:
    ask = chat_request(b'{"model":"small","stream":true,"n":3,"messages":[]}')
    async with world() as w:
        client = await w.client(ask)
        await w.engine.asked()
        w.engine.begins(*(choice(one, f"t{one}", 20 + one) for one in range(3)))
        await client.reads(b't2"')
        if ends:
            w.engine.ends(end({"prompt_tokens": 10, "completion_tokens": 66}))
            await client.reads(ENDED)
        else:
            client.leaves()
        await w.recorded()
        record = w.record
    assert (record.prompt_tokens, record.completion_tokens) == (10, 66 if ends else 63)
    assert record.nano_usd > 0


@pytest.mark.parametrize(
    "chosen",
    [b'"logprobs":true,"top_logprobs":5', b'"allowed_token_ids":[2]', b'"stop":["a"]'],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_an_answer_that_its_client_chose_to_be_empty_is_billed(
    chosen: bytes, stream: bool
) -> None:
    ask = b'{"model":"small","stream":%s,"messages":[],%s}'
    counted = COUNTS | {"completion_tokens": 1}
    async with world() as w:
        client = await w.client(chat_request(ask % (b"true" if stream else b"false", chosen)))
        await w.engine.asked()
        if stream:
            w.engine.begins(token(""))
            w.engine.ends(end(counted))
            await client.reads(ENDED)
        else:
            w.engine.answers(whole("", counted))
            await client.reads(b"x-edgeforge-cost-usd: 0.000000070\r\n")
        await w.recorded()
        record = w.record
    assert (record.cause, record.nano_usd) == (UsageCause.COMPLETE, 6 * 10 + 10)


async def test_a_prompt_that_is_told_with_its_probabilities_is_billed_without_a_token() -> None:
    ask = chat_request(b'{"model":"small","prompt_logprobs":1,"max_tokens":1,"messages":[]}')
    async with world() as w:
        client = await w.client(ask)
        await w.engine.asked()
        w.engine.answers(whole("", COUNTS | {"completion_tokens": 0}))
        await client.reads(b"x-edgeforge-cost-usd: 0.000000060\r\n")
        await w.recorded()
        record = w.record
    assert (record.cause, record.nano_usd) == (UsageCause.COMPLETE, 6 * 10)


async def test_a_client_that_leaves_before_the_only_count_pays_for_the_least_of_its_prompt() -> (
    None
):
    text = b"x" * 8_000
    body = b'{"model":"small","stream":true,"input":"%s"}' % text
    ask = chat_request(body).replace(b"/v1/chat/completions", b"/v1/responses", 1)
    begun = orjson.dumps({"type": "response.created", "response": {"model": "m", "usage": None}})
    said = orjson.dumps({"type": "response.output_text.delta", "delta": "yes"})
    async with world() as w:
        client = await w.client(ask)
        await w.engine.asked()
        w.engine.begins(
            b"event: response.created\ndata: " + begun + b"\n\n",
            b"event: response.output_text.delta\ndata: " + said + b"\n\n",
        )
        await client.reads(b'"delta":"yes"')
        client.leaves()
        await w.recorded()
        record = w.record
        learned = w.port.gateway.state.prompt_tokens.estimate("small", len(body))
    assert counts(record) == (1_000, 0, 1, 1_001 * 10)
    assert learned > 1_000, "nothing is learned from what no engine has counted"
