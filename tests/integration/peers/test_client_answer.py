"""A target's whole answer while it arrives."""

from __future__ import annotations

import tracemalloc
from types import SimpleNamespace
from typing import Any

from agent.relay.client_answer import ClientAnswer

READS, CHUNKS = 100, 2_000


def test_a_whole_answer_in_chunks_of_two_bytes_takes_little_more_than_its_size() -> None:
    """A turned host could make 1.4 GB of the 64 MiB that an answer may have."""
    attempt: Any = SimpleNamespace(resumes=None, last_read_mono_ms=0.0)
    nobody: Any = SimpleNamespace(on_answer_head=lambda answer: None)
    answer = ClientAnswer(nobody, nobody, nobody, attempt, None, lambda: 0.0)
    answer.on_head(200, [(b"content-type", b"application/json")])
    tracemalloc.start()
    try:
        for _ in range(READS):
            for _ in range(CHUNKS):
                answer.on_body(bytes(bytearray(b"ab")))
            answer.on_read_end()
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert answer.body == b"ab" * (READS * CHUNKS)
    assert peak_bytes < 4 * len(answer.body)
