"""Training: the loop over epochs, on top of the engine's loop over mini-batches."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from downslope import _engine, _kernels, _lbfgs, _plan, _threads
from downslope._memory import aligned_zeros
from downslope._validate import as_count, as_number, choose
from downslope.callbacks import Callback, Progress
from downslope.history import History
from downslope.losses import Loss
from downslope.network import Network, loss_code
from downslope.optimizers import LBFGS, SGD, Optimizer, as_optimizer

SAMPLINGS = ("without_replacement", "with_replacement")


class Trainer:
    """Trains a network: owns the optimiser's state and counts steps and epochs.

    Parameters
    ----------
    network : Network
        Trained in place.
    loss : {"mse", "half_squared_error", "binary_cross_entropy", "cross_entropy"}, default "mse"
        See `fit`.
    optimizer : str, Optimizer or LBFGS, default "sgd"
    threads : int, optional
        At most so many; see `set_num_threads`.

    Attributes
    ----------
    network, loss, optimizer
        As given.
    epoch : int
        Epochs completed by `fit`; the next one shuffles as this number says.
    steps : int
        Updates made.
    learning_rate : float
        Of the steps to come; can be set, unless the optimiser has a schedule.
    state : array (states, parameters)
        The optimiser's state (velocity; means of the gradient and of its square), in the order of
        ``network.parameters``; the last row is the parameters' moving average, if one is kept.
    history : History or None
        Of the last `fit`, also when it ended with an error.
    interrupted : bool
        Whether the last `fit` ended with an error or Ctrl-C.

    Raises
    ------
    TypeError, ValueError
        If the loss does not go with the network, or a name is unknown.

    Examples
    --------
    >>> import downslope as ds, numpy as np
    >>> net = ds.Network([2, 1], weights="zeros")
    >>> trainer = ds.Trainer(net, loss="half_squared_error", optimizer=ds.SGD(0.1))
    >>> trainer.step([[1.0, 2.0]], [[3.0]])
    4.5
    >>> net.parameters
    array([0.3, 0.6, 0.3], dtype=float32)
    """

    def __init__(
        self,
        network: Network,
        loss: str | Loss = "mse",
        optimizer: str | Optimizer | LBFGS = "sgd",
        *,
        threads: int | None = None,
    ) -> None:
        if not isinstance(network, Network):
            raise TypeError(f"network must be a downslope.Network; got {type(network).__name__}")
        self.network = network
        self.loss = network.checked_loss(loss)
        self.optimizer = as_optimizer(optimizer)
        self.threads = threads if threads is None else as_count("threads", threads)
        self.epoch = self.target_epoch = 0
        self.validates = self.interrupted = False
        self.history: History | None = None
        # L-BFGS needs the gradients alone
        self._rule = SGD() if isinstance(self.optimizer, LBFGS) else self.optimizer
        self.state, self._descent = _make_descent(network, self._rule)

    @property
    def steps(self) -> int:
        return self._descent.steps

    @property
    def learning_rate(self) -> float:
        return self._descent.learning_rate

    @learning_rate.setter
    def learning_rate(self, value: float) -> None:
        self._refuse_lbfgs("a learning rate")
        if self._rule.schedule is not None:
            raise ValueError(
                "the optimizer's learning rate follows a schedule and can not be set besides; give "
                "the optimizer a number"
            )
        self._descent.learning_rate = as_number("learning_rate", value, at_least=0.0)

    # ---- Your own loop ----

    def step(self, X: ArrayLike, y: ArrayLike, *, sample_weight: ArrayLike | None = None) -> float:
        """One update from one batch: forward, backward, optimiser.

        Parameters
        ----------
        X : array (rows, inputs)
        y : array (rows, outputs), or (rows,) for one output or for class labels
        sample_weight : array (rows,), optional

        Returns
        -------
        float
            The mean loss of the batch before the update.

        Raises
        ------
        TypeError, ValueError
            If an argument is not as it should be.
        FloatingPointError
            If the loss or the new parameters are not finite; the parameters are the last finite
            ones.
        """
        self._refuse_lbfgs("step()")
        data = self.network.dataset(X, y, self.loss, sample_weight)
        return self._train(data, None, data.rows, _threads.resolve(self.threads))

    def compute_gradients(
        self, X: ArrayLike, y: ArrayLike, *, sample_weight: ArrayLike | None = None
    ) -> float:
        """The gradients of the mean loss of a batch, without an update.

        They are in ``network.gradients``, where they can be changed before `update`.

        Parameters
        ----------
        X : array (rows, inputs)
        y : array (rows, outputs), or (rows,) for one output or for class labels
        sample_weight : array (rows,), optional

        Returns
        -------
        float
            The mean loss of the batch.

        Raises
        ------
        TypeError, ValueError
            If an argument is not as it should be.
        FloatingPointError
            If the loss is not finite.

        Examples
        --------
        >>> import downslope as ds
        >>> net = ds.Network([1, 1], weights="zeros")
        >>> trainer = ds.Trainer(net, optimizer=ds.SGD(0.5))
        >>> trainer.compute_gradients([[1.0]], [[2.0]])
        4.0
        >>> net.gradients
        array([-4., -4.], dtype=float32)
        >>> trainer.update()
        >>> net.parameters
        array([2., 2.], dtype=float32)
        """
        data = self.network.dataset(X, y, self.loss, sample_weight)
        return self._gradients_of(data, _threads.resolve(self.threads))

    def update(self) -> None:
        """One step of the optimiser with ``network.gradients`` as they stand.

        If the optimiser clips, they are clipped in place.

        Raises
        ------
        FloatingPointError
            If a new parameter is not finite; it is left as it was.
        """
        self._refuse_lbfgs("update()")
        rates = self._learning_rates(1)
        if rates is not None:
            self._descent.learning_rate = rates[0]
        self._begin_average()
        self._descent.keep_gradients(self.network.gradients)
        self._check(self._descent.update())

    # ---- The whole loop ----

    def fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        *,
        epochs: int = 1,
        batch_size: int | None = 32,
        shuffle: bool = True,
        sampling: str = "without_replacement",
        sample_weight: ArrayLike | None = None,
        validation_data: tuple[Any, ...] | None = None,
        validation_split: float = 0.0,
        callbacks: Sequence[Callback] = (),
        threads: int | None = None,
        verbose: int = 0,
    ) -> History:
        """Train for some epochs; called again, it goes on.

        Parameters
        ----------
        X : array (rows, inputs)
            Finite numbers; used without a copy if they are of the network's type.
        y : array (rows, outputs), or (rows,) for one output or for class labels
        epochs : int, default 1
            Passes over the rows.
        batch_size : int or None, default 32
            Rows of a step: 1 is stochastic descent, None full-batch descent.
        shuffle : bool, default True
            A new order of the rows in each epoch, a function of the network's seed and the epoch.
        sampling : {"without_replacement", "with_replacement"}
            With replacement, every row of every step is drawn uniformly from all rows; an epoch is
            as many draws as there are rows.
        sample_weight : array (rows,), optional
            Factors of the rows' losses; the mean is ``sum(weight * loss) / rows``.
        validation_data : (X, y) or (X, y, sample_weight), optional
            Evaluated after each epoch.
        validation_split : float, default 0.0
            Split off this fraction of the rows for validation, chosen by the network's seed.
        callbacks : list of Callback, optional
        threads : int, optional
            At most so many, for this run.
        verbose : int, default 0
            1 shows the progress on the standard error.

        Returns
        -------
        History
            The losses of the epochs of this run.

        Raises
        ------
        TypeError, ValueError
            If an argument is not as it should be; nothing has changed then.
        FloatingPointError
            If a loss or a new parameter is not finite; the parameters are the last finite ones.
        KeyboardInterrupt
            On Ctrl-C; the parameters are those of the last completed step.
        """
        epochs = as_count("epochs", epochs)
        if isinstance(self.optimizer, LBFGS):
            _check_for_lbfgs(self.network)
        choose("sampling", sampling, SAMPLINGS)
        if sampling == "with_replacement" and not shuffle:
            raise ValueError(
                "shuffle=False contradicts sampling='with_replacement', which draws the rows "
                "at random; drop one of them"
            )
        threads = _threads.resolve(self.threads if threads is None else threads)
        data = self.network.dataset(X, y, self.loss, sample_weight)
        rows, validation = self._split(data, validation_data, validation_split)
        count = data.rows if rows is None else len(rows)
        batch = count if batch_size is None else as_count("batch_size", batch_size)
        batch = min(batch * self._rule.gradient_accumulation_steps, count)
        watchers = [*_checked_callbacks(callbacks), *([Progress()] if verbose else [])]

        self.history = history = History()
        self.validates, self.target_epoch = validation is not None, self.epoch + epochs
        self.interrupted = True
        begun: list[Callback] = []
        try:
            for callback in watchers:
                callback.on_fit_begin(self)
                begun.append(callback)
            if isinstance(self.optimizer, LBFGS):
                taken = data if rows is None else data.take(rows)
                self._run_lbfgs(self.optimizer, taken, validation, threads, watchers)
            else:
                self._run_epochs(
                    data, rows, validation, batch, shuffle, sampling, threads, watchers
                )
            if self._descent.average is not None:
                self.network.parameters[...] = self._descent.average
            self.interrupted = False
        finally:
            with contextlib.ExitStack() as endings:  # each is called, even if another one fails
                for callback in reversed(begun):
                    endings.callback(callback.on_fit_end, self)
        return history

    def _run_epochs(
        self,
        data: _engine.Dataset,
        rows: NDArray[np.int64] | None,
        validation: _engine.Dataset | None,
        batch: int,
        shuffle: bool,
        sampling: str,
        threads: int,
        callbacks: Sequence[Callback],
    ) -> None:
        count = data.rows if rows is None else len(rows)
        drawn = np.empty(count, np.int64) if shuffle else None
        while self.epoch < self.target_epoch:
            for callback in callbacks:
                callback.on_epoch_begin(self, self.epoch)
            begin = time.perf_counter()
            order = self._order(rows, drawn, sampling)
            loss = self._train(data, order, batch, threads)
            if self._end_epoch(loss, begin, validation, threads, callbacks):
                break

    def _end_epoch(
        self,
        loss: float,
        begin: float,
        validation: _engine.Dataset | None,
        threads: int,
        callbacks: Sequence[Callback],
    ) -> bool:
        """Validate, note and report an epoch that began at the time `begin`; whether to stop."""
        assert self.history is not None
        logs = {"loss": loss}
        if validation is not None:
            logs["val_loss"] = self.network.mean_loss(validation, self.loss, threads)
        self.history.append(logs, time.perf_counter() - begin)
        self.epoch += 1
        stops = [callback.on_epoch_end(self, self.epoch - 1, logs) for callback in callbacks]
        return any(stops)

    def _run_lbfgs(
        self,
        optimizer: LBFGS,
        data: _engine.Dataset,
        validation: _engine.Dataset | None,
        threads: int,
        callbacks: Sequence[Callback],
    ) -> None:
        """Iterations on all rows of a data set; each is an epoch."""

        def begin_epoch() -> float:
            for callback in callbacks:
                callback.on_epoch_begin(self, self.epoch)
            return time.perf_counter()

        begin = begin_epoch()

        def loss_and_gradient() -> tuple[float, NDArray[Any]]:
            return self._gradients_of(data, threads), self.network.gradients

        def after_iteration(loss: float) -> bool:
            nonlocal begin
            self._descent.steps += 1
            stops = self._end_epoch(loss, begin, validation, threads, callbacks)
            if not stops and self.epoch < self.target_epoch:
                begin = begin_epoch()
            return stops

        iterations = self.target_epoch - self.epoch
        _lbfgs.run(
            optimizer, self.network.parameters, loss_and_gradient, iterations, after_iteration
        )

    def _order(
        self, rows: NDArray[np.int64] | None, drawn: NDArray[np.int64] | None, sampling: str
    ) -> NDArray[np.int64] | None:
        """The order of the rows in the coming epoch, a function of (seed, epoch); None: as they
        lie.  `drawn` is the array to draw into, None without shuffling."""
        if drawn is None:
            return rows
        seed, stream = self.network.seed, _plan.STREAM_ORDER + self.epoch
        if sampling == "with_replacement":
            _kernels.random_integers(seed, stream, len(drawn), drawn)
        else:
            _kernels.random_permutation(seed, stream, drawn)
        return drawn if rows is None else rows[drawn]

    def _train(
        self, data: _engine.Dataset, order: NDArray[np.int64] | None, batch: int, threads: int
    ) -> float:
        """Steps over all rows of the order; the mean loss of its rows."""
        count = data.rows if order is None else len(order)
        rates = self._learning_rates(-(-count // batch))
        self._begin_average()
        if self._descent.needs_gradients(batch):
            self._descent.keep_gradients(self.network.gradients)
        status, total = self._descent.train(
            data, loss_code(self.loss, data), order, batch, threads, rates
        )
        self._check(status)
        return total / count

    def _gradients_of(self, data: _engine.Dataset, threads: int) -> float:
        """The mean loss over a data set; its gradients are in ``network.gradients``."""
        self._descent.keep_gradients(self.network.gradients)
        status, total = self._descent.compute_gradients(data, loss_code(self.loss, data), threads)
        self._check(status)
        return total / data.rows

    def _refuse_lbfgs(self, what: str) -> None:
        if isinstance(self.optimizer, LBFGS):
            raise TypeError(
                f"LBFGS has no use for {what}: it works on whole runs; call fit, or take another "
                "optimizer"
            )

    def _learning_rates(self, count: int) -> NDArray[np.float64] | None:
        """Of so many steps to come; None: as it is."""
        schedule = self._rule.schedule
        return None if schedule is None else schedule.rates(self.steps, count)

    def _begin_average(self) -> None:
        """The moving average begins with the parameters before the first step."""
        if self.steps == 0 and self._descent.average is not None:
            self._descent.average[...] = self.network.parameters

    def _check(self, status: int) -> None:
        """Raise what a run that ended early has to say."""
        if status == _engine.STATUS_OK:
            return
        what = (
            "the loss stopped being finite before the update of"
            if status == _engine.STATUS_LOSS_NOT_FINITE
            else "a new parameter would not be finite in"
        )
        number = self.steps + (status == _engine.STATUS_LOSS_NOT_FINITE)
        raise FloatingPointError(
            f"{what} step {number}: the descent diverges. The parameters are the last finite "
            "ones. Lower the learning rate, or scale the inputs and targets"
        )

    def _split(
        self,
        data: _engine.Dataset,
        validation_data: tuple[Any, ...] | None,
        validation_split: float,
    ) -> tuple[NDArray[np.int64] | None, _engine.Dataset | None]:
        """The rows to train on (None: all) and the data to validate on (None: none)."""
        fraction = as_number("validation_split", validation_split, at_least=0.0, below=1.0)
        if validation_data is not None:
            if fraction:
                raise ValueError(
                    "validation_data and validation_split contradict each other; give one of them"
                )
            return None, self._validation(validation_data)
        if fraction == 0:
            return None, None
        held_out = round(fraction * data.rows)
        if not 0 < held_out < data.rows:
            raise ValueError(
                f"validation_split={fraction:g} of {data.rows} rows leaves {held_out} for "
                f"validation and {data.rows - held_out} for training; both need at least one"
            )
        order = np.empty(data.rows, np.int64)
        _kernels.random_permutation(self.network.seed, _plan.STREAM_SPLIT, order)
        return np.sort(order[held_out:]), data.take(np.sort(order[:held_out]))

    def _validation(self, validation_data: tuple[Any, ...]) -> _engine.Dataset:
        if not isinstance(validation_data, tuple | list) or len(validation_data) not in (2, 3):
            raise TypeError(
                "validation_data must be (X, y) or (X, y, sample_weight); "
                f"got {type(validation_data).__name__}"
            )
        x, y, *weight = validation_data
        return self.network.dataset(x, y, self.loss, weight[0] if weight else None, "_val")


def _check_for_lbfgs(network: Network) -> None:
    """Before a run: SciPy is there, and the layers ask for nothing that L-BFGS does not do."""
    _lbfgs.scipy_minimize()
    for index, layer in enumerate(network._dense):
        if layer.max_norm is not None or layer.learning_rate != 1:
            raise ValueError(
                f"LBFGS heeds neither max_norm nor learning_rate of a layer; layer {index} has "
                "one: drop it, or take another optimizer"
            )


def _make_descent(network: Network, optimizer: Optimizer) -> tuple[NDArray[Any], _engine.Descent]:
    """The optimiser's state (states, parameters), and the engine's descent with it."""
    kernel, momentum = optimizer.kernel, optimizer.ema_momentum
    states = _kernels.OPTIMIZER_STATES[kernel]
    state = aligned_zeros((states + (momentum is not None), network.parameters.size), network.dtype)
    for row, value in zip(state, optimizer.initial_state, strict=False):
        row[...] = value
    descent = _engine.Descent(
        network._engine_plan,
        network.parameters,
        state,
        _kernels.OPTIMIZERS[kernel],
        optimizer.hyper,
    )
    descent.weight_decay = optimizer.weight_decay
    if optimizer.clip_value is not None:
        descent.clip_value = optimizer.clip_value
    if optimizer.clip_norm is not None:
        descent.clip_norm = optimizer.clip_norm
    if momentum is not None:
        descent.keep_average(state[states], momentum, optimizer.ema_overwrite_frequency or 0)
    return state, descent


def _checked_callbacks(callbacks: Sequence[Callback]) -> list[Callback]:
    if isinstance(callbacks, Callback) or not isinstance(callbacks, Iterable):
        raise TypeError(
            "callbacks must be a list, such as [downslope.EarlyStopping()]; "
            f"got {type(callbacks).__name__}"
        )
    checked = list(callbacks)
    for callback in checked:
        if not isinstance(callback, Callback):
            raise TypeError(
                f"callbacks must be downslope.Callback objects, not their classes; got {callback!r}"
            )
    return checked
