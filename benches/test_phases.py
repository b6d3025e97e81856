"""Where the time of a step goes, as `downslope bench --phases` shows it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from benches import THREADS
from downslope.cases import CASES, Case, phases

if TYPE_CHECKING:
    from pytest_benchmark.fixture import BenchmarkFixture


@pytest.mark.benchmark(group="phases")
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_phases(
    benchmark: BenchmarkFixture, seconds: float, record: Callable[..., None], case: Case
) -> None:
    found = benchmark.pedantic(phases, (case, THREADS, seconds))
    record("phases", case=case.name, phases=found)
