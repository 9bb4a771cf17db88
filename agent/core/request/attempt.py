"""One attempt of a request at one target, with its purpose and its state."""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from protos.domain.trace import MAX_TOKEN_TIMES, AttemptPurpose

if TYPE_CHECKING:
    from agent.core.cold_start import ColdStart
    from agent.core.engine_place import Place
    from agent.core.engine_status import EngineEndpoint
    from agent.core.half_open import HalfOpenTargets
    from protos.domain.pricing import Usage
    from protos.domain.resources import Deployment
    from protos.domain.router import Candidate, Placement

#: Receives the number of tokens of one read, and when it was (monotonic ms).
TokenCounter = Callable[[int, float], None]


class TokenTimes:
    """When each token of one answer came, up to ``MAX_TOKEN_TIMES``."""

    __slots__ = ("also", "left_out", "times_mono_ms")

    def __init__(self, also: TokenCounter | None) -> None:
        self.times_mono_ms = array("d")
        self.left_out = 0
        #: Called with each read's tokens too.
        self.also = also

    def last_mono_ms(self, now_mono_ms: float) -> float:
        """Return when the last token came; ``now_mono_ms`` if its time was not kept."""
        times = self.times_mono_ms
        return times[-1] if times and not self.left_out else now_mono_ms

    def count(self, tokens: int, now_mono_ms: float) -> None:
        """Record ``tokens`` that came with one read. Hot."""
        times = self.times_mono_ms
        if tokens == 1 and len(times) < MAX_TOKEN_TIMES:
            times.append(now_mono_ms)
        elif tokens > 0:
            kept = min(tokens, MAX_TOKEN_TIMES - len(times))
            times.extend([now_mono_ms] * kept)
            self.left_out += tokens - kept
        if self.also is not None:
            self.also(tokens, now_mono_ms)


@dataclass(frozen=True, slots=True)
class Finding:
    """What an exploring or trial attempt measures of its target, and how long it may take.

    ``trial`` is the half-open target that a strict deployment's request tries, else None.
    """

    purpose: AttemptPurpose
    patience_ms: float
    deadline_mono_ms: float
    half_open: HalfOpenTargets
    trial: Candidate | None = None

    def ended(self, first_token_mono_ms: float | None, now_mono_ms: float) -> None:
        """Take the result: when the first token came, or None if none will come."""
        if self.trial is not None:
            in_time = (
                first_token_mono_ms is not None and first_token_mono_ms <= self.deadline_mono_ms
            )
            self.half_open.ended(self.trial, now_mono_ms, in_time=in_time)


class Attempt:
    """One attempt. The runner writes ``last_read_mono_ms`` and ``io``, the machine all else."""

    __slots__ = (
        "began_mono_ms",
        "budget_left_ms",
        "cold_start",
        "counted",
        "endpoint",
        "finding",
        "first_token_mono_ms",
        "io",
        "last_read_mono_ms",
        "learned",
        "load_ms",
        "loading",
        "node_id",
        "number",
        "place",
        "placement",
        "prompt_key",
        "purpose",
        "resumes",
        "tokens",
    )

    def __init__(
        self,
        number: int,
        placement: Placement,
        purpose: AttemptPurpose,
        began_mono_ms: float,
        budget_left_ms: float,
        tokens: TokenTimes,
        resumes: Attempt | None = None,
    ) -> None:
        #: 1 for the request's first attempt; second copies are counted too.
        self.number = number
        self.placement = placement
        self.node_id = placement.chosen.node.id
        self.purpose = purpose
        self.began_mono_ms = began_mono_ms
        #: Budget left when the target was chosen.
        self.budget_left_ms = budget_left_ms
        self.tokens = tokens
        #: Set before the attempt is sent, only for explorations and trials.
        self.finding: Finding | None = None
        #: The broken attempt whose stream this one continues.
        self.resumes = resumes
        #: Its place at this node's own engine, given, refused or waited for; None for a peer's.
        self.place: Place | None = None
        #: Whether it waits for what it asks for to be loaded at this node.
        self.loading = False
        #: The cold start that it waited for, here or at a peer, and how long it did.
        self.cold_start: ColdStart | None = None
        self.load_ms = 0.0
        #: Where this node's engine serves it, which keeps there what it asks for.
        self.endpoint: EngineEndpoint | None = None
        #: Key of its prompt in the target's backlog; 0: not in the backlog.
        self.prompt_key = 0
        #: Whether nothing is left to learn of it: the predictor has its outcome, or it has none.
        self.learned = False
        self.first_token_mono_ms: float | None = None
        #: The engine's count at its end, if it ended by itself.
        self.counted: Usage | None = None
        #: When the last bytes of its answer came; -inf before the first. Written by the runner.
        self.last_read_mono_ms = -math.inf
        #: The runner's own object that carries the attempt.
        self.io: object = None

    @property
    def deployment(self) -> Deployment:
        """As it was placed: with the model and the adapter that it asks for."""
        return self.placement.chosen.request.deployment

    @property
    def is_held(self) -> bool:
        """Whether it waits for a place at this node's own engine."""
        return self.place is not None and self.place.waits

    @property
    def first(self) -> Attempt:
        """The attempt that began the stream; the whole stream is billed to it."""
        attempt = self
        while attempt.resumes is not None:
            attempt = attempt.resumes
        return attempt
