"""The optimised code decides exactly as the plain code: same candidates, numbers and choice."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from itertools import takewhile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.core.live import EJECT_AFTER_FAILURES, REPORT_FRESH_MS, LiveState
from agent.core.prefixes import (
    BLOCK_BYTES,
    FORGET_AFTER_MS,
    PRIOR_HIT_RATIO,
    PrefixMemory,
    prompt_blocks,
)
from protos.domain.errors import BudgetUnreachable, InvalidRequest, NoReplica
from protos.domain.predictor import FEW_OBSERVATIONS, Outcome, Predictor
from protos.domain.regimes import Load
from protos.domain.resources import Replica, ReplicaState, Tier
from protos.domain.router import place
from tests.support.fleets import MODEL, model, node, pop, price, profile, replica
from tests.support.fleets import view as view_of
from tests.support.naive_router import choice, options, tiers
from tests.support.one_target import seen_target
from tests.support.strategies import (
    NODE_IDS,
    POP_IDS,
    draws,
    fills,
    fleets,
    lookups,
    profiles,
    requests,
    targets,
)

ratios = st.sampled_from([0.0, 0.7, 1.0])
loads = st.builds(
    Load,
    st.floats(0.0, 4_000.0),
    st.integers(0, 20),
    st.sampled_from([0.0, 500.0]),
    st.sampled_from([0.0, 0.0, 2.0]),
)


@st.composite
def outcomes(draw):
    """Learned models of some nodes, some of them with too few outcomes to be used."""
    predictor = Predictor()
    for node_id in draw(st.sets(st.sampled_from(NODE_IDS), min_size=3)):
        seen = draw(st.lists(st.tuples(loads, st.floats(1.0, 500.0)), min_size=1, max_size=6))
        count = draw(st.sampled_from([FEW_OBSERVATIONS - 1, FEW_OBSERVATIONS, 30, 60]))
        for number in range(count):
            load, took_ms = seen[number % len(seen)]
            predictor.learn(
                node_id, MODEL, profile(), Outcome(load, 5.0, took_ms, number * 1_000.0)
            )
    return predictor.of_model(MODEL)


@st.composite
def able_fleets(draw):
    """Most replicas may serve; replicas that may not are covered by another law."""
    states = st.sampled_from([ReplicaState.READY] * 5 + [ReplicaState.STARTING])
    rows = [pop(each, draw(st.sampled_from(list(Tier))), "US") for each in POP_IDS]
    rows += [node(each, draw(st.sampled_from(POP_IDS))) for each in NODE_IDS]
    rows += [Replica(each, MODEL, draw(states), draw(profiles), 1) for each in NODE_IDS]
    rows += [price(tier, draw(st.integers(1, 3))) for tier in Tier if draw(st.integers(0, 5))]
    return view_of(model(), *rows)


able_targets = st.builds(
    lambda state, in_flight, queued, ahead: replace(
        state, ejected=False, ready_models=None, in_flight=in_flight, queued=queued,
        backlog_tokens=ahead[0], progress_ms=ahead[1],
    ),
    targets,
    st.sampled_from([0, 1, 2, 8]),
    st.sampled_from([0, 0, 0, 3]),
    st.sampled_from([(0.0, 0.0), (700.0, 0.0), (700.0, 30.0), (700.0, 5_000.0)]),
)  # fmt: skip
able_lookups = st.fixed_dictionaries(dict.fromkeys(NODE_IDS, able_targets))
able_requests = st.builds(
    lambda shape, budget_ms: replace(
        shape,
        deployment=replace(shape.deployment, residency_zones=(), adapter=""),
        narrowed_zones=None,
        budget_left_ms=budget_ms,
    ),
    requests(),
    st.floats(0.0, 1_500.0),
)


@settings(max_examples=200)
@given(
    fleets() | able_fleets(), requests() | able_requests, lookups | able_lookups, fills, draws,
    ratios, outcomes(), st.sampled_from(NODE_IDS), st.sets(st.sampled_from(NODE_IDS), max_size=2),
)  # fmt: skip
def test_the_optimised_decision_equals_the_plain_one(
    view, shape, live, fill, draw, ratio, learned, self_node_id, tried
):
    excluded = frozenset(tried)
    expected = options(view, shape, self_node_id, live, excluded, learned)
    for _ in range(2):  # computed, then cached
        try:
            placement = place(
                view, shape, self_node_id, live.__getitem__, draw=draw, fill=fill.__getitem__,
                edge_fill_ratio=ratio, excluded=excluded, learned=learned,
            )  # fmt: skip
        except InvalidRequest:
            assert view.models[MODEL].context_tokens <= shape.prompt_tokens
            continue
        except NoReplica:
            assert not expected
            continue
        except BudgetUnreachable:
            assert choice(shape, expected, draw, fill, ratio) is None
            continue
        told = {each.node.id: each for each in placement.candidates}
        assert list(told) == [each.node_id for each in expected]
        for each in expected:
            candidate = told[each.node_id]
            assert candidate.ttft_ms_p99 == pytest.approx(each.p99_ms, rel=1e-12)
            assert candidate.lower_quantiles_ms == pytest.approx((each.p50_ms, each.p95_ms))
            assert candidate.price_nano_usd_per_1k_tokens == each.rate
            assert candidate.headroom == each.free
            assert candidate.prediction.ttft_ms_p99 == candidate.ttft_ms_p99
            assert sum(candidate.prediction.values_ms) == pytest.approx(candidate.ttft_ms_p99)
            told_ms = dict(candidate.prediction.terms())
            assert told_ms == pytest.approx(dict.fromkeys(told_ms, 0.0) | each.terms, abs=1e-6)
        chosen = choice(shape, expected, draw, fill, ratio)
        assert placement.chosen.node.id == chosen.node_id
        serving_and_billing = placement.serving_tier, placement.billing_tier
        assert serving_and_billing == tiers(view, shape, expected, chosen)


node_events = st.sampled_from(
    ["started", "ended", "first", "succeeded", "failed", "late", "probed", "lost", "told", "silent"]
)
steps = st.lists(
    st.tuples(node_events, st.sampled_from(NODE_IDS[:3]), st.floats(0.0, 3_000.0), st.booleans()),
    max_size=30,
)


def happen(live, event, node_id, now_ms, keys):
    match event:
        case "started":
            keys.append((node_id, live.request_started(node_id, now_ms, 100.0)))
        case "ended" if keys:
            node_id, key = keys.pop()
            live.request_ended(node_id, key)
        case "first" if keys:
            node_id, key = keys[0]
            live.first_token(node_id, key, now_ms)
        case "succeeded":
            live.succeeded(node_id)
        case "failed":
            for _ in range(EJECT_AFTER_FAILURES):
                live.failed(node_id, now_ms)
        case "late":
            live.late(node_id, now_ms)
        case "probed":
            live.probed(node_id, 20.0, now_ms)
        case "lost":
            live.probe_failed(node_id, now_ms)
        case "told":
            live.reported(node_id, now_ms, in_flight=3, queued=1, ready_models=[MODEL])


@given(steps, st.sampled_from([0.0, 0.0, 0.5]), st.floats(0.0, REPORT_FRESH_MS))
def test_a_nodes_cached_state_equals_a_fresh_one(events, cached, passed_later_ms):
    asked, unasked = LiveState(), LiveState()
    keys, other_keys, now_ms = [], [], 1_000.0
    for event, node_id, passed_ms, warm in events:
        now_ms += passed_ms
        happen(asked, event, node_id, now_ms, keys)
        happen(unasked, event, node_id, now_ms, other_keys)
        for each in NODE_IDS[:3]:
            seen_target(asked, each, now_ms, warm=warm, cached_ratio=cached)
    for later_ms in (now_ms, now_ms + passed_later_ms, now_ms + 2 * REPORT_FRESH_MS):
        for each in NODE_IDS[:3]:
            for warm in (True, False):
                told = seen_target(asked, each, later_ms, warm=warm, cached_ratio=cached)
                assert told == seen_target(unasked, each, later_ms, warm=warm, cached_ratio=cached)


prompts = st.sampled_from([bytes([number]) * size for number in range(3) for size in (300, 900)])


@given(
    st.lists(
        st.tuples(
            st.sampled_from(NODE_IDS), st.integers(1, 2), prompts, st.floats(0, FORGET_AFTER_MS / 3)
        )
    ),
    prompts,
)
def test_cached_prefixes_of_all_replicas_at_once_are_those_of_each(seen, prompt):
    memory, plain, now_ms = PrefixMemory(), {}, 0.0
    for node_id, generation, text, passed_ms in seen:
        now_ms += passed_ms
        of_text = prompt_blocks(text, MODEL, "acme")
        memory.record(node_id, MODEL, generation, of_text, now_ms)
        known_generation, links = plain.get(node_id, (generation, {}))
        links = links if known_generation == generation else {}
        plain[node_id] = generation, links | dict.fromkeys(of_text.chain, now_ms)
    blocks = prompt_blocks(prompt, MODEL, "acme")
    replicas = {node_id: replica(node_id) for node_id in NODE_IDS[2:]}

    def is_fresh(links, link):
        return now_ms - links.get(link, -math.inf) <= FORGET_AFTER_MS

    one_by_one = {}
    for node_id in replicas:
        generation, links = plain.get(node_id, (0, {}))
        held = [*takewhile(partial(is_fresh, links), blocks.chain)] if generation == 1 else []
        if held:
            share = len(held) * BLOCK_BYTES / blocks.total_bytes
            one_by_one[node_id] = share * PRIOR_HIT_RATIO
    assert memory.cached_ratios(MODEL, replicas, blocks, now_ms) == one_by_one
