"""Assembles the hub's listener and the client of the other hub from the configuration."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import TYPE_CHECKING

from coordinator.api.tls import tls_of_listener
from coordinator.hub.listener import HubListener, HubParts
from coordinator.hub.registry_catalogue import RegistryCatalogue
from coordinator.hub.upstream import UpstreamHub, UpstreamPlace
from protos.host.files import make_private_folder, write_whole

if TYPE_CHECKING:
    from coordinator.blobs.interface import BlobStore
    from coordinator.ca.authority import CertificateAuthority
    from coordinator.config import CoordinatorConfig
    from coordinator.operations.member_secrets import MemberLogins
    from coordinator.operations.operations import Operations
    from coordinator.store.store import Store

_SECRET_BYTES = 32


def make_hub(
    config: CoordinatorConfig,
    store: Store,
    authority: CertificateAuthority,
    operations: Operations,
    blobs: BlobStore,
    logins: MemberLogins,
) -> HubListener | None:
    """Return the hub's listener, None if it is off. Raises: ConfigInvalid."""
    hub = config.hub
    if not hub.enabled:
        return None
    parts = HubParts(
        catalogue=RegistryCatalogue(operations, blobs),
        keys=lambda: store.view().keys,
        secret=_secret(config.state_dir / "hub"),
        logins=logins,
        advertise=hub.advertise,
        tls=tls_of_listener("hub", hub, authority, config.coordinator.name),
    )
    return HubListener(parts, hub.host, hub.port, max_connections=hub.max_connections)


def make_upstream(config: CoordinatorConfig) -> UpstreamHub:
    """Return the client of the hub that hf:// names."""
    upstream = config.upstream
    place = UpstreamPlace(
        endpoint=upstream.endpoint.rstrip("/"),
        private_endpoint=upstream.allow_private_endpoint,
        ca_file=upstream.ca_file,
        max_file_bytes=config.limits.max_blob_bytes,
    )
    return UpstreamHub(place, config.state_dir / "upstream")


def _secret(folder: Path) -> bytes:
    """Return what signs the addresses of uploads; it stays, so that uploads outlive a restart."""
    path = folder / "upload.key"
    make_private_folder(folder)
    if not path.is_file():
        write_whole(path, secrets.token_bytes(_SECRET_BYTES))
    return path.read_bytes()
