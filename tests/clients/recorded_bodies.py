"""Minimised copies of what real clients sent, kept in ``tests/support/client_bodies``.

    python -m tests.clients.recorded_bodies RECORDS CLIENT NAME [INDEX]

RECORDS is a file with the answer of a fake engine's ``/control/requests``; the POST of INDEX (the
first by default) becomes ``NAME.json``. Long text is cut, identifiers and folders are replaced.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[1] / "support" / "client_bodies"
#: Text beyond this says what a tool does, or how to behave, to a model.
MAX_TEXT_CHARS = 80
MAX_HEADER_CHARS = 400
MODEL = "acme-chat"
#: Of no meaning to a server, or another in each run.
_LEFT_OUT_HEADERS = ("authorization", "host", "content-length", "x-api-key")
_IDENTIFIER = re.compile(
    r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|\b[0-9a-f]{64}\b"
)
_FOLDER = re.compile(r"/(?:tmp|root|work|home)(?:/[\w.@+-]+)*")
_NUMBER = re.compile(r'("turn_started_at_unix_ms\\*": *)\d+')


def minimised(value: Any) -> Any:
    """Return ``value`` with its text cut; kinds, names and structure stay."""
    if isinstance(value, dict):
        return {key: minimised(one) for key, one in value.items()}
    if isinstance(value, list):
        return [minimised(one) for one in value]
    return _short(value) if isinstance(value, str) else value


def fixture(client: str, record: dict[str, Any]) -> dict[str, Any]:
    """Return what one recorded request becomes."""
    body = dict(record["body"]) | {"model": MODEL}
    headers = {
        name: text
        for name, text in record["headers"].items()
        if name not in _LEFT_OUT_HEADERS and not name.startswith("x-edgeforge")
    }
    return {
        "client": client,
        "method": record["method"],
        "path": record["path"],
        "headers": {name: _short(text, MAX_HEADER_CHARS) for name, text in headers.items()},
        "body": minimised(body),
    }


def _short(text: str, max_chars: int = MAX_TEXT_CHARS) -> str:
    text = _IDENTIFIER.sub("00000000-0000-4000-8000-000000000000", text)
    text = _FOLDER.sub("/project", text)
    text = _NUMBER.sub(r"\g<1>0", text)
    return text if len(text) <= max_chars else f"{text[:max_chars]}..."


def main() -> None:
    """Write one fixture."""
    records, client, name, *rest = sys.argv[1:]
    posts = [one for one in json.loads(Path(records).read_text())["requests"] if one["body"]]
    made = fixture(client, posts[int(rest[0]) if rest else 0])
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / f"{name}.json").write_text(json.dumps(made, indent=1) + "\n")


if __name__ == "__main__":
    main()
