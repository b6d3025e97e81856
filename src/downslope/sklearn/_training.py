"""scikit-learn's objective and its solvers, on downslope's networks and trainers.

The objective of a batch with weights w (ones without), their sum S and the penalty alpha is

    (sum of w * loss of the row + alpha / 2 * sum of the squared weights) / S

where the biases are not penalised.  downslope divides by the number of rows instead of S, and some
of its losses by the number of outputs too; `Objective` says how they come to this.  The penalty is
that of the network's layers, `alpha / 2` each.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, sparse

from downslope import _threads
from downslope.callbacks import Callback
from downslope.history import History
from downslope.losses import Loss
from downslope.network import Network
from downslope.optimizers import Optimizer
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
    offset : function of the targets (rows, outputs), optional
        What is added to the reported loss of each row: it depends on the targets alone.
    """

    loss: str | Loss
    alpha: float
    row_factor: float = 1.0
    reported: float = 1.0
    offset: Callable[[NDArray[Any]], NDArray[Any]] | None = None

    def weights(self, rows: Rows) -> NDArray[Any] | None:
        """Weights (rows,) for the engine, which divides by the number of rows."""
        if rows.weight is not None:
            return rows.weight * self.row_factor
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
        return self.row_factor * self.reported * total / rows.total + self.mean_offset(
            rows.targets, rows.weight
        )

    def mean_offset(self, targets: NDArray[Any], weight: NDArray[Any] | None = None) -> float:
        """The mean of what the reported loss has besides."""
        if self.offset is None:
            return 0.0
        return float(np.average(self.offset(targets), weights=weight))

    def gradients(self, trainer: Trainer, rows: Rows) -> float:
        """The reported loss of a batch with its penalty; its gradients in ``network.gradients``."""
        network = trainer.network
        per_weight = len(rows) / rows.total
        loss = per_weight * trainer.compute_gradients(
            as_dense(rows.x), rows.targets, sample_weight=self.weights(rows)
        )
        if per_weight != 1:
            network.gradients *= per_weight
        if self.reported == 1:
            return loss + self.mean_offset(rows.targets, rows.weight)
        squares = sum(float(np.vdot(layer.weights, layer.weights)) for layer in network.layers)
        penalty = 0.5 * self.alpha * squares / rows.total
        return self.reported * (loss - penalty) + penalty


class Epochs:
    """Epochs of a trainer over rows, in batches.

    The engine runs through an epoch by itself where its scale is scikit-learn's up to a constant
    factor of the rows; with sample weights, whose sum differs from batch to batch, with sparse rows
    and with a loss that is not the one descended along, batch after batch is handed to it.
    """

    def __init__(self, trainer: Trainer, objective: Objective, rows: Rows, batch_size: int) -> None:
        self.trainer, self.objective, self.rows = trainer, objective, rows
        self.batch_size = batch_size
        self._data = None
        if rows.weight is None and objective.reported == 1 and not sparse.issparse(rows.x):
            self._data = trainer.network.dataset(
                rows.x, rows.targets, trainer.loss, objective.weights(rows)
            )

    def run(self, order: NDArray[np.int64]) -> float:
        """A step for each batch of rows in the order given; the mean of the batches' losses, each
        as it was before its update."""
        if self._data is not None:
            threads = _threads.resolve(self.trainer.threads)
            with self.trainer.network.exclusive:
                total, _ = self.trainer._stepper.train(self._data, order, self.batch_size, threads)
            return total / len(order) + self.objective.mean_offset(self.rows.targets[order])
        total = 0.0
        for first in range(0, len(order), self.batch_size):
            batch = self.rows.take(order[first : first + self.batch_size])
            if batch.total == 0:  # nothing to learn from
                continue
            total += len(batch) * self.objective.gradients(self.trainer, batch)
            self.trainer.update()
        return total / len(order)


def make_trainer(
    network: Network, objective: Objective, optimizer: Optimizer, threads: int | None
) -> Trainer:
    """A trainer whose penalties are divided by the rows of a batch."""
    trainer = Trainer(network, objective.loss, optimizer, threads=threads)
    trainer._stepper.descent.penalties_per_row = True
    return trainer


def set_learning_rate(trainer: Trainer, rate: float) -> None:
    """Change the rate of steps to come, not the step that momentum carries on: scikit-learn's
    velocity is ``momentum * v - rate * gradient``, with the rate inside."""
    rate = max(rate, _LEAST_RATE)
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
