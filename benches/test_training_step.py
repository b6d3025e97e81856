"""One step of training: in the loop over mini-batches, and as a call of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from cases import CASES, SEED, Case
from pairs import time_pairs

if TYPE_CHECKING:
    from pytest_benchmark.fixture import BenchmarkFixture

    from conftest import Report

each_case = pytest.mark.parametrize("case", CASES, ids=str)


@pytest.mark.benchmark(group="step in the loop")
@each_case
def test_step_in_a_loop(benchmark: BenchmarkFixture, report: Report, case: Case) -> None:
    """Both loops gather the same rows from checked, prepared data in the same order."""
    case.check()
    trainer, baseline = case.trainer(), case.baseline()
    x, y = case.data(case.rows)
    data = trainer.network.dataset(x, y, trainer.loss, None)
    prepared = baseline.prepare(x, y)
    order = np.random.default_rng(SEED).permutation(case.rows)
    report.add(
        "A step in the loop over mini-batches",
        time_pairs(
            benchmark,
            case,
            lambda: trainer._train(data, order, case.batch, threads=1),
            lambda: baseline.epoch(prepared, order, batch_size=case.batch),
        ),
    )


@pytest.mark.benchmark(group="step by call")
@each_case
def test_step_by_call(benchmark: BenchmarkFixture, report: Report, case: Case) -> None:
    """`Trainer.step(X, y)`, which checks its arguments, against the baseline's, which does not."""
    case.check()
    trainer, baseline = case.trainer(), case.baseline()
    x, y = case.data(case.batch)

    def downslope() -> None:
        for _ in range(case.steps):
            trainer.step(x, y)

    def numpy() -> None:
        for _ in range(case.steps):
            baseline.step(x, y)

    report.add("A step made by Trainer.step", time_pairs(benchmark, case, downslope, numpy))
