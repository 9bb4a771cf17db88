"""Adapters into one running engine: room is made, it is loaded, and compared with its base."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from agent.core.fingerprint import LEAST_EFFECT, has_effect
from protos.domain.errors import EngineFailed

if TYPE_CHECKING:
    from agent.core.adapter_slots import AdapterSlots
    from agent.core.fingerprint import Take
    from agent.engine.control import Control


class AdapterLoads:
    """Brings adapters into the engine of ``slots``, one at a time; ``device`` computes there."""

    def __init__(self, slots: AdapterSlots, device: str) -> None:
        self._slots = slots
        self._least_effect = LEAST_EFFECT[device]
        #: What adapters are compared with, taken when the first is.
        self._brief_take: Take | None = None
        #: Names that the engine may know and the ledger does not, since a call failed or was cut.
        #: The engine loads no name twice: they are unloaded first, else that would be refused.
        self._doubtful: set[str] = set()

    @property
    def known(self) -> list[str]:
        """Every name that the engine knows, or may know."""
        return [*self._slots.known, *sorted(self._doubtful.difference(self._slots.known))]

    def clear(self) -> None:
        """Forget all: the engine has started again, or its base was replaced."""
        self._slots.clear()
        self._doubtful.clear()
        self._brief_take = None

    async def load(
        self, control: Control, base: str, name: str, path: Path, *, check: bool
    ) -> None:
        """Make the adapter in ``path`` known as ``name``; the engine calls its model ``base``.

        It is not active yet. Whatever fails, the name is doubtful until it was unloaded. Raises:
        Overloaded while all slots are in use; EngineFailed.
        """
        plan = self._slots.begin(name)
        leave = sorted(self._doubtful.union(plan.unload))
        self._doubtful.update((name, *plan.unload))
        await self._unload(control, leave)
        self._doubtful.add(name)
        if plan.load:
            await control.load_adapter(name, path)
        if check:
            await self._check_effect(control, base, name)
        self._doubtful.discard(name)

    async def _unload(self, control: Control, names: Iterable[str]) -> None:
        for name in names:
            await control.unload_adapter(name)
            self._doubtful.discard(name)

    async def _check_effect(self, control: Control, base: str, name: str) -> None:
        if self._brief_take is None:
            self._brief_take = await control.take(base, brief=True)
        adapted = await control.take(name, brief=True)
        if not has_effect(self._brief_take, adapted, self._least_effect):
            await self._unload(control, [name])
            raise EngineFailed(
                f"adapter {name} has no effect: the engine answers as its base does",
                "see that its tensors are not zero and that its base is this model",
                retryable=False,
                code="adapter_without_effect",
            )
