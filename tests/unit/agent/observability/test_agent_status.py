"""Every part's figures in one place: what dashboards and scripts read stays as it is."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import pytest

from agent.core.accelerators import Reading, reading_samples
from agent.core.cold_start import ColdPath, ColdStart
from agent.core.cold_start_times import ColdStartTimes
from agent.core.samples import HistogramSample, Sample, Samples
from agent.main import Agent
from agent.observability.agent_status import AgentStatus
from protos.domain.resources import Residency
from tests.support.assembled_agent import NODE_ID, POP_ID, assembled_agent

ROOT = Path(__file__).parents[4]
BUSY = Reading("GPU-1", 0, "H100", 0.5, 1, 2, 60.0, 300.0, ("power_cap",), 0, 0)

#: Keys of ``edgeforge-agent status --json``: scripts read them. Adding one is adding a line here.
STATUS_KEYS = {
    *("build.version", "build.kind", "build.sources"),
    *("node", "pop", "client_url", "certificate_age_s", "certificate_not_after_unix_ms"),
    *("certificate_remaining_s", "renewal_error", "removed"),
    *("quota.leases", "quota.cut_off", "quota.age_s", "quota.unsettled"),
    *("ready", "missing", "draining", "draining_reason", "credentials_age_s", "last_refusal"),
    *("link.connected", "link.since_mono_ms", "link.since_s", "link.connects", "link.refused"),
    *("link.failures_in_a_row", "link.last_error", "link.clock_offset_ms"),
    *("engine.kind", "engine.state", "engine.pid", "engine.restarts", "engine.generation"),
    *("engine.last_error", "engine.fill_ratio", "replicas", "cold_starts", "peers"),
    *("disk.quota_bytes", "disk.used_bytes", "disk.pinned_bytes", "disk.trouble", "pulls"),
    *("gpu.kind", "gpu.reader_pid", "gpu.accelerators", "gpu.faults"),
    *("traces.kept", "traces.dropped", "traces.rows", "traces.kept_bytes", "traces.failure"),
    *("usage.records", "usage.groups", "usage.refused", "usage.shed", "usage.delivered"),
    *("usage.damaged", "usage.lost_ends", "usage.failovers", "usage.used_bytes"),
    *("usage.quota_bytes", "usage.older_spools", "usage.waiting", "usage.full"),
    *("usage.disk_failure", "usage.delivery_failure", "usage.spool_id"),
    *("usage.suspect_segments", "usage.quarantined", "usage.oldest_s"),
    *("trace_export.exported_spans", "trace_export.failed_spans", "trace_export.dropped_traces"),
    "trace_export.withheld_traces",
    *("first_byte.replaced", "first_byte.hedges_sent", "first_byte.hedges_won"),
    *("first_byte.hedge_share", "first_byte.explorations_sent", "first_byte.explore_share"),
    *("first_byte.strict_trials", "first_byte.ejections", "first_byte.ejected"),
    *("service.all.admitted", "service.all.shed", "service.all.first_tokens"),
    *("service.all.ttft_ms_p50", "service.all.ttft_ms_p99", "service.all.shed_ratio"),
    *("overclaims", "counts_compared.agreed", "counts_compared.differed"),
    "counts_compared.nodes",
    *("service.all.said", "service.deployments", "prefix_blocks"),
    *("flagged_peers", "in_flight", "connections", "streams_continued", "streams_broken"),
    *(
        f"predictions.{basis}.{key}"
        for basis in ("profile", "learned")
        for key in ("seen", "kept", "kept_ratio")
    ),
    *(
        f"tables.{kind}.{key}"
        for kind in ("topology", "deployments", "credentials", "prices", "desired")
        for key in ("epoch", "version", "rows", "digest", "refusals_in_a_row")
    ),
}


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Agent:
    return assembled_agent(tmp_path_factory.mktemp("agent"))


def leaves(value: object, path: str = "") -> Iterator[str]:
    """Yield the path of everything that is not an object with keys."""
    if isinstance(value, Mapping) and value:
        for key, below in value.items():
            yield from leaves(below, f"{path}.{key}" if path else key)
    else:
        yield path


def exposed_name(sample: Sample | HistogramSample) -> str:
    counter = isinstance(sample, Sample) and sample.counter
    return f"{sample.name}_total" if counter else sample.name


def offered(samples: Iterable[Sample | HistogramSample]) -> dict[str, set[str]]:
    """Return the labels of every metric, by its name in the exposition format."""
    found: dict[str, set[str]] = {}
    for sample in samples:
        found.setdefault(exposed_name(sample), set()).update(name for name, _ in sample.labels)
    return found


def documented() -> dict[str, set[str]]:
    """Return the same from the table of agent metrics in docs/OPERATIONS.md."""
    text = (ROOT / "docs" / "OPERATIONS.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(edgeforge_\w+)` \| ([^|]*) \| [^|]+ \|$", text, re.MULTILINE)
    return {name: set(re.findall(r"\w+", labels)) for name, labels in rows}


def all_samples(agent: Agent) -> list[Sample | HistogramSample]:
    """Return the agent's samples, and those of an accelerator and a cold start as though of it."""
    times = ColdStartTimes()
    times.add(ColdStart(ColdPath.SWAP, Residency.DISK, 1, 1.0))
    return [*agent.status.samples(), *reading_samples([BUSY]), *times.samples(0.0)]


