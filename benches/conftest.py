"""The cores and threads of a run, what it records, and the tables at its end.

Every benchmark that compares notes a record, a dictionary of plain values with a `kind`; one that
fails is a record of the kind "failed", with the reason.  `--records FILE` keeps them, a line of
JSON each, as soon as they are there: `python -m benches.report` reads them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from benches import THREADS
from benches.budget import Budget

if TYPE_CHECKING:
    from pytest_benchmark.fixture import BenchmarkFixture

    from benches.peers import Peer
    from downslope.timing import Pairs, Turn

Record = dict[str, Any]

_RECORDS = pytest.StashKey[list[Record]]()
# Of a reason, and the rest of it is seen where the benchmark is run by itself.
_MOST_CHARACTERS = 160

# What peers do to each other is not an error of ours: PyTorch's compiler uses what PyTorch
# deprecates, and JAX's arrays, under Keras, have no `copy` for NumPy 2.
PEERS_WARNINGS = [
    "ignore:`torch.jit:DeprecationWarning",
    "ignore:__array__ implementation:DeprecationWarning",
]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--records", type=Path, help="add what the benchmarks record to this file")
    parser.addoption("--budget", type=float, help="seconds for all benchmarks, shared among them")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_RECORDS] = []
    if config.option.budget is not None:
        config.pluginmanager.register(Budget(config.option.budget), "budget")
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
        _keep(request.config, {"kind": kind, "threads": THREADS, "peak": peak, **values})

    return keep


def _keep(config: pytest.Config, record: Record) -> None:
    config.stash[_RECORDS].append(record)
    if config.option.records is not None:
        with config.option.records.open("a", encoding="utf-8") as file:
            print(json.dumps(record), file=file)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Function, call: pytest.CallInfo[None]
) -> Iterator[pytest.TestReport]:
    """A benchmark that fails is told, and told why."""
    report = yield
    if report.failed and call.when != "teardown":
        parameters = dict(item.callspec.params) if hasattr(item, "callspec") else {}
        group = item.get_closest_marker("benchmark")
        _keep_failure(
            item.config,
            group.kwargs["group"] if group else item.name,
            peer=parameters.pop("peer", "downslope"),
            what=", ".join(_short(value) for value in parameters.values()) or item.originalname,
            error=call.excinfo,
        )
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Iterator[pytest.CollectReport]:
    """So is a file of benchmarks that can not be imported."""
    report = yield
    if report.failed:
        _keep_failure(collector.config, collector.name, "downslope", "", report.call.excinfo)
    return report


def _keep_failure(
    config: pytest.Config,
    group: str,
    peer: str,
    what: str,
    error: pytest.ExceptionInfo[BaseException] | None,
) -> None:
    reason = " ".join(error.exconly().split()) if error else "not known"
    if len(reason) > _MOST_CHARACTERS:
        reason = f"{reason[:_MOST_CHARACTERS]} …"
    failed = {"group": group, "peer": peer, "what": what, "reason": reason}
    _keep(config, {"kind": "failed", "threads": THREADS, **failed})


def _short(value: object) -> str:
    """Cases and tasks have names."""
    return str(getattr(value, "name", value))


@pytest.fixture
def seconds(request: pytest.FixtureRequest) -> float:
    """What one benchmark should take: --benchmark-max-time, less if the run is late."""
    usual = float(request.config.getoption("benchmark_max_time"))
    budget = request.config.pluginmanager.get_plugin("budget")
    return usual if budget is None else usual * budget.share


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
