"""One swap of the weights inside a warm engine, as a sans-io machine: events in, commands out.

    open -> draining -> unloading -> reloading -> resetting -> checking -> open, generation + 1
    draining | unloading -> open              given up: nothing was touched, same generation
    reloading | resetting | checking -> restoring -> ... -> open with the old model, generation + 1
    anything -> restarting -> open            the engine died, or could not be brought back

Laws: the gate is open only over weights that were started with or checked; the model that was
served before stays the engine's until the check has passed, so that an engine which dies at any
point comes back with it; every opening after weights were touched is of a new generation.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

#: Attempts to empty the prefix cache, which fails while the engine still frees a request's blocks.
RESET_ATTEMPTS = 20


class SwapState(enum.StrEnum):
    """Where a swap is."""

    OPEN = "open"
    DRAINING = "draining"
    UNLOADING = "unloading"
    RELOADING = "reloading"
    RESETTING = "resetting"
    CHECKING = "checking"
    RESTARTING = "restarting"


# Events


@dataclass(frozen=True, slots=True)
class SwapRequested:
    """The engine shall serve ``model`` instead."""

    model: str


@dataclass(frozen=True, slots=True)
class Drained:
    """No request uses the old model or an adapter of it."""


@dataclass(frozen=True, slots=True)
class DrainTimedOut:
    """Requests still run at the end of the time given to them."""


@dataclass(frozen=True, slots=True)
class AdaptersOut:
    """The engine knows no adapter."""


@dataclass(frozen=True, slots=True)
class WeightsReloaded:
    """The engine says that it has read the weights."""


@dataclass(frozen=True, slots=True)
class PrefixReset:
    """The engine says whether its prefix cache is empty."""

    done: bool


@dataclass(frozen=True, slots=True)
class WeightsChecked:
    """The fingerprint was taken; ``difference`` is empty if it is the model's."""

    difference: str


@dataclass(frozen=True, slots=True)
class StepFailed:
    """The engine lives and refused the step, or did not answer in time."""

    reason: str


@dataclass(frozen=True, slots=True)
class EngineDied:
    """Its process ended; its supervisor starts another with the model that it was to serve."""

    reason: str


@dataclass(frozen=True, slots=True)
class EngineReady:
    """A process that was started with the old model's weights serves."""


Event = (
    SwapRequested
    | Drained
    | DrainTimedOut
    | AdaptersOut
    | WeightsReloaded
    | PrefixReset
    | WeightsChecked
    | StepFailed
    | EngineDied
    | EngineReady
)


# Commands


@dataclass(frozen=True, slots=True)
class CloseGate:
    """Hand out the engine's endpoint no longer."""


@dataclass(frozen=True, slots=True)
class Drain:
    """Wait for the requests that use it."""


@dataclass(frozen=True, slots=True)
class TakeAdaptersOut:
    """Unload every adapter."""


@dataclass(frozen=True, slots=True)
class ReloadWeights:
    """Read the weights of ``model`` into the engine."""

    model: str


@dataclass(frozen=True, slots=True)
class ResetPrefix:
    """Empty the prefix cache, and say whether it is empty."""


@dataclass(frozen=True, slots=True)
class CheckWeights:
    """Compare the engine's fingerprint with that of ``model``."""

    model: str


@dataclass(frozen=True, slots=True)
class RestartEngine:
    """End the process, and start one with the weights of ``model``."""

    model: str


@dataclass(frozen=True, slots=True)
class OpenGate:
    """Hand out the endpoint again: of ``model``, under ``generation``."""

    model: str
    generation: int


@dataclass(frozen=True, slots=True)
class SwapEnded:
    """The request is answered; ``error`` is empty if the engine serves what was asked for."""

    error: str


Command = (
    CloseGate
    | Drain
    | TakeAdaptersOut
    | ReloadWeights
    | ResetPrefix
    | CheckWeights
    | RestartEngine
    | OpenGate
    | SwapEnded
)

