"""Steps of a descent: the gradients of batches of rows, and the updates.

A batch's gradients come from the engine, where whole epochs are one call; from a loss that is a
Python function (`_own_loss`); or from the ranks of an MPI job (`interop.mpi`).  The updates are the
engine's in each case.
"""

from __future__ import annotations

import contextlib
import math
import time
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from downslope import _engine, _kernels, _own_loss, _plan
from downslope._memory import aligned_zeros
from downslope._own_loss import Data, LossFunction, Rows
from downslope._validate import as_memory, check_apart
from downslope.losses import Loss
from downslope.network import Network
from downslope.optimizers import Optimizer

if TYPE_CHECKING:
    from downslope.interop.mpi import Ranks


class Divergence(FloatingPointError):
    """The descent came to numbers that are not finite."""


class Stepper:
    """Steps of one optimiser on one network; the caller holds ``network.exclusive``.

    Attributes
    ----------
    network, loss, rule
        What is trained, for which loss and by which updates.
    losses : tuple of _engine.Loss
        The engine's views of a loss by its name: for dense targets, and for labels.
    state : array (states, parameters)
        The optimiser's; see `Trainer`.
    descent : _engine.Descent
        The engine's loop over steps, with their number and the learning rate.
    ranks : Ranks or None
        Those of an MPI job that share the rows of each batch.
    """

    def __init__(
        self, network: Network, loss: Loss | LossFunction, rule: Optimizer, memory: Any
    ) -> None:
        self.network, self.loss, self.rule = network, loss, rule
        if isinstance(loss, Loss):
            self.losses = _plan.make_losses(loss, network.outputs)
        self.state, self.descent = _make_descent(network, rule, memory)
        self.ranks: Ranks | None = None
        # The loss of quick steps, at one learning rate: of any targets, or of labels.
        kind = loss.kind if isinstance(loss, Loss) and rule.schedule is None else None
        quick = kind is not None and (kind.takes_any or kind.label_kernel is not None)
        self._quick_loss = self.losses[1] if quick else None

    def together(self) -> contextlib.AbstractContextManager[None]:
        """Around a run: what fails on one of the ranks ends all."""
        return contextlib.nullcontext() if self.ranks is None else self.ranks.together()

    def train(
        self,
        data: Data,
        order: NDArray[np.int64] | None,
        batch_size: int,
        threads: int,
        batch: int = 0,
        total: float = 0.0,
        seconds: float = math.inf,
    ) -> tuple[float, int]:
        """Steps from batch number `batch` of the order on, for so many seconds; the sum of the
        rows' losses, on top of `total`, and the batch to go on with."""
        if self.ranks is not None:
            return self.ranks.train(self, data, order, batch_size, threads, batch, total, seconds)
        if isinstance(data, Rows):
            return self._train_own(data, order, batch_size, threads, batch, total, seconds)
        rates = None
        if self.rule.schedule is not None:
            count = data.rows if order is None else len(order)
            rates = self.rule.schedule.rates(self.descent.steps, -(-count // batch_size) - batch)
        if self.descent.needs_gradients(batch_size):
            self.descent.keep_gradients(self.network.gradients)
        loss = self.losses[data.has_labels]
        status, total, batch = self.descent.train(
            data, loss, order, batch_size, threads, batch, total, seconds, rates
        )
        self.check(status)
        return total, batch

    def step_ready(self, X: object, y: object, axes: int, threads: int) -> float | None:
        """The mean loss of a step from rows (rows, inputs) and their targets or labels, or with
        one axis from a single row, quickly; None, and no step, unless the engine takes them as
        they are.

        It makes its own claim on the network."""
        if self._quick_loss is None or self.ranks is not None:
            return None
        done = self.descent.step_ready(
            X, y, axes, self._quick_loss, self.network.exclusive, threads
        )
        if done is None:
            return None
        status, loss = done
        if status:
            self.check(status)
        return loss

    def _train_own(
        self,
        data: Rows,
        order: NDArray[np.int64] | None,
        batch_size: int,
        threads: int,
        batch: int,
        total: float,
        seconds: float,
    ) -> tuple[float, int]:
        """The same for a loss that is a function."""
        order = np.arange(data.rows) if order is None else order
        deadline = time.monotonic() + seconds
        while batch * batch_size < len(order):
            rows = data.take(order[batch * batch_size : (batch + 1) * batch_size])
            total += rows.rows * self.compute_gradients(rows, threads)
            self.update()
            batch += 1
            if time.monotonic() >= deadline:
                break
        return total, batch

    def compute_gradients(self, data: Data, threads: int) -> float:
        """The mean loss over a data set; its gradients are in ``network.gradients``."""
        self.descent.keep_gradients(self.network.gradients)
        if isinstance(data, Rows):
            loss = _own_loss.compute_gradients(self.network, data, threads)
            if not np.isfinite(loss):
                self.check(_engine.STATUS_LOSS_NOT_FINITE)
            return loss + self.descent.add_penalties()
        status, total = self.descent.compute_gradients(data, self.losses[data.has_labels], threads)
        self.check(status)
        return total / data.rows

    def compute_row_gradients(
        self, data: _engine.Dataset, result: NDArray[Any], threads: int
    ) -> None:
        """The gradients of each row's loss by itself, in `result` (rows, parameters)."""
        total = self.descent.compute_row_gradients(
            data, self.losses[data.has_labels], result, threads
        )
        if not math.isfinite(total):
            self.check(_engine.STATUS_LOSS_NOT_FINITE)

    def update(self) -> None:
        """One step of the optimiser with ``network.gradients`` as they stand."""
        if self.rule.schedule is not None:
            self.descent.learning_rate = self.rule.schedule.rates(self.descent.steps, 1)[0]
        self.descent.keep_gradients(self.network.gradients)
        self.check(self.descent.update())

    def check(self, status: int) -> None:
        """Raise what a run that ended early has to say."""
        if status == _engine.STATUS_OK:
            return
        what = (
            "the loss stopped being finite before the update of"
            if status == _engine.STATUS_LOSS_NOT_FINITE
            else "a new parameter would not be finite in"
        )
        number = self.descent.steps + (status == _engine.STATUS_LOSS_NOT_FINITE)
        raise Divergence(
            f"{what} step {number}: the descent diverges. The parameters are the last finite "
            "ones. Lower the learning rate, or scale the inputs and targets"
        )


def _make_descent(
    network: Network, optimizer: Optimizer, memory: Any
) -> tuple[NDArray[Any], _engine.Descent]:
    """The optimiser's state (states, parameters), in memory that is given or new, and the engine's
    descent with it."""
    kernel, momentum = optimizer.kernel, optimizer.ema_momentum
    states = _kernels.OPTIMIZER_STATES[kernel]
    shape = (states + (momentum is not None), network.parameters.size)
    if memory is None:
        state = aligned_zeros(shape, network.dtype)
        for row, value in zip(state, optimizer.initial_state, strict=False):
            row[...] = value
    else:
        state = as_memory("state", memory, shape, network.dtype)
        check_apart(state=state, parameters=network.parameters, gradients=network._gradients)
    descent = _engine.Descent(
        network._engine_plan,
        network.parameters,
        state,
        _kernels.OPTIMIZERS[kernel],
        optimizer.hyper,
        network.seed,
    )
    descent.weight_decay = optimizer.weight_decay
    if optimizer.clip_value is not None:
        descent.clip_value = optimizer.clip_value
    if optimizer.clip_norm is not None:
        descent.clip_norm = optimizer.clip_norm
    if momentum is not None:
        descent.keep_average(state[states], momentum, optimizer.ema_overwrite_frequency or 0)
    return state, descent
