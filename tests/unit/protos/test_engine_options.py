"""Options of the engine that somebody else may set."""

from __future__ import annotations

from protos.domain.engine_options import (
    CUDA_LOAD_FORMATS,
    CUDA_OPTIONS,
    EXTRA_OPTIONS,
    LOAD_FORMATS,
    RUNTIME_OPTIONS,
    extra_option_problems,
    option_names,
)


def test_every_mistake_is_named():
    problems = extra_option_problems(("--uds", "/x", "--dtype", "auto", "--api-key", "k"))
    assert problems == [
        "engine option --uds is not allowed",
        "engine option --api-key is not allowed",
    ]


def test_a_runtime_may_set_what_an_operator_may_but_for_folders_of_the_host():
    assert frozenset({"--generation-config"}) == EXTRA_OPTIONS - RUNTIME_OPTIONS
    assert CUDA_OPTIONS < RUNTIME_OPTIONS
    assert CUDA_LOAD_FORMATS < LOAD_FORMATS


def test_names_are_read_as_the_engine_reads_them():
    assert option_names(("--kv_cache_dtype=fp8", "-1", "--a.b=1", "x")) == [
        "--kv-cache-dtype",
        "--a",
    ]
