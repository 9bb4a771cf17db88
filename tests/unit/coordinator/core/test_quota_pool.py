"""One quota and the parts of it that agents hold."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from coordinator.core.quota_pool import CUT_OFF_PART_OF_MONEY, MOST_PART_OF_MONEY, QuotaPool
from protos.domain.quota import LeaseAsk, LeaseGrant, QuotaKind, QuotaName

END_MS = 11_000.0


class Pool:
    """A pool, and what each agent was granted last."""

    def __init__(self, kind: QuotaKind, capacity: int, *, full: bool = True) -> None:
        self.name = QuotaName(kind, "acme")
        self.pool = QuotaPool(self.name, capacity, 0.0, full=full)
        self.capacity = capacity

    def ask(
        self,
        agent: str,
        *,
        held: int = 0,
        in_use: int = 0,
        least: int = 0,
        need: int = 0,
        want: int = 0,
        cut_off: int = 0,
        now_ms: float = 0.0,
        settling: bool = False,
        nodes: int = 0,
        boot: str = "b",
    ) -> LeaseGrant:
        self.pool.advance(self.capacity, now_ms)
        ask = LeaseAsk(self.name, held, in_use, least, need or least, want, cut_off)
        ends_ms = now_ms + END_MS
        return self.pool.grant(
            f"{agent}/{boot}", agent, ask, ends_ms, settling=settling, nodes=nodes
        )


def test_a_lone_agent_gets_what_it_wants() -> None:
    pool = Pool(QuotaKind.SEQUENCES, 10)
    assert pool.ask("a", want=10).granted == 10


def test_a_newcomer_gets_a_first_share_of_what_is_left() -> None:
    pool = Pool(QuotaKind.SEQUENCES, 640)
    assert pool.ask("a", least=1, want=1).granted == 10
    assert pool.ask("b", least=1, want=1).granted == 10
    assert Pool(QuotaKind.REQUESTS, 320).ask("a", least=1, want=1).granted == 10


def test_what_an_agent_may_still_hold_is_nobody_elses_until_it_has_said_otherwise() -> None:
    pool = Pool(QuotaKind.SEQUENCES, 10)
    assert pool.ask("a", want=10).granted == 10
    assert pool.ask("b", least=1, want=10).granted == 0
    lowered = pool.ask("a", held=10, want=10).granted
    assert lowered < 10
    assert pool.ask("b", least=1, want=10).granted == 0, "the lower grant may be lost"
    pool.ask("a", held=lowered, want=10)
    assert pool.ask("b", least=1, want=10).granted == 10 - lowered


def test_what_is_too_little_for_the_request_that_waits_is_left_to_others() -> None:
    pool = Pool(QuotaKind.MONEY, 100)
    pool.ask("a", least=60, want=60)
    assert pool.ask("b", least=50, want=50).granted == 0
    assert pool.ask("c", least=40, want=40).granted == 40


def test_a_lease_ends_by_itself() -> None:
    pool = Pool(QuotaKind.SEQUENCES, 10)
    pool.ask("dead", want=10)
    assert pool.ask("b", least=1, want=10, now_ms=END_MS - 1.0).granted == 0
    assert pool.ask("b", least=1, want=10, now_ms=END_MS).granted == 10


def test_an_agent_can_claim_no_more_than_it_was_granted() -> None:
    pool = Pool(QuotaKind.SEQUENCES, 10)
    pool.ask("a", want=2)
    pool.ask("liar", held=10_000, want=1)
    assert pool.pool.held() <= 10
    assert pool.ask("a", held=2, least=3, want=3).granted == 3


def test_after_a_restart_claims_are_honoured_and_nothing_new_is_granted() -> None:
    pool = Pool(QuotaKind.SEQUENCES, 10, full=False)
    assert pool.ask("a", held=6, in_use=4, want=9, settling=True).granted == 6
    assert pool.ask("b", least=1, want=5, settling=True).granted == 0
    assert pool.ask("b", least=1, want=4).granted == 4


def test_after_a_restart_an_unknown_agent_gets_an_even_share_of_sequences_and_no_money() -> None:
    for kind, granted in ((QuotaKind.SEQUENCES, 4), (QuotaKind.MONEY, 0)):
        pool = Pool(kind, 40, full=False)
        assert pool.ask("a", least=1, want=9, settling=True, nodes=10).granted == granted
    pool = Pool(QuotaKind.SEQUENCES, 4, full=False)
    assert pool.ask("a", held=3, in_use=3, want=3, settling=True, nodes=3_000).granted == 3
    assert pool.ask("b", least=1, want=1, settling=True, nodes=3_000).granted == 1
    assert pool.ask("c", least=1, want=1, settling=True, nodes=3_000).granted == 0, "all is held"


def test_a_lowered_capacity_takes_what_is_not_in_use() -> None:
    pool = Pool(QuotaKind.MONEY, 1_000)
    pool.ask("a", least=500, want=500)
    pool.capacity = -200
    assert pool.ask("a", held=500, in_use=300, want=500).granted <= 300


def test_one_agent_gets_no_more_ahead_than_a_part_of_the_money() -> None:
    pool = Pool(QuotaKind.MONEY, 8_000)
    assert pool.ask("a", want=8_000).granted == 8_000 // MOST_PART_OF_MONEY
    assert pool.ask("b", least=500, need=6_000, want=6_000).granted == 6_000, "requests wait"


def test_the_cut_off_shares_of_money_are_a_part_of_what_nobody_holds_in_all() -> None:
    pool = Pool(QuotaKind.MONEY, 100_000)
    shares = [0] * 20
    for _ in range(3):
        for n in range(20):
            shares[n] = pool.ask(f"a{n}", held=100, want=100, cut_off=shares[n]).cut_off
    assert sum(shares) <= 100_000 // CUT_OFF_PART_OF_MONEY
    assert min(shares) >= 300


def test_a_cut_off_share_stays_counted_until_its_agent_is_back_or_runs_anew() -> None:
    pool = Pool(QuotaKind.MONEY, 100_000)
    lost = pool.ask("lost", want=1_000).cut_off
    assert lost == 9_843
    later = 2 * END_MS
    assert pool.ask("b", want=1_000, now_ms=later).cut_off < 1_000
    pool.ask("lost", want=1_000, now_ms=later, boot="again")
    pool.ask("lost", held=1_000, want=1_000, now_ms=later + 5_000.0, boot="again")
    pool.ask("b", held=1_000, want=1_000, now_ms=later + END_MS - 1.0)
    assert pool.ask("b", held=1_000, want=1_000, now_ms=later + END_MS).cut_off > 1_000


def test_a_rate_refills_by_its_limit_and_never_over_it() -> None:
    pool = Pool(QuotaKind.REQUESTS, 60)
    assert pool.ask("a", need=100, want=100).granted == 60
    assert pool.ask("a", held=0, least=1, want=60).granted == 0
    assert pool.ask("a", held=0, least=1, want=60, now_ms=1_000.0).granted == 1
    assert pool.ask("b", least=1, want=60, now_ms=3_600_000.0).granted == 60


def test_what_agents_hold_of_a_rate_is_not_refilled_beside_it() -> None:
    pool = Pool(QuotaKind.REQUESTS, 60)
    pool.ask("a", need=60, want=60)
    assert pool.ask("b", least=1, want=60, now_ms=5_000.0).granted == 0


def test_a_rate_is_shared_by_what_is_missing() -> None:
    pool, got = Pool(QuotaKind.REQUESTS, 600), {"a": 0, "b": 0}
    for second in range(1, 60):
        for agent, need in (("a", 300), ("b", 100)):
            granted = pool.ask(agent, need=need, want=need, now_ms=second * 1_000.0).granted
            got[agent] += granted if second > 10 else 0
    assert 2.5 <= got["a"] / got["b"] <= 3.5
    assert 450 <= got["a"] + got["b"] <= 500


def test_a_debt_is_paid_before_anything_is_granted() -> None:
    pool = Pool(QuotaKind.TOKENS, 600)
    assert pool.ask("a", held=-100, least=50, want=50).granted == 50
    assert pool.ask("b", least=600, want=600).granted == 450


def test_an_unused_pool_is_idle_once_it_is_full_again() -> None:
    pool = Pool(QuotaKind.REQUESTS, 60)
    pool.ask("a", need=60, want=60)
    assert not pool.pool.is_idle(END_MS - 1.0)
    assert not pool.pool.is_idle(END_MS)
    assert pool.pool.is_idle(END_MS + 60_000.0)


steps = st.lists(
    st.tuples(
        st.sampled_from("abc"),
        st.integers(0, 40),
        st.integers(0, 40),
        st.floats(0, 8_000),
        st.booleans(),
    ),
    max_size=60,
)


@given(st.integers(1, 50), steps)
def test_agents_in_contact_never_hold_more_than_the_capacity(
    capacity: int, acts: list[tuple[str, int, int, float, bool]]
) -> None:
    """Whether an answer arrives or not; each agent uses at random what it holds."""
    pool, now_ms = Pool(QuotaKind.SEQUENCES, capacity), 0.0
    holds = dict.fromkeys("abc", (0, 0, -1.0))  # granted, in use, end
    for agent, least, use, pause_ms, arrives in acts:
        now_ms += pause_ms
        granted, in_use, end_ms = holds[agent]
        if now_ms >= end_ms:
            granted = in_use = 0
        in_use = min(use, granted)
        got = pool.ask(
            agent, held=granted, in_use=in_use, least=least, want=least + 3, now_ms=now_ms
        )
        if arrives:
            granted, end_ms = got.granted, now_ms + END_MS - 1_000.0
        holds[agent] = (granted, in_use, end_ms)
        live = [max(had, used) for had, used, end in holds.values() if now_ms < end]
        assert sum(live) <= capacity
