"""The coordinator's configuration: a TOML file, each key replaceable by the environment.

``EDGEFORGE_COORDINATOR__<SECTION>__<KEY>`` replaces ``key`` of ``[section]``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from coordinator.sections.api import ApiSection, check_api
from coordinator.sections.billing import (
    BillingSection,
    PaymentsSection,
    SmtpSection,
    check_billing,
)
from coordinator.sections.blobs import BlobsSection, check_blobs
from coordinator.sections.hub import HubSection, UpstreamSection, check_hub, check_upstream
from coordinator.sections.usage import UsageSection, check_usage
from protos.domain.addresses import (
    address_problem,
    host_problem,
    is_loopback,
    is_unspecified,
    join_address,
)
from protos.domain.errors import ConfigInvalid, InvalidRequest
from protos.domain.ids import check_zone
from protos.domain.settings import published_port, read_settings, setting
from protos.host.config_file import mending_hint, read_config_file

ENV_PREFIX = "EDGEFORGE_COORDINATOR"

_KIB = 1024
_MIB = 1024 * _KIB
_GIB = 1024 * _MIB

_LOG_LEVELS = ("debug", "info", "warning", "error")
#: Valid names of a coordinator in its certificate.
_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,62}")


@dataclass(frozen=True, slots=True)
class CoordinatorSection:
    """``[coordinator]``"""

    #: Folder of all state: authority, database, blobs, operators. Made with mode 0700.
    #: A relative path starts at the folder of the configuration file.
    state_dir: str = setting()
    #: Name of this coordinator in its certificate.
    name: str = setting("coordinator")
    #: Lowest level that is logged: debug, info, warning or error.
    log_level: str = setting("info", choices=_LOG_LEVELS)
    #: Residency zone in which it stands with its database, such as US; empty: not said, so that
    #: names and texts of requests that are bound to zones never come here.
    zone: str = setting("")


@dataclass(frozen=True, slots=True)
class FleetSection:
    """``[fleet]``: the listener of agents, over mutual TLS."""

    #: Address to listen on; 0.0.0.0 or :: for all.
    host: str = setting("127.0.0.1")
    #: TCP port to listen on.
    port: int = published_port(7401)
    #: host:port that agents get at enrolment; empty: host and port as listened on.
    advertise: str = setting("")


@dataclass(frozen=True, slots=True)
class AdminSection:
    """``[admin]``: the listener of operators, over mutual TLS."""

    #: Address to listen on.
    host: str = setting("127.0.0.1")
    #: TCP port to listen on.
    port: int = published_port(7402)
    #: host:port written into operators' profiles; empty: host and port as listened on.
    advertise: str = setting("")


@dataclass(frozen=True, slots=True)
class EnrolmentSection:
    """``[enrolment]``: the listener of nodes that have no certificate yet."""

    #: Address to listen on.
    host: str = setting("127.0.0.1")
    #: TCP port to listen on.
    port: int = published_port(7403)
    #: host:port shown with a new token; empty: host and port as listened on.
    advertise: str = setting("")


@dataclass(frozen=True, slots=True)
class HttpSection:
    """``[http]``: ``/livez``, ``/readyz``, ``/metrics`` and the public price card."""

    #: Address to listen on.
    host: str = setting("127.0.0.1")
    #: TCP port to listen on.
    port: int = published_port(7404)


@dataclass(frozen=True, slots=True)
class HealthSection:
    """``[health]``: when a silent node becomes suspect, and when dead."""

    #: How often an agent reports.
    status_interval_ms: float = setting(2_000.0, at_least=50, at_most=60_000)
    #: Reports missed in a row that make a node suspect.
    suspect_after_misses: int = setting(3, at_least=1, at_most=100)
    #: A node that has been silent for this long is dead, and its replicas are planned again.
    lease_ms: float = setting(30_000.0, at_least=200, at_most=3_600_000)
    #: A peer's failed probe counts against a suspect node for this long.
    probe_fresh_ms: float = setting(6_000.0, at_least=50, at_most=600_000)
    #: When more than this share of the fleet, and this many nodes, vanish at once: freeze, alarm.
    freeze_share: float = setting(0.30, at_least=0.01, at_most=1.0)
    #: Fewer missing nodes than this never freeze the fleet; see freeze_share.
    freeze_min_nodes: int = setting(10, at_least=1)


@dataclass(frozen=True, slots=True)
class LimitsSection:
    """``[limits]``"""

    #: Agents connected at once; the next one is refused with a time to retry.
    max_agents: int = setting(5_000, at_least=1)
    #: Largest message from an agent or an operator.
    max_message_bytes: int = setting(4 * _MIB, at_least=64 * _KIB, at_most=64 * _MIB)
    #: Messages from one agent in a second, on average. Over it, its stream ends.
    agent_messages_per_s: float = setting(20.0, at_least=1)
    #: Messages that one agent may send at once above the average.
    agent_messages_burst: float = setting(200.0, at_least=10)
    #: Snapshots and deltas under way at once; others wait their turn.
    concurrent_pushes: int = setting(32, at_least=1, at_most=4_096)
    #: An agent that has not acknowledged a push after this long is disconnected.
    push_timeout_ms: float = setting(60_000.0, at_least=100)
    #: From the opening of a stream to its Hello.
    hello_timeout_ms: float = setting(10_000.0, at_least=10)
    #: Queries to agents that may wait for their answers at once.
    max_queries: int = setting(256, at_least=1)
    #: Of these, those to one agent.
    max_queries_per_node: int = setting(8, at_least=1)
    #: Longest time that a query may wait for its answer.
    query_timeout_ms: float = setting(30_000.0, at_least=10)
    #: Largest file of a model.
    max_blob_bytes: int = setting(64 * _GIB, at_least=1)
    #: Files sent at once.
    blob_streams: int = setting(32, at_least=1)
    #: Of these, those to one node.
    blob_streams_per_node: int = setting(4, at_least=1)
    #: Operators' calls in progress.
    max_admin_calls: int = setting(64, at_least=1)
    #: Calls in progress of nodes that enrol.
    max_enrolment_calls: int = setting(64, at_least=1)
    #: Connections to the HTTP listener.
    max_http_connections: int = setting(256, at_least=1)
    #: Age of changes kept for agents that reconnect; agents further behind get a snapshot.
    history_max_age_s: float = setting(604_800.0, at_least=60)
    #: How long running calls may continue after a stop.
    stop_grace_ms: float = setting(5_000.0, at_least=0, at_most=25_000)


@dataclass(frozen=True, slots=True)
class CoordinatorConfig:
    """The whole configuration file."""

    coordinator: CoordinatorSection
    fleet: FleetSection
    admin: AdminSection
    enrolment: EnrolmentSection
    http: HttpSection
    hub: HubSection
    api: ApiSection
    upstream: UpstreamSection
    health: HealthSection
    limits: LimitsSection
    blobs: BlobsSection
    billing: BillingSection
    payments: PaymentsSection
    smtp: SmtpSection
    usage: UsageSection

    @property
    def state_dir(self) -> Path:
        return Path(self.coordinator.state_dir)

    @property
    def ca_dir(self) -> Path:
        return self.state_dir / "ca"

    @property
    def database(self) -> Path:
        return self.state_dir / "coordinator.db"

    @property
    def usage_database(self) -> Path:
        return self.state_dir / "usage.db"

    @property
    def blobs_dir(self) -> Path:
        return self.state_dir / "blobs"

    @property
    def operators_dir(self) -> Path:
        return self.state_dir / "operators"

    @property
    def fleet_address(self) -> str:
        """host:port as agents reach it."""
        return self.fleet.advertise or join_address(self.fleet.host, self.fleet.port)

    @property
    def admin_address(self) -> str:
        """host:port as operators reach it."""
        return self.admin.advertise or join_address(self.admin.host, self.admin.port)

    @property
    def enrolment_address(self) -> str:
        """host:port as new nodes reach it."""
        return self.enrolment.advertise or join_address(self.enrolment.host, self.enrolment.port)

    @property
    def hub_endpoint(self) -> str:
        """Origin of the hub's protocol as clients use it; empty: it is off."""
        if not self.hub.enabled:
            return ""
        scheme = "http" if self.hub.plain_http else "https"
        address = join_address(self.hub.host, self.hub.port)
        return self.hub.advertise.rstrip("/") or f"{scheme}://{address}"

    @property
    def api_endpoint(self) -> str:
        """Origin of the customers' API as they use it; empty: it is off."""
        if not self.api.enabled:
            return ""
        scheme = "http" if self.api.plain_http else "https"
        address = join_address(self.api.host, self.api.port)
        return self.api.advertise.rstrip("/") or f"{scheme}://{address}"

    @property
    def loopback_listeners(self) -> tuple[str, ...]:
        """Of the listeners that operators need, those that only this machine can reach."""
        needed = {"admin": self.admin.host, "enrolment": self.enrolment.host}
        return tuple(section for section, host in needed.items() if is_loopback(host))

    def listeners(self) -> dict[str, tuple[str, int]]:
        """Return section -> host and port to listen on."""
        hub = {"hub": (self.hub.host, self.hub.port)} if self.hub.enabled else {}
        api = {"api": (self.api.host, self.api.port)} if self.api.enabled else {}
        return {
            "fleet": (self.fleet.host, self.fleet.port),
            "admin": (self.admin.host, self.admin.port),
            "enrolment": (self.enrolment.host, self.enrolment.port),
            "http": (self.http.host, self.http.port),
            **hub,
            **api,
        }


