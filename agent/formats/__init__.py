"""The API formats: everything that differs between them. Pure.

A format is one ``ApiFormat``: paths, body rules, prompt, stream reader and error words.
"""

from __future__ import annotations

from agent.formats.descriptor import ApiFormat
from agent.formats.registry import FORMATS

__all__ = ["FORMATS", "ApiFormat"]
