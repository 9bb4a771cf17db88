"""The failures of one request so far, and the error its client gets when no target is left."""

from __future__ import annotations

from typing import TYPE_CHECKING

from protos.domain.errors import EngineFailed, NoReplica, Overloaded

if TYPE_CHECKING:
    from agent.core.attempts import Verdict
    from agent.core.request.messages import AttemptEnded
    from protos.domain.errors import EdgeForgeError


#: Why an attempt was refused for what else of its account waits at the target.
CROWDED = "too many requests of this account wait there"


class Failures:
    """The failures of one request's attempts, before its client saw a byte."""

    __slots__ = ("_last", "_not_loaded", "_retry_after_s", "_verdict", "suspects")

    def __init__(self) -> None:
        self._last: AttemptEnded | None = None
        self._verdict: Verdict | None = None
        self._not_loaded = ""
        #: The soonest retry of the targets where too much of the account waits.
        self._retry_after_s: float | None = None
        #: Nodes whose engines answered 5xx. Counted as their failure only after another engine has
        #: answered the same request; otherwise one bad request would eject every engine.
        self.suspects: list[str] = []

    def add(self, event: AttemptEnded, verdict: Verdict) -> None:
        """Add a failed attempt."""
        self._last, self._verdict = event, verdict
        if verdict.engine_error:
            self.suspects.append(event.attempt.node_id)

    def crowded(self, retry_after_s: float) -> None:
        """Add a target that refused the request only for what else of its account waits there."""
        known = self._retry_after_s
        self._retry_after_s = retry_after_s if known is None else min(known, retry_after_s)

    def not_loaded(self, why: str) -> None:
        """Add a target that could not load what was asked for."""
        self._not_loaded = why

    @property
    def engines_answer(self) -> AttemptEnded | None:
        """The 5xx of the last engine asked: more useful to the client than "no target left"."""
        verdict = self._verdict
        return self._last if verdict is not None and verdict.engine_error else None

    def error(self, deployment: str, no_replica: EdgeForgeError | None) -> EdgeForgeError:
        """Return the error for the client; ``no_replica`` is why no further target can be asked."""
        verdict = self._verdict
        if self._retry_after_s is not None and (verdict is None or not verdict.engine_error):
            return Overloaded(
                f"too many requests of this account wait for {deployment!r}",
                "send fewer at a time, or retry after the given time",
                retry_after_s=self._retry_after_s,
            )
        if self._not_loaded and (verdict is None or not verdict.engine_error):
            return _no_engine(deployment, self._not_loaded)
        if verdict is None:
            return no_replica or _no_engine(deployment, "none is ready")
        if verdict.engine_error:
            return EngineFailed(
                f"every engine that was asked failed; the last: {verdict.reason}",
                "try again",
                retry_after_s=1.0,
            )
        return _no_engine(deployment, verdict.reason)


def _no_engine(deployment: str, reason: str) -> NoReplica:
    return NoReplica(
        f"no engine can serve {deployment!r} now: {reason}",
        "try again in a moment",
        retry_after_s=1.0,
    )
