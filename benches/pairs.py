"""Pairs of turns as a benchmark of pytest-benchmark: what is saved there is downslope's time."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter

from pytest_benchmark.fixture import BenchmarkFixture

from downslope.timing import Pairs, Turn, alternate, spread

# The pairs of one benchmark are neither few nor endlessly many, whatever time is given to them.
FEWEST, MOST = 7, 60
# Noisy pairs are timed again, so often at most, and the quietest are kept.
REPEATS = 1


def time_pairs(
    benchmark: BenchmarkFixture, seconds: float, ours: Turn, theirs: Turn
) -> Pairs | None:
    """Time both by turns, warm, for about so many seconds; None with --benchmark-disable."""
    begun = perf_counter()
    alternate(ours, theirs, 1)
    rounds = min(max(int(seconds / (perf_counter() - begun)), FEWEST), MOST)
    benchmark.pedantic(ours, setup=theirs, rounds=rounds, warmup_rounds=1)
    if benchmark.disabled:
        return None
    attempts = [Pairs(ours.seconds[-rounds:], theirs.seconds[-rounds:])]
    while attempts[-1].noisy and len(attempts) <= REPEATS:
        attempts.append(alternate(ours, theirs, rounds))
    return min(attempts, key=lambda pairs: spread(pairs.ratios))


def first_call(call: Callable[[], object]) -> float:
    """Seconds of a call that compiles and warms up what the following ones use."""
    begun = perf_counter()
    call()
    return perf_counter() - begun
