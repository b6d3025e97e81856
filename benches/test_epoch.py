"""A whole epoch by a call of `fit`: checks, a new order of the rows, and all steps."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from cases import CASES, SEED, Case
from pairs import time_pairs

if TYPE_CHECKING:
    from pytest_benchmark.fixture import BenchmarkFixture

    from conftest import Report


@pytest.mark.benchmark(group="epoch")
@pytest.mark.parametrize("case", CASES, ids=str)
def test_epoch(benchmark: BenchmarkFixture, report: Report, case: Case) -> None:
    case.check()
    trainer, baseline = case.trainer(), case.baseline()
    x, y = case.data(case.rows)
    rng = np.random.default_rng(SEED)
    report.add(
        "An epoch by fit, per step",
        time_pairs(
            benchmark,
            case,
            lambda: trainer.fit(x, y, batch_size=case.batch),
            lambda: baseline.fit(x, y, batch_size=case.batch, rng=rng),
        ),
    )
