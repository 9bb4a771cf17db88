"""One request's machine on a fleet of a few nodes, with a clock and commands as words.

Makes no decisions: gives the machine events and prints its commands.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from agent.core.cold_start import ColdPath, ColdStart
from agent.core.coverage import Coverage
from agent.core.engine_admission import EngineAdmission
from agent.core.engine_door import EngineDoor
from agent.core.exploration import Exploration
from agent.core.fill import FillMeter
from agent.core.half_open import HalfOpenTargets
from agent.core.hedging import HedgeBudget
from agent.core.live import LiveState
from agent.core.peer_load import PeerLoad
from agent.core.prefixes import NO_BLOCKS, PrefixMemory
from agent.core.prompt_tokens import PromptTokens
from agent.core.request import messages as m
from agent.core.request.attempt import Attempt
from agent.core.request.context import RequestContext
from agent.core.request.log import RequestLog
from agent.core.request.machine import RequestMachine
from agent.core.request.state import RouterState
from agent.core.request.timing import RequestPolicy
from protos.domain.customers import Account, ApiKey
from protos.domain.errors import EdgeForgeError
from protos.domain.fleet_view import FleetView, with_changes
from protos.domain.load_term import ColdWay
from protos.domain.predictor import Outcome, Predictor
from protos.domain.pricing import Usage
from protos.domain.regimes import Load
from protos.domain.resources import Deployment, Residency, Resource, Tier
from protos.domain.router import Placement
from tests.support.fleets import MODEL, deployment, model, node, pop, price, profile, replica, view
from tests.support.own_engines import StandInEngines

USAGE = Usage(10, 0, 20)
KEY = ApiKey("k1", b"k", "acme", (), 0)
#: A load of one second, of which 300 ms were a pull.
COLD_START = ColdStart(ColdPath.ADAPTER, Residency.PEER, 1_000_000, 1_000.0, 300.0)
#: How long a first token takes at each node, in ms.
ONE = {"near": 20.0}
TWO = {"near": 20.0, "far": 60.0}
THREE = {"near": 20.0, "far": 60.0, "last": 90.0}
#: Without heartbeats, so that transcripts show only asked and cut attempts.
QUIET = RequestPolicy(heartbeat_ms=0.0)
MINUTE_MS = 60_000.0


def fleet(first_token_ms: dict[str, float], tiers: dict[str, Tier] | None = None) -> FleetView:
    """One POP and one node for each name; all central at one price unless ``tiers`` says else."""
    rows: list[Resource] = [KEY, Account("acme"), deployment()]
    rows += [model(), price(Tier.CENTRAL, 10), price(Tier.REGIONAL, 11), price(Tier.EDGE, 12)]
    for name, ms in first_token_ms.items():
        tier = (tiers or {}).get(name, Tier.CENTRAL)
        rows += [pop(name.upper(), tier), node(name, name.upper()), replica(name, ms)]
    return view(*rows)


class RequestWorld:
    """``near`` is the agent's own node unless ``node_id`` says otherwise."""

    def __init__(
        self,
        table: FleetView,
        *,
        of: Deployment | None = None,
        budget_ms: float = 500.0,
        stream: bool = True,
        node_id: str = "near",
        policy: RequestPolicy | None = None,
        hedge_ratio: float = 0.0,
        explore_ratio: float = 0.0,
        max_waiting: int = 100,
    ) -> None:
        self.now = 1_000.0
        self._of = of or deployment()
        #: As admitted: the table has the deployment that is asked for.
        self.table = table = with_changes(table, (), (self._of,))
        self.own_engines = StandInEngines()
        self.state = RouterState(
            node_id=node_id,
            view=lambda: self.table,
            own_engines=self.own_engines,
            is_warm=lambda node_id: True,
            draw=lambda: 0.0,
            live=LiveState(),
            engine_door=EngineDoor(EngineAdmission(4, max_waiting=max_waiting)),
            prefixes=PrefixMemory(),
            predictor=Predictor(),
            coverage=Coverage(),
            prompt_tokens=PromptTokens(),
            hedges=HedgeBudget(hedge_ratio),
            exploration=Exploration(explore_ratio),
            half_open=HalfOpenTargets(),
            own_fill=FillMeter(400.0),
            edge_fill_ratio=0.0,
        )
        self._budget_ms = budget_ms
        self._stream = stream
        self._policy = policy or RequestPolicy()
        self.attempts: dict[str, Attempt] = {}
        #: Where the request was placed first.
        self.first_placement: Placement | None = None
        self.log = RequestLog("t", 0, "/v1/chat/completions", self.now)
        for name in table.nodes:
            for _ in range(4):
                self.state.live.probed(name, 1.0, self.now)

    def learned(self, name: str, took_ms: float, count: int = 60) -> None:
        """Let ``count`` outcomes have shown that a first token takes ``took_ms`` there."""
        for number in range(count):
            outcome = Outcome(Load(10.0), 1.0, took_ms, self.now - count + number)
            self.state.predictor.learn(name, MODEL, profile(took_ms), outcome)

    def begin(
        self,
        account: str = "acme",
        *,
        sequences: int = 1,
        zones: frozenset[str] | None = None,
        key_digest: bytes = KEY.digest,
    ) -> list[str]:
        """Let the request begin; ``zones`` are those of its account, key and header."""
        self.context = RequestContext(
            view=self.table,
            account=account,
            key_digest=key_digest,
            deployment=self._of,
            stream=self._stream,
            embeds=False,
            needs_tool_parser=False,
            prompt_tokens=10,
            body_bytes=200,
            budget_ms=self._budget_ms,
            last_mile_ms=0.0,
            first_byte_mono_ms=self.now,
            zones=zones,
            blocks=NO_BLOCKS,
            sequences=sequences,
            key_id=KEY.id,
        )
        self.log = RequestLog("t", 0, "/v1/chat/completions", self.now)
        self.machine = RequestMachine(self.state, self.context, self._policy, self.log)
        return self._do(m.Begun())

    # -- events

    def token(self, name: str, after_ms: float = 0.0, load: PeerLoad | None = None) -> list[str]:
        """A first token comes from ``name``."""
        self.now += after_ms
        self.attempts[name].last_read_mono_ms = self.now
        return self._do(m.FirstToken(self.attempts[name], load))

    def progress(self, name: str, after_ms: float = 0.0) -> list[str]:
        """The engine at ``name`` generates something that is no token for the client."""
        self.now += after_ms
        self.attempts[name].last_read_mono_ms = self.now
        return self._do(m.EngineProgressed(self.attempts[name]))

    def read(self, name: str, after_ms: float = 0.0) -> None:
        """More of the answer comes from ``name``; no event for the machine."""
        self.now += after_ms
        self.attempts[name].last_read_mono_ms = self.now

    def stream_ends(self, name: str, after_ms: float = 0.0, usage: Usage = USAGE) -> list[str]:
        """The last event of the stream comes from ``name``."""
        self.now += after_ms
        return self._do(m.AttemptEnded(self.attempts[name], m.Ending.STREAM, 200, usage=usage))

    def whole(
        self, name: str, status: int = 200, after_ms: float = 0.0, usage: Usage | None = USAGE
    ) -> list[str]:
        """A whole response comes from ``name``."""
        self.now += after_ms
        usage = usage if status == 200 else None
        return self._do(m.AttemptEnded(self.attempts[name], m.Ending.WHOLE, status, usage=usage))

    def lost(
        self,
        name: str,
        after_ms: float = 0.0,
        *,
        status: int = 0,
        rest: m.Rest = m.Rest.UNKNOWN,
        reason: str = "connection refused",
    ) -> list[str]:
        """The connection to ``name`` fails."""
        self.now += after_ms
        ended = m.AttemptEnded(self.attempts[name], m.Ending.LOST, status, reason, USAGE)
        ended.rest = rest
        return self._do(ended)

    def resident(
        self, name: str, after_ms: float = 0.0, cold_start: ColdStart | None = COLD_START
    ) -> list[str]:
        """What the attempt at ``name`` asks for has been loaded there, or is found there."""
        self.now += after_ms
        self.own_engines.there |= {self._of.adapter or self._of.model}
        return self._do(m.BecameResident(self.attempts[name], cold_start))

    def not_loaded(self, name: str, error: EdgeForgeError, after_ms: float = 0.0) -> list[str]:
        """The load for the attempt at ``name`` failed."""
        self.now += after_ms
        return self._do(m.CouldNotLoad(self.attempts[name], error))

    def loaded_there(
        self,
        name: str,
        waited_ms: float,
        *,
        began: bool = True,
        after_ms: float = 0.0,
        cold_start: ColdStart = COLD_START,
    ) -> list[str]:
        """The head of the answer of ``name`` reports a cold start."""
        self.now += after_ms
        return self._do(m.LoadedThere(self.attempts[name], cold_start, waited_ms, began))

    def stale(self, name: str, way: ColdWay | None = None) -> list[str]:
        """``name`` refuses what is no longer in its engine."""
        ended = m.AttemptEnded(self.attempts[name], m.Ending.WHOLE, 409)
        ended.stale, ended.way = True, way
        return self._do(ended)

    def decided(self, name: str, after_ms: float = 0.0) -> list[str]:
        """The place of the attempt at ``name`` was given or refused."""
        self.now += after_ms
        return self._do(m.PlaceDecided(self.attempts[name]))

    def not_sent(self, name: str, rest: m.Rest = m.Rest.UNKNOWN) -> list[str]:
        """``name`` cannot be asked any more."""
        return self._do(m.NotSent(self.attempts[name], "not ready", rest))

    def gone(self, after_ms: float = 0.0) -> list[str]:
        """The client leaves."""
        self.now += after_ms
        return self._do(m.ClientGone(USAGE))

    def wait(self, ms: float, *, stalled: bool = False, rest: m.Rest = m.Rest.UNKNOWN) -> list[str]:
        """Let ``ms`` pass; every deadline that comes due on the way is given to the machine."""
        until, done = self.now + ms, []
        while not self.machine.over and self.machine.next_deadline_mono_ms <= until:
            before = self.machine.next_deadline_mono_ms
            self.now = max(self.now, before)
            done += self._do(m.DeadlinePassed(stalled, USAGE, rest))
            assert self.machine.over or self.machine.next_deadline_mono_ms > before, "it spins"
        self.now = until
        return done

    def cut_short(self, error: EdgeForgeError, after_ms: float = 0.0) -> list[str]:
        """This agent ends the request."""
        self.now += after_ms
        return self._do(m.CutShort(error, USAGE))

    def table_changes(
        self, *removed: Resource, after_ms: float = 0.0, rest: m.Rest = m.Rest.UNKNOWN
    ) -> list[str]:
        """Rows leave the table, and the runner says so if the machine has something to do."""
        self.now += after_ms
        self.table = with_changes(self.table, removed, ())
        if not self.machine.is_revoked:
            return []
        return self._do(m.TableChanged(USAGE, None, rest))

    def table_becomes(self, table: FleetView, rest: m.Rest = m.Rest.UNKNOWN) -> list[str]:
        """Another table arrives, and the runner says so if the machine has something to do."""
        self.table = table
        if not self.machine.is_revoked:
            return []
        return self._do(m.TableChanged(USAGE, None, rest))

    def node_removed(
        self, name: str, after_ms: float = 0.0, rest: m.Rest = m.Rest.UNKNOWN
    ) -> list[str]:
        """An operator removes the node ``name``."""
        return self.table_changes(self.table.nodes[name], after_ms=after_ms, rest=rest)

    def abandon(self) -> list[str]:
        """The runner fails."""
        return self._do(m.Abandoned())

    # -- commands

    def _do(self, event: m.Event) -> list[str]:
        return list(self._words(self.machine.handle(event, self.now)))

    def _words(self, commands: Iterable[m.Command]) -> Iterable[str]:
        for command in commands:
            if isinstance(command, m.Ask | m.Hold | m.MakeResident):
                self.attempts[command.attempt.node_id] = command.attempt
                self.first_placement = self.first_placement or command.attempt.placement
            yield _WORDS[type(command)](command)


