"""Timing two programs in turn, again and again, so that whatever else the machine does hits both.

A ratio is taken within each pair, and its median over the pairs is reported with an interval from
the bootstrap (Efron, 1979): the medians of as many pairs drawn from them with replacement.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter, process_time, sleep

import numpy as np

# An interquartile range of the ratios wider than this share of their median is called noisy.
NOISY = 0.10

# A process is idle when it takes less than this share of a core; how often one looks, and for how
# long at most, in seconds.
_IDLE, _LOOK, _LONGEST_REST = 0.1, 0.005, 1.0

# Draws of the bootstrap, and the share of them that lies in the interval.
_DRAWS, _LEVEL = 2000, 0.95


class Turn:
    """A call that makes some steps, and the seconds per step that it took each time."""

    def __init__(self, call: Callable[[], object], steps: int = 1) -> None:
        self._call = call
        self._steps = steps
        self.seconds: list[float] = []

    def __call__(self) -> None:
        begun = perf_counter()
        self._call()
        self.seconds.append((perf_counter() - begun) / self._steps)


@dataclass(frozen=True)
class Pairs:
    """Seconds per step of downslope and of another program, pair by pair."""

    ours: Sequence[float]
    theirs: Sequence[float]

    @property
    def ratios(self) -> list[float]:
        """How many times as long the other took."""
        return [theirs / ours for ours, theirs in zip(self.ours, self.theirs, strict=True)]

    @property
    def noisy(self) -> bool:
        """Whether the ratios are spread too widely to be trusted."""
        return spread(self.ratios) > NOISY


def alternate(ours: Turn, theirs: Turn, rounds: int, *, resting: bool = False) -> Pairs:
    """Time both by turns.  `resting`: each waits for the threads of the other to come to rest."""
    for _ in range(rounds):
        for turn in theirs, ours:
            if resting:
                rest()
            turn()
    return Pairs(ours.seconds[-rounds:], theirs.seconds[-rounds:])


def rest() -> None:
    """Sleep until no thread of this process computes.

    The threads of OpenBLAS and of OpenMP go round in circles for a tenth of a second and more after
    their last call, on a core that the next turn needs.
    """
    ends = perf_counter() + _LONGEST_REST
    while perf_counter() < ends:
        used, begun = process_time(), perf_counter()
        sleep(_LOOK)
        if process_time() - used < _IDLE * (perf_counter() - begun):
            return


def spread(values: Sequence[float]) -> float:
    """The interquartile range as a share of the median."""
    low, middle, high = np.percentile(values, [25, 50, 75])
    return float((high - low) / middle)


def median_interval(values: Sequence[float]) -> tuple[float, float, float]:
    """The median and the ends of its bootstrap interval, always the same for the same values."""
    rng = np.random.default_rng(0)
    medians = np.median(rng.choice(values, (_DRAWS, len(values))), axis=1)
    low, high = np.quantile(medians, [(1 - _LEVEL) / 2, (1 + _LEVEL) / 2])
    return float(np.median(values)), float(low), float(high)
