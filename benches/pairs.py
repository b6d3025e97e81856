"""Timing downslope and NumPy in turn: the same pair again and again, so that drift hits both."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from time import perf_counter

from pytest_benchmark.fixture import BenchmarkFixture

from cases import Case

# Many short turns: what else the machine does spoils some of them, and not the median.
ROUNDS, WARM_UP = 60, 3


@dataclass(frozen=True)
class Pairs:
    """Seconds per step, pair by pair."""

    case: Case
    downslope: list[float]
    numpy: list[float]

    @property
    def ratios(self) -> list[float]:
        """How many times as long NumPy took, in ascending order."""
        return sorted(numpy / ours for ours, numpy in zip(self.downslope, self.numpy, strict=True))

    @property
    def gflops(self) -> float:
        return 1e-9 * self.case.flops / median(self.downslope)


def time_pairs(
    benchmark: BenchmarkFixture,
    case: Case,
    downslope: Callable[[], object],
    numpy: Callable[[], object],
) -> Pairs | None:
    """Time both by turns, each call making `case.steps` steps; None with --benchmark-disable."""
    seconds: list[float] = []

    def time_numpy() -> None:
        begun = perf_counter()
        numpy()
        seconds.append(perf_counter() - begun)

    benchmark.pedantic(downslope, setup=time_numpy, rounds=ROUNDS, warmup_rounds=WARM_UP)
    if benchmark.disabled:
        return None
    return Pairs(
        case,
        [s / case.steps for s in benchmark.stats.stats.data],
        [s / case.steps for s in seconds[WARM_UP:]],
    )
