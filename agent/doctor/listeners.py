"""The ports that this host listens on, and the certificate of the client port."""

from __future__ import annotations

import datetime
import socket
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from agent.clock import now_unix_ms
from agent.doctor.finding import Finding
from agent.gateway.tls import ClientCertificate
from protos.domain.errors import EdgeForgeError

if TYPE_CHECKING:
    from cryptography import x509

    from agent.config import AgentConfig

_FEW_DAYS = 14


def check_ports(config: AgentConfig, *, running: bool) -> Finding:
    """Check that the ports are free, or held by the agent itself."""
    wanted = {
        "client.port": (config.client.host, config.client.port),
        "peer.port": (config.peer.host, config.peer.port),
        "metrics.port": (config.metrics.host, config.metrics.port),
    }
    if running:
        return Finding("ports", True, "held by the agent, which runs")
    taken = [name for name, address in wanted.items() if not _is_free(*address)]
    if taken:
        step = "stop who holds them, or choose others: `ss -ltnp` shows the process"
        return Finding("ports", False, f"in use: {', '.join(taken)}", step)
    return Finding("ports", True, "all free")


def check_client_tls(config: AgentConfig) -> Finding:
    """Check that certificate and key of the client port fit, are valid, and have its name."""
    client = config.client
    if not client.cert_file:
        return Finding("client TLS", True, "none: clients call by plain HTTP")
    try:
        ClientCertificate(Path(client.cert_file), Path(client.key_file))
        certificate = _read_certificate(Path(client.cert_file))
    except EdgeForgeError as error:
        return Finding("client TLS", False, error.message, error.hint)
    except (OSError, ValueError) as error:
        return Finding("client TLS", False, f"{client.cert_file}: {error}", "give a PEM chain")
    now = datetime.datetime.fromtimestamp(now_unix_ms() / 1_000, datetime.UTC)
    days = (certificate.not_valid_after_utc - now).total_seconds() / 86_400
    if days <= 0 or now < certificate.not_valid_before_utc:
        step = "replace it; the agent reloads the files by itself"
        return Finding("client TLS", False, f"{client.cert_file} is not valid now", step)
    host = urlsplit(config.client_url).hostname or ""
    names = _names(certificate)
    if not any(_covers(name, host) for name in names):
        step = f"give a certificate for {host}, or set client.url to a name that it has"
        return Finding("client TLS", False, f"it is for {', '.join(names)[:200]}", step)
    found = f"for {host}, {days:.0f} more days"
    return Finding("client TLS", True, found, "" if days > _FEW_DAYS else "renew it soon")


def _is_free(host: str, port: int) -> bool:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((host, port))
        except OSError:
            return False
    return True


def _read_certificate(path: Path) -> x509.Certificate:
    """Raises: OSError, ValueError."""
    from cryptography import x509  # large, and only this command needs it here

    return x509.load_pem_x509_certificates(path.read_bytes())[0]


def _names(certificate: x509.Certificate) -> list[str]:
    from cryptography import x509

    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    addresses = names.get_values_for_type(x509.IPAddress)
    return [*names.get_values_for_type(x509.DNSName), *map(str, addresses)]


def _covers(name: str, host: str) -> bool:
    if name.startswith("*."):
        return host.partition(".")[2].lower() == name[2:].lower()
    return name.lower() == host.lower()
