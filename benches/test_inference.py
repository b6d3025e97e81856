"""Predictions from NumPy arrays to NumPy arrays: latency and throughput by the number of rows."""

from __future__ import annotations

from collections.abc import Callable
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


@pytest.mark.benchmark(group="inference")
@pytest.mark.parametrize("case", INFERRED, ids=lambda case: case.name)
@pytest.mark.parametrize("peer", ["downslope", *NAMES], indirect=True)
def test_inference(
    benchmark: BenchmarkFixture,
    seconds: float,
    record: Callable[..., None],
    case: Case,
    peer: type[Peer],
) -> None:
    check_agreement(peer, OURS, case, THREADS)
    side = peer(case, *case.data(1), THREADS)
    x = np.random.default_rng(0).normal(size=(ROWS[-1], case.widths[0])).astype(case.dtype)
    for rows in ROWS:
        found = latencies(partial(side.predict, x[:rows]), seconds / len(ROWS))
        record("inference", case=case.name, dtype=case.dtype, peer=peer.name, rows=rows, **found)
    benchmark.pedantic(side.predict, (x[:1],), rounds=50, iterations=10)


@pytest.mark.benchmark(group="inference into a given array")
@pytest.mark.parametrize("case", INFERRED, ids=lambda case: case.name)
def test_inference_without_allocation(
    benchmark: BenchmarkFixture, seconds: float, record: Callable[..., None], case: Case
) -> None:
    network = case.trainer(THREADS).network
    x = np.random.default_rng(0).normal(size=(ROWS[-1], case.widths[0])).astype(case.dtype)
    out = np.empty((ROWS[-1], case.widths[-1]), case.dtype)
    for rows in ROWS:
        call = partial(network.predict, x[:rows], out=out[:rows], threads=THREADS)
        found = latencies(call, seconds / len(ROWS))
        values = {"case": case.name, "dtype": case.dtype, "rows": rows, **found}
        record("inference", peer="downslope, out=", **values)
    benchmark.pedantic(
        network.predict, (x[:1],), {"out": out[:1], "threads": THREADS}, rounds=50, iterations=10
    )
