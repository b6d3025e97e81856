"""The times of single calls, as percentiles: what a service that answers one request sees."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter

import numpy as np

FEWEST, MOST = 20, 2000


def latencies(call: Callable[[], object], seconds: float) -> dict[str, float]:
    """Median and 99th percentile over calls for about so many seconds, warm."""
    call()
    begun = perf_counter()
    call()
    count = min(max(int(seconds / (perf_counter() - begun)), FEWEST), MOST)
    times = np.empty(count)
    for i in range(count):
        begun = perf_counter()
        call()
        times[i] = perf_counter() - begun
    p50, p99 = np.percentile(times, [50, 99])
    return {"p50": float(p50), "p99": float(p99)}
