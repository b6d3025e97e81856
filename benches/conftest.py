"""The cores and threads of a run, what it records, and the tables at its end.

Every benchmark that compares notes a record, a dictionary of plain values with a `kind`;
`--records FILE` keeps them as JSON, which is what `python -m benches.report` reads.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from benches import THREADS

if TYPE_CHECKING:
    from pytest_benchmark.fixture import BenchmarkFixture

    from benches.peers import Peer
    from downslope.timing import Pairs, Turn

Record = dict[str, Any]

_RECORDS = pytest.StashKey[list[Record]]()


# What peers do to each other is not an error of ours: PyTorch's compiler uses what PyTorch
# deprecates, and JAX's arrays, under Keras, have no `copy` for NumPy 2.
PEERS_WARNINGS = [
    "ignore:`torch.jit:DeprecationWarning",
    "ignore:__array__ implementation:DeprecationWarning",
]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--records", type=Path, help="keep what the benchmarks recorded in this file")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_RECORDS] = []
    for line in PEERS_WARNINGS:
        config.addinivalue_line("filterwarnings", line)


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """Nothing but benchmarks: --doctest-modules would import what may not be installed."""
    if collection_path.suffix == ".py" and not collection_path.name.startswith("test_"):
        return True
    return None


@pytest.fixture
def record(request: pytest.FixtureRequest) -> Callable[..., None]:
    """record(kind, **values): keep the values, and the peak beside them."""
    from benches.machine import fma_peak

    def keep(kind: str, **values: Any) -> None:
        peak = fma_peak(values.get("dtype", "float32"))
        record = {"kind": kind, "threads": THREADS, "peak": peak, **values}
        request.config.stash[_RECORDS].append(record)

    return keep


@pytest.fixture
def seconds(request: pytest.FixtureRequest) -> float:
    """What one benchmark should take: --benchmark-max-time."""
    return float(request.config.getoption("benchmark_max_time"))


@pytest.fixture
def compare(benchmark: BenchmarkFixture, seconds: float) -> Callable[[Turn, Turn], Pairs | None]:
    """compare(ours, theirs): time both by turns."""
    from benches.pairs import time_pairs

    return partial(time_pairs, benchmark, seconds)


@pytest.fixture
def peer(request: pytest.FixtureRequest) -> type[Peer]:
    """The peer that the test is parametrised with, if it is there."""
    from benches import peers

    name = request.param
    try:
        return peers.load(name)
    except ImportError as error:
        pytest.skip(f"{name} is missing: {error}")


@pytest.fixture(scope="session", autouse=True)
def _pinned() -> Iterator[None]:
    from benches.machine import cores, pinned

    if cores() < THREADS:
        pytest.skip(f"{THREADS} threads want as many cores; there are {cores()}")
    with pinned():
        yield


def pytest_sessionfinish(session: pytest.Session) -> None:
    path = session.config.getoption("--records")
    if path is not None:
        path.write_text(json.dumps(session.config.stash[_RECORDS]), encoding="utf-8")


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    records = config.stash[_RECORDS]
    if not records:
        return
    from benches.machine import facts
    from benches.tables import lines, tables

    for title, rows in tables(records):
        terminalreporter.section(title, sep="-")
        for line in lines(rows):
            terminalreporter.write_line(line)
    terminalreporter.section("Measured on", sep="-")
    for name, value in facts().items():
        terminalreporter.write_line(f"{name}: {value}")


def pytest_benchmark_update_machine_info(config: pytest.Config, machine_info: Record) -> None:
    """What is saved does not name the machine."""
    machine_info.pop("node", None)
