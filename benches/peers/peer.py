"""What the benchmarks ask of a program that trains networks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from functools import cache
from time import perf_counter
from typing import ClassVar

import numpy as np

from downslope.cases import Case

# Before timing, a peer and downslope make so many steps on the same batches from the same weights.
# Their losses, outputs, and the ways that their parameters went, must agree to this relative error:
# float rounding, with room for its growth from step to step, above all where Adam divides a nearly
# vanishing gradient by its size.
CHECKED_STEPS = 3
TOLERANCE = 2e-3


class Peer(ABC):
    """A case's network, with the initial weights of `case.layers`, ready to be trained.

    Parameters
    ----------
    case : Case
    x, y : ndarray of shape (rows, inputs) and (rows, outputs)
        What `epoch` trains on.
    threads : int
        To be used, no more and no fewer.
    """

    #: In reports.
    name: ClassVar[str]

    # Who calls its own step from Python, a mini-batch each, does at most so many in a timed turn.
    most_steps = 300

    @abstractmethod
    def __init__(self, case: Case, x: np.ndarray, y: np.ndarray, threads: int) -> None: ...

    @classmethod
    @abstractmethod
    def version(cls) -> str:
        """Of all that takes part."""

    @classmethod
    def refuses(cls, case: Case) -> str:
        """Why the case can not be done by this peer; empty if it can."""
        return ""

    @abstractmethod
    def epoch(self, *, shuffle: bool = True) -> float:
        """A pass over the data in mini-batches, in a new order unless told; the mean loss."""

    @abstractmethod
    def step(self, x: np.ndarray, y: np.ndarray) -> float:
        """One update from one batch that the caller holds in NumPy arrays; its mean loss."""

    @abstractmethod
    def predict(self, x: np.ndarray) -> np.ndarray:
        """Outputs (rows, outputs) for x (rows, inputs), from NumPy to NumPy."""

    @property
    @abstractmethod
    def parameters(self) -> np.ndarray:
        """All weights (inputs, outputs) and biases, layer after layer, flat."""


# classify(widths, batch, x, labels, seed, threads) trains a classifier with relu, softmax,
# cross-entropy and Adam with its usual settings, from initial weights of the peer's own.  After
# each epoch it yields a function from rows to the labels that it gives them.
Predict = Callable[[np.ndarray], np.ndarray]
Classify = Callable[[list[int], int, np.ndarray, np.ndarray, int, int], Iterator[Predict]]


@cache
def check_agreement(
    peer: type[Peer], reference: type[Peer], case: Case, threads: int
) -> dict[str, float]:
    """AssertionError unless both learn and predict the same in a few steps.

    Made once for each set of arguments.  Returns the seconds that the first epoch of each took, of
    CHECKED_STEPS steps, in which it compiles and warms up whatever the later ones use.
    """
    x, y = case.data(CHECKED_STEPS + 1)
    trained, last = slice(CHECKED_STEPS * case.batch), slice(CHECKED_STEPS * case.batch, None)
    theirs, ours = (cls(case, x[trained], y[trained], threads) for cls in (peer, reference))
    start = ours.parameters.copy()

    def compare(what: str, a: np.ndarray | float, b: np.ndarray | float) -> None:
        error = np.linalg.norm(np.subtract(a, b)) / np.linalg.norm(b)
        assert error < TOLERANCE, f"{peer.name}, {case.name}: {what} differs by {error:.1e}"

    np.testing.assert_array_equal(theirs.parameters, start, "the initial weights")
    begun = perf_counter()
    their_loss = theirs.epoch(shuffle=False)
    between = perf_counter()
    our_loss = ours.epoch(shuffle=False)
    first = {"theirs": between - begun, "ours": perf_counter() - between}
    compare("the loss of an epoch", their_loss, our_loss)
    compare("the way of the weights", theirs.parameters - start, ours.parameters - start)
    compare("the loss of a step", theirs.step(x[last], y[last]), ours.step(x[last], y[last]))
    compare("the way of the weights", theirs.parameters - start, ours.parameters - start)
    compare("a prediction", theirs.predict(x[last]), ours.predict(x[last]))
    return first
