"""Pairs of turns as a benchmark of pytest-benchmark: what is saved there is downslope's time."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from time import perf_counter

from pytest_benchmark.fixture import BenchmarkFixture

from benches import THREADS
from downslope.timing import Pairs, Turn, alternate, rest, spread

# The pairs of one benchmark are neither few nor endlessly many, whatever time is given to them.
FEWEST, MOST = 5, 60
# From so many pairs on, no more are timed once their median is known well enough: its standard
# error is about the interquartile range over the root of their number.
ENOUGH, SETTLED = 15, 0.01
# Noisy pairs are timed again, so often at most, and the quietest are kept.
REPEATS = 1
# Threads of one side must not be at work in the turn of the other.
RESTING = THREADS > 1


def time_pairs(
    benchmark: BenchmarkFixture, seconds: float, ours: Turn, theirs: Turn
) -> Pairs | None:
    """Time both by turns, warm, for so many seconds at most; None with --benchmark-disable."""
    alternate(ours, theirs, 1)  # which compiles and warms up
    begun = perf_counter()
    benchmark.pedantic(ours, setup=partial(_their_turn, theirs), rounds=FEWEST)
    if benchmark.disabled:
        return None
    attempts = [_more_pairs(ours, theirs, FEWEST, until=begun + seconds)]
    while attempts[-1].noisy and len(attempts) <= REPEATS:
        attempts.append(_more_pairs(ours, theirs, 0, until=perf_counter() + seconds))
    return min(attempts, key=lambda pairs: spread(pairs.ratios))


def _their_turn(theirs: Turn) -> None:
    if RESTING:
        rest()
    theirs()
    if RESTING:
        rest()


def _more_pairs(ours: Turn, theirs: Turn, count: int, until: float) -> Pairs:
    """The last pairs, so many, and those that are timed until then."""

    def pairs() -> Pairs:
        return Pairs(ours.seconds[-count:], theirs.seconds[-count:])

    def settled() -> bool:
        return count >= ENOUGH and spread(pairs().ratios) / count**0.5 < SETTLED

    while count < FEWEST or (count < MOST and perf_counter() < until and not settled()):
        alternate(ours, theirs, 1, resting=RESTING)
        count += 1
    return pairs()


def seconds_of(call: Callable[[], object]) -> float:
    begun = perf_counter()
    call()
    return perf_counter() - begun
