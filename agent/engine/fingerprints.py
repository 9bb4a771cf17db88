"""Fingerprints on this host's disk, one file for each (weights, engine version, device)."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING

from agent.core.fingerprint import Fingerprint, Take

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Files kept; over it the oldest go.
MAX_FILES = 1_024

_log = logging.getLogger(__name__)


class Fingerprints:
    """What the weights of each digest say, in ``folder``.

    ``engine_version`` and ``device`` are part of every key, as are the engine's arguments: each of
    them changes logprobs.
    """

    def __init__(self, folder: Path, *, engine_version: str, device: str) -> None:
        self._folder = folder
        self._engine_version = engine_version
        self.device = device

    def load(self, digest: str, args: Sequence[str] = ()) -> Fingerprint | None:
        """Return the fingerprint of the weights ``digest``, or None. A damaged file is none."""
        try:
            data = json.loads(self._path(digest, args).read_text(encoding="utf-8"))
            take = Take(
                tuple(int(one) for one in data["token_ids"]),
                tuple(float(one) for one in data["logprobs"]),
            )
            return Fingerprint(take, at_start=bool(data["at_start"]))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            _log.warning("a fingerprint cannot be read digest=%s reason=%r", digest, error)
            return None

    def save(self, digest: str, fingerprint: Fingerprint, args: Sequence[str] = ()) -> None:
        """Replace the fingerprint of ``digest``. On a full disk it is lost, and taken again."""
        path = self._path(digest, args)
        body = {
            "digest": digest,
            "engine_version": self._engine_version,
            "device": self.device,
            "args": list(args),
            "at_start": fingerprint.at_start,
            "token_ids": fingerprint.take.token_ids,
            "logprobs": fingerprint.take.logprobs,
        }
        partial = path.with_suffix(".partial")
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            partial.write_text(json.dumps(body), encoding="utf-8")
            os.replace(partial, path)
            self._prune()
        except OSError as error:
            _log.warning("a fingerprint cannot be written digest=%s reason=%s", digest, error)

    def _path(self, digest: str, args: Sequence[str]) -> Path:
        words = "\0".join([digest, self._engine_version, self.device, *args])
        return self._folder / f"{hashlib.sha256(words.encode()).hexdigest()[:32]}.json"

    def _prune(self) -> None:
        files = list(self._folder.glob("*.json"))
        if len(files) <= MAX_FILES:
            return
        for path in sorted(files, key=lambda one: one.stat().st_mtime)[:-MAX_FILES]:
            with contextlib.suppress(OSError):
                path.unlink()
