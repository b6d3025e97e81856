"""The seed of the tests' random data: DOWNSLOPE_TEST_SEED, or a fixed one; printed by each run."""

from __future__ import annotations

import os

# Before anything loads them: the peers compute on one thread, as threads of theirs that wait for
# each other on a busy machine take minutes.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest

SEED = int(os.environ.get("DOWNSLOPE_TEST_SEED", "20240229"))


def pytest_report_header() -> str:
    return f"DOWNSLOPE_TEST_SEED={SEED}"


@pytest.fixture
def rng() -> np.random.Generator:
    """Random numbers, from the start of the same stream in every test."""
    return np.random.default_rng(SEED)
