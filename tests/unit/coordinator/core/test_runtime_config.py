"""Runtimes: options by allowlist, and nothing that names a path."""

from __future__ import annotations

from dataclasses import replace

import pytest

from coordinator.core.runtime_config import MAX_ARGS, checked_runtime
from protos.domain.errors import InvalidRequest
from protos.domain.resources import Runtime

RUNTIME = Runtime(
    "acme/fast@1",
    version_constraint=">=0.32, <0.33",
    args=("--seed", "1", "--kv-cache-dtype=fp8"),
    load_format="safetensors",
    accelerators=("cpu", "cuda"),
)


def test_a_runtime_is_kept_in_one_form():
    checked = checked_runtime(RUNTIME)
    assert checked.version_constraint == "<0.33,>=0.32"
    assert checked.accelerators == ("cuda", "cpu")
    assert checked.args == RUNTIME.args


def test_what_needs_cuda_is_taken_for_cuda_alone():
    sleeping = replace(
        RUNTIME,
        args=("--enable-sleep-mode",),
        load_format="ipc_cache",
        accelerators=("cuda",),
    )
    assert checked_runtime(sleeping) == replace(sleeping, version_constraint="<0.33,>=0.32")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"engine_kind": "sglang"}, "engine kind"),
        ({"version_constraint": "newest"}, "is no version constraint"),
        ({"version_constraint": ">=1," * 50}, "at most 100 characters"),
        ({"accelerators": ("tpu",)}, "accelerator 'tpu'"),
        ({"args": ("--uds=/tmp/x",)}, "no path"),
        ({"args": ("--chat-template", "x")}, "--chat-template is not allowed"),
        ({"args": ("--generation-config", "auto")}, "--generation-config is not allowed"),
        ({"args": ("--trust-remote-code",)}, "--trust-remote-code is not allowed"),
        ({"args": ("--hf_overrides.a=1",)}, "--hf-overrides is not allowed"),
        ({"args": ('--seed={"a":1}',)}, "no JSON"),
        ({"args": ("1",)}, "belongs to no option"),
        ({"args": ("--seed=1",) * (MAX_ARGS + 1)}, "65 arguments are more than 64"),
        ({"args": ("--enable-sleep-mode",)}, "--enable-sleep-mode needs CUDA"),
        ({"load_format": "ipc_cache"}, "ipc_cache needs CUDA"),
        ({"load_format": "pt"}, "load format 'pt' is not served"),
        ({"load_format": "dummy"}, "load format 'dummy' is not served"),
    ],
)
def test_what_a_runtime_may_not_say_is_refused(change, says):
    with pytest.raises(InvalidRequest) as refused:
        checked_runtime(replace(RUNTIME, **change))
    assert says in str(refused.value)


@pytest.mark.parametrize(
    "args",
    [
        ("--seed", "-nan"),
        ("--seed", "-inf"),
        ("--seed", "-1_0"),
        ("--seed", "1", "acme/other"),
        ("--seed=1", "acme/other".replace("/", ".")),
        ("--seed.x", "1"),
        ("--seed+", "1"),
        ("--config=x",),
        ("--tensor-parallel", "2"),
        ("-tp=2",),
        ("--",),
    ],
)
def test_words_that_an_engine_would_read_as_something_else_are_refused(args):
    with pytest.raises(InvalidRequest):
        checked_runtime(replace(RUNTIME, args=args))


def test_values_of_options_are_taken_in_both_forms():
    args = ("--seed", "-1", "--kv_cache_dtype=fp8", "--enforce-eager", "--dtype", "bfloat16")
    assert checked_runtime(replace(RUNTIME, args=args)).args == args


@pytest.mark.parametrize("text", ["===1", "===../x", "=== \u200b1", ">=1 ; rm", "==0.*.*", "~=1"])
def test_a_constraint_that_compares_no_versions_is_refused(text):
    with pytest.raises(InvalidRequest):
        checked_runtime(replace(RUNTIME, version_constraint=text))
