"""The one client of the administration listener: mutual TLS, a deadline on every call."""

from __future__ import annotations

import contextlib
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

import grpc

from protos.domain.errors import ConfigInvalid, EdgeForgeError, LinkDown
from protos.v1 import admin_pb2_grpc
from protos.wire.errors import error_from_metadata

T = TypeVar("T")

COORDINATOR_NAME = "coordinator.edgeforge.internal"
TIMEOUT_S = 30.0
_MAX_MESSAGE_BYTES = 64 * 1024 * 1024
_PROFILE_KEYS = ("admin_address", "ca_file", "cert_file", "key_file")


@dataclass(frozen=True, slots=True)
class Profile:
    """A coordinator's address and an operator's credentials: ``profile.toml``."""

    path: Path
    admin_address: str
    ca_file: Path
    cert_file: Path
    key_file: Path


def load_profile(path: Path) -> Profile:
    """Read a profile; its files are relative to it. Raises: ConfigInvalid."""
    hint = "edgeforge-coordinator init writes one; name it with --profile or EDGEFORGE_PROFILE"
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigInvalid([f"profile {path}: {error}"], hint) from error
    missing = [f"profile {path}: no {key}" for key in _PROFILE_KEYS if not values.get(key)]
    if missing:
        raise ConfigInvalid(missing, hint)
    folder = path.parent
    return Profile(
        path=path,
        admin_address=str(values["admin_address"]),
        ca_file=folder / str(values["ca_file"]),
        cert_file=folder / str(values["cert_file"]),
        key_file=folder / str(values["key_file"]),
    )


def find_profile(named: Path | None, environ: dict[str, str], home: Path) -> Path:
    """Return the profile to use. Raises: ConfigInvalid when there is none."""
    if named is not None:
        return named
    if environ.get("EDGEFORGE_PROFILE"):
        return Path(environ["EDGEFORGE_PROFILE"])
    places = [Path(".edgeforge/profile.toml"), home / ".config/edgeforge/profile.toml"]
    for place in places:
        if place.is_file():
            return place
    raise ConfigInvalid(
        ["no coordinator is known: there is no profile"],
        "start a fleet here with 'edgeforge up', or name a profile with --profile FILE",
    )


class AdminClient:
    """Calls the Admin service; translates its errors."""

    def __init__(self, profile: Profile) -> None:
        self.profile = profile
        try:
            credentials = grpc.ssl_channel_credentials(
                root_certificates=profile.ca_file.read_bytes(),
                private_key=profile.key_file.read_bytes(),
                certificate_chain=profile.cert_file.read_bytes(),
            )
        except OSError as error:
            raise ConfigInvalid([f"profile {profile.path}: {error}"]) from error
        options = (
            ("grpc.ssl_target_name_override", COORDINATOR_NAME),
            ("grpc.max_receive_message_length", _MAX_MESSAGE_BYTES),
            ("grpc.enable_http_proxy", 0),
        )
        self._channel = grpc.secure_channel(profile.admin_address, credentials, options=options)
        self._stub = admin_pb2_grpc.AdminStub(self._channel)

    def call(
        self,
        method: Callable[[admin_pb2_grpc.AdminStub], Callable[..., T]],
        request: Any,  # noqa: ANN401 - a message or an iterator of them
        timeout_s: float = TIMEOUT_S,
    ) -> T:
        """Call one method. Raises: LinkDown, or the error that the coordinator answered."""
        try:
            return method(self._stub)(request, timeout=timeout_s)
        except grpc.RpcError as error:
            # A failed call is also a grpc.Call, which the type stubs omit.
            raise self._translate(cast("grpc.Call", error)) from error

    def close(self) -> None:
        self._channel.close()

    def _translate(self, error: grpc.Call) -> EdgeForgeError:
        metadata = [(str(key), value) for key, value in error.trailing_metadata() or ()]
        found = error_from_metadata(error.code().name, error.details() or "", metadata)
        if isinstance(found, LinkDown) and not found.hint:
            return LinkDown(
                f"no coordinator answers at {self.profile.admin_address}: {found.message}",
                "is it running? 'edgeforge up' starts one here",
            )
        return found


@contextlib.contextmanager
def connected(profile: Profile) -> Iterator[AdminClient]:
    """Provide a client and close it afterwards."""
    client = AdminClient(profile)
    try:
        yield client
    finally:
        client.close()
