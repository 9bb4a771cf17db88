"""The real engine environment and the small model, for tests that need vLLM itself.

Both are made once and kept: the environment by ``make`` or ``packaging/engine/install``, the model
under ``.cache/``, converted anew only when the converter or the model changes.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import subprocess
from pathlib import Path

from coordinator.devfleet.small_model import GGUF_SHA256, fetch_small_model

ROOT = Path(__file__).parents[2]
CACHE_DIR = ROOT / ".cache"
ENGINE_ENVIRONMENT = ROOT / ".venv-engine"
CONVERTER = ROOT / "coordinator" / "blobs" / "gguf_to_safetensors.py"
CONVERT_TIMEOUT_S = 300


def engine_environment() -> Path:
    """Return the engine environment, installing it if it is not there (minutes) or out of date."""
    subprocess.run(
        [ROOT / "packaging" / "engine" / "install", "--venv", ENGINE_ENVIRONMENT],
        check=True,
        timeout=3600,
    )
    return ENGINE_ENVIRONMENT


def small_model_gguf() -> Path:
    """Return the small model as it is published."""
    return fetch_small_model(CACHE_DIR)


def small_model_dir() -> Path:
    """Return the small model as safetensors; the first call converts it (half a minute)."""
    CACHE_DIR.mkdir(exist_ok=True)
    with (CACHE_DIR / "convert.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        layout = CONVERTER.with_name("gguf_layout.py")
        parts = CONVERTER.read_bytes() + layout.read_bytes() + GGUF_SHA256.encode()
        digest = hashlib.sha256(parts).hexdigest()
        target = CACHE_DIR / f"smollm2-135m-{digest[:12]}"
        if not target.exists():
            convert(small_model_gguf(), target).check_returncode()
        return target


def convert(source: Path, target: Path) -> subprocess.CompletedProcess[str]:
    """Run the converter as the coordinator does."""
    return subprocess.run(
        [engine_environment() / "bin" / "python", CONVERTER, source, target],
        capture_output=True,
        text=True,
        timeout=CONVERT_TIMEOUT_S,
        check=False,
        env={"PATH": os.environ["PATH"], "HOME": str(CACHE_DIR)},
    )
