"""The seed of the tests' random data: DOWNSLOPE_TEST_SEED, or a fixed one; printed by each run."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

# Before anything loads them: the peers compute on one thread, as threads of theirs that wait for
# each other on a busy machine take minutes.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest

import downslope as ds

SEED = int(os.environ.get("DOWNSLOPE_TEST_SEED", "20240229"))


def pytest_report_header() -> str:
    return f"DOWNSLOPE_TEST_SEED={SEED}"


@pytest.fixture(scope="session", autouse=True)
def _interruptible() -> Iterator[None]:
    """Ctrl-C raises, even if a shell started the tests in its background, where it has them ignore
    it: tests that interrupt themselves would go on for ever."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(params=[False, True], ids=["wait interrupted", "wait restarted"])
def each_wait(request: pytest.FixtureRequest) -> Iterator[None]:
    """A wait that Ctrl-C interrupts ends; or the system goes on with it, as it does after polars
    has been imported."""
    signal.siginterrupt(signal.SIGINT, not request.param)
    yield
    signal.siginterrupt(signal.SIGINT, True)


@pytest.fixture
def rng() -> np.random.Generator:
    """Random numbers, from the start of the same stream in every test."""
    return np.random.default_rng(SEED)


@pytest.fixture(params=["float32", "float64"])
def dtype(request: pytest.FixtureRequest) -> str:
    """A network's float type: the test runs with each."""
    return request.param


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a file may be written."""
    return tmp_path / "model.safetensors"


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One file for all the examples of a property."""
    return tmp_path_factory.mktemp("scratch") / "model.safetensors"


@pytest.fixture
def article() -> ds.Network:
    """The network of the worked example (test_worked_example.py), in float64."""
    hidden = ds.Dense(
        2, "sigmoid", weights=[[0.10, 0.03], [0.15, 0.08]], bias=0.05, shared_bias=True
    )
    output = ds.Dense(
        2, "sigmoid", weights=[[0.18, 0.11], [0.06, 0.26]], bias=0.42, shared_bias=True
    )
    return ds.Network(2, [hidden, output], dtype="float64")
