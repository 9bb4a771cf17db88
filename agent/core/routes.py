"""The routes of an engine that a client may reach, and no other."""

from __future__ import annotations

#: Development routes of an engine are kept off by this being an allowlist.
GENERATION_PATHS = frozenset({"/v1/chat/completions", "/v1/completions"})
