"""Contexts of TLS for the HTTPS listeners of customers."""

from __future__ import annotations

import ssl
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from protos.domain.addresses import is_unspecified
from protos.domain.errors import ConfigInvalid

if TYPE_CHECKING:
    from coordinator.ca.authority import CertificateAuthority
    from coordinator.sections.public_listener import PublicListener


def tls_of_listener(
    name: str, section: PublicListener, authority: CertificateAuthority, coordinator_name: str
) -> ssl.SSLContext | None:
    """Return the context of the listener that the section ``name`` describes; None: plain HTTP.

    Raises: ConfigInvalid when its files hold no pair.
    """
    if section.plain_http:
        return None
    if section.certificate_file:
        return tls_of_files(name, Path(section.certificate_file), Path(section.key_file))
    hosts = {section.host, urlsplit(section.advertise).hostname or "", "localhost"}
    named = sorted(host for host in hosts if host and not is_unspecified(host))
    return tls_of_pair(*authority.new_coordinator(coordinator_name, named))


def tls_of_pair(key_pem: bytes, chain_pem: bytes) -> ssl.SSLContext:
    """Return a server's context of a key that is kept in memory otherwise."""
    with tempfile.TemporaryDirectory(prefix="edgeforge-tls-") as folder:
        path = Path(folder) / "pair.pem"
        path.touch(0o600)
        path.write_bytes(key_pem + chain_pem)
        return tls_of_files("tls", path, path)


def tls_of_files(section: str, certificate: Path, key: Path) -> ssl.SSLContext:
    """Return a server's context. Raises: ConfigInvalid when the files hold no pair."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as error:
        raise ConfigInvalid(
            [f"{section}: {certificate} and {key} hold no certificate and key: {error}"]
        ) from error
    return context
