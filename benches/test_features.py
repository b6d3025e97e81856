"""What a feature of training costs: an epoch with it beside the same epoch without."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import downslope as ds
from benches import THREADS
from downslope.cases import CASES, Case
from downslope.timing import Turn

if TYPE_CHECKING:
    from downslope.timing import Pairs

COSTED = [case for case in CASES if case.name in "CE"]


def sample_weight(case: Case) -> dict[str, Any]:
    rows = case.batch * case.steps
    return {"sample_weight": np.ones(rows, case.dtype)}


def validation(case: Case) -> dict[str, Any]:
    return {"validation_data": case.data(max(case.steps // 10, 1))}


def early_stopping(case: Case) -> dict[str, Any]:
    stopping = ds.EarlyStopping(patience=10**6, restore_best_weights=True)
    return {**validation(case), "callbacks": [stopping]}


FEATURES = {
    "weights of the samples": sample_weight,
    "validation on a tenth": validation,
    "early stopping, with that": early_stopping,
}


@pytest.mark.benchmark(group="feature")
@pytest.mark.skipif(THREADS > 1, reason="measured with one thread")
@pytest.mark.parametrize("case", COSTED, ids=lambda case: case.name)
@pytest.mark.parametrize("feature", FEATURES)
def test_feature(
    compare: Callable[[Turn, Turn], Pairs | None],
    record: Callable[..., None],
    case: Case,
    feature: str,
) -> None:
    x, y = case.data()

    def turn(options: dict[str, Any]) -> Turn:
        trainer = case.trainer()
        return Turn(lambda: trainer.fit(x, y, batch_size=case.batch, **options), case.steps)

    pairs = compare(turn({}), turn(FEATURES[feature](case)))
    if pairs is not None:
        record("feature", feature=feature, case=case.name, ours=pairs.ours, theirs=pairs.theirs)
