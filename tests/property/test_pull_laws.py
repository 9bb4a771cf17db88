"""Laws of pulls, whatever sources do: budget, nothing twice, an end, and only verified pieces."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from agent.core.chunk_planner import Abandon, ChunkPlanner, PullPolicy, Rank
from agent.core.eviction import StoredObject, plan_eviction, used_bytes
from agent.core.pull_budget import PullBudget
from agent.core.token_bucket import TokenBucket

#: What a bad source does with a request.
BEHAVIOURS = ("good", "wrong", "fails", "stalls", "lies", "leaves", "slow")
PIECE = 10

bad_sources = st.lists(
    st.tuples(
        st.sampled_from([Rank.POP, Rank.ZONE]), st.lists(st.sampled_from(BEHAVIOURS), min_size=1)
    ),
    max_size=5,
)


class World:
    """Sources that misbehave as told, and one origin that is slow and fails at times."""

    def __init__(self, pieces: int, bad, most: int, bytes_per_s: int, seed: int) -> None:
        self.random = random.Random(seed)
        self.budget = PullBudget(bytes_per_s, 0.0, max_pieces=most)
        self.most = most
        self.planner = ChunkPlanner(
            [PIECE] * pieces,
            (1 << pieces) - 1,
            PullPolicy(),
            self.budget,
            self.random.randrange(pieces),
            0.0,
        )
        self.planner.own_share = self.random.getrandbits(pieces)
        self.scripts = {f"bad-{n}": list(script) for n, (_, script) in enumerate(bad)}
        self.ranks = {f"bad-{n}": rank for n, (rank, _) in enumerate(bad)}
        self.whole = (1 << pieces) - 1
        self.now = 0.0
        self.flying: dict[int, tuple[str, float, str]] = {}
        self.taken = self.accepted = 0
        self.first_taken: float | None = None

    def run(self) -> None:
        self.planner.source_found("origin", Rank.ORIGIN, self.whole)
        for _ in range(4_000):
            if self.planner.done:
                return
            for name, rank in self.ranks.items():
                if self.scripts[name]:
                    self.planner.source_found(name, rank, self.whole)
            self.command()
            deadline = self.planner.next_deadline_ms(self.now)
            ends = [at for _, at, _ in self.flying.values()]
            self.now = max(self.now, min([deadline, *ends]))
            self.land()
        raise AssertionError(f"no end: {self.planner}")

    def command(self) -> None:
        for command in self.planner.next_commands(self.now, self.random.random()):
            if isinstance(command, Abandon):
                source, _, _ = self.flying.pop(command.piece)
                assert source == command.source
                continue
            assert command.piece not in self.flying, "a piece is fetched twice at once"
            assert self.planner.missing >> command.piece & 1, "what is there is fetched again"
            self.taken += PIECE
            deed = self.deed(command.source)
            took = {"stalls": 1e12, "slow": 30_000.0}.get(deed, 20.0)
            self.flying[command.piece] = (command.source, self.now + took, deed)
        assert len(self.flying) <= self.most, "over the budget of memory"

    def deed(self, source: str) -> str:
        if source == "origin":
            return self.random.choice(["good", "good", "fails", "slow"])
        script = self.scripts[source]
        return script.pop(0) if script else "stalls"

    def land(self) -> None:
        for piece, (source, at, deed) in list(self.flying.items()):
            if at > self.now or piece not in self.flying:
                continue
            del self.flying[piece]
            if deed in ("good", "slow"):
                self.planner.arrived(piece, self.now)
                self.accepted |= 1 << piece
            elif deed == "wrong":
                self.planner.was_wrong(piece, self.now)
            elif deed == "lies":
                self.planner.not_there(piece)
            else:
                self.planner.failed(piece, self.now, self.random.random())
                if deed == "leaves":
                    self.scripts[source] = []
                    for abandoned in self.planner.source_lost(source):
                        del self.flying[abandoned.piece]


@settings(deadline=None, max_examples=150)
@given(
    st.integers(1, 24), bad_sources, st.integers(1, 6), st.sampled_from([0, 0, 500]), st.integers(0)
)
def test_a_pull_ends_within_its_budget_and_fetches_nothing_twice_at_once(
    pieces, bad, most, bytes_per_s, seed
) -> None:
    world = World(pieces, bad, most, bytes_per_s, seed)
    world.run()
    assert world.accepted == world.whole, "a piece counts that was not verified"
    if bytes_per_s:
        saved = max(bytes_per_s, 4 * 1024**2)
        assert world.taken <= saved + bytes_per_s * world.now / 1_000
    for piece in list(world.flying):
        world.planner.put_back(piece)
    assert world.budget.in_flight == 0


@given(
    st.floats(1, 1e6),
    st.lists(st.tuples(st.floats(0, 5_000), st.integers(1, 100_000)), max_size=50),
)
def test_a_bucket_never_gives_more_than_its_limit_and_what_was_saved(rate, asked) -> None:
    bucket = TokenBucket(rate, 1_000, 0.0)
    now = given_bytes = 0.0
    for pause, size in asked:
        now += pause
        if bucket.take(size, now):
            given_bytes += size
    assert given_bytes <= max(1_000, rate) + rate * now / 1_000 + 1e-3


objects = st.lists(
    st.builds(
        lambda files, used, pinned: (files, used, pinned),
        st.dictionaries(st.integers(0, 8), st.just(7), max_size=4),
        st.floats(0, 100),
        st.booleans(),
    ),
    max_size=6,
)


@given(objects, st.dictionaries(st.integers(0, 12), st.just(7), max_size=4), st.integers(0, 80))
def test_what_is_evicted_makes_room_is_not_pinned_and_is_needed(parts, incoming, room) -> None:
    stored = [
        StoredObject(str(n), {bytes([f]): size for f, size in files.items()}, used, pinned)
        for n, (files, used, pinned) in enumerate(parts)
    ]
    coming = {bytes([f]): size for f, size in incoming.items()}
    plan = plan_eviction(stored, coming, room)
    assert not any(one.pinned for one in stored if one.key in plan.keys)
    left = [one for one in stored if one.key not in plan.keys]
    after = used_bytes([*left, StoredObject("new", coming, 0.0)])
    if plan.short_bytes:
        assert plan.keys == ()
        pinned = [one for one in stored if one.pinned]
        assert used_bytes([*pinned, StoredObject("new", coming, 0.0)]) > room
    else:
        assert after <= room
