"""Looking for a learning rate: the loss while the rate grows from step to step."""

from __future__ import annotations

import copy
import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from downslope import _kernels, _plan, _threads
from downslope._scale import warn_if_unscaled
from downslope._validate import as_count, as_number
from downslope.losses import Loss
from downslope.network import Network, as_network
from downslope.optimizers import LBFGS, Optimizer, Rprop, as_optimizer
from downslope.training import Trainer


@dataclass(frozen=True, eq=False)
class LearningRateSearch:
    """What `find_learning_rate` has seen.

    Attributes
    ----------
    learning_rates : array (n,)
        Growing by the same factor from step to step.
    losses : array (n,)
        The training loss at each, smoothed; until it diverged, if it did.
    suggestion : float
        A tenth of the rate at which the loss was least.
    """

    learning_rates: NDArray[np.float64]
    losses: NDArray[np.float64]
    suggestion: float

    def plot(self, ax: Any = None) -> Any:
        """Draw the loss over the learning rates; needs matplotlib (extra ``plots``).

        Parameters
        ----------
        ax : matplotlib Axes, optional
            Where to draw; a new figure by default.

        Returns
        -------
        matplotlib Axes
        """
        from downslope.plots import plot_learning_rate_search

        return plot_learning_rate_search(self, ax)

    def __repr__(self) -> str:
        return (
            f"LearningRateSearch(suggestion={self.suggestion:.3g}, "
            f"steps={len(self.learning_rates)})"
        )


def find_learning_rate(
    network: Network,
    X: ArrayLike,
    y: ArrayLike,
    *,
    loss: str | Loss = "mse",
    optimizer: str | Optimizer = "sgd",
    lowest: float = 1e-6,
    highest: float = 10.0,
    steps: int = 100,
    batch_size: int | None = 32,
    sample_weight: ArrayLike | None = None,
    smoothing: float = 0.9,
    divergence: float = 4.0,
    threads: int | None = None,
) -> LearningRateSearch:
    """Train a copy of a network while the learning rate grows, until the loss diverges.

    Parameters
    ----------
    network : Network
        Is left as it was.
    X : array (rows, inputs)
    y : array (rows, outputs), or (rows,) for one output or for class labels
    loss : str, default "mse"
        See `Network.fit`.
    optimizer : str or Optimizer, default "sgd"
        Its own learning rate does not matter.
    lowest, highest : float, default 1e-6 and 10.0
        First and last learning rate.
    steps : int, default 100
        From the first to the last; at least 3.
    batch_size : int or None, default 32
        Rows of a step, in an order that the network's seed determines; None: all.
    sample_weight : array (rows,), optional
    smoothing : float, default 0.9
        What is left of the running mean of the losses after each step, in [0, 1).
    divergence : float, default 4.0
        The search ends when the smoothed loss is so many times the least one, above 1.  Where the
        least is not positive, the loss ends it by a rise of ``divergence - 1`` times the size of
        the first or of the least one, whichever is larger.
    threads : int, optional

    Returns
    -------
    LearningRateSearch

    Raises
    ------
    TypeError, ValueError
        If an argument is not as it should be, or the loss diverged before the third step.

    Warns
    -----
    UnscaledInputsWarning
        If the inputs are of a scale that training takes badly.

    Notes
    -----
    Smith, "Cyclical learning rates for training neural networks" (2017).  The least loss lies where
    the descent is about to diverge; a tenth of that rate is a customary choice.

    Examples
    --------
    >>> import downslope as ds, numpy as np
    >>> x = np.random.default_rng(0).normal(size=(500, 2))
    >>> net = ds.Network([2, 16, 1], activation="tanh", seed=0)
    >>> search = ds.find_learning_rate(net, x, x[:, 0] * x[:, 1])
    >>> 1e-4 < search.suggestion < 10
    True
    """
    as_network(network)
    lowest = as_number("lowest", lowest, above=0.0)
    highest = as_number("highest", highest, above=lowest)
    steps = as_count("steps", steps, at_least=3)
    smoothing = as_number("smoothing", smoothing, at_least=0.0, below=1.0)
    divergence = as_number("divergence", divergence, above=1.0)
    chosen = as_optimizer(optimizer)
    if isinstance(chosen, LBFGS | Rprop):  # without one; with steps that adapt themselves
        raise TypeError(f"{type(chosen).__name__} has no learning rate to look for")
    chosen = dataclasses.replace(chosen, learning_rate=lowest)
    trainer = Trainer(copy.deepcopy(network), loss, chosen, threads=threads)
    data = network.dataset(X, y, trainer.loss, sample_weight)
    batch_size = data.rows if batch_size is None else as_count("batch_size", batch_size)
    warn_if_unscaled(data.arrays[0])
    rates = np.geomspace(lowest, highest, steps)
    losses = _losses(trainer, data, rates, batch_size, smoothing, divergence)
    if len(losses) < 3:
        raise ValueError(
            f"the loss diverged at once, from a learning rate of {lowest:g}: give a lower `lowest`"
        )
    rates = rates[: len(losses)]
    return LearningRateSearch(rates, losses, float(0.1 * rates[losses.argmin()]))


def _losses(
    trainer: Trainer,
    data: Any,
    rates: NDArray[np.float64],
    batch_size: int,
    smoothing: float,
    divergence: float,
) -> NDArray[np.float64]:
    """The smoothed loss before the step at each rate, up to where it diverges."""
    threads = _threads.resolve(trainer.threads)
    order = np.empty(data.rows, np.int64)
    batch_size, first, epoch = min(batch_size, data.rows), data.rows, 0
    losses: list[float] = []
    mean, limit = 0.0, math.inf
    for step, rate in enumerate(rates):
        if first + batch_size > data.rows:
            stream = _plan.STREAM_ORDER + epoch
            _kernels.random_permutation(trainer.network.seed, stream, order)
            first, epoch = 0, epoch + 1
        trainer.learning_rate = rate
        rows = order[first : first + batch_size]
        try:
            total, _ = trainer._stepper.train(data, rows, batch_size, threads)
        except FloatingPointError:
            break
        first += batch_size
        mean = smoothing * mean + (1 - smoothing) * total / batch_size
        smoothed = mean / (1 - smoothing ** (step + 1))
        if smoothed > limit:
            break
        losses.append(smoothed)
        limit = _limit(losses[0], min(losses), divergence)
    return np.array(losses)


def _limit(first: float, least: float, divergence: float) -> float:
    """The loss above which it diverges, after these."""
    if least > 0:
        return divergence * least
    # The multiple of a negative loss would lie below it, and that of one near zero next to it.
    return least + (divergence - 1) * max(abs(first), abs(least))
