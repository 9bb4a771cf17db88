"""The same model on IAD, which is cheaper, and on GRU; clients are GRU's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.fake_engine_process import FakeEngineProcess
from tests.support.fleet import AgentClient, Fleet
from tests.support.waiting import wait_until

MODEL = "twin"


@dataclass
class Twins:
    """A fleet of two replicas; ``iad`` is where GRU places a request while all is well."""

    fleet: Fleet
    iad: FakeEngineProcess
    gru: FakeEngineProcess

    @property
    def agent(self) -> AgentClient:
        return self.fleet.agent("gru-1")

    def chosen(self) -> str:
        """The node on which GRU would place a request now; empty if there is none."""
        return self.fleet.chosen(MODEL, "gru-1")

    def heal(self) -> None:
        """Reset both engines, and wait until IAD answers and is not ejected."""
        for engine in (self.iad, self.gru):
            engine.control()
        wait_until(self._both_may_serve, 30, "both to be candidates")
        wait_until(lambda: self.chosen() == "iad-1", 30, "iad-1 to be chosen")
        wait_until(self._iad_answers, 30, "iad-1 to answer")
        for engine in (self.iad, self.gru):
            engine.forget()

    def _both_may_serve(self) -> bool:
        candidates = self.fleet.explain(MODEL, "gru-1", budget_ms=10_000.0)
        return {"iad-1", "gru-1"} <= {str(one["node_id"]) for one in candidates if one.get("fits")}

    def _iad_answers(self) -> bool:
        return self.agent.chat().headers.get("x-edgeforge-node") == "iad-1"

    def outcomes(self) -> list[tuple[str, str]]:
        """Node and outcome of every attempt at the last request."""
        attempts = self.agent.last_request()["attempts"]
        return [(one["node_id"], one["outcome"]) for one in attempts]


def generations(engine: FakeEngineProcess) -> list[dict[str, Any]]:
    """Every generation that ``engine`` was asked for."""
    return [one for one in engine.requests() if one["method"] == "POST"]


@contextmanager
def twin_fleet(folder: Path, *, idle_ms: float = 0, **router: object) -> Iterator[Twins]:
    """Start the twins; ``router`` are keys of GRU's ``[router]``.

    ``idle_ms``: how long GRU lets a stream be silent, when not as long as by default.
    """
    with (
        FakeEngineProcess(MODEL) as iad,
        FakeEngineProcess(MODEL) as gru,
        Fleet(folder, [iad.url, gru.url]) as fleet,
    ):
        if router:
            fleet.configure("gru-1", "router", **router)
        if idle_ms:
            fleet.configure("gru-1", "limits", stream_idle_timeout_ms=idle_ms)
        twins = Twins(fleet, iad, gru)
        twins.heal()
        yield twins
