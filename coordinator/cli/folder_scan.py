"""What of a folder of this machine is imported: names checked, files hashed, traces left out."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from protos.domain.errors import InvalidRequest
from protos.domain.manifest import check_adapter_manifest, check_manifest
from protos.domain.model_folder import (
    TIDIED_NAMES,
    is_read,
    is_read_of_adapter,
    without_dropped_keys,
)
from protos.domain.object_names import ObjectKind
from protos.domain.resources import ModelFile

Report = Callable[[str], None]

_MAX_CONFIG_BYTES = 4 * 1024**2
#: Files from which on it is said that they are hashed.
_SAID_BYTES = 64 * 1024**2
#: Files that downloads contain and no engine needs.
_IGNORED = frozenset({".gitattributes", ".gitignore"})
#: Notes of trainers beside an adapter.
_HARMLESS_SUFFIXES = (".json", ".txt", ".md", ".jsonl", ".yaml", ".yml", ".png")


class ScannedFile(NamedTuple):
    """A file of the model, and where its bytes are on this machine."""

    file: ModelFile
    source: Path


def _is_kept_of_adapter(path: str) -> bool:
    """Keep what may hold code too, so that it is refused and not left out."""
    return is_read_of_adapter(path) or not path.endswith(_HARMLESS_SUFFIXES)


class _Rules(NamedTuple):
    """What is imported of a folder, by kind."""

    is_read: Callable[[str], bool]
    check: Callable[[Sequence[ModelFile]], None]
    left_out: str
    wanted: str


_RULES = {
    ObjectKind.MODEL: _Rules(
        is_read, check_manifest, "no engine reads it", "give a safetensors directory or a .gguf"
    ),
    ObjectKind.ADAPTER: _Rules(
        _is_kept_of_adapter,
        check_adapter_manifest,
        "no adapter needs it",
        "give the directory that peft's save_pretrained wrote",
    ),
}


def scan_folder(
    folder: Path, scratch: Path, report: Report, kind: ObjectKind = ObjectKind.MODEL
) -> list[ScannedFile]:
    """Return what is imported of ``folder``. Raises: InvalidRequest for files not allowed in it.

    Files that no engine reads are left out; configurations that name the machine they were made on
    are imported without that, from a copy in ``scratch``.
    """
    rules = _RULES[kind]
    if not folder.is_dir():
        raise InvalidRequest(f"{folder} is no directory", rules.wanted)
    paths = []
    for name, path in sorted(_walk(folder)):
        if rules.is_read(name):
            paths.append((name, path))
        else:
            report(f"leaving out {name}: {rules.left_out}")
    # Names are checked before any file is opened.
    rules.check([ModelFile(name, bytes(32), path.stat().st_size) for name, path in paths])
    found = []
    for name, path in paths:
        source = _tidied(name, path, scratch, report) if name in TIDIED_NAMES else path
        size_bytes = source.stat().st_size
        if size_bytes > _SAID_BYTES:
            report(f"hashing {name} ({size_bytes / 1024**2:.0f} MiB)")
        with source.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").digest()
        found.append(ScannedFile(ModelFile(name, digest, size_bytes), source))
    return found


def _tidied(name: str, path: Path, scratch: Path, report: Report) -> Path:
    """Return ``path``, or a copy without the keys that are left out of an import."""
    if path.stat().st_size > _MAX_CONFIG_BYTES:
        return path
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        return path  # the coordinator says what is wrong with it
    if not isinstance(content, dict):
        return path
    kept, dropped = without_dropped_keys(content)
    if not dropped:
        return path
    report(f"{name}: leaving out {', '.join(dropped)}")
    copy = scratch / f"tidied-{name}"
    copy.write_text(json.dumps(kept, indent=2) + "\n", encoding="utf-8")
    return copy


def _walk(folder: Path) -> Iterator[tuple[str, Path]]:
    for entry in folder.iterdir():
        if entry.name in _IGNORED:
            continue
        if entry.is_symlink():
            raise InvalidRequest(
                f"{entry} is a link", "import a directory of plain files: cp -rL makes one"
            )
        if entry.is_dir():
            for name, path in _walk(entry):
                yield f"{entry.name}/{name}", path
        elif entry.is_file():
            yield entry.name, entry
        else:
            raise InvalidRequest(f"{entry} is neither a file nor a directory")
