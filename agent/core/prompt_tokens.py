"""How many tokens a prompt has, before any tokenizer has seen it: bytes and an observed ratio.

An estimate, to predict with. What refuses a prompt that is too long must not over-estimate and
does not use it.
"""

from __future__ import annotations

import math

#: Bytes of JSON body a token, until the engine has counted some: English in chat messages.
START_BYTES_PER_TOKEN = 4.5
#: What one request's own ratio weighs.
_STEP = 0.05
#: Ratios that no tokenizer gives: a body's envelope, or a lie.
_LEAST, _MOST = 0.5, 64.0
#: Names remembered; the one not counted for longest is forgotten first.
MAX_NAMES = 4_096


class PromptTokens:
    """Bytes a token, by deployment. Mutable; bounded by ``MAX_NAMES``."""

    def __init__(self, max_names: int = MAX_NAMES) -> None:
        self._max_names = max_names
        self._log_ratio: dict[str, float] = {}

    def __len__(self) -> int:
        return len(self._log_ratio)

    def estimate(self, name: str, body_bytes: int) -> int:
        """Return the tokens to expect of a body of ``name``, at least 1. Hot."""
        return max(1, round(body_bytes / self.bytes_per_token(name)))

    def bytes_per_token(self, name: str) -> float:
        """Return the ratio that ``estimate`` uses."""
        ratio = self._log_ratio.get(name)
        return START_BYTES_PER_TOKEN if ratio is None else math.exp(ratio)

    def counted(self, name: str, body_bytes: int, prompt_tokens: int) -> None:
        """The engine counted ``prompt_tokens`` in a body of ``body_bytes``."""
        if prompt_tokens <= 0 or body_bytes <= 0:
            return
        seen = math.log(min(_MOST, max(_LEAST, body_bytes / prompt_tokens)))
        known = self._log_ratio.pop(name, None)
        if known is None and len(self._log_ratio) >= self._max_names:
            del self._log_ratio[next(iter(self._log_ratio))]
        self._log_ratio[name] = seen if known is None else known + _STEP * (seen - known)
