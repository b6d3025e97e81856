"""The times of single calls, as percentiles: what a service that answers one request sees."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from benches.pairs import REPEATS, seconds_of
from downslope.timing import Pairs, spread

Call = Callable[[], object]

# Both sides are called in turn, a number of calls each, so many times.
TURNS = 10
MOST_CALLS = 100
# Calls that warm up, the quickest of which tells how many can be made.
WARM = 3


def latencies(ours: Call, theirs: Call, seconds: float) -> dict[str, Any]:
    """Medians of each turn, and the median and 99th percentile over all calls of each side.

    Takes about so many seconds, both sides warm before, and as many again if that was noisy.
    """
    pair = sum(min(seconds_of(call) for _ in range(WARM)) for call in (ours, theirs))
    calls = min(max(int(seconds / TURNS / pair), 1), MOST_CALLS)
    attempts = [_turns(ours, theirs, calls)]
    while _pairs(attempts[-1]).noisy and len(attempts) <= REPEATS:
        attempts.append(_turns(ours, theirs, calls))
    return min(attempts, key=lambda found: spread(_pairs(found).ratios))


def _turns(ours: Call, theirs: Call, calls: int) -> dict[str, Any]:
    times = {"theirs": np.empty((TURNS, calls)), "ours": np.empty((TURNS, calls))}
    for turn in range(TURNS):
        times["theirs"][turn] = _timed(theirs, calls)
        times["ours"][turn] = _timed(ours, calls)
    found: dict[str, Any] = {"calls": TURNS * calls}
    for side, taken in times.items():
        found[side] = np.median(taken, axis=1).tolist()
        found[f"{side}_p50"], found[f"{side}_p99"] = np.percentile(taken, [50, 99]).tolist()
    return found


def _timed(call: Call, calls: int) -> list[float]:
    """Seconds of each; not of a first one, which finds the caches as the other side left them."""
    if calls > 1:
        call()
    return [seconds_of(call) for _ in range(calls)]


def _pairs(found: dict[str, Any]) -> Pairs:
    return Pairs(found["ours"], found["theirs"])
