"""Second sets of weights of a model's shape: what is swapped into a warm engine."""

from __future__ import annotations

import hashlib
from pathlib import Path

from coordinator.devfleet.demo_weights import write_fine_tune


def fine_tune_of(base: Path, folder: Path, seed: int = 1) -> Path:
    """Return a fine-tune of ``base`` below ``folder``, made once for each seed.

    Same files, same shapes, other weights: a second for 270 MB, of constant memory. Its greedy
    answers differ from the base's and from those of other seeds.
    """
    target = folder / f"{base.name}-tuned-{seed}"
    if not target.exists():
        partial = target.with_name(target.name + ".partial")
        write_fine_tune(base, partial, seed)
        partial.rename(target)
    return target


def digest_of(folder: Path) -> str:
    """Return one digest of every file's name and bytes."""
    summed = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        with path.open("rb") as file:
            summed.update(path.name.encode() + hashlib.file_digest(file, "sha256").digest())
    return summed.hexdigest()
