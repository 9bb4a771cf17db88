"""``edgeforge env``: what clients of the Hugging Face hub need to use this registry."""

from __future__ import annotations

import os
import shlex
import stat
from pathlib import Path
from typing import Annotated

import typer

from coordinator.cli.common import JsonOption, admin
from protos.domain.errors import ConfigInvalid, InvalidRequest, NotFound
from protos.output.terminal import print_json, print_line
from protos.v1 import adoption_pb2

_MAX_KEY_BYTES = 1_000
#: Stands where the key is to be written: no secret is printed unless its file is named.
PLACEHOLDER = "YOUR-ACCOUNT-KEY"


def env(
    account_key_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Print the API key in this file as HF_TOKEN; else a placeholder."
        ),
    ] = None,
    json_output: JsonOption = False,
) -> None:
    """Print the variables that huggingface_hub, hf and vllm need to use this registry.

    Example: eval "$(edgeforge env --account-key-file acme.key)" && hf download acme/llama-8b
    """
    with admin() as client:
        hub = client.adoption(lambda stub: stub.ShowHub, adoption_pb2.ShowHubRequest())
        ca_file = client.profile.ca_file
    if not hub.endpoint:
        raise NotFound(
            "the coordinator does not answer the hub's protocol",
            "set enabled = true in [hub] of its configuration, and start it again",
        )
    variables = {
        "HF_ENDPOINT": hub.endpoint,
        "HF_HUB_DISABLE_XET": "1",
        "HF_TOKEN": read_key(account_key_file) if account_key_file else PLACEHOLDER,
    }
    if hub.own_authority:
        variables["SSL_CERT_FILE"] = str(ca_file.absolute())
    if json_output:
        print_json(variables)
        return
    for name, value in variables.items():
        print_line(f"export {name}={shlex.quote(value)}")


def read_key(path: Path) -> str:
    """Return the key in a file that only its owner can read. Raises: ConfigInvalid."""
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            text = file.read(_MAX_KEY_BYTES).decode().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigInvalid([f"{path} cannot be read as a key: {error}"]) from error
    if mode & 0o077:
        raise ConfigInvalid(
            [f"the key {path} can be read by others (mode {mode:04o})"], f"chmod 600 {path}"
        )
    if not text or not text.isprintable() or " " in text:
        raise InvalidRequest(f"{path} holds no key", "`edgeforge key create` prints one")
    return text
