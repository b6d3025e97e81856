"""Training: an epoch inside `fit`, and single steps called from Python, beside every peer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from statistics import median
from typing import TYPE_CHECKING

import pytest

from benches import THREADS, peers
from benches.peers.peer import CHECKED_STEPS, check_agreement
from downslope.cases import CASES, Case
from downslope.timing import Turn

if TYPE_CHECKING:
    from benches.peers import Peer
    from downslope.timing import Pairs

    Compare = Callable[[Turn, Turn], Pairs | None]

OURS = peers.load("downslope")
# So many steps from Python are enough of a turn.
MOST_STEPS = 300
# What two threads can be expected to help; the others are there to be seen unharmed.
THREADED_PEERS = ["NumPy", "PyTorch", "JAX scan"]
# Float64 is compared where the arithmetic dominates, with the peers whose arithmetic is BLAS.
DOUBLE = [replace(case, dtype="float64") for case in CASES if case.name in "CDEFG"]

each_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
each_peer = pytest.mark.parametrize(
    "peer", peers.NAMES if THREADS == 1 else THREADED_PEERS, indirect=True, ids=str
)
with_one_thread = pytest.mark.skipif(THREADS > 1, reason="measured with one thread")


@pytest.mark.benchmark(group="epoch")
@each_case
@each_peer
def test_epoch(compare: Compare, record: Callable[..., None], case: Case, peer: type[Peer]) -> None:
    """A pass over the data with one call: a new order of the rows, and all steps."""
    time_epochs(compare, record, case, peer)


@pytest.mark.benchmark(group="epoch, float64")
@with_one_thread
@pytest.mark.parametrize("case", DOUBLE, ids=lambda case: case.name)
@pytest.mark.parametrize("peer", ["NumPy", "PyTorch"], indirect=True)
def test_epoch_of_doubles(
    compare: Compare, record: Callable[..., None], case: Case, peer: type[Peer]
) -> None:
    time_epochs(compare, record, case, peer)


def time_epochs(
    compare: Compare, record: Callable[..., None], case: Case, peer: type[Peer]
) -> None:
    skip_refused(peer, case)
    first = check_agreement(peer, OURS, case, THREADS)
    ours = OURS(case, *case.data(), THREADS)
    steps = min(case.steps, peer.most_steps)
    theirs = peer(case, *case.data(steps), THREADS)
    pairs = compare(Turn(ours.epoch, case.steps), Turn(theirs.epoch, steps))
    if pairs is not None:
        record(
            "epoch",
            case=case.name,
            dtype=case.dtype,
            peer=peer.name,
            ours=pairs.ours,
            theirs=pairs.theirs,
            # what the very first steps took beyond later ones: compilation
            ours_start=first["ours"] - CHECKED_STEPS * median(pairs.ours),
            theirs_start=first["theirs"] - CHECKED_STEPS * median(pairs.theirs),
        )


@pytest.mark.benchmark(group="threads")
@pytest.mark.skipif(THREADS == 1, reason="measured with more than one thread")
@each_case
def test_threads(compare: Compare, record: Callable[..., None], case: Case) -> None:
    """An epoch on all threads beside one on a single thread, the same to the bit."""
    every, one = (OURS(case, *case.data(), threads) for threads in (THREADS, 1))
    pairs = compare(Turn(every.epoch, case.steps), Turn(one.epoch, case.steps))
    if pairs is not None:
        record("threads", case=case.name, dtype=case.dtype, ours=pairs.ours, theirs=pairs.theirs)


@pytest.mark.benchmark(group="step")
@with_one_thread
@each_case
@pytest.mark.parametrize("peer", ["NumPy", "PyTorch", "JAX jit"], indirect=True)
def test_step(compare: Compare, record: Callable[..., None], case: Case, peer: type[Peer]) -> None:
    """Mini-batches that the caller holds, a call each: `Trainer.step`."""
    skip_refused(peer, case)
    check_agreement(peer, OURS, case, THREADS)
    steps = min(case.steps, MOST_STEPS)
    x, y = case.data(steps)
    batches = [(x[i : i + case.batch], y[i : i + case.batch]) for i in range(0, len(x), case.batch)]

    def turn(side: Peer) -> Turn:
        def steps_of_an_epoch() -> None:
            for batch in batches:
                side.step(*batch)

        return Turn(steps_of_an_epoch, steps)

    sides = OURS(case, x, y, THREADS), peer(case, x, y, THREADS)
    pairs = compare(*map(turn, sides))
    if pairs is not None:
        record(
            "step",
            case=case.name,
            dtype=case.dtype,
            peer=peer.name,
            ours=pairs.ours,
            theirs=pairs.theirs,
        )


def skip_refused(peer: type[Peer], case: Case) -> None:
    if reason := peer.refuses(case):
        pytest.skip(f"{peer.name} can not do {case.name}: {reason}")
