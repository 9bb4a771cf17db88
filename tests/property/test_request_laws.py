"""Laws of one request's machine over random histories of targets, clients and clocks."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agent.core.request.messages import Rest
from agent.core.request.timing import RequestPolicy
from agent.core.request.usage import usage_record
from coordinator.core.usage_checks import KnownFleet
from protos.domain.errors import EngineFailed
from protos.domain.load_term import ColdPath, ColdWay
from protos.domain.resources import Residency, Tier
from protos.domain.usage_record import BillingReason, UsageCause
from tests.support.fleets import MODEL, deployment
from tests.support.request_world import COLD_START, KEY, RequestWorld, fleet

NODES = {"near": 20.0, "far": 60.0, "last": 90.0}
HAPPENINGS = (
    *("token", "progress", "stream_ends", "lost", "refused", "failed", "mistake", "not_sent"),
    *("wait", "gone", "node_removed", "key_revoked"),
    *("resident", "found", "not_loaded", "stale", "evicted"),
)
rests = st.sampled_from(list(Rest))
steps = st.tuples(
    st.sampled_from(HAPPENINGS),
    st.integers(0, 2),
    st.sampled_from([0.0, 1.0, 30.0, 400.0, 6_000.0, 130_000.0]),
    rests,
    st.booleans(),
)


class History:
    """Gives the machine events that can happen to a running attempt, and keeps its commands."""

    def __init__(
        self,
        *,
        stream: bool,
        strict: bool,
        known: bool,
        budget_ms: float,
        pins: frozenset[str] | None = None,
        cold: bool = False,
        tiers: dict[str, Tier] | None = None,
    ) -> None:
        self.pins = pins
        policy = RequestPolicy(max_wait_ms=1_000_000.0)
        self.world = world = RequestWorld(
            fleet(NODES, tiers),
            of=deployment(strict=strict, pins=pins),
            stream=stream,
            budget_ms=budget_ms,
            hedge_ratio=1.0,
            explore_ratio=1.0,
            policy=policy,
        )
        self.stream = stream
        self.running: list[str] = []
        #: Those of them that wait for a load.
        self.loading: set[str] = set()
        if cold:
            world.own_engines.resident = lambda _name: False
            world.own_engines.loadable[MODEL] = ColdWay(ColdPath.ADAPTER, Residency.DISK)
        self.headed: str | None = None
        self.heads = self.ends = self.beats = self.loads = self.accounts = 0
        self.before_end: list[str] = []
        if known:
            for name, ms in NODES.items():
                world.learned(name, ms)
        self._take(world.begin())

    def step(self, what: str, whom: int, ms: float, rest: Rest, stalled: bool) -> None:
        world = self.world
        if what == "wait":
            self._take(world.wait(ms, stalled=stalled, rest=rest if self.headed else Rest.UNKNOWN))
            return
        if what == "gone":
            self._take(world.gone(ms))
            return
        if what == "key_revoked":
            if whom == 2:  # rarely, because nothing happens after it
                self._take(world.table_changes(KEY, after_ms=ms))
            return
        if what == "evicted":
            world.own_engines.there.clear()
            return
        if not self.running:
            return
        name = self.running[whom % len(self.running)]
        attempt = world.attempts[name]
        answering = self.headed == name
        if what == "node_removed":
            if name in world.table.nodes:
                left = rest if self.headed else Rest.UNKNOWN
                self._take(world.node_removed(name, ms, rest=left))
        elif name in self.loading:
            self._loaded(what, name, ms)
        elif what in ("resident", "found", "not_loaded"):
            return
        elif what == "stale":
            if name != "near" and not answering and attempt.first_token_mono_ms is None:
                self._left(name)
                self._take(world.stale(name))
        elif what == "progress":
            self._take(world.progress(name, ms))
        elif what == "token":
            if self.stream and attempt.first_token_mono_ms is None and attempt.resumes is None:
                self._take(world.token(name, ms))
        elif what == "stream_ends":
            if answering:
                self._left(name)
                self._take(world.stream_ends(name, ms))
        elif what == "lost":
            self._left(name)
            status, left = (200, rest) if answering else (0, Rest.UNKNOWN)
            self._take(world.lost(name, ms, status=status, rest=left))
        elif what == "not_sent":
            if attempt.last_read_mono_ms < 0 and not attempt.first_token_mono_ms:
                self._left(name)
                self._take(world.not_sent(name, rest))
        elif not answering:
            self._left(name)
            status = {"refused": 503, "failed": 500, "mistake": 400}[what]
            self._take(world.whole(name, status, ms))

    def _loaded(self, what: str, name: str, ms: float) -> None:
        if what == "not_loaded":
            self._left(name)
            self._take(self.world.not_loaded(name, EngineFailed("no slot"), ms))
        elif what in ("resident", "found"):
            self._left(name)
            cold_start = None if what == "found" else COLD_START
            self._take(self.world.resident(name, ms, cold_start))

    def _left(self, name: str) -> None:
        self.running.remove(name)
        self.loading.discard(name)

    def _take(self, said: list[str]) -> None:
        for command in said:
            assert not self.ends, f"{command} after the end"
            word, _, rest = command.partition(" ")
            if word == "load":
                name = rest.removeprefix("at ")
                assert name == "near", "a load at another node"
                assert name not in self.running, "asked twice at once"
                self.running.append(name)
                self.loading.add(name)
                self.loads += 1
            elif word == "ask":
                name, _, purpose = rest.partition(" ")
                assert name not in self.running, "asked twice at once"
                assert self.pins is None or name in self.pins, "asked outside the pins"
                self.running.append(name)
                if purpose == "(rest)":
                    assert self.headed is not None
                    self.headed = name
            elif word == "cancel":
                self._left(rest)
            elif word == "head":
                self.heads += 1
                assert self.running == [rest], "another attempt runs beside the answer"
                self.headed = rest
            elif word == "account":
                self.accounts += 1
            elif word == "heartbeat":
                assert self.stream
                self.beats += 1
            elif word in ("end", "respond", "error", "cut"):
                if command.startswith("error event"):
                    assert self.heads or self.beats, "an event before any head"
                elif word in ("respond", "error"):
                    assert self.heads + self.beats == 0, "a response behind a head"
                elif word == "end":
                    assert "account" in self.before_end, "the end before what must be durable"
                self.ends += 1
            self.before_end.append(command)
        if self.world.machine.over:
            self.check_over()

    def check_over(self) -> None:
        world = self.world
        assert not self.running, "an attempt outlives its request"
        assert all(not world.state.live.in_flight(name) for name in NODES)
        assert world.state.engine_door.serving == 0
        assert not +world.own_engines.entered, "what it used is kept for ever"
        assert self.heads <= 1
        assert self.ends == 1 or world.log.client_gone
        assert self.accounts == (not world.log.shed), "one record of each request that is not shed"
        if self.accounts:
            self.check_record()
        assert len(world.log.attempts) == len(world.log.placements)
        if not self.loads:
            asked = [command for command in self.before_end if command.startswith("ask")]
            assert len(world.log.attempts) == len(asked)

    def check_record(self) -> None:
        """Its sums, and that nothing which failed or was replaced makes it dearer."""
        log, context = self.world.log, self.world.context
        record = usage_record(log, context, "NEAR", 0.0)
        known = KnownFleet()
        known.observe(context.view)
        assert known.problem(record, "near") == "", "the coordinator would set it aside"
        fresh_tokens = record.prompt_tokens - record.cached_tokens
        assert record.nano_usd == (
            fresh_tokens * record.prompt_nano_usd_per_token
            + record.cached_tokens * record.cached_nano_usd_per_token
            + record.completion_tokens * record.completion_nano_usd_per_token
        )
        assert (record.billing_reason is BillingReason.FREE) == (record.nano_usd == 0)
        if record.cause in (UsageCause.EMPTY, UsageCause.FAILED):
            assert record.nano_usd == 0
        if record.tier_billed is None or record.tier_served is None:
            return
        served, billed = context.price(record.tier_served), context.price(record.tier_billed)
        assert served is not None
        assert billed is not None
        first = self.world.first_placement
        assert first is not None
        promised = context.price(first.billing_tier)
        assert promised is not None
        rate_nano_usd = billed.completion_nano_usd_per_token
        assert rate_nano_usd <= served.completion_nano_usd_per_token
        assert rate_nano_usd <= promised.completion_nano_usd_per_token
        if record.billing_reason is BillingReason.CHEAPEST:
            assert record.tier_billed is record.tier_served


@given(
    st.tuples(*[st.sampled_from(list(Tier))] * 3),
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.sampled_from([5.0, 70.0, 500.0]),
    st.lists(steps, max_size=20),
)
def test_whatever_is_replaced_hedged_explored_or_continued_nobody_pays_more_than_was_promised(
    tiers, stream, known, cold, budget_ms, happenings
):
    history = History(
        stream=stream,
        strict=False,
        known=known,
        budget_ms=budget_ms,
        cold=cold,
        tiers=dict(zip(NODES, tiers, strict=True)),
    )
    for happening in happenings:
        if history.world.machine.over:
            break
        history.step(*happening)
    if not history.world.machine.over:
        history.step("gone", 0, 0.0, Rest.UNKNOWN, False)


@given(
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.sampled_from([5.0, 70.0, 500.0]),
    st.lists(steps, max_size=30),
)
def test_one_answer_one_end_and_no_load_left(stream, strict, known, cold, budget_ms, happenings):
    history = History(stream=stream, strict=strict, known=known, budget_ms=budget_ms, cold=cold)
    for happening in happenings:
        if history.world.machine.over:
            break
        history.step(*happening)
    if not history.world.machine.over:
        history.step("gone", 0, 0.0, Rest.UNKNOWN, False)
    assert history.world.machine.over


@given(
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.sampled_from([5.0, 500.0]),
    st.frozensets(st.sampled_from(sorted(NODES))),
    st.lists(steps, max_size=20),
)
def test_no_attempt_retry_second_copy_or_exploration_leaves_the_pins(
    stream, strict, known, budget_ms, pins, happenings
):
    history = History(stream=stream, strict=strict, known=known, budget_ms=budget_ms, pins=pins)
    for happening in happenings:
        if history.world.machine.over:
            return
        history.step(*happening)


@given(st.booleans(), st.lists(steps, max_size=12))
def test_a_request_without_an_answer_ends_after_the_longest_wait(known, happenings):
    """A target that never answers is given up after the longest wait."""
    history = History(stream=True, strict=False, known=known, budget_ms=500.0)
    for happening in happenings:
        if history.world.machine.over:
            return
        history.step(*happening)
    for _ in range(60):
        if history.world.machine.over:
            return
        history.step("wait", 0, 100_000.0, Rest.UNKNOWN, False)
    raise AssertionError("it waits for ever")
