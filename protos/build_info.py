"""Which build of the product runs: compiled modules, or the same sources interpreted."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from protos.domain import router

#: The distribution that hosts install.
DISTRIBUTION = "edgeforge-edge"

#: Digest of the sources that a wheel was built from; a checkout has none.
_STAMP = Path(__file__).with_name("sources.sha256")


@dataclass(frozen=True, slots=True)
class BuildInfo:
    """What runs here."""

    version: str
    compiled: bool
    #: First digits of the digest of the sources; empty in a checkout, which may be edited.
    sources: str

    @property
    def kind(self) -> str:
        return "compiled" if self.compiled else "interpreted"

    def __str__(self) -> str:
        sources = f"sources {self.sources}" if self.sources else "from a checkout"
        return f"{self.version} ({self.kind}, {sources})"

    def status(self, _now_mono_ms: float) -> dict[str, object]:
        """Return the build for ``edgeforge-agent status``."""
        return {
            "build": {"version": self.version, "kind": self.kind, "sources": self.sources},
        }


def product_version() -> str:
    """Return the version of the installed distribution."""
    return version(DISTRIBUTION)


def build_info() -> BuildInfo:
    """Return what runs here: a wheel compiles all of the request path or nothing of it."""
    compiled = not str(router.__file__).endswith(".py")
    sources = _STAMP.read_text()[:12] if _STAMP.exists() else ""
    return BuildInfo(product_version(), compiled, sources)