def load_config(path: Path, environ: Mapping[str, str]) -> CoordinatorConfig:
    """Read and check ``path``. Raises: ConfigInvalid naming every mistake."""
    parsed, hint = read_config_file(path), mending_hint(path)
    try:
        return parse_config(parsed, environ, base=path.absolute().parent)
    except ConfigInvalid as error:
        raise ConfigInvalid(error.problems, hint) from error


def parse_config(
    parsed: Mapping[str, object], environ: Mapping[str, str], *, base: Path
) -> CoordinatorConfig:
    """Check the text of a file in the folder ``base``. Raises: ConfigInvalid."""
    problems: list[str] = []
    config: CoordinatorConfig | None
    try:
        config = read_settings(CoordinatorConfig, parsed, environ, ENV_PREFIX)
    except ConfigInvalid as error:
        problems += error.problems
        config = _read_the_rest(parsed, environ, problems)
    if config is not None:
        problems += _check_together(config)
    if problems or config is None:
        raise ConfigInvalid(problems)
    state_dir = str(base / config.coordinator.state_dir)
    credentials_file = config.blobs.credentials_file
    return replace(
        config,
        hub=replace(
            config.hub,
            certificate_file=_below(base, config.hub.certificate_file),
            key_file=_below(base, config.hub.key_file),
        ),
        api=replace(
            config.api,
            certificate_file=_below(base, config.api.certificate_file),
            key_file=_below(base, config.api.key_file),
        ),
        upstream=replace(config.upstream, ca_file=_below(base, config.upstream.ca_file)),
        coordinator=replace(config.coordinator, state_dir=state_dir),
        payments=replace(
            config.payments,
            stripe_key_file=_below(base, config.payments.stripe_key_file),
            stripe_webhook_secret_file=_below(base, config.payments.stripe_webhook_secret_file),
        ),
        smtp=replace(
            config.smtp,
            password_file=_below(base, config.smtp.password_file),
            ca_file=_below(base, config.smtp.ca_file),
        ),
        blobs=replace(
            config.blobs, credentials_file=str(base / credentials_file) if credentials_file else ""
        ),
    )