def outcomes(world: RequestWorld) -> list[tuple[str, str]]:
    """Return each attempt's node and how it ended, in the order of their ends."""
    return [(one.node_id, str(one.outcome)) for one in world.log.attempts]


def _error(error: object) -> str:
    return f"{getattr(error, 'http_status', 0)} {type(error).__name__}"


_WORDS: dict[type, Callable[..., str]] = {
    m.Ask: lambda c: (
        f"ask {c.attempt.node_id}"
        + ("" if c.attempt.purpose == "serve" else f" ({c.attempt.purpose})")
    ),
    m.MakeResident: lambda c: f"load at {c.attempt.node_id}",
    m.Hold: lambda c: f"hold {c.attempt.node_id}",
    m.Cancel: lambda c: f"cancel {c.attempt.node_id}",
    m.WriteHead: lambda c: f"head {c.attempt.node_id}",
    m.WriteHeartbeat: lambda c: "heartbeat",
    m.WriteEnd: lambda c: f"end {c.attempt.node_id}",
    m.RespondWhole: lambda c: f"respond {c.attempt.node_id}",
    m.RespondError: lambda c: f"error {_error(c.error)}",
    m.WriteErrorEvent: lambda c: f"error event {_error(c.error)}",
    m.CutClient: lambda c: "cut client",
    m.Account: lambda c: "account",
}
