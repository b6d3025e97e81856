"""The times of single calls, as percentiles: what a service that answers one request sees."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from benches.pairs import seconds_of

Call = Callable[[], object]

# Both sides are called in turn, a number of calls each, so many times.
TURNS = 10
MOST_CALLS = 100


def latencies(ours: Call, theirs: Call, seconds: float) -> dict[str, object]:
    """Medians of each turn, and the median and 99th percentile over all calls of each side.

    Takes about so many seconds, both sides warm before.
    """
    sides = {"ours": ours, "theirs": theirs}
    for call in sides.values():
        call()
    pair = sum(map(seconds_of, sides.values()))
    calls = min(max(int(seconds / TURNS / pair), 1), MOST_CALLS)
    times = {side: np.empty((TURNS, calls)) for side in sides}
    for turn in range(TURNS):
        for side in ("theirs", "ours"):
            times[side][turn] = [seconds_of(sides[side]) for _ in range(calls)]
    found: dict[str, object] = {"calls": TURNS * calls}
    for side, taken in times.items():
        found[side] = np.median(taken, axis=1).tolist()
        found[f"{side}_p50"], found[f"{side}_p99"] = np.percentile(taken, [50, 99]).tolist()
    return found
