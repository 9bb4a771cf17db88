"""Turn a GGUF file into a safetensors directory: ``gguf_to_safetensors.py SOURCE.gguf TARGET_DIR``.

Run by path with the *engine* environment's Python, because torch and transformers live there; the
product environment has neither. Only the standard library is imported at the top, so that a wrong
interpreter causes an error message and not a traceback.

Standard output is JSON lines and nothing else. Progress is ``{"stage": str, "elapsed_ms": int}``,
the last line is ``{"stage": "done", "files": {name: bytes}, ...}`` or
``{"error": {"message": str, "hint": str}}`` with a non-zero exit: 64 usage, 65 the file is bad or
not allowed, 69 wrong interpreter, 73 the target cannot be written. Output of libraries goes to
standard error. The same source gives the same bytes.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from collections.abc import Iterator

# Both must be set before transformers is imported: nothing here may use the network.
OFFLINE_ENV = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}

#: GGUF's ``general.architecture`` -> the family as the registry calls it. Mistral files usually say
#: ``llama``; the weights are laid out the same.
FAMILIES = {
    "llama": "llama",
    "mistral": "mistral",
    "qwen2": "qwen",
    "qwen2moe": "qwen",
    "qwen3": "qwen",
    "qwen3moe": "qwen",
    "phi3": "phi",
}

GGUF_MAGIC = b"GGUF"
GGUF_VERSIONS = (2, 3)
HEARTBEAT_S = 2.0

EXIT_USAGE = 64
EXIT_BAD_FILE = 65
EXIT_WRONG_INTERPRETER = 69
EXIT_NO_TARGET = 73


class ConversionError(Exception):
    """A failed conversion, with its exit code."""

    def __init__(self, exit_code: int, message: str, hint: str) -> None:
        super().__init__(message)
        self.exit_code = exit_code
        self.message = message
        self.hint = hint


class Reporter:
    """Writes the JSON lines; repeats the current stage every two seconds."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lock = threading.Lock()
        self._started_s = time.monotonic()

    def write(self, **fields: object) -> None:
        elapsed_ms = int((time.monotonic() - self._started_s) * 1000)
        with self._lock:
            self._stream.write(json.dumps({**fields, "elapsed_ms": elapsed_ms}) + "\n")
            self._stream.flush()

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Report ``name`` now and every two seconds until it is over."""
        over = threading.Event()

        def beat() -> None:
            while not over.wait(HEARTBEAT_S):
                self.write(stage=name)

        self.write(stage=name)
        thread = threading.Thread(target=beat, daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()


def read_header(source: Path) -> dict[str, Any]:
    """Return the few metadata fields that decide whether and how ``source`` is converted.

    Raises:
        ConversionError: not a GGUF file, cut short, or a family that is not served.
    """
    try:
        with source.open("rb") as stream:
            head = stream.read(8)
    except OSError as error:
        message = f"cannot read {source.name}: {error.strerror}"
        raise ConversionError(
            EXIT_BAD_FILE, message, "check the path and its permissions"
        ) from error
    version = int.from_bytes(head[4:8], "little")
    if head[:4] != GGUF_MAGIC or len(head) < 8:
        raise ConversionError(
            EXIT_BAD_FILE, f"{source.name} is not a GGUF file", "its magic is wrong"
        )
    if version not in GGUF_VERSIONS:
        message = f"{source.name} is GGUF version {version}, only 2 and 3 (little-endian) are read"
        raise ConversionError(EXIT_BAD_FILE, message, "make it again with a current llama.cpp")

    from gguf import GGUFReader

    try:
        fields = GGUFReader(source).fields
        header = {
            key: fields[field].contents() if field in fields else None
            for key, field in {
                "architecture": "general.architecture",
                "pre_tokenizer": "tokenizer.ggml.pre",
                "add_bos": "tokenizer.ggml.add_bos_token",
            }.items()
        }
    # A crafted or cut file makes the reader raise anything from IndexError to UnicodeDecodeError.
    except Exception as error:
        message = f"{source.name} is damaged: {type(error).__name__}: {one_line(error)}"
        raise ConversionError(EXIT_BAD_FILE, message, "fetch the file again") from error
    if header["architecture"] not in FAMILIES:
        message = f"{source.name} has architecture {str(header['architecture'])[:60]!r}"
        hint = "the Llama, Mistral, Qwen and Phi families are served: " + ", ".join(FAMILIES)
        raise ConversionError(EXIT_BAD_FILE, message, hint)
    return header


def load_tokenizer(source: Path, header: dict[str, Any]) -> Any:  # noqa: ANN401
    """Return the file's tokenizer, completed where transformers omits parts of it."""
    from tokenizers import pre_tokenizers, processors
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(
        str(source.parent), gguf_file=source.name, trust_remote_code=False
    )
    backend = tokenizer.backend_tokenizer
    if header["pre_tokenizer"] == "smollm":
        # SmolLM's merges were trained with each digit as a token.
        backend.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Digits(individual_digits=True),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
            ]
        )
    bos, bos_id = tokenizer.bos_token, tokenizer.bos_token_id
    if header["add_bos"] and bos is not None and tokenizer("a")["input_ids"][0] != bos_id:
        backend.post_processor = processors.TemplateProcessing(
            single=[bos, "$A"], pair=[bos, "$A", "$B"], special_tokens=[(bos, bos_id)]
        )
    return tokenizer


