"""Predictions from NumPy arrays to NumPy arrays: latency and throughput by the number of rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pytest

from benches import THREADS, peers
from benches.latency import latencies
from benches.peers.peer import check_agreement
from downslope.cases import CASES, Case

if TYPE_CHECKING:
    from pytest_benchmark.fixture import BenchmarkFixture

    from benches.peers import Peer

OURS = peers.load("downslope")
# A small policy, a tall and a wide classifier.
INFERRED = [case for case in CASES if case.name in "REF"]
ROWS = [4**power for power in range(7)]
# JAX scan predicts as JAX jit does.
NAMES = [name for name in peers.NAMES if name != "JAX scan"]


each_case = pytest.mark.parametrize("case", INFERRED, ids=lambda case: case.name)

Predict = Callable[[np.ndarray], object]


@pytest.mark.benchmark(group="inference")
@each_case
@pytest.mark.parametrize("peer", NAMES, indirect=True)
def test_inference(
    benchmark: BenchmarkFixture,
    seconds: float,
    record: Callable[..., None],
    case: Case,
    peer: type[Peer],
) -> None:
    check_agreement(peer, OURS, case, THREADS)
    ours, theirs = (side(case, *case.data(1), THREADS) for side in (OURS, peer))
    for found in by_rows(case, ours.predict, theirs.predict, seconds):
        record("inference", case=case.name, dtype=case.dtype, peer=peer.name, **found)
    benchmark.pedantic(ours.predict, (inputs(case)[:1],), rounds=50, iterations=10)


@pytest.mark.benchmark(group="inference into a given array")
@each_case
def test_inference_without_allocation(
    benchmark: BenchmarkFixture, seconds: float, record: Callable[..., None], case: Case
) -> None:
    """Beside the same without."""
    side = OURS(case, *case.data(1), THREADS)
    network, out = side.trainer.network, np.empty((ROWS[-1], case.widths[-1]), case.dtype)

    def predict(x: np.ndarray) -> None:
        network.predict(x, out=out[: len(x)], threads=THREADS)

    for found in by_rows(case, side.predict, predict, seconds):
        record("inference", case=case.name, dtype=case.dtype, peer="downslope, out=", **found)
    benchmark.pedantic(predict, (inputs(case)[:1],), rounds=50, iterations=10)


def inputs(case: Case) -> np.ndarray:
    x = np.random.default_rng(0).normal(size=(ROWS[-1], case.widths[0]))
    return x.astype(case.dtype)


def by_rows(
    case: Case, ours: Predict, theirs: Predict, seconds: float
) -> Iterator[dict[str, object]]:
    x = inputs(case)
    for rows in ROWS:
        calls = partial(ours, x[:rows]), partial(theirs, x[:rows])
        yield {"rows": rows, **latencies(*calls, seconds / len(ROWS))}
