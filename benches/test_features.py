"""What a feature of training costs: an epoch with it beside the same epoch without."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from benches import THREADS
from benches.features import FEATURES, Feature
from downslope.cases import CASES, Case
from downslope.timing import Turn

if TYPE_CHECKING:
    from downslope.timing import Pairs

COSTED = [case for case in CASES if case.name in "CE"]


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
    costed = FEATURES[feature]
    pairs = compare(Feature(trained=costed.trained).turn(case), costed.turn(case))
    if pairs is not None:
        record("feature", feature=feature, case=case.name, ours=pairs.ours, theirs=pairs.theirs)