_TOUCHED = (SwapState.RELOADING, SwapState.RESETTING, SwapState.CHECKING)


class SwapMachine:
    """The gate of one engine. The public attributes are read-only."""

    def __init__(self, model: str, generation: int) -> None:
        self.state = SwapState.OPEN
        #: What the engine serves, and what it comes back with: the old one until the check.
        self.model = model
        self.generation = generation
        self._target = model
        self._restoring = False
        self._error = ""
        self._resets = 0

    def handle(self, event: Event) -> list[Command]:
        """Take ``event`` and return what to do, in order. Events of another state do nothing."""
        state = self.state
        match event:
            case EngineDied(reason):
                return self._on_death(reason)
            case SwapRequested(model) if state is SwapState.OPEN and model != self.model:
                self._target, self._error, self._restoring = model, "", False
                self.state = SwapState.DRAINING
                return [CloseGate(), Drain()]
            case Drained() if state is SwapState.DRAINING:
                self.state = SwapState.UNLOADING
                return [TakeAdaptersOut()]
            case DrainTimedOut() if state is SwapState.DRAINING:
                return self._give_up("its requests did not end in time")
            case AdaptersOut() if state is SwapState.UNLOADING:
                return self._reload(self._target)
            case WeightsReloaded() if state is SwapState.RELOADING:
                self.state, self._resets = SwapState.RESETTING, 0
                return [ResetPrefix()]
            case PrefixReset(done) if state is SwapState.RESETTING:
                return self._on_reset(done=done)
            case WeightsChecked(different) if state is SwapState.CHECKING:
                return self._on_check(different)
            case StepFailed(reason) if state is SwapState.UNLOADING:
                return self._give_up(reason)
            case StepFailed(reason) if state in _TOUCHED:
                return self._undo(reason)
            case EngineReady() if state is SwapState.RESTARTING:
                return self._open(self.model)
        return []

    @property
    def is_open(self) -> bool:
        """Whether requests may use the engine, as far as swaps are concerned."""
        return self.state is SwapState.OPEN

    def _reload(self, model: str) -> list[Command]:
        self.state = SwapState.RELOADING
        return [ReloadWeights(model)]

    def _on_reset(self, *, done: bool) -> list[Command]:
        if done:
            self.state = SwapState.CHECKING
            return [CheckWeights(self.model if self._restoring else self._target)]
        self._resets += 1
        if self._resets < RESET_ATTEMPTS:
            return [ResetPrefix()]
        return self._undo("its prefix cache could not be emptied")

    def _on_check(self, different: str) -> list[Command]:
        if different:
            return self._undo(different)
        return self._open(self.model if self._restoring else self._target)

    def _give_up(self, reason: str) -> list[Command]:
        """Nothing was touched: the old weights are served on under the same generation."""
        self.state = SwapState.OPEN
        return [OpenGate(self.model, self.generation), SwapEnded(reason)]

    def _undo(self, reason: str) -> list[Command]:
        """Bring the old weights back: by reading them again, and if that fails by a restart."""
        if self._restoring:
            self.state, self._target = SwapState.RESTARTING, self.model
            return [RestartEngine(self.model), SwapEnded(self._error)]
        self._restoring, self._error = True, reason
        return self._reload(self.model)

    def _on_death(self, reason: str) -> list[Command]:
        before, self.state, self._target = self.state, SwapState.RESTARTING, self.model
        if before is SwapState.OPEN:
            return [CloseGate()]
        if before is SwapState.RESTARTING:
            return []
        # Who asked is told at once: the start takes longer than a request waits.
        return [SwapEnded(self._error or f"the engine ended meanwhile: {reason}")]

    def _open(self, model: str) -> list[Command]:
        asked = self._target != self.model
        self.model = model
        self.generation += 1
        self.state = SwapState.OPEN
        self._target = model
        error, self._error, self._restoring = self._error, "", False
        opened: list[Command] = [OpenGate(model, self.generation)]
        return [*opened, SwapEnded(error)] if asked else opened
