"""How long a load that keeps failing is left alone, whoever asks for it. Pure.

Each attempt may take an engine from another model, so requests for what cannot be loaded must not
make as many attempts as there are requests. The first failure costs nothing: an engine may have
died for a reason of its own.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent.core.cold_start import Wanted

#: After the second failure in a row, then doubled up to the longest.
FIRST_REST_MS = 2_000.0
LONGEST_REST_MS = 60_000.0


class LoadRests:
    """Loads that failed, by what was to be loaded."""

    def __init__(self) -> None:
        #: wanted -> (failures in a row, until when it rests, why)
        self._failed: dict[Wanted, tuple[int, float, str]] = {}

    def __len__(self) -> int:
        """Loads that have failed, and not gone well since."""
        return len(self._failed)

    def failed(self, wanted: Wanted, why: str, now_mono_ms: float) -> None:
        """A load has failed, and may go well another time."""
        failures = self._failed.get(wanted, (0, 0.0, ""))[0] + 1
        rest_ms = 0.0
        if failures > 1:
            rest_ms = min(LONGEST_REST_MS, FIRST_REST_MS * 2.0 ** min(failures - 2, 16))
        self._failed[wanted] = (failures, now_mono_ms + rest_ms, why)

    def went_well(self, wanted: Wanted) -> None:
        """Forget the failures of a load."""
        self._failed.pop(wanted, None)

    def rest(self, wanted: Wanted, now_mono_ms: float) -> tuple[float, str] | None:
        """Return for how long ``wanted`` still rests, in milliseconds, and why; else None. Hot."""
        failed = self._failed.get(wanted)
        if failed is None or failed[1] <= now_mono_ms:
            return None
        return failed[1] - now_mono_ms, failed[2]

    def forget_all_but(self, names: Collection[str]) -> None:
        """Drop what this node may load no longer."""
        for wanted in [one for one in self._failed if one.name not in names]:
            del self._failed[wanted]
