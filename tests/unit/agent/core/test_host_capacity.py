"""The memory that the weights of one engine may take, by what was read and how engines start."""

from __future__ import annotations

import pytest

from agent.core.host_capacity import weights_memory_bytes

GIB = 1024**3
H100 = 80 * GIB


def on_gpus(*memory_bytes: int, engines: int = 1, kv_gib: int = 0, args: tuple[str, ...] = ()):
    return weights_memory_bytes(
        memory_bytes, on_cpu=False, engines=engines, kv_cache_bytes=kv_gib * GIB, args=args
    )


def test_nothing_that_was_read_is_not_known_rather_than_no_memory() -> None:
    assert on_gpus() == 0


def test_one_engine_computes_on_the_largest_gpu() -> None:
    assert on_gpus(H100, 24 * GIB) == int(H100 * 0.9)


@pytest.mark.parametrize(
    "args", [("--gpu-memory-utilization", "0.5"), ("--gpu-memory-utilization=0.5",)]
)
def test_the_share_that_the_host_was_given_counts(args: tuple[str, ...]) -> None:
    assert on_gpus(H100, args=args) == H100 // 2


def test_weights_split_over_several_gpus_fill_each_as_the_smallest() -> None:
    args = ("--tensor-parallel-size=2",)
    assert on_gpus(H100, 40 * GIB, 24 * GIB, args=args) == int(40 * GIB * 2 * 0.9)


def test_the_cache_and_other_engines_take_their_part() -> None:
    assert on_gpus(H100, engines=2, kv_gib=12) == 30 * GIB


def test_a_cache_larger_than_the_memory_leaves_nothing() -> None:
    assert on_gpus(H100, kv_gib=100) == 0


def test_a_value_that_is_no_number_is_as_if_not_given() -> None:
    assert on_gpus(H100, args=("--gpu-memory-utilization", "most")) == int(H100 * 0.9)
    assert on_gpus(H100, args=("--gpu-memory-utilization",)) == int(H100 * 0.9)


def test_a_host_without_a_gpu_keeps_a_part_for_itself() -> None:
    got = weights_memory_bytes([100 * GIB], on_cpu=True, engines=1, kv_cache_bytes=10 * GIB)
    assert got == 70 * GIB
