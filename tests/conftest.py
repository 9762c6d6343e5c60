"""Fixtures for all tests: the real engine, started once."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ttscale import LocalEngine


@pytest.fixture(scope="session")
def engine() -> Iterator[LocalEngine]:
    """The embedded model in a real vLLM engine, in vLLM's own process."""
    with LocalEngine(max_model_len=1024, max_num_seqs=32) as started:
        yield started
