"""Counts how many first tokens came within their predicted P99. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from agent.core.samples import Sample, Samples
from protos.domain.regimes import Place

#: What a prediction was based on: the profile only, or learned outcomes.
BASES = ("profile", "learned")


class Tally:
    """First tokens of one basis and place."""

    __slots__ = ("kept", "seen")

    def __init__(self) -> None:
        self.seen = 0
        #: Those of them that came within the predicted P99.
        self.kept = 0

    @property
    def ratio(self) -> float | None:
        """Share that came within the predicted P99; None before the first."""
        return self.kept / self.seen if self.seen else None


class Coverage:
    """Tallies by the basis of the prediction, and by the load ahead of the request."""

    def __init__(self) -> None:
        self._tallies = {(basis, place): Tally() for basis in BASES for place in Place}

    def note(
        self,
        took_ms: float,
        ttft_ms_p99: float,
        *,
        learned: bool,
        place: Place,
        censored: bool = False,
    ) -> None:
        """Count a first token that took ``took_ms`` after its target was asked. Hot.

        ``censored``: the attempt was cut then, without a first token. It is not counted if that was
        before its P99.
        """
        kept = took_ms <= ttft_ms_p99
        if kept and censored:
            return
        tally = self._tallies["learned" if learned else "profile", place]
        tally.seen += 1
        tally.kept += kept

    def items(self) -> Iterable[tuple[str, Place, Tally]]:
        """Return every tally with its basis and place."""
        return ((basis, place, tally) for (basis, place), tally in self._tallies.items())

    def by_basis(self, basis: str) -> Tally:
        """Return the sum over all places for ``basis``."""
        whole = Tally()
        for place in Place:
            tally = self._tallies[basis, place]
            whole.seen += tally.seen
            whole.kept += tally.kept
        return whole

    def samples(self, _now_mono_ms: float) -> Samples:
        """Yield predicted first tokens and those within their P99, by basis and place."""
        for basis, place, tally in self.items():
            labels = (("basis", basis), ("place", place.name.lower()))
            yield Sample(
                "edgeforge_predictions",
                "First tokens that had a predicted P99, by its basis and by what was ahead.",
                float(tally.seen),
                counter=True,
                labels=labels,
            )
            yield Sample(
                "edgeforge_predictions_kept",
                "Of the predicted first tokens, those that came within their P99.",
                float(tally.kept),
                counter=True,
                labels=labels,
            )

    def status(self, _now_mono_ms: float) -> dict[str, object]:
        """Return how often the predicted P99 was kept, by basis."""
        found: dict[str, object] = {}
        for basis in BASES:
            tally = self.by_basis(basis)
            found[basis] = {"seen": tally.seen, "kept": tally.kept, "kept_ratio": tally.ratio}
        return {"predictions": found}