def convert(source: Path, target: Path, header: dict[str, Any], reporter: Reporter) -> None:
    """Write the directory ``target`` (which must exist) from ``source``."""
    with reporter.stage("importing"):
        import torch
        from transformers import AutoModelForCausalLM, GgufConfig

    with reporter.stage("tokenizer"):
        tokenizer = load_tokenizer(source, header)
    with reporter.stage("weights"):
        model = AutoModelForCausalLM.from_pretrained(
            str(source.parent),
            gguf_file=source.name,
            quantization_config=GgufConfig(dequantize=True),
            dtype=torch.bfloat16,
            trust_remote_code=False,
        )
    with reporter.stage("saving"):
        tokenizer.model_max_length = model.config.max_position_embeddings
        model.save_pretrained(str(target))
        tokenizer.save_pretrained(str(target))
        tidy(target)


def tidy(target: Path) -> None:
    """Remove paths of this machine from the files, and make them readable to other accounts."""
    traces = {
        "_name_or_path",
        "_model_name_or_path",
        "is_local",
        "local_files_only",
        "name_or_path",
    }
    for name in ("config.json", "tokenizer_config.json", "generation_config.json"):
        path = target / name
        if path.exists():
            kept = {k: v for k, v in json.loads(path.read_text()).items() if k not in traces}
            path.write_text(json.dumps(kept, indent=2, sort_keys=True) + "\n")
    for path in target.iterdir():
        path.chmod(0o644)


def one_line(error: BaseException) -> str:
    """Return the first 300 characters of the error's message, on one line."""
    return " ".join(str(error).split())[:300]


def run(source: Path, target: Path, reporter: Reporter) -> None:
    """Convert into a folder beside ``target`` and publish it by rename."""
    os.environ.update(OFFLINE_ENV)
    # Libraries must not import modules of this folder.
    sys.path[:] = [entry for entry in sys.path if Path(entry) != Path(__file__).parent]
    try:
        import gguf  # noqa: F401
        import transformers
    except ImportError as error:
        hint = "run this with the engine environment's Python; packaging/engine/install makes one"
        raise ConversionError(EXIT_WRONG_INTERPRETER, one_line(error), hint) from error
    transformers.utils.logging.disable_progress_bar()
    source = source.resolve()
    with reporter.stage("checking"):
        header = read_header(source)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        hint = "name a directory that does not exist or is empty"
        raise ConversionError(EXIT_NO_TARGET, f"{target} exists and is not empty", hint)
    partial = target.with_name(target.name + ".partial")
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
    except OSError as error:
        message = f"cannot create {partial}: {error.strerror}"
        raise ConversionError(EXIT_NO_TARGET, message, "choose another target") from error
    try:
        convert(source, partial, header, reporter)
        partial.replace(target)
    except Exception as error:
        # transformers raises OSError for bad contents too; only the system's errors have an errno.
        if isinstance(error, OSError) and error.errno is not None:
            message = f"cannot write {target}: {one_line(error)}"
            raise ConversionError(
                EXIT_NO_TARGET, message, "check free disk, permissions"
            ) from error
        message = f"{source.name} does not convert: {type(error).__name__}: {one_line(error)}"
        raise ConversionError(
            EXIT_BAD_FILE, message, "fetch the file again, or use safetensors"
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    reporter.write(
        stage="done",
        family=FAMILIES[header["architecture"]],
        files={path.name: path.stat().st_size for path in sorted(target.iterdir())},
    )


def main(argv: list[str]) -> int:
    # Libraries print to standard output too: keep the real one for the JSON lines.
    stream = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    reporter = Reporter(stream)
    try:
        if len(argv) != 3:
            raise ConversionError(
                EXIT_USAGE,
                "two arguments are needed",
                "gguf_to_safetensors.py SOURCE.gguf TARGET_DIR",
            )
        run(Path(argv[1]), Path(argv[2]), reporter)
    except ConversionError as error:
        reporter.write(error={"message": error.message, "hint": error.hint})
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
