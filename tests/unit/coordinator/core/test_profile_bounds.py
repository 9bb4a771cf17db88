"""A profile claims no more than memory and arithmetic of its accelerators allow."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.core.profile_bounds import (
    ACCELERATORS,
    LEAST_WEIGHTS_BYTES,
    bounded_profile,
    flattery,
    profile_bounds,
)
from protos.domain.resources import EngineProfile
from tests.support.fleets import model, profile

LLAMA_8B = replace(model(size_class="m"), weights_bytes=16_000_000_000)
FLATTERING = EngineProfile(0.1, 0.0, 65_536, 1e12, context_tokens=1_000_000)

names = st.sampled_from(["NVIDIA H100 80GB HBM3", "NVIDIA L4", "x86_64", "Tesla T4", "Toaster"])
numbers = st.floats(0.0, 1e9)
profiles = st.builds(EngineProfile, numbers, numbers, st.integers(0, 1 << 20), numbers)


def test_a_first_token_takes_one_pass_over_the_weights():
    bounds = profile_bounds(["NVIDIA L4"], LLAMA_8B)
    assert 50.0 < bounds.first_token_ms_p99 < 60.0
    assert 0.1 < bounds.prefill_ms_per_token < 0.2
    both = profile_bounds(["NVIDIA L4", "NVIDIA L4"], LLAMA_8B)
    assert both.tokens_per_s == pytest.approx(2.0 * bounds.tokens_per_s)


def test_an_unknown_accelerator_counts_as_a_processor_and_none_as_one():
    processor = profile_bounds(["x86_64"], LLAMA_8B)
    assert profile_bounds(["Toaster 9000"], LLAMA_8B) == processor
    assert profile_bounds([], LLAMA_8B) == processor


def test_the_size_class_bounds_a_model_whose_weights_are_not_known():
    external = replace(model(size_class="l"), weights_bytes=0)
    assert profile_bounds([], external).first_token_ms_p99 > 15.0
    small = replace(model(size_class="xs"), weights_bytes=0)
    exact = replace(small, weights_bytes=LEAST_WEIGHTS_BYTES)
    assert profile_bounds([], small) == profile_bounds([], exact)


def test_devices_beyond_those_of_one_host_count_for_nothing():
    many = profile_bounds(["NVIDIA B200"] * 64, LLAMA_8B)
    assert many == profile_bounds(["NVIDIA B200"] * 16, LLAMA_8B)


def test_an_honest_profile_of_this_repositorys_defaults_is_not_changed():
    told = EngineProfile(150.0, 0.7, 8, 28.0)
    bounds = profile_bounds(["x86_64"], model())
    assert bounded_profile(told, bounds) == told
    assert flattery(told, bounded_profile(told, bounds)) == ""
    assert bounded_profile(profile(), bounds).first_token_ms_p99 == profile().first_token_ms_p99


def test_what_is_out_of_bounds_is_named():
    bounded = bounded_profile(FLATTERING, profile_bounds(["NVIDIA L4"], LLAMA_8B))
    assert flattery(FLATTERING, bounded) == (
        "a first token of 0.1 ms, 1e+12 tokens/s, 65536 requests at once"
    )
    assert bounded.context_tokens == LLAMA_8B.context_tokens


@given(profiles, st.lists(names, max_size=20))
def test_a_bounded_profile_is_never_better_than_its_bounds_nor_than_it_was_told(told, devices):
    bounds = profile_bounds(devices, LLAMA_8B)
    made = bounded_profile(told, bounds)
    assert made.first_token_ms_p99 >= max(told.first_token_ms_p99, bounds.first_token_ms_p99)
    assert made.prefill_ms_per_token >= max(told.prefill_ms_per_token, bounds.prefill_ms_per_token)
    assert made.tokens_per_s <= min(told.tokens_per_s, bounds.tokens_per_s)
    assert made.max_parallel <= min(told.max_parallel, bounds.max_parallel)
    assert bounded_profile(made, bounds) == made


@pytest.mark.parametrize("part", list(ACCELERATORS))
def test_every_accelerator_is_faster_than_a_processor_in_something(part):
    device = profile_bounds([f"Some {part} 80GB"], LLAMA_8B)
    assert all(math.isfinite(one) for one in (device.first_token_ms_p99, device.tokens_per_s))
    assert device.max_parallel > profile_bounds([], LLAMA_8B).max_parallel
