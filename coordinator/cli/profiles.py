"""Profiles and contexts: which coordinator a command asks, and as whom.

A profile is a ``profile.toml`` beside the files that it names. A context is a profile that
``edgeforge login`` wrote, in a folder of its own name below the operator's home.
"""

from __future__ import annotations

import json
import re
import shutil
import tempfile
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from protos.domain.errors import ConfigInvalid, Conflict, InvalidRequest, NotFound
from protos.host.files import make_private_folder, write_whole

PROFILE = "profile.toml"
KEY, CERTIFICATE, AUTHORITIES = "key.pem", "cert.pem", "ca.pem"
#: Of a fleet that runs in the present folder.
LOCAL = Path(".edgeforge") / PROFILE

_FOLDER = Path(".config/edgeforge")
_CURRENT = "current-context"
_PROFILE_KEYS = ("admin_address", "ca_file", "cert_file", "key_file")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")


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
    hint = "`edgeforge login` writes one; name it with --profile or EDGEFORGE_PROFILE"
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


def find_profile(named: Path | None, environ: Mapping[str, str], home: Path) -> Path:
    """Return the profile to use. Raises: ConfigInvalid when there is none."""
    if named is not None:
        return named
    if environ.get("EDGEFORGE_PROFILE"):
        return Path(environ["EDGEFORGE_PROFILE"])
    if LOCAL.is_file():
        return LOCAL
    contexts = Contexts(home)
    current = contexts.current()
    if current is not None:
        return contexts.profile(current)
    fallback = home / _FOLDER / PROFILE
    if fallback.is_file():
        return fallback
    raise ConfigInvalid(
        ["no coordinator is known: there is no profile"],
        "log in with 'edgeforge login', start a fleet here with 'edgeforge up', or name a profile"
        " with --profile FILE",
    )


@dataclass(frozen=True, slots=True)
class Contexts:
    """The contexts of the operator whose home this is."""

    home: Path

    def names(self) -> list[str]:
        """Return the names in order."""
        return sorted(one.parent.name for one in self._folder.glob(f"*/{PROFILE}") if _ok(one))

    def profile(self, name: str) -> Path:
        """Return the profile of a context. Raises: NotFound."""
        path = self._folder / _checked(name) / PROFILE
        if not path.is_file():
            raise NotFound(f"there is no context {name!r}", "`edgeforge context ls` shows all")
        return path

    def current(self) -> str | None:
        """Return the name of the context in use, None if there is none or it has gone."""
        try:
            name = (self._root / _CURRENT).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError):
            return None
        return name if name in self.names() else None

    def use(self, name: str) -> None:
        """Have commands use a context. Raises: NotFound."""
        self.profile(name)
        write_whole(self._root / _CURRENT, f"{name}\n".encode())

    def remove(self, name: str) -> None:
        """Delete a context with its key. Raises: NotFound."""
        folder = self.profile(name).parent
        if self.current() == name:
            (self._root / _CURRENT).unlink(missing_ok=True)
        shutil.rmtree(folder)

    def check_free(self, name: str) -> None:
        """Raises: InvalidRequest, Conflict."""
        if (self._folder / _checked(name)).exists():
            raise Conflict(
                f"there is a context {name!r} already",
                "choose another name with --context NAME, or remove it: edgeforge context rm NAME",
                retryable=False,
            )

    def add(
        self, name: str, *, admin_address: str, key_pem: bytes, cert_pem: bytes, ca_pem: bytes
    ) -> Path:
        """Write a context, whole or not at all, and return its profile.

        Raises: InvalidRequest, Conflict.
        """
        self.check_free(name)
        make_private_folder(self._root)
        make_private_folder(self._folder)
        staging = Path(tempfile.mkdtemp(prefix=".new-", dir=self._folder))
        try:
            for file, content in ((KEY, key_pem), (CERTIFICATE, cert_pem), (AUTHORITIES, ca_pem)):
                write_whole(staging / file, content)
            write_whole(staging / PROFILE, _profile_text(admin_address).encode())
            try:
                staging.rename(self._folder / name)
            except OSError:
                self.check_free(name)  # another login was first
                raise
        finally:
            shutil.rmtree(staging, ignore_errors=True)
        return self._folder / name / PROFILE

    def pending_key(self, token_id: str) -> Path:
        """Return where the key of a login stays until its answer has come."""
        make_private_folder(self._root)
        return self._root / f"pending-{_checked(token_id)}.pem"

    @property
    def _root(self) -> Path:
        return self.home / _FOLDER

    @property
    def _folder(self) -> Path:
        return self._root / "contexts"


def context_name_of(address: str) -> str:
    """Return the name of the context for a coordinator: its host, as far as a name may have it."""
    host = address.rpartition(":")[0].strip("[]")
    return re.sub(r"[^A-Za-z0-9_.-]", "-", host).strip("-.")[:63] or "coordinator"


def _ok(profile: Path) -> bool:
    return _NAME.fullmatch(profile.parent.name) is not None and profile.is_file()


def _checked(name: str) -> str:
    if _NAME.fullmatch(name) is None:
        raise InvalidRequest(
            f"{name[:80]!r} cannot name a context", "use 1 to 63 letters, digits, _, . and -"
        )
    return name


def _profile_text(admin_address: str) -> str:
    return (
        "# Who you are to this fleet. Paths start at this folder; keep key.pem to yourself.\n"
        # JSON's strings are valid TOML.
        f"admin_address = {json.dumps(admin_address)}\n"
        f'ca_file = "{AUTHORITIES}"\n'
        f'cert_file = "{CERTIFICATE}"\n'
        f'key_file = "{KEY}"\n'
    )
