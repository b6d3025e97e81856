"""scikit-learn's objective and its solvers, on downslope's networks and trainers.

The objective of a batch with weights w (ones without), their sum S and the penalty alpha is

    (sum of w * loss of the row + alpha / 2 * sum of the squared weights) / S

where the biases are not penalised.  `Objective` says how downslope's losses, which are divided by
the number of rows and in part by the number of outputs, come to that.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import optimize

from downslope import _plan
from downslope.callbacks import Callback
from downslope.history import History
from downslope.losses import Loss
from downslope.network import Network
from downslope.sklearn._data import Rows, as_dense
from downslope.training import Trainer

# The learning rate stands outside of downslope's velocity: a change of the rate rescales the
# velocity, which must not overflow when a schedule lets the rate vanish.
_LEAST_RATE = 1e-20


@dataclass(frozen=True)
class Objective:
    """A loss and its scale.

    Attributes
    ----------
    loss : str or Loss
        downslope's.
    alpha : float
        Strength of the L2 penalty.
    row_factor : float
        What a row's loss is multiplied by to give the gradient that scikit-learn descends along.
    reported : float
        What that loss is multiplied by in `loss_`: scikit-learn descends along the sum of the
        squared errors of all outputs, and reports their mean.
    """

    loss: str | Loss
    alpha: float
    row_factor: float = 1.0
    reported: float = 1.0

    def weights(self, rows: Rows) -> NDArray[Any] | None:
        """Weights (rows,) by which downslope's mean over the rows becomes scikit-learn's."""
        if rows.weight is not None:
            return rows.weight * (self.row_factor * len(rows) / rows.total)
        return None if self.row_factor == 1 else np.full(len(rows), self.row_factor)

    def mean_loss(self, network: Network, rows: Rows, threads: int | None) -> float:
        """The reported loss over the rows, without the penalty."""
        total = sum(
            len(part)
            * network.evaluate(
                part.x, part.targets, loss=self.loss, sample_weight=part.weight, threads=threads
            )
            for part in rows.parts()
        )
        return self.row_factor * self.reported * total / rows.total

    def gradients(self, trainer: Trainer, rows: Rows) -> float:
        """The reported loss of a batch with its penalty; its gradients in ``network.gradients``."""
        network = trainer.network
        loss = trainer.compute_gradients(
            as_dense(rows.x), rows.targets, sample_weight=self.weights(rows)
        )
        strength = self.alpha / rows.total
        squares = 0.0
        for layer, gradient in zip(network.layers, gradient_views(network), strict=True):
            gradient.weights[...] += strength * layer.weights
            squares += float(np.vdot(layer.weights, layer.weights))
        return self.reported * loss + 0.5 * strength * squares


def gradient_views(network: Network) -> list[Any]:
    """Each layer with views of its gradients in place of its parameters."""
    return _plan.make_views(network.inputs, network._dense, network.gradients)


def run_epoch(
    trainer: Trainer, objective: Objective, rows: Rows, order: NDArray[np.int64], batch_size: int
) -> float:
    """A step for each batch of rows in the order given; the mean of the batches' losses, each as it
    was before its update."""
    total = 0.0
    for first in range(0, len(order), batch_size):
        batch = rows.take(order[first : first + batch_size])
        if batch.total == 0:  # nothing to learn from
            continue
        total += len(batch) * objective.gradients(trainer, batch)
        trainer.update()
    return total / len(order)


def set_learning_rate(trainer: Trainer, rate: float) -> None:
    """Change the rate of steps to come, not the step that momentum carries on: scikit-learn's
    velocity is ``momentum * v - rate * gradient``, with the rate inside."""
    rate = max(rate, _LEAST_RATE * trainer.optimizer.learning_rate)
    trainer.state *= trainer.learning_rate / rate
    trainer.learning_rate = rate


@contextlib.contextmanager
def watched(trainer: Trainer, callbacks: Sequence[Callback]) -> Iterator[None]:
    """A run of the trainer under the eyes of callbacks; the end is told to each that was told of
    the beginning, even after an error."""
    trainer.history, trainer.interrupted = History(), True
    with contextlib.ExitStack() as endings:
        for callback in callbacks:
            callback.on_fit_begin(trainer)
            endings.callback(callback.on_fit_end, trainer)
        yield
        trainer.interrupted = False


def minimize_lbfgs(
    trainer: Trainer,
    objective: Objective,
    rows: Rows,
    *,
    max_iter: int,
    max_fun: int,
    tol: float,
    report: Callable[[int, float], None],
) -> Any:
    """Full-batch descent by SciPy's L-BFGS-B; leaves the best parameters in the network and returns
    SciPy's result."""
    network = trainer.network
    last_loss, iteration = math.nan, 0

    def loss_and_gradients(parameters: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        nonlocal last_loss
        network.parameters = parameters
        try:
            last_loss = objective.gradients(trainer, rows)
        except FloatingPointError:  # a step too far, which the line search takes back
            last_loss = math.inf
        return last_loss, network.gradients.copy()

    def next_iteration(_: NDArray[np.float64]) -> None:
        nonlocal iteration
        iteration += 1
        report(iteration, last_loss)

    result = optimize.minimize(
        loss_and_gradients,
        network.parameters.copy(),
        jac=True,
        method="L-BFGS-B",
        callback=next_iteration,
        options={"maxiter": max_iter, "maxfun": max_fun, "gtol": tol},
    )
    network.parameters = result.x
    return result
