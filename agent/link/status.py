"""State of the link to the coordinator, and the age of the credentials it brought."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field

from agent.core.samples import Sample, Samples
from protos.domain.errors import LinkDown

NEVER_CONFIRMED_S = float("inf")
_RETRY_AFTER_S = 5.0


@dataclass(slots=True)
class CoordinatorClock:
    """The coordinator's clock, carried on from its last beat by the monotonic clock.

    Jumps of this host's clock do not move it. Before the first beat it is this host's.
    """

    now_unix_ms_here: Callable[[], int]
    now_mono_ms: Callable[[], float]
    _beat: tuple[int, float] | None = None

    def heard(self, beat_unix_ms: int) -> None:
        """Take the time of a beat that has just come."""
        self._beat = beat_unix_ms, self.now_mono_ms()

    def now_unix_ms(self) -> int:
        """Return the coordinator's time now."""
        if self._beat is None:
            return self.now_unix_ms_here()
        beat_unix_ms, heard_mono_ms = self._beat
        return beat_unix_ms + int(self.now_mono_ms() - heard_mono_ms)

    def offset_ms(self) -> float:
        """Return the coordinator's time minus this host's."""
        return float(self.now_unix_ms() - self.now_unix_ms_here())

    def samples(self, _now_mono_ms: float) -> Samples:
        """Yield the offset."""
        yield Sample(
            "edgeforge_clock_offset_seconds",
            "The coordinator's clock minus this host's, as of the last beat.",
            self.offset_ms() / 1_000,
        )


@dataclass(slots=True)
class LinkStatus:
    """Whether the fleet stream is connected, since when, and why it was not."""

    connected: bool = False
    since_mono_ms: float = 0.0
    connects: int = 0
    failures_in_a_row: int = 0
    last_error: str = ""
    #: The coordinator's clock minus this host's: for records, never for deadlines.
    clock_offset_ms: float = 0.0
    #: The coordinator's reason when it refuses this node; empty otherwise.
    refused: str = ""

    def samples(self, _now_mono_ms: float) -> Samples:
        """Yield whether the stream is connected, and how often it was established."""
        yield Sample(
            "edgeforge_link_connected", "1 while the fleet stream is connected.", self.connected
        )
        yield Sample(
            "edgeforge_link_connects", "Fleet streams established.", self.connects, counter=True
        )

    def status(self, now_mono_ms: float) -> dict[str, object]:
        """Return all of it, and for how long the link has been as it is."""
        since_s = max(0.0, (now_mono_ms - self.since_mono_ms) / 1_000)
        return {"link": {**asdict(self), "since_s": since_s}}


@dataclass(slots=True)
class CredentialsAge:
    """Time since the coordinator last confirmed the credentials, on the monotonic clock.

    Over ``max_age_s`` they are refused.
    """

    now_mono_ms: Callable[[], float]
    max_age_s: float = NEVER_CONFIRMED_S
    _age_at_mark_s: float = NEVER_CONFIRMED_S
    _mark_mono_ms: float = field(default=0.0)

    def confirm(self) -> None:
        """Note that the coordinator has just confirmed the credentials."""
        self._age_at_mark_s, self._mark_mono_ms = 0.0, self.now_mono_ms()

    def restore(self, confirmed_unix_ms: int, now_unix_ms: int) -> None:
        """Take over a confirmation from before a restart; 0 means there was none."""
        if confirmed_unix_ms > 0:
            self._age_at_mark_s = max(0, now_unix_ms - confirmed_unix_ms) / 1_000
            self._mark_mono_ms = self.now_mono_ms()

    def age_s(self) -> float:
        """Return seconds since the last confirmation; infinite without one."""
        return self._age_at_mark_s + (self.now_mono_ms() - self._mark_mono_ms) / 1_000

    def confirmed_unix_ms(self, now_unix_ms: int) -> int:
        """Return the time of the last confirmation, for a record on disk; 0 without one."""
        if self._age_at_mark_s == NEVER_CONFIRMED_S:
            return 0
        return now_unix_ms - int(self.age_s() * 1_000)

    def usable(self) -> bool:
        """Return whether credentials may still be accepted."""
        return self.age_s() <= self.max_age_s

    def require_usable(self) -> None:
        """Raises: LinkDown while credentials may not be accepted, which another site may do."""
        if self.usable():
            return
        age_s = self.age_s()
        since = "it has no table of keys yet"
        if age_s != NEVER_CONFIRMED_S:
            since = f"cut off from the coordinator for {age_s / 3_600:.1f} hours"
        raise LinkDown(
            f"this site cannot check keys: {since}",
            "use another site, or ask the operator to restore the link to the coordinator",
            code="site_cut_off",
            retry_after_s=_RETRY_AFTER_S,
        )

    def missing(self) -> Iterable[str]:
        """Yield that the credentials are too old, if they are."""
        if not self.usable():
            yield "credentials younger than limits.credentials_max_age_s"

    def samples(self, _now_mono_ms: float) -> Samples:
        """Yield the age."""
        yield Sample(
            "edgeforge_credentials_age_seconds",
            "Since the coordinator last confirmed the credentials.",
            self.age_s(),
        )

    def status(self, _now_mono_ms: float) -> dict[str, object]:
        """Return the age; None when they were never confirmed."""
        age_s = self.age_s()
        return {"credentials_age_s": None if age_s == NEVER_CONFIRMED_S else age_s}
