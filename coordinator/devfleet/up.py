"""``edgeforge up``: starts a local fleet; a second call starts only what is missing."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from coordinator.cli.client import AdminClient, connected
from coordinator.cli.output import enum_word
from coordinator.cli.profiles import load_profile
from coordinator.devfleet import distances
from coordinator.devfleet.brought_weights import (
    BROUGHT_DEPLOYMENTS,
    ensure_brought_deployments,
    ensure_objects,
    is_brought_to,
)
from coordinator.devfleet.configs import (
    write_agent_config,
    write_coordinator_config,
    write_profile,
    write_relay_config,
)
from coordinator.devfleet.demonstration import demonstrate
from coordinator.devfleet.description import FleetDescription
from coordinator.devfleet.down import bring_down
from coordinator.devfleet.layout import (
    OPERATOR,
    RELAY,
    AgentFacts,
    FleetFacts,
    FleetLayout,
    read_facts,
    write_facts,
)
from coordinator.devfleet.memory import available_mib, require_memory
from coordinator.devfleet.plan import FleetWish, plan_fleet
from coordinator.devfleet.processes import (
    program,
    require_running,
    running_pid,
    start_process,
)
from coordinator.devfleet.public_commands import PublicCommands
from coordinator.devfleet.registry import (
    ACCOUNT,
    ensure_api_key,
    ensure_deployments,
    ensure_external_models,
    ensure_pops,
    remove_other_nodes,
)
from coordinator.devfleet.streamed_answer import stream_answer
from coordinator.devfleet.waiting import START_TIMEOUT_S, wait_for, wait_http
from coordinator.devfleet.weights_demonstration import demonstrate_weights
from protos.domain.errors import Conflict, EdgeForgeError, NoEngineEnvironment
from protos.v1 import admin_pb2, resources_pb2

Report = Callable[[str], None]

_ENGINE_TIMEOUT_S = 900.0
_ENROL_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class UpOptions:
    """The options of the command."""

    layout: FleetLayout
    wish: FleetWish
    engine_venv: Path


def bring_up(options: UpOptions, report: Report) -> FleetDescription:
    """Start what is missing and return how to reach the fleet. Raises: EdgeForgeError."""
    layout = options.layout
    before = read_facts(layout)
    alive = [name for name in before.processes if running_pid(layout, name)] if before else []
    if before is not None and alive:
        _check_same_fleet(options, before)
        facts = before
        if len(alive) == len(facts.processes):
            api_key = layout.api_key.read_text("utf-8").strip()
            return FleetDescription(layout, facts, api_key, is_new=False)
    else:
        facts = _plan(options, before)
    layout.prepare()
    write_facts(layout, facts)
    api_key = _start_all(layout, facts, report)
    return FleetDescription(layout, facts, api_key, is_new=not alive)


def _plan(options: UpOptions, before: FleetFacts | None) -> FleetFacts:
    """Return the fleet to start. Raises: EdgeForgeError when this machine cannot run it."""
    engines = options.wish.engine_count
    if engines and not _has_engine_environment(options.engine_venv):
        raise NoEngineEnvironment(
            [f"no engine environment at {options.engine_venv}"],
            "install it with packaging/engine/install, or attach a server with --engine-url",
        )
    require_memory(engines, available_mib())
    return plan_fleet(options.wish, options.engine_venv, before, options.layout.root)


def follow(layout: FleetLayout, report: Report) -> None:
    """Stay in the foreground until Ctrl-C or the end of any process stops the fleet."""
    facts = read_facts(layout)
    try:
        report("Ctrl-C stops the fleet")
        while facts is not None:
            for name in facts.processes:
                require_running(layout, name)
            time.sleep(1.0)
    except KeyboardInterrupt:
        pass
    finally:
        bring_down(layout, report, purge=False)


def _start_all(layout: FleetLayout, facts: FleetFacts, report: Report) -> str:
    _start_coordinator(layout, facts, report)
    if facts.has_distances:
        _start_relay(layout, facts, report)
    with connected(load_profile(layout.profile)) as client:
        ensure_pops(client, facts)
        remove_other_nodes(client, {agent.node for agent in facts.agents})
        for agent in facts.agents:
            _start_agent(client, layout, facts, agent, report)
        api_key = ensure_api_key(client, layout)
        commands = PublicCommands(layout, report)
        ensure_external_models(client, facts)
        if is_brought_to(facts):
            ensure_objects(commands, layout, Path(facts.engine_venv), report)
        for agent in facts.agents:
            _wait_agent(layout, agent)
        _wait_connected(client, layout, facts)
        brought = BROUGHT_DEPLOYMENTS if is_brought_to(facts) else ()
        ensure_deployments(client, facts.deployments, [one.name for one in brought])
        _wait_replicas(client, layout, facts, report)
        _wait_routes(client, layout, facts)
        if facts.has_distances:
            demonstrate(client, facts, api_key, report)
        elif not facts.engine_urls:
            _show_first_request(facts, api_key, report)
        if brought:
            ensure_brought_deployments(commands, ACCOUNT)
            demonstrate_weights(client, facts, api_key, report)
    return api_key


def _start_coordinator(layout: FleetLayout, facts: FleetFacts, report: Report) -> None:
    if running_pid(layout, "coordinator") is None:
        write_coordinator_config(layout, facts)
        if not layout.operator_profile.is_file():
            report("making the coordinator's authority and database")
            _run_command(
                [
                    *(program("edgeforge-coordinator"), "init", "--operator", OPERATOR),
                    *("--config", str(layout.coordinator_config)),
                ]
            )
        write_profile(layout, facts)
        report("starting the coordinator")
        config = str(layout.coordinator_config)
        argv = [program("edgeforge-coordinator"), "serve", "--config", config]
        start_process(layout, "coordinator", argv)
    wait_http(layout, "coordinator", facts.http_port, "/readyz")


def _start_relay(layout: FleetLayout, facts: FleetFacts, report: Report) -> None:
    if running_pid(layout, RELAY) is not None:
        return
    report(f"starting the relay that gives loopback its distances ({distances.SOURCE})")
    write_relay_config(layout, facts)
    layout.relay_socket.unlink(missing_ok=True)
    module = "coordinator.devfleet.delay_relay"
    start_process(layout, RELAY, [sys.executable, "-m", module, str(layout.relay_config)])

    def listens() -> bool:
        require_running(layout, RELAY)
        return layout.relay_socket.exists()

    wait_for(listens, START_TIMEOUT_S, "the relay to listen")


def _start_agent(
    client: AdminClient, layout: FleetLayout, facts: FleetFacts, agent: AgentFacts, report: Report
) -> None:
    if running_pid(layout, agent.node) is not None:
        return
    write_agent_config(layout, facts, agent)
    config = str(layout.agent_config(agent.node))
    known = {
        info.node.id
        for info in client.call(lambda stub: stub.ListNodes, admin_pb2.ListNodesRequest()).nodes
    }
    identity = layout.agent_state(agent.node) / "identity" / "identity.pem"
    if agent.node not in known or not identity.is_file():
        report(f"enrolling {agent.node} in {agent.pop}")
        request = admin_pb2.CreateNodeTokenRequest(pop_id=agent.pop, node_id=agent.node)
        token = client.call(lambda stub: stub.CreateNodeToken, request).token
        argv = [
            program("edgeforge-agent"),
            "enroll",
            "--config",
            config,
            "--token-file",
            "-",
            "--force",
        ]
        _run_command(argv, stdin=token)
    report(f"starting {agent.node}")
    start_process(layout, agent.node, [program("edgeforge-agent"), "serve", "--config", config])


def _wait_agent(layout: FleetLayout, agent: AgentFacts) -> None:
    wait_http(layout, agent.node, agent.metrics_port, "/livez")


def _wait_connected(client: AdminClient, layout: FleetLayout, facts: FleetFacts) -> None:
    wanted = {agent.node for agent in facts.agents}

    def connected_all() -> bool:
        for name in facts.processes:
            require_running(layout, name)
        nodes = client.call(lambda stub: stub.ListNodes, admin_pb2.ListNodesRequest()).nodes
        # An agent is connected a moment before it reports its engine.
        return wanted <= {info.node.id for info in nodes if info.connected and info.engine_kind}

    wait_for(connected_all, START_TIMEOUT_S, "every agent to connect to the coordinator")


def _wait_replicas(
    client: AdminClient, layout: FleetLayout, facts: FleetFacts, report: Report
) -> None:
    began_s = time.monotonic()  # noqa: TID251 - waits for other processes
    reported: dict[str, str] = {}

    def all_ready() -> bool:
        for name in facts.processes:
            require_running(layout, name)
        listed = client.call(
            lambda stub: stub.ListDeployments, admin_pb2.ListDeploymentsRequest()
        ).deployments
        states, errors = {}, {}
        for info in listed:
            for replica in info.replicas:
                word = enum_word(resources_pb2.ReplicaState.Name(replica.state), "REPLICA_STATE_")
                states[info.deployment.name, replica.node_id] = word
                error = info.errors.get(replica.node_id, "")
                errors[info.deployment.name, replica.node_id] = f": {error}" if error else ""
        for (name, node_id), word in states.items():
            line = f"{name} on {node_id}: {word}{errors[name, node_id]}"
            if reported.get(f"{name}/{node_id}") != line:
                reported[f"{name}/{node_id}"] = line
                spent_s = time.monotonic() - began_s  # noqa: TID251 - as above
                report(f"{line} ({spent_s:.0f} s)")
        return all(
            states.get((deployment.name, node_id)) == "ready"
            for deployment in facts.deployments
            for node_id in deployment.node_ids
        )

    wait_for(all_ready, _ENGINE_TIMEOUT_S, "every replica to become ready")


def _wait_routes(client: AdminClient, layout: FleetLayout, facts: FleetFacts) -> None:
    """Wait until every agent would place a request of every deployment."""

    def placed_everywhere() -> bool:
        for deployment in facts.deployments:
            for agent in facts.agents:
                request = admin_pb2.ExplainRouteRequest(deployment=deployment.name, via=agent.node)
                explanation = client.call(lambda stub: stub.ExplainRoute, request)
                if not any(candidate.chosen for candidate in explanation.candidates):
                    return False
        return True

    wait_for(placed_everywhere, START_TIMEOUT_S, "every agent to know where requests can go")
    for agent in facts.agents:
        wait_http(layout, agent.node, agent.metrics_port, "/readyz")


def _show_first_request(facts: FleetFacts, api_key: str, report: Report) -> None:
    agent = next((one for one in facts.agents if one.pop == "GRU"), facts.agents[0])
    deployment = facts.deployments[0]
    answer = stream_answer(agent.client_port, api_key, deployment.name)
    report(f"first request via {agent.pop}: placed on {answer.node} ({answer.tier})")
    report(
        f"  first token after {answer.first_token_ms:.0f} ms"
        f" (budget {deployment.ttft_budget_ms} ms): {answer.text!r}"
    )


def _check_same_fleet(options: UpOptions, facts: FleetFacts) -> None:
    """Refuse to change a running fleet into a different one. Raises: Conflict."""
    wish, running = options.wish, ""
    if wish.engine_urls and list(wish.engine_urls) != facts.engine_urls:
        running = ", ".join(facts.engine_urls) or "vLLM"
    elif wish.engines not in (None, facts.engines):
        running = f"{facts.engines} engines"
    elif wish.sites is not None and wish.has_five_sites != facts.has_distances:
        running = f"{len(facts.agents)} sites"
    elif wish.edge_fill_ratio not in (None, facts.edge_fill_ratio):
        running = f"an edge fill of {facts.edge_fill_ratio}"
    if running:
        raise Conflict(f"a fleet with {running} runs already", "stop it first: edgeforge down")


def _has_engine_environment(venv: Path) -> bool:
    return (venv / "bin" / "python").exists()


def _run_command(argv: list[str], stdin: str = "") -> None:
    done = subprocess.run(
        argv, input=stdin, capture_output=True, text=True, timeout=_ENROL_TIMEOUT_S, check=False
    )
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip()
        raise EdgeForgeError(f"{Path(argv[0]).name} {argv[1]} failed: {said}")