def test_metrics_are_those_of_the_documentation_with_their_labels(agent: Agent) -> None:
    assert offered(all_samples(agent)) == documented()


def test_samples_of_one_metric_have_the_same_labels_kind_and_help(agent: Agent) -> None:
    shapes: dict[str, set[tuple[object, ...]]] = {}
    for sample in all_samples(agent):
        labels = tuple(name for name, _ in sample.labels)
        shapes.setdefault(sample.name, set()).add((type(sample), labels, sample.help))
    assert [name for name, found in shapes.items() if len(found) > 1] == []


def test_the_dashboard_reads_only_metrics_that_exist(agent: Agent) -> None:
    board = (ROOT / "packaging" / "grafana" / "edgeforge.json").read_text(encoding="utf-8")
    named = set(re.findall(r"edgeforge_(?!coordinator_)\w+", board))
    existing = offered(all_samples(agent))
    assert len(named) > 20
    assert {re.sub("_(bucket|count|sum)$", "", name) for name in named} <= set(existing)


def test_status_has_the_keys_that_scripts_read_and_is_json(agent: Agent) -> None:
    status = json.loads(json.dumps(agent.status.status()))
    assert set(leaves(status)) == STATUS_KEYS
    assert (status["node"], status["pop"]) == (NODE_ID, POP_ID)


def test_an_agent_that_has_not_started_says_what_it_misses(agent: Agent) -> None:
    assert agent.status.missing() == [
        "a routing table, from disk or from the coordinator",
        "open ports",
        "credentials younger than limits.credentials_max_age_s",
    ]
    assert agent.status.status()["ready"] is False


class Part:
    """Offers one metric and one key below ``shared``."""

    def __init__(self, key: str) -> None:
        self._key = key

    def samples(self, now_mono_ms: float) -> Samples:
        yield Sample(self._key, "A figure.", now_mono_ms)

    def status(self, now_mono_ms: float) -> dict[str, object]:
        return {"shared": {self._key: now_mono_ms}}


class Gate:
    """Offers readiness only."""

    def missing(self) -> Iterable[str]:
        yield "a key"


def test_parts_are_merged_and_each_offers_only_what_it_has() -> None:
    status = AgentStatus(lambda: 5.0)
    status.register(Part("one"), Part("two"), Gate())
    assert status.status() == {
        "ready": False,
        "missing": ["a key"],
        "shared": {"one": 5.0, "two": 5.0},
    }
    assert [sample.name for sample in status.samples()] == ["one", "two"]


def test_a_key_that_two_parts_offer_is_refused() -> None:
    status = AgentStatus(lambda: 0.0)
    status.register(Part("one"), Part("one"))
    with pytest.raises(ValueError, match="'one'"):
        status.status()


def test_a_part_is_registered_once() -> None:
    status, part = AgentStatus(lambda: 0.0), Part("one")
    status.register(part)
    with pytest.raises(ValueError, match="twice"):
        status.register(part)
