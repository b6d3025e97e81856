"""Every width and every batch from 1 to 130, and every depth to 16: there should be no cliffs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from statistics import median
from typing import TYPE_CHECKING

import pytest

import downslope as ds
from benches import THREADS
from downslope.cases import Case
from downslope.timing import Turn

if TYPE_CHECKING:
    from pytest_benchmark.fixture import BenchmarkFixture

# A turn is to be long enough for the clock: so many flops, within limits.
TURN_FLOPS, FEWEST_STEPS, MOST_STEPS = 5e7, 3, 2000
TURNS = 7

SQUARE = Case("", (64, 64, 64), 64, "relu", ds.SGD(0.01), 1)
SWEEPS = {
    "width": [replace(SQUARE, widths=(width,) * 3) for width in range(1, 131)],
    "batch": [replace(SQUARE, batch=batch) for batch in range(1, 131)],
    "depth": [replace(SQUARE, widths=(64,) * (depth + 1)) for depth in range(1, 17)],
}


def value_of(case: Case, axis: str) -> int:
    return {"width": case.widths[0], "batch": case.batch, "depth": len(case.widths) - 1}[axis]


@pytest.mark.benchmark(group="sweep")
@pytest.mark.skipif(THREADS > 1, reason="measured with one thread")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("axis", SWEEPS)
def test_sweep(
    benchmark: BenchmarkFixture, record: Callable[..., None], axis: str, dtype: str
) -> None:
    """A training step inside `fit`.  Neighbours are timed in turn, round after round."""
    turns = {case: turn_of(replace(case, dtype=dtype)) for case in SWEEPS[axis]}

    def all_of_them() -> None:
        for turn in turns.values():
            turn()

    benchmark.pedantic(all_of_them, rounds=TURNS, warmup_rounds=1)
    for case, turn in turns.items():
        record(
            "sweep",
            axis=axis,
            dtype=dtype,
            value=value_of(case, axis),
            seconds=median(turn.seconds[1:] or turn.seconds),
            flops=case.flops,
        )


def turn_of(case: Case) -> Turn:
    steps = min(max(int(TURN_FLOPS / case.flops), FEWEST_STEPS), MOST_STEPS)
    trainer, (x, y) = case.trainer(), case.data(steps)
    return Turn(lambda: trainer.fit(x, y, batch_size=case.batch), steps)
