"""Operators made on the coordinator's own host: the first one, and one to replace lost admins."""

from __future__ import annotations

import logging
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from coordinator.ca.authority import CertificateAuthority
from coordinator.ca.files import write_key, write_public
from coordinator.core.operators import Operator, Role
from coordinator.rpc.identity import IdentityKind, identity_of
from coordinator.store import operators
from coordinator.store.records import AuditNote
from coordinator.store.store import Store
from protos.domain.errors import StoreUnavailable, Unauthenticated
from protos.domain.ids import check_person
from protos.host.files import make_private_folder
from protos.host.ownership import as_owner_of

if TYPE_CHECKING:
    from coordinator.ca.certificates import IssuedCertificate
    from coordinator.config import CoordinatorConfig

_log = logging.getLogger(__name__)

PROFILE = "profile.toml"
_CERTIFICATE = "cert.pem"
#: Who invited the operators made on the host.
_HOST = "coordinator"


def write_operator(
    config: CoordinatorConfig, authority: CertificateAuthority, operator: str, folder: Path
) -> IssuedCertificate:
    """Write an operator's key, certificate and profile to ``folder``; return the certificate."""
    make_private_folder(folder.parent)
    make_private_folder(folder)
    key_pem, certificate = authority.new_operator(operator)
    write_key(folder / "key.pem", key_pem)
    write_public(folder / _CERTIFICATE, certificate.pem)
    write_public(folder / "ca.pem", authority.certificate_pem)
    profile = (
        "# Who you are to this fleet. Paths start at this folder; keep key.pem to yourself.\n"
        f'admin_address = "{config.admin_address}"\n'
        'ca_file = "ca.pem"\n'
        'cert_file = "cert.pem"\n'
        'key_file = "key.pem"\n'
    )
    write_public(folder / PROFILE, profile.encode())
    return certificate


def admin_of(name: str, certificate: IssuedCertificate, now_unix_ms: int) -> Operator:
    """Return the row of an admin that this host has made."""
    return Operator(
        name=name,
        role=Role.ADMIN,
        created_unix_ms=now_unix_ms,
        invited_by=_HOST,
        public_key_sha256=certificate.public_key_sha256,
        certificate_serial=certificate.serial,
        certificate_not_after_unix_ms=certificate.not_after_unix_ms,
    )


async def reset_operator(
    config: CoordinatorConfig, name: str, *, now_unix_ms: Callable[[], int]
) -> Path:
    """Make ``name`` an admin with a new key, and return its profile.

    An operator of this name has that key from then on; all others stay. The coordinator must be
    stopped. Raises: InvalidRequest, NotFound, Conflict when it runs, StoreUnavailable.
    """
    check_person(name)
    with as_owner_of(config.state_dir):
        return await _reset(config, name, now_unix_ms)


async def _reset(config: CoordinatorConfig, name: str, now_unix_ms: Callable[[], int]) -> Path:
    authority = CertificateAuthority.load(config.ca_dir, now_unix_ms=now_unix_ms)
    store = await Store.open(config.database, now_unix_ms=now_unix_ms, must_exist=True)
    try:
        make_private_folder(config.operators_dir)
        staging = Path(tempfile.mkdtemp(prefix=".reset-", dir=config.operators_dir))
        try:
            made = write_operator(config, authority, name, staging / name)
            note = AuditNote(_HOST, "operator.reset", f"operator/{name}", "role=admin")
            await store.write(operators.put(admin_of(name, made, now_unix_ms())), note)
            shutil.rmtree(config.operators_dir / name, ignore_errors=True)
            (staging / name).rename(config.operators_dir / name)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
    except OSError as error:
        raise StoreUnavailable(
            f"cannot write in {config.operators_dir}: {error.strerror}"
        ) from error
    finally:
        await store.close()
    return config.operators_dir / name / PROFILE


async def adopt_operators(
    config: CoordinatorConfig,
    store: Store,
    authority: CertificateAuthority,
    now_unix_ms: Callable[[], int],
) -> None:
    """Give a database without operators, of an earlier version, those that `init` made here.

    A certificate that is only with its holder is not known to this host, and is refused.
    """
    if store.operators():
        return
    for path in sorted(config.operators_dir.glob(f"*/{_CERTIFICATE}")):
        try:
            identity = identity_of(path.read_bytes())
            not_after_unix_ms = authority.not_after_unix_ms(path.read_bytes())
        except (OSError, Unauthenticated) as error:
            _log.warning("no operator adopted file=%s: %s", path, error)
            continue
        if identity.kind is not IdentityKind.OPERATOR or not_after_unix_ms <= now_unix_ms():
            _log.warning("no operator adopted file=%s: of another authority, or expired", path)
            continue
        adopted = Operator(
            name=identity.name,
            role=Role.ADMIN,
            created_unix_ms=now_unix_ms(),
            invited_by=_HOST,
            public_key_sha256=identity.public_key_sha256,
            certificate_serial=identity.certificate_serial,
            certificate_not_after_unix_ms=not_after_unix_ms,
        )
        note = AuditNote(_HOST, "operator.adopted", f"operator/{identity.name}", f"file={path}")
        try:
            await store.write(operators.put(adopted), note)
        except StoreUnavailable as error:
            _log.error("no operator adopted, start again file=%s: %s", path, error)
            return
        _log.warning("operator adopted operator=%s role=admin file=%s", identity.name, path)
    if not store.operators():
        _log.error(
            "nobody can administer this fleet: make an admin on this host with"
            " `edgeforge-coordinator operator reset NAME`"
        )
