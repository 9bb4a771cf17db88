"""How much of a host's memory the weights of one engine may take."""

from __future__ import annotations

import pytest

from agent.core.engine_capacity import weights_memory_bytes

GIB = 1024**3


@pytest.mark.parametrize(
    ("total_gib", "on_gpu", "kv_gib", "engines", "most_gib"),
    [
        (24, False, 0, 1, 16.2),
        (24, False, 4, 1, 13.2),
        (80, True, 0, 1, 70.0),
        (80, True, 0, 2, 34.5),
    ],
)
def test_weights_share_memory_with_the_cache_and_other_engines(
    total_gib, on_gpu, kv_gib, engines, most_gib
):
    most = weights_memory_bytes(
        total_gib * GIB, on_gpu=on_gpu, kv_cache_bytes=kv_gib * GIB, max_engines=engines
    )
    assert most / GIB == pytest.approx(most_gib, abs=0.01)


def test_unknown_memory_stays_unknown_and_too_little_is_not_unknown():
    assert weights_memory_bytes(0, on_gpu=True, kv_cache_bytes=0, max_engines=1) == 0
    assert weights_memory_bytes(GIB, on_gpu=False, kv_cache_bytes=0, max_engines=1) == 1
