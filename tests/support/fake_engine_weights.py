"""What vLLM 0.32 does with adapters and other weights, for ``tests.support.fake_engine``.

As the real one was seen to do (``engine_real/test_cold_starts.py``): a name is loaded once, an
unloaded one is not found, a folder that is not there is a 404, weights that cannot be read end the
process, and the prefix cache is emptied only while no request runs. What the weights say to the
prompts of a fingerprint is made from their bytes, whatever they are called, and from the adapter's
if that adds anything.
"""

from __future__ import annotations

import json
import os
import zlib
from pathlib import Path
from typing import Any

from aiohttp import web

from tests.support.fake_engine_wire import error, reply

LOAD, UNLOAD = "/v1/load_lora_adapter", "/v1/unload_lora_adapter"
RPC, RESET = "/collective_rpc", "/reset_prefix_cache"


class FakeWeights:
    """The weights of one engine, and the adapters beside them."""

    def __init__(self, model: str, folder: str) -> None:
        self.model = model
        self.folder = Path(folder)
        self.adapters: dict[str, Path] = {}

    def knows(self, name: object) -> bool:
        return name == self.model or name in self.adapters

    def handle(self, path: str, body: Any, *, running: int) -> web.Response | None:
        """Answer a request for one of these routes; None for a body that none of them takes."""
        if path == RESET:
            return reply({"success": running == 0})
        if not isinstance(body, dict):
            return None
        if path == LOAD and "lora_name" in body:
            return self._load(str(body["lora_name"]), Path(str(body["lora_path"])))
        if path == UNLOAD and "lora_name" in body:
            name = str(body["lora_name"])
            if self.adapters.pop(name, None) is None:
                return error(404, f"The lora adapter '{name}' cannot be found.", "NotFoundError")
            return web.Response(text=f"Success: LoRA adapter '{name}' removed successfully.")
        if path == RPC and body.get("method") == "reload_weights":
            return self._reload(Path(str(body["kwargs"]["weights_path"])))
        return None

    def says(self, body: dict[str, Any]) -> dict[str, Any]:
        """Return the answer to several prompts with their logprobs."""
        seed = zlib.crc32(self._content(str(body["model"])).encode())
        choices = [_choice(index, seed + index) for index in range(len(body["prompt"]))]
        return {"object": "text_completion", "model": body["model"], "choices": choices}

    def _load(self, name: str, path: Path) -> web.Response:
        if name in self.adapters:
            said = f"The lora adapter '{name}' has already been loaded."
            return error(400, said, "InvalidUserInput")
        if not path.is_dir():
            said = f"Loading lora {name} failed: No adapter found for {path}"
            return error(404, said, "NotFoundError")
        self.adapters[name] = path
        return web.Response(text=f"Success: LoRA adapter '{name}' added successfully.")

    def _reload(self, path: Path) -> web.Response:
        if not path.is_dir():
            os._exit(1)
        self.folder = path
        return reply({"results": [None]})

    def _content(self, name: str) -> str:
        path = self.adapters.get(name)
        if path is None or not any(_has_effect(one) for one in path.glob("*.safetensors")):
            return _bytes_of(self.folder)
        return f"{_bytes_of(self.folder)}+{_bytes_of(path)}"


def _bytes_of(folder: Path) -> str:
    """Return what tells weights apart; of a folder without any, as some tests have it, its name."""
    checksum = 0
    for path in sorted(folder.glob("*.safetensors")):
        checksum = zlib.crc32(path.read_bytes(), checksum)
    return f"{checksum:08x}" if checksum else folder.name


def _has_effect(path: Path) -> bool:
    """Whether any of an adapter's second matrices, which what it adds is a product of, is not 0."""
    data = path.read_bytes()
    begin = 8 + int.from_bytes(data[:8], "little")
    spans = [
        one["data_offsets"] for name, one in json.loads(data[8:begin]).items() if ".lora_B." in name
    ]
    return any(any(data[begin + first : begin + last]) for first, last in spans)


def _choice(index: int, seed: int) -> dict[str, Any]:
    logprob = -(seed % 1_000) / 100 - 0.1
    return {
        "index": index,
        "text": " t0 t1",
        "prompt_token_ids": [1, 2],
        "token_ids": [seed % 50, 4],
        "logprobs": {
            "token_logprobs": [logprob, -0.5],
            "top_logprobs": [{"t": logprob, "u": -5.0 + logprob}, {"v": -0.5, "w": -3.0}],
        },
    }