def _below(base: Path, path: str) -> str:
    return str(base / path) if path else ""


def _read_the_rest(
    parsed: Mapping[str, object], environ: Mapping[str, str], problems: Sequence[str]
) -> CoordinatorConfig | None:
    """Read without the keys named in ``problems``, so that the rest is checked as a whole too."""
    wrong = {problem.partition(":")[0] for problem in problems}
    rest: dict[str, object] = {}
    for section, keys in parsed.items():
        if isinstance(keys, Mapping) and section in CoordinatorConfig.__dataclass_fields__:
            rest[section] = {
                key: value for key, value in keys.items() if f"{section}.{key}" not in wrong
            }
    right_environ = {
        variable: text
        for variable, text in environ.items()
        if variable not in wrong and _key_of(variable) not in wrong
    }
    if "coordinator.state_dir" in wrong:
        rest["coordinator"] = {**_table(rest.get("coordinator")), "state_dir": "."}
    try:
        return read_settings(CoordinatorConfig, rest, right_environ, ENV_PREFIX)
    except ConfigInvalid:
        return None


def _key_of(variable: str) -> str:
    return variable.removeprefix(ENV_PREFIX + "__").lower().replace("__", ".", 1)


def _table(value: object) -> Mapping[str, object]:
    return value if isinstance(value, Mapping) else {}


def _check_together(config: CoordinatorConfig) -> list[str]:
    """Return mistakes between keys that are valid one by one."""
    problems = []
    if _NAME.fullmatch(config.coordinator.name) is None:
        problems.append(
            f"coordinator.name: {config.coordinator.name!r} is not 1 to 63 of a-z, 0-9, _, . and -"
        )
    if config.coordinator.zone:
        try:
            check_zone(config.coordinator.zone)
        except InvalidRequest as error:
            problems.append(f"coordinator.zone: {error}")
    if not config.coordinator.state_dir:
        problems.append("coordinator.state_dir: is empty")
    for section in ("fleet", "admin", "enrolment"):
        listener = getattr(config, section)
        if listener.advertise and (problem := address_problem(listener.advertise)):
            problems.append(f"{section}.advertise: {problem}")
        if not listener.advertise and is_unspecified(listener.host):
            problems.append(
                f"{section}.advertise: is required when {section}.host is {listener.host}:"
                f' advertise = "NAME:{listener.port}", with the name or address that others dial'
            )
    problems += check_hub(config.hub) + check_upstream(config.upstream) + check_api(config.api)
    taken: dict[int, str] = {}
    for section, (host, port) in config.listeners().items():
        if problem := host_problem(host):
            problems.append(f"{section}.host: {problem}")
        other = taken.setdefault(port, section)
        if other != section:
            problems.append(f"{section}.port: {port} is that of {other} already")
    problems += check_billing(config.billing, config.payments, config.smtp)
    problems += check_blobs(config.blobs, config.limits.max_blob_bytes)
    problems += check_usage(config.usage)
    health = config.health
    suspect_ms = health.status_interval_ms * health.suspect_after_misses
    if health.lease_ms <= suspect_ms:
        problems.append(
            f"health.lease_ms: {health.lease_ms:.0f} is not above status_interval_ms x"
            f" suspect_after_misses = {suspect_ms:.0f}"
        )
    return problems
