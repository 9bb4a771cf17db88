"""The store's transactions, once for each backend."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.stores import BACKENDS, MemoryStore


@pytest.fixture(params=BACKENDS)
def store(request) -> Iterator[MemoryStore]:
    store = MemoryStore(request.param)
    yield store
    store.close()
