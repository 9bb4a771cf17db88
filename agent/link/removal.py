"""That the coordinator has removed this node: said once over the fleet's TLS, kept over restarts.

A removed node's tables never change again, so that it would serve revoked keys and deleted
deployments for ever. It serves nobody, and goes on asking: an operator may have put a database
back that knows it.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path

from agent.core.samples import Sample, Samples
from protos.domain.errors import NoReplica
from protos.host.files import write_whole

_log = logging.getLogger(__name__)

FILE = "removed.json"


def removed_because(folder: Path, owner: str) -> str:
    """Return why ``owner`` was removed, as noted in ``folder``; empty when it was not.

    A damaged note says nothing.
    """
    try:
        kept = json.loads((folder / FILE).read_bytes())
        return str(kept["reason"]) if kept["owner"] == owner else ""
    except (OSError, ValueError, TypeError, KeyError):
        return ""


class Removal:
    """Whether this node has been removed from its fleet."""

    def __init__(
        self,
        folder: Path,
        owner: str,
        now_unix_ms: Callable[[], int],
        on_change: Callable[[str], None],
    ) -> None:
        """``owner`` is the fleet and node concerned: what is said of another is ignored."""
        self._path = folder / FILE
        self._owner = owner
        self._now_unix_ms = now_unix_ms
        self._on_change = on_change
        self.reason = ""

    def load(self) -> None:
        """Read what was said before a restart."""
        if reason := removed_because(self._path.parent, self._owner):
            _log.error("this node was removed from its fleet and serves nobody reason=%s", reason)
            self._set(reason)

    def told(self, reason: str) -> None:
        """Stop serving: the coordinator has said that this node is removed."""
        if self.reason:
            return
        _log.error(
            "removed from the fleet: requests are refused from now on, enrol again to serve"
            " reason=%s",
            reason,
        )
        self._set(reason)
        said = {"owner": self._owner, "reason": reason, "at_unix_ms": self._now_unix_ms()}
        try:
            write_whole(self._path, json.dumps(said).encode())
        except OSError as error:
            _log.error("the removal is not kept over a restart reason=%s", error)

    def admitted(self) -> None:
        """Serve again: the coordinator has admitted this node."""
        if not self.reason:
            return
        _log.warning("the coordinator admits this node again: it serves")
        self._set("")
        try:
            self._path.unlink(missing_ok=True)
        except OSError as error:
            _log.error("the note of the removal cannot be deleted reason=%s", error)

    def require_member(self) -> None:
        """Raises: NoReplica once this node is removed."""
        if self.reason:
            raise NoReplica(
                "this site has been removed from its fleet", "use another site", code="site_removed"
            )

    def samples(self, _now_mono_ms: float) -> Samples:
        """Yield whether the node is removed."""
        yield Sample(
            "edgeforge_removed", "1 once the coordinator has removed this node.", bool(self.reason)
        )

    def status(self, _now_mono_ms: float) -> dict[str, object]:
        """Return the reason."""
        return {"removed": self.reason}

    def _set(self, reason: str) -> None:
        self.reason = reason
        self._on_change(reason)
