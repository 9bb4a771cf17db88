"""Loads that failed on this host: what is refused for good, what rests, and why one cannot be."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from agent.core.cold_start import Wanted
from agent.core.load_rests import LoadRests
from protos.domain.errors import (
    ConfigInvalid,
    EdgeForgeError,
    EngineFailed,
    NoReplica,
    NotFound,
    Overloaded,
)

if TYPE_CHECKING:
    from agent.engine.inventory import EngineInventory
    from agent.engine.slot_parts import SlotSettings

_log = logging.getLogger(__name__)


class LoadFailures:
    """Remembers failed loads, so that what cannot be loaded is not tried for each request."""

    def __init__(self, inventory: EngineInventory, settings: SlotSettings) -> None:
        self._inventory = inventory
        self._settings = settings
        self.rests = LoadRests()
        #: name -> why asking again changes nothing, until the object itself changes.
        self.refused: dict[str, str] = {}

    def is_refused(self, wanted: Wanted) -> bool:
        """Whether it, or its base, is refused for good. Hot."""
        return wanted.model in self.refused or wanted.adapter in self.refused

    def rest(self, wanted: Wanted) -> tuple[float, str] | None:
        """Return how long a load still rests that keeps failing, or that of its base. Hot."""
        if not self.rests:
            return None
        now_mono_ms = self._settings.now_mono_ms()
        found = self.rests.rest(wanted, now_mono_ms)
        if found is None and wanted.adapter and self._inventory.slot_of(wanted.model) is None:
            found = self.rests.rest(Wanted(wanted.model), now_mono_ms)
        return found

    def note(self, wanted: Wanted, error: EdgeForgeError) -> None:
        """Remember what fails the same way whenever it is tried, and what should be tried later."""
        if wanted.adapter and wanted.model in self.refused:
            return  # the base's fault, which the base is remembered for
        if isinstance(error, EngineFailed):
            self.rests.failed(wanted, error.message, self._settings.now_mono_ms())
        if not error.retryable and not isinstance(error, ConfigInvalid | NotFound):
            _log.error("refused for good name=%s reason=%s", wanted.name, error)
            self.refused[wanted.name] = str(error)

    def why_not(self, wanted: Wanted) -> EdgeForgeError:
        """Return why it cannot be loaded now."""
        for name in (wanted.adapter, wanted.model):
            if name in self.refused:
                return NoReplica(f"{name} is refused here: {self.refused[name]}", retryable=False)
        if (rest := self.rest(wanted)) is not None:
            rest_ms, why = rest
            return NoReplica(
                f"{wanted.name} failed to load more than once: {why}",
                f"it is tried again in {rest_ms / 1_000:.0f} s",
                retry_after_s=max(1.0, rest_ms / 1_000),
            )
        slot = self._inventory.slot_of(wanted.model)
        if wanted.adapter and not self._settings.max_adapters:
            return NoReplica("this node's engine takes no adapters", "set engine.max_adapters")
        if slot is not None and slot.is_open and wanted.adapter:
            return Overloaded(
                f"all {slot.slots.max_active} adapter slots of the engine are in use", "try again"
            )
        return NoReplica(
            f"every engine of this node is to keep its model; {wanted.name} has to wait",
            "try again, or raise engine.max_engines",
        )
