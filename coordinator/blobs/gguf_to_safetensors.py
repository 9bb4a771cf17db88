"""Turn a GGUF file into a safetensors directory: ``gguf_to_safetensors.py SOURCE.gguf TARGET_DIR``.

Run by path with the *engine* environment's Python, because torch and transformers live there; the
product environment has neither. Only the standard library is imported at the top, so that a wrong
interpreter causes an error message and not a traceback.

Standard output is JSON lines and nothing else. Progress is ``{"stage": str, "elapsed_ms": int}``,
the last line is ``{"stage": "done", "files": {name: bytes}, ...}`` or
``{"error": {"message": str, "hint": str}}`` with a non-zero exit: 64 usage, 65 the file is bad or
not allowed, 69 wrong interpreter, 73 the target cannot be written. Output of libraries goes to
standard error. The same source gives the same bytes.

The file's own numbers are checked against its size first (``gguf_layout.py``), then memory,
processor time and written bytes of this process are limited by what the file holds, and only then
are the libraries that convert it imported.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import resource
import shutil
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

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

HEARTBEAT_S = 2.0

#: Limits of this process, by the numbers that the file holds: memory (each number is held as a
#: float and as its result, and one tensor a second time), address space (GPU builds of torch map
#: 5 GiB of libraries), processor time and the largest file written. A model of 135 M numbers took
#: 1.0 GiB.
BASE_MEMORY_BYTES = 3 * 1024**3
MEMORY_BYTES_PER_NUMBER = 10
LIBRARIES_BYTES = 9 * 1024**3
BASE_CPU_S = 300
NUMBERS_PER_CPU_S = 5_000_000
BASE_WRITTEN_BYTES = 256 * 1024**2
WRITTEN_BYTES_PER_NUMBER = 2

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


def load_layout_module() -> ModuleType:
    """Return ``gguf_layout.py`` of this folder; its package is not importable here."""
    path = Path(__file__).with_name("gguf_layout.py")
    spec = importlib.util.spec_from_file_location("edgeforge_gguf_layout", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def read_header(source: Path) -> dict[str, Any]:
    """Return the few metadata fields that decide whether and how ``source`` is converted.

    Limits this process by what the file holds.

    Raises:
        ConversionError: not a GGUF file, cut short, or a family that is not served.
    """
    gguf_layout = load_layout_module()
    try:
        with source.open("rb") as stream:
            layout = gguf_layout.read_layout(stream, source.stat().st_size)
            architecture = layout.values.get("general.architecture")
            if architecture not in FAMILIES:
                message = f"{source.name} has architecture {str(architecture)[:60]!r}"
                hint = "the Llama, Mistral, Qwen and Phi families are served: "
                raise ConversionError(EXIT_BAD_FILE, message, hint + ", ".join(FAMILIES))
            gguf_layout.check_model(layout, architecture)
    except OSError as error:
        message = f"cannot read {source.name}: {error.strerror}"
        raise ConversionError(
            EXIT_BAD_FILE, message, "check the path and its permissions"
        ) from error
    except gguf_layout.BadGguf as error:
        message = f"{source.name} is damaged or no GGUF file: {one_line(error)}"
        hint = "fetch the file again, or make it again with a current llama.cpp"
        raise ConversionError(EXIT_BAD_FILE, message, hint) from error
    limit_process(layout.elements)
    return {
        "architecture": architecture,
        "pre_tokenizer": layout.values.get("tokenizer.ggml.pre"),
        "add_bos": layout.values.get("tokenizer.ggml.add_bos_token"),
    }


def limit_process(numbers: int) -> None:
    """Limit this process for good, by how many numbers the file's tensors hold."""
    memory_bytes = BASE_MEMORY_BYTES + numbers * MEMORY_BYTES_PER_NUMBER
    for kind, limit in (
        (resource.RLIMIT_DATA, memory_bytes),
        (resource.RLIMIT_AS, memory_bytes + LIBRARIES_BYTES),
        (resource.RLIMIT_CPU, BASE_CPU_S + numbers // NUMBERS_PER_CPU_S),
        (resource.RLIMIT_FSIZE, BASE_WRITTEN_BYTES + numbers * WRITTEN_BYTES_PER_NUMBER),
        (resource.RLIMIT_CORE, 0),
    ):
        soft, hard = resource.getrlimit(kind)
        least = min(limit if one == resource.RLIM_INFINITY else one for one in (limit, soft, hard))
        resource.setrlimit(kind, (least, least))


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
        import transformers
        from transformers import AutoModelForCausalLM, GgufConfig

        transformers.utils.logging.disable_progress_bar()

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
    for library in ("gguf", "transformers"):
        if importlib.util.find_spec(library) is None:
            message = f"this Python has no {library}"
            hint = (
                "run this with the engine environment's Python; packaging/engine/install makes it"
            )
            raise ConversionError(EXIT_WRONG_INTERPRETER, message, hint)
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
