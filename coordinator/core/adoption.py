"""The adoption clock: how long a release of another hub takes until it is served here.

A release is seen, imported, qualified (an engine has answered a canary with it, and its speed was
measured), then available (a deployment serves it). The promise is 72 hours from the first to the
last. Of a track only the newest release goes on; an older one that has not arrived is superseded.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, replace
from typing import Final

HOUR_MS: Final = 3_600_000
PROMISE_MS: Final = 72 * HOUR_MS
#: Wait after a first failure; each further one doubles it.
RETRY_MS: Final = 5 * 60_000
MAX_RETRY_MS: Final = 6 * HOUR_MS
#: Releases that are remembered for one track, newest first.
MAX_RELEASES: Final = 50
_MAX_ERROR_CHARS: Final = 300


class ReleaseState(enum.StrEnum):
    """How far a release is."""

    SEEN = "seen"
    IMPORTED = "imported"
    QUALIFIED = "qualified"
    AVAILABLE = "available"
    SUPERSEDED = "superseded"


class Promise(enum.StrEnum):
    """What became of the 72 hours."""

    #: It can still be kept.
    OPEN = "open"
    KEPT = "kept"
    #: The time is over, and the release is not available.
    MISSED = "missed"
    #: Available, but after the time.
    LATE = "late"
    SUPERSEDED = "superseded"


class Step(enum.StrEnum):
    """What is to be done next for a release."""

    IMPORT = "import"
    QUALIFY = "qualify"
    CHECK = "check"


@dataclass(frozen=True, slots=True)
class Release:
    """A commit of a tracked revision. A time of 0: not yet."""

    commit: str
    seen_unix_ms: int
    imported_unix_ms: int = 0
    qualified_unix_ms: int = 0
    available_unix_ms: int = 0
    #: The version of the registry that it was imported as.
    name: str = ""
    tokens_per_s: float = 0.0
    first_token_ms: float = 0.0
    #: Why the next step has not been done.
    error: str = ""
    failures: int = 0
    retry_unix_ms: int = 0

    @property
    def deadline_unix_ms(self) -> int:
        """Until when it is promised to be available."""
        return self.seen_unix_ms + PROMISE_MS


@dataclass(frozen=True, slots=True)
class Track:
    """A repository of another hub whose releases are adopted as versions of ``name``."""

    upstream: str
    name: str
    account_id: str
    tracked_by: str
    tracked_unix_ms: int
    #: Newest first.
    releases: tuple[Release, ...] = ()
    #: Why upstream could not be asked; empty: it could.
    error: str = ""


def state_of(track: Track, release: Release) -> ReleaseState:
    """Return how far a release of the track is."""
    if release.available_unix_ms:
        return ReleaseState.AVAILABLE
    if release.commit != track.releases[0].commit:
        return ReleaseState.SUPERSEDED
    if release.qualified_unix_ms:
        return ReleaseState.QUALIFIED
    return ReleaseState.IMPORTED if release.imported_unix_ms else ReleaseState.SEEN


def promise_of(track: Track, release: Release, now_unix_ms: int) -> Promise:
    """Return what became of the promise, or may still."""
    if release.available_unix_ms:
        is_kept = release.available_unix_ms <= release.deadline_unix_ms
        return Promise.KEPT if is_kept else Promise.LATE
    if state_of(track, release) is ReleaseState.SUPERSEDED:
        newer = next(
            newer
            for newer, older in zip(track.releases, track.releases[1:], strict=False)
            if older.commit == release.commit
        )
        is_missed = newer.seen_unix_ms > release.deadline_unix_ms
        return Promise.MISSED if is_missed else Promise.SUPERSEDED
    return Promise.OPEN if now_unix_ms <= release.deadline_unix_ms else Promise.MISSED


def observed(track: Track, commit: str, now_unix_ms: int) -> Track:
    """Return the track after upstream has said which commit its revision is.

    A commit that was the newest before, and is again, is seen anew.
    """
    track = replace(track, error="")
    if track.releases and track.releases[0].commit == commit:
        return track
    others = tuple(one for one in track.releases if one.commit != commit)
    known = next((one for one in track.releases if one.commit == commit), None)
    newest = known if known and known.available_unix_ms else Release(commit, now_unix_ms)
    return replace(track, releases=(newest, *others)[:MAX_RELEASES])


def unreachable(track: Track, error: str) -> Track:
    """Return the track after upstream could not be asked."""
    return replace(track, error=error[:_MAX_ERROR_CHARS])


def next_step(track: Track, now_unix_ms: int) -> Step | None:
    """Return what is due for the newest release; None: nothing now."""
    if not track.releases:
        return None
    release = track.releases[0]
    if release.available_unix_ms or now_unix_ms < release.retry_unix_ms:
        return None
    if not release.imported_unix_ms:
        return Step.IMPORT
    return Step.CHECK if release.qualified_unix_ms else Step.QUALIFY


def imported(track: Track, name: str, now_unix_ms: int) -> Track:
    """Return the track after its newest release was published as ``name``."""
    return _done(track, name=name, imported_unix_ms=now_unix_ms)


def qualified(track: Track, tokens_per_s: float, first_token_ms: float, now_unix_ms: int) -> Track:
    """Return the track after an engine has answered with its newest release."""
    return _done(
        track,
        tokens_per_s=round(tokens_per_s, 2),
        first_token_ms=round(first_token_ms, 2),
        qualified_unix_ms=now_unix_ms,
    )


def available(track: Track, now_unix_ms: int) -> Track:
    """Return the track after a deployment serves its newest release."""
    return _done(track, available_unix_ms=now_unix_ms)


def failed(track: Track, error: str, now_unix_ms: int) -> Track:
    """Return the track after a step went wrong; it is tried again after a growing wait."""
    release = track.releases[0]
    wait_ms = min(MAX_RETRY_MS, RETRY_MS * 2 ** min(release.failures, 20))
    return _newest(
        track,
        error=error[:_MAX_ERROR_CHARS],
        failures=release.failures + 1,
        retry_unix_ms=now_unix_ms + wait_ms,
    )


def waiting(track: Track, why: str) -> Track:
    """Return the track while its next step waits for somebody; it is looked at at each round."""
    return _newest(track, error=why[:_MAX_ERROR_CHARS])


def _done(track: Track, **changes: object) -> Track:
    return _newest(track, error="", failures=0, retry_unix_ms=0, **changes)


def _newest(track: Track, **changes: object) -> Track:
    release = replace(track.releases[0], **changes)  # type: ignore[arg-type]
    return replace(track, releases=(release, *track.releases[1:]))
