"""Facts of the adoption clock: what is tracked, and how far its releases are."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from typing import ClassVar

from coordinator.core.adoption import Release, Track
from coordinator.store.fact_types import FactType, fact_json

_RELEASE_FIELDS = frozenset(one.name for one in fields(Release))


@dataclass(frozen=True, slots=True)
class TrackRow:
    """A tracked repository of another hub."""

    TYPE: ClassVar = FactType.TRACK

    track: Track

    @property
    def key(self) -> str:
        """``hf://org/repo@revision``"""
        return self.track.upstream

    def encode(self) -> bytes:
        """Return the payload."""
        values = asdict(self.track)
        del values["upstream"]
        return fact_json(**values)

    @classmethod
    def decode(cls, key: str, payload: bytes) -> TrackRow:
        """Return the fact in ``payload``."""
        value = json.loads(payload)
        releases = tuple(
            Release(**{name: one[name] for name in one if name in _RELEASE_FIELDS})
            for one in value.get("releases", ())
        )
        return cls(
            Track(
                upstream=key,
                name=value["name"],
                account_id=value.get("account_id", ""),
                tracked_by=value.get("tracked_by", ""),
                tracked_unix_ms=value.get("tracked_unix_ms", 0),
                releases=releases,
                error=value.get("error", ""),
            )
        )
