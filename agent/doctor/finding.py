"""The result of one check."""

from __future__ import annotations

from dataclasses import asdict, dataclass


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found, and the next step when it is wrong or, for a warning, may become wrong."""

    check: str
    ok: bool
    found: str
    next_step: str = ""

    @property
    def result(self) -> str:
        """ok, warning or FAILED."""
        if not self.ok:
            return "FAILED"
        return "warning" if self.next_step else "ok"

    def as_json(self) -> dict[str, object]:
        return {**asdict(self), "result": self.result}
