"""The demonstration of weights that were brought: an adapter beside the base, and a fine-tune.

Each is asked for twice: the first answer waits for its weights where they are in no engine yet, the
second finds them there. All values are real, whatever they are.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from coordinator.devfleet.brought_weights import BROUGHT_DEPLOYMENTS, BroughtDeployment
from coordinator.devfleet.demonstration import ENGINES_REST_S, fetch_trace, picture
from coordinator.devfleet.streamed_answer import StreamedAnswer, stream_answer
from coordinator.devfleet.waiting import wait_for
from protos.domain.errors import EdgeForgeError
from protos.domain.plain_text import escaped
from protos.v1 import admin_pb2

if TYPE_CHECKING:
    from coordinator.cli.client import AdminClient
    from coordinator.devfleet.layout import AgentFacts, FleetFacts
    from protos.domain.trace import Trace, TraceColdStart

Report = Callable[[str], None]
_MIB = 1024 * 1024
#: A hot model gives its engine up half a minute after its last request.
_PLACE_TIMEOUT_S = 90.0
_INTRODUCTION = """
Weights of your own, brought by the commands above: no engine holds them until they are asked for.
The adapter is loaded beside the base; the fine-tune takes the place of a base that nobody has asked
for half a minute, which is waited for, and gives it back when it has not been asked for as long."""
_WAYS = {
    "adapter": "loaded into the running engine",
    "swap": "put into the running engine in the place of the weights there",
    "engine": "an engine was started for it",
}


@dataclass(frozen=True, slots=True)
class WeightsOutcome:
    """Two requests of one deployment, and the trace of the first."""

    deployment: BroughtDeployment
    via: str
    answer: StreamedAnswer
    trace: Trace
    again: StreamedAnswer

    def as_json(self) -> dict[str, object]:
        """Return the object that ``edgeforge demo --json`` prints."""
        answer, cold = self.answer, self.trace.cold_start
        return {
            "deployment": self.deployment.name,
            "model": self.deployment.model,
            "adapter": self.deployment.adapter,
            "via": self.via,
            "budget_ms": self.deployment.budget_ms,
            "tier": answer.tier,
            "node": answer.node,
            "billing_tier": self.trace.billing_tier,
            "predicted_miss": answer.predicted_miss,
            "predicted_ttft_ms_p99": self.trace.predicted_ttft_ms_p99,
            "ttft_ms": answer.first_token_ms,
            "cold_start": asdict(cold) if cold is not None else None,
            "again_ttft_ms": self.again.first_token_ms,
            "again_node": self.again.node,
            "cost_nano_usd": answer.cost_nano_usd,
            "trace_id": answer.trace_id,
        }


def demonstrate_weights(
    client: AdminClient, facts: FleetFacts, api_key: str, report: Report
) -> list[WeightsOutcome]:
    """Ask each deployment twice and explain; one that is not answered is said and left out."""
    agent = next((one for one in facts.agents if one.pop == "GRU"), facts.agents[0])
    report(_INTRODUCTION)
    outcomes = []
    for deployment in BROUGHT_DEPLOYMENTS:
        try:
            outcome = _ask_twice(client, agent, api_key, deployment)
        except EdgeForgeError as error:
            report(f"\n{deployment.name} was not answered: {escaped(error.message)}")
            continue
        outcomes.append(outcome)
        report(f"\n{describe_weights(outcome)}")
    return outcomes


def _ask_twice(
    client: AdminClient, agent: AgentFacts, api_key: str, deployment: BroughtDeployment
) -> WeightsOutcome:
    request = admin_pb2.ExplainRouteRequest(deployment=deployment.name, via=agent.node)

    def has_a_place() -> bool:
        explanation = client.call(lambda stub: stub.ExplainRoute, request)
        return any(one.chosen for one in explanation.candidates)

    wait_for(has_a_place, _PLACE_TIMEOUT_S, f"an engine that may take {deployment.name}")
    answer = stream_answer(agent.client_port, api_key, deployment.name)
    trace = fetch_trace(client, answer.trace_id, agent.pop)
    time.sleep(ENGINES_REST_S)
    again = stream_answer(agent.client_port, api_key, deployment.name)
    return WeightsOutcome(deployment, agent.pop, answer, trace, again)


def describe_weights(outcome: WeightsOutcome) -> str:
    """Return the text of one deployment's two requests."""
    deployment, answer, again = outcome.deployment, outcome.answer, outcome.again
    elsewhere = f" from {again.node}" if again.node != answer.node else ""
    return "\n".join(
        [
            f"{deployment.name}, {deployment.what} of the base, through {outcome.via}"
            f" with {deployment.budget_ms:,} ms: served by {answer.node} ({answer.tier})",
            f"   {describe_cold_start(outcome.trace.cold_start)}",
            f"   first token: P99 predicted {outcome.trace.predicted_ttft_ms_p99:.0f} ms,"
            f" came after {answer.first_token_ms:.0f} ms;"
            f" asked again after {again.first_token_ms:.0f} ms{elsewhere}",
            f"   {answer.text!r}",
            picture(outcome.trace),
            f"   edgeforge trace show {answer.trace_id}",
        ]
    )


def describe_cold_start(cold: TraceColdStart | None) -> str:
    """Return a line on how weights came into an engine, and what it took."""
    if cold is None:
        return "no cold start: it was in the engine"
    where = cold.residency.replace("_", " ")
    pulled = f", {cold.pull_ms:.0f} ms of it to get them to its disk" if cold.pull_ms else ""
    return (
        f"cold start: {cold.weights_bytes / _MIB:.1f} MiB from {where} in {cold.took_ms:.0f} ms"
        f"{pulled}; {_WAYS.get(cold.path, cold.path)}"
    )
