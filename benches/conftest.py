"""One core and one thread for both sides of a comparison, and the tables at the end of a run."""

from __future__ import annotations

import os
from collections.abc import Iterator
from statistics import median
from typing import TYPE_CHECKING

import pytest

# Before NumPy is imported (below, and by the benchmarks) and starts its BLAS.
for variable in (
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "OMP_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
):
    os.environ[variable] = "1"

if TYPE_CHECKING:
    from pairs import Pairs

# Columns of the tables, text to the left and numbers to the right.
TEXT = ("network", "hidden", "optimiser")
NUMBERS = ("batch", "downslope", "NumPy", "ratio", "GFLOP/s", "of peak")


class Report:
    """The comparisons of a run, and the best FMA rate that was seen in it."""

    def __init__(self) -> None:
        self.tables: dict[str, list[Pairs]] = {}
        self.others: dict[str, list[tuple[str, ...]]] = {}
        self.fma_peak = 0.0

    def add(self, title: str, pairs: Pairs | None) -> None:
        """A row of the table with that title."""
        from machine import fma_peak

        if pairs is not None:
            self.tables.setdefault(title, []).append(pairs)
            self.fma_peak = max(self.fma_peak, fma_peak())

    def add_row(self, title: str, header: tuple[str, ...], row: tuple[str, ...]) -> None:
        """A row of a table with columns of its own."""
        self.others.setdefault(title, [header]).append(row)

    def lines(self, title: str) -> list[str]:
        """The table, its columns lined up."""
        if title in self.others:
            return _lined_up(self.others[title], text=1)
        rows = [TEXT + NUMBERS, *(self._cells(pairs) for pairs in self.tables[title])]
        return _lined_up(rows, text=len(TEXT))

    def _cells(self, pairs: Pairs) -> tuple[str, ...]:
        case = pairs.case
        return (
            str(case),
            case.activation,
            type(case.optimizer).__name__,
            str(case.batch),
            f"{1e6 * median(pairs.downslope):.2f}",
            f"{1e6 * median(pairs.numpy):.2f}",
            f"{median(pairs.ratios):.2f}",
            f"{pairs.gflops:.2f}",
            f"{pairs.gflops / self.fma_peak:.0%}",
        )


def _lined_up(rows: list[tuple[str, ...]], text: int) -> list[str]:
    """Rows of a table as lines, the first columns to the left and the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    form = "  ".join(f"{{:{'<' if i < text else '>'}{width}}}" for i, width in enumerate(widths))
    return [form.format(*row) for row in rows]


_REPORT = pytest.StashKey[Report]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_REPORT] = Report()


@pytest.fixture
def report(request: pytest.FixtureRequest) -> Report:
    return request.config.stash[_REPORT]


@pytest.fixture(scope="session", autouse=True)
def _one_core() -> Iterator[None]:
    from machine import one_core

    with one_core():
        yield


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    report = config.stash[_REPORT]
    if not report.tables and not report.others:
        return
    from machine import describe

    for title in sorted({*report.tables, *report.others}):
        unit = ": microseconds" if title in report.tables else ""
        terminalreporter.section(title + unit, sep="-")
        for line in report.lines(title):
            terminalreporter.write_line(line)
    terminalreporter.section("Measured on", sep="-")
    for line in describe():
        terminalreporter.write_line(line)
    if report.tables:
        peak = f"FMA peak {report.fma_peak:.1f} GFLOP/s"
        terminalreporter.write_line(f"float32, loss mse; {peak}.")
        terminalreporter.write_line("Medians; ratio: the median of NumPy / downslope over pairs.")
