"""How the benchmarks of a run share its time: a plugin of pytest, of use to the report alone.

Each benchmark is given the usual seconds while the run is on time, fewer when it is late, and none
when its time is over.  One that hangs is stopped.  How far the run is, and how long it has, is
printed before each.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from time import monotonic

import pytest

# What a benchmark should spend is not cut to less than this share.
LEAST = 0.3
# Seconds that a single benchmark may take, its preparation and compilation included.
LONGEST = 120


class Budget:
    """A run of so many seconds."""

    def __init__(self, total: float) -> None:
        self._total = total
        self._ends = monotonic() + total
        self._count = self._begun = 0

    @property
    def share(self) -> float:
        """Of its usual time, what the benchmark that has begun should take."""
        time_left = (self._ends - monotonic()) / self._total
        benchmarks_left = (self._count - self._begun + 1) / self._count
        return min(max(time_left / benchmarks_left, LEAST), 1.0)

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        self._count = len(session.items)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        self._begun += 1
        left = max(self._ends - monotonic(), 0.0)
        terminal = item.config.pluginmanager.get_plugin("terminalreporter")
        terminal.write_line(
            f"[{self._begun:3} of {self._count}, {int(left) // 60}:{int(left) % 60:02} left]  "
            f"{item.nodeid.rpartition('::')[2]}"
        )
        return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Iterator[None]:
        left = self._ends - monotonic()
        if left <= 0:
            raise TimeoutError(f"not begun, as the {self._total:.0f} seconds of the run were over")
        limit = min(left, LONGEST)

        def stop(signum: int, frame: object) -> None:
            raise TimeoutError(f"stopped after {limit:.0f} seconds")

        before = signal.signal(signal.SIGALRM, stop)
        signal.setitimer(signal.ITIMER_REAL, limit)
        try:
            return (yield)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)

    def pytest_report_teststatus(self, report: pytest.TestReport) -> tuple[str, str, str]:
        """No letters between the lines; failures are told at the end."""
        if report.when == "call" or report.skipped:
            return report.outcome, "", ""
        return "error" if report.failed else "", "", ""
