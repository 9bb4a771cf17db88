"""All formats by their path, which is the same on the client port and on the engine.

The only list of an engine's routes that a client may reach: development routes are not on it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.formats.anthropic_errors import ANTHROPIC_WORDS
from agent.formats.chat import CHAT
from agent.formats.completions import COMPLETIONS
from agent.formats.count_tokens import COUNT_TOKENS
from agent.formats.embeddings import EMBEDDINGS
from agent.formats.errors import OPENAI_WORDS, ErrorWords, Header
from agent.formats.messages import MESSAGES
from agent.formats.responses import RESPONSES

if TYPE_CHECKING:
    from agent.formats.descriptor import ApiFormat
    from protos.domain.errors import EdgeForgeError

FORMATS: dict[str, ApiFormat] = {
    api.path: api for api in (CHAT, COMPLETIONS, RESPONSES, EMBEDDINGS, MESSAGES, COUNT_TOKENS)
}


def error_words(path: str) -> ErrorWords:
    """Return how a client of ``path`` reads errors; OpenAI's words for an unknown path."""
    api = FORMATS.get(path)
    if api is not None:
        return api.words
    return ANTHROPIC_WORDS if path.startswith(f"{MESSAGES.path}/") else OPENAI_WORDS


def render_error(
    error: EdgeForgeError, path: str = "", status: int | None = None
) -> tuple[int, list[Header], bytes]:
    """Return status, headers and body of ``error`` for a client that requested ``path``."""
    return error_words(path).render(error, status)
