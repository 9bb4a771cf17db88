"""Agents at one account's limits, a coordinator, and a network that loses, repeats and delays.

The machines are the product's; time is simulated. ``spent`` is what the law is checked by: the
records that the coordinator has counted, and those that it has not seen.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass, field

from agent.core.account_limits import AccountLimits, LeaseWanted, Use
from agent.core.money_leases import CostBound
from agent.core.quota_calls import QuotaCalls
from coordinator.core.quota_shares import QuotaShares
from protos.domain.customers import Account, ApiKey, UsageLimits
from protos.domain.errors import EdgeForgeError
from protos.domain.quota import LeaseAnswer, LeaseCall, QuotaKind, QuotaName

KEY = ApiKey("k1", b"k" * 32, "acme", (), 0)
TIMEOUT_MS = 2_000.0


@dataclass(eq=False)
class Request:
    use: Use
    nano_usd: int
    tokens: int


@dataclass(eq=False)
class SimAgent:
    """One run of one agent, with a clock of its own speed."""

    node_id: str
    limits: AccountLimits
    clock_ratio: float = 1.0
    offset_ms: float = 0.0
    cut: bool = False
    alive: bool = True
    running: list[Request] = field(default_factory=list)
    calling: LeaseCall | None = None
    called_ms: float = 0.0
    backoff_until_ms: float = 0.0
    records: int = 0
    counted: int = -1
    unsent: list[tuple[int, int]] = field(default_factory=list)
    refused: dict[str, int] = field(default_factory=dict)
    admitted: int = 0

    def now(self, now_ms: float) -> float:
        return self.offset_ms + now_ms * self.clock_ratio


class QuotaWorld:
    """``account`` at ``agents``; ``balance`` is what remains of its money by the ledger."""

    def __init__(
        self,
        agents: int,
        *,
        limits: UsageLimits | None = None,
        balance: int | None = None,
        seed: int = 1,
        latency_ms: tuple[float, float] = (1.0, 40.0),
        loss: float = 0.0,
        repeat: float = 0.0,
    ) -> None:
        self.random = random.Random(seed)
        self.account = Account("acme", limits or UsageLimits(), funded=balance is not None)
        self.balance = balance or 0
        self.start_balance = self.balance
        self.latency_ms = latency_ms
        self.loss = loss
        self.repeat = repeat
        self.now_ms = 0.0
        self._ids = itertools.count(1)
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self.nodes = agents
        self.shares: QuotaShares | None = QuotaShares(1, self.now_ms)
        self.agents = [self.agent(f"n{place}") for place in range(agents)]
        #: (time, amount) of everything admitted.
        self.requests: list[float] = []
        self.tokens: list[tuple[float, int]] = []
        self.most_running = 0
        self.spent = 0
        self.restarted = False

    def agent(self, node_id: str) -> SimAgent:
        boot = f"boot{next(self._ids)}"
        calls = QuotaCalls(boot)
        calls.linked = True
        limits = AccountLimits(calls)
        limits.nodes = self.nodes
        ratio = self.random.uniform(0.98, 1.02)
        return SimAgent(node_id, limits, ratio, offset_ms=self.random.uniform(0, 1e7))

    # -- faults --------------------------------------------------------------------------------

    def kill(self, agent: SimAgent) -> None:
        """The process ends at once; its spool is read by the next run."""
        agent.alive = False
        agent.running.clear()

    def restart(self, agent: SimAgent) -> SimAgent:
        """Start another run in the place of ``agent``; it ships what the spool holds."""
        self.kill(agent)
        again = self.agent(agent.node_id)
        self.agents[self.agents.index(agent)] = again
        for _, nano_usd in agent.unsent:
            self._later(500.0, lambda n=nano_usd: self._count(n))
        agent.unsent.clear()
        return again

    def restart_coordinator(self, down_ms: float = 0.0) -> None:
        self.shares, self.restarted = None, True

        def begin() -> None:
            self.shares = QuotaShares(next(self._ids) + 1_000, self.now_ms)

        self._later(down_ms, begin)

    # -- requests ------------------------------------------------------------------------------

    def ask(
        self,
        agent: SimAgent,
        *,
        bound: int = 0,
        cost: int = 0,
        sequences: int = 1,
        tokens: int = 10,
        takes_ms: float = 500.0,
    ) -> None:
        """A client's request at ``agent``; it waits for quota twice at most, as in the handler."""
        self._begin(agent, bound, cost, sequences, tokens, takes_ms, waits=2)

    def _begin(
        self,
        agent: SimAgent,
        bound: int,
        cost: int,
        sequences: int,
        tokens: int,
        takes_ms: float,
        *,
        waits: int,
    ) -> None:
        if not agent.alive:
            return
        money = CostBound(bound, 0, 1, 0) if self.account.funded else None
        try:
            agent.limits.check_head(self.account, agent.now(self.now_ms))
            use = agent.limits.begin(
                self.account,
                KEY,
                sequences,
                float(tokens),
                agent.now(self.now_ms),
                bound=money,
                may_wait=waits > 0,
            )
        except LeaseWanted:
            self._later(
                200.0,
                lambda: self._begin(
                    agent, bound, cost, sequences, tokens, takes_ms, waits=waits - 1
                ),
            )
            return
        except EdgeForgeError as error:
            code = error.code or type(error).__name__
            agent.refused[code] = agent.refused.get(code, 0) + 1
            return
        agent.admitted += 1
        if use is None:  # nothing limits it
            return
        self.requests.append(self.now_ms)
        self.tokens.append((self.now_ms, tokens))
        request = Request(use, cost, tokens)
        agent.running.append(request)
        self.most_running = max(self.most_running, self.running)
        self._later(takes_ms, lambda: self._end(agent, request))

    @property
    def running(self) -> int:
        return sum(len(one.running) for one in self.agents if one.alive)

    def _end(self, agent: SimAgent, request: Request) -> None:
        if not agent.alive or request not in agent.running:
            return
        agent.running.remove(request)
        if request.nano_usd:
            request.use.record = agent.records
            agent.records += 1
            agent.unsent.append((request.use.record, request.nano_usd))
            self.spent += request.nano_usd
        agent.limits.end(request.use, float(request.tokens), request.nano_usd)
        self._later(self.random.uniform(50.0, 1_500.0), lambda: self._ship(agent))

    def _ship(self, agent: SimAgent) -> None:
        """Ship records: the coordinator counts them, then the agent is told."""
        if agent.cut or not agent.alive or self.shares is None or not agent.unsent:
            return
        batch, agent.unsent = agent.unsent, []
        for _, nano_usd in batch:
            self._count(nano_usd)
        self._later(self._delay(), lambda: agent.limits.unsettled.counted(batch[-1][0]))

    def _count(self, nano_usd: int) -> None:
        self.balance -= nano_usd

    # -- calls ---------------------------------------------------------------------------------

    def _capacity_of(self, name: QuotaName) -> int | None:
        limits = self.account.limits
        amounts = {
            QuotaKind.REQUESTS: limits.requests_per_minute,
            QuotaKind.TOKENS: limits.tokens_per_minute,
            QuotaKind.SEQUENCES: limits.max_concurrent_sequences,
        }
        if name.kind is QuotaKind.MONEY:
            return self.balance if self.account.funded else None
        return amounts[name.kind] or None

    def _tick(self, agent: SimAgent) -> None:
        """Call if a call is due, as the link does."""
        if not agent.alive or self.now_ms < agent.backoff_until_ms:
            return
        if agent.calling is not None:
            if self.now_ms - agent.called_ms >= TIMEOUT_MS:
                agent.calling = None
                agent.limits.calls.failed()
                agent.backoff_until_ms = self.now_ms + self.random.uniform(50.0, 1_000.0)
            return
        calls = agent.limits.calls
        if calls.next_call_mono_ms() > agent.now(self.now_ms):
            return
        call = agent.calling = calls.call(agent.now(self.now_ms))
        agent.called_ms = self.now_ms
        for _ in range(1 + (self.random.random() < self.repeat)):
            if not agent.cut and self.random.random() >= self.loss:
                self._later(self._delay(), lambda: self._arrive(agent, call))

    def _arrive(self, agent: SimAgent, call: LeaseCall) -> None:
        if self.shares is None or agent.cut:
            return
        try:
            answer = self.shares.handle(
                agent.node_id,
                call,
                self._capacity_of,
                lambda name: self.restarted,
                self.now_ms,
                nodes=self.nodes,
            )
        except EdgeForgeError:
            return
        for _ in range(1 + (self.random.random() < self.repeat)):
            if self.random.random() >= self.loss:
                self._later(self._delay(), lambda: self._answered(agent, call, answer))

    def _answered(self, agent: SimAgent, call: LeaseCall, answer: LeaseAnswer) -> None:
        if agent.cut or not agent.alive or agent.calling is not call:
            return
        agent.calling = None
        agent.limits.calls.answered(answer, agent.now(self.now_ms))

    def _delay(self) -> float:
        # Some messages come so late that others overtake them.
        slow = 30.0 if self.random.random() < self.repeat else 1.0
        return self.random.uniform(*self.latency_ms) * slow

    # -- time ----------------------------------------------------------------------------------

    def _later(self, delay_ms: float, act: Callable[[], None]) -> None:
        heapq.heappush(self._events, (self.now_ms + delay_ms, next(self._ids), act))

    def run(self, until_ms: float, every: Callable[[], None] | None = None, step_ms: float = 20.0):
        """Let time pass; ``every`` is called each step, before the agents may call."""
        while self.now_ms < until_ms:
            self.now_ms += step_ms
            while self._events and self._events[0][0] <= self.now_ms:
                at_ms, _, act = heapq.heappop(self._events)
                now_ms, self.now_ms = self.now_ms, at_ms
                act()
                self.now_ms = now_ms
            if every is not None:
                every()
            for agent in list(self.agents):
                self._tick(agent)

    # -- laws ----------------------------------------------------------------------------------

    @property
    def exposed(self) -> int:
        """What is spent, and what running requests may still cost."""
        running = sum(
            request.use.amounts[3]
            for agent in self.agents
            if agent.alive
            for request in agent.running
        )
        return self.spent + running

    def most_in_a_minute(self, window_ms: float = 60_000.0) -> int:
        """Return the most requests that were admitted in any window."""
        most, begin = 0, 0
        for end, at_ms in enumerate(self.requests):
            while at_ms - self.requests[begin] >= window_ms:
                begin += 1
            most = max(most, end - begin + 1)
        return most
