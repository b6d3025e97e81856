"""Training: the loop over epochs, on top of the engine's loop over mini-batches."""

from __future__ import annotations

import contextlib
import itertools
import math
import os
import time
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from downslope import _engine, _kernels, _lbfgs, _own_loss, _plan, _threads
from downslope._memory import aligned_zeros
from downslope._own_loss import LossFunction, Rows
from downslope._sampling import SAMPLINGS, Order, with_class_weight
from downslope._scale import warn_if_unscaled
from downslope._validate import as_count, as_memory, as_number, as_row, choose
from downslope.callbacks import Callback, Checkpoint, Progress
from downslope.checkpoints import CallbackState, read_checkpoint, write_checkpoint
from downslope.history import History
from downslope.losses import Loss
from downslope.metrics import Metric, as_metrics
from downslope.network import Network
from downslope.optimizers import LBFGS, SGD, Optimizer, as_optimizer

if TYPE_CHECKING:
    from downslope.interop.mpi import Ranks

DIVERGENCES = ("raise", "warn")


class _Divergence(FloatingPointError):
    """The descent came to numbers that are not finite."""


@dataclass
class _Run:
    """A `fit` under way: what decides its course, and how far it is."""

    rows: int  # to train on; 0 if they come in batches
    validation_rows: int
    batch_size: int
    shuffle: bool
    sampling: str
    first_epoch: int
    history: History = field(default_factory=History)
    stopped: bool = False
    # Of the epoch under way: batches and rows done, the sum of their losses, the time they took.
    batch: int = 0
    met: int = 0
    total: float = 0.0
    seconds: float = 0.0

    @property
    def batches(self) -> int:
        """Of an epoch."""
        return -(-self.rows // self.batch_size)

    def advance(self, total: float, batch: int) -> None:
        """Batches have been done: up to that number, with that sum of losses so far."""
        self.total, self.batch = total, batch
        self.met = min(batch * self.batch_size, self.rows)

    @property
    def settings(self) -> dict[str, Any]:
        """What must not change when the run is resumed."""
        names = ("rows", "validation_rows", "batch_size", "shuffle", "sampling")
        return {name: getattr(self, name) for name in names}

    def end_epoch(self, logs: dict[str, float]) -> None:
        """Enter the epoch into the history."""
        self.history.append(logs, self.seconds)
        self.batch, self.met, self.total, self.seconds = 0, 0, 0.0, 0.0


@dataclass
class _Source:
    """What a run trains on: rows of a data set in an order, or batches as they come."""

    data: _engine.Dataset | Rows | None
    rows: NDArray[np.int64] | None = None
    order: Order | None = None
    batches: Iterable[Any] = ()
    class_weight: Any = None

    def take(self) -> _Source:
        """The rows alone, copied."""
        assert self.data is not None
        assert self.rows is not None
        return _Source(self.data.take(self.rows))


class Trainer:
    """Trains a network: owns the optimiser's state and counts steps and epochs.

    Parameters
    ----------
    network : Network
        Trained in place.
    loss : str, Loss or function, default "mse"
        See `Network.fit`.
    optimizer : str, Optimizer or LBFGS, default "sgd"
    threads : int, optional
        At most so many; see `set_num_threads`.
    state : array (states, parameters), optional
        Memory of the caller's for the attribute of this name, used where it lies and as it stands:
        zeros, or the state of an earlier trainer.  As `Network` takes its parameters.
    communicator : mpi4py.MPI.Intracomm, optional
        Its ranks train together: each calls `step` and `fit` with the same arguments, computes its
        share of every batch's rows, and has the same parameters after each update.  Parameters and
        seed are those of rank 0.  See docs/embedding.md.
    rank_order : {"any", "fixed"}, default "any"
        How the ranks' gradients are added up: as is quickest, or in turn, which gives the bits
        that a single rank gives.

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
    metrics : list of Metric
        Of the last `fit`.
    rows : int
        That the last `fit` trained on in each epoch; 0 if they came in batches.
    epochs, target_epoch : int
        What the last `fit` was asked for, and the epoch at which it ends.
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
        loss: str | Loss | LossFunction = "mse",
        optimizer: str | Optimizer | LBFGS = "sgd",
        *,
        threads: int | None = None,
        state: Any = None,
        communicator: Any = None,
        rank_order: str = "any",
    ) -> None:
        if not isinstance(network, Network):
            raise TypeError(f"network must be a downslope.Network; got {type(network).__name__}")
        self.network = network
        self.loss = network.checked_loss(loss)
        if isinstance(self.loss, Loss):
            self._losses = _plan.make_losses(self.loss, network.outputs)
        elif network.is_noisy:
            raise ValueError(
                "a loss that is a function goes without the engine's steps, which draw dropout and "
                "input noise: drop these, or take a loss by its name"
            )
        self.optimizer = as_optimizer(optimizer)
        self.threads = threads if threads is None else as_count("threads", threads)
        self.epoch = self.target_epoch = 0
        self.validates = self.interrupted = False
        self.rows = self.epochs = 0
        self.history: History | None = None
        self.metrics: list[Metric] = []
        # The run under way, and those of its callbacks that have a state.
        self._run: _Run | None = None
        self._with_state: list[Callback] = []
        # From `resume` to the `fit` that goes on: the run, and the states of its callbacks.
        self._resumed: tuple[_Run, list[CallbackState]] | None = None
        # L-BFGS needs the gradients alone
        self._rule = SGD() if isinstance(self.optimizer, LBFGS) else self.optimizer
        self.state, self._descent = _make_descent(network, self._rule, state)
        self._ranks: Ranks | None = None
        if communicator is not None:
            from downslope.interop.mpi import Ranks

            if network.is_noisy:
                raise ValueError(
                    "ranks that train together would draw the same noise for their different rows: "
                    "drop the dropout and the input noise, or the communicator"
                )
            self._ranks = Ranks(communicator, rank_order)
            self._ranks.join({**_without_seed(network), **self._specification()}, network)

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

    @property
    def monitored(self) -> dict[str, bool]:
        """What the logs of an epoch hold: each name with whether more of it is better."""
        better = {metric.name: metric.greater_is_better for metric in self.metrics}
        names = {"loss": False, **(better if self.rows else {})}
        if self.validates:
            names |= {f"val_{name}": more for name, more in {"loss": False, **better}.items()}
        return names

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
            The mean loss of the batch before the update, with the layers' penalties.

        Raises
        ------
        TypeError, ValueError
            If an argument is not as it should be.
        RuntimeError
            If another thread is training the network.
        FloatingPointError
            If the loss or the new parameters are not finite; the parameters are the last finite
            ones.
        """
        self._refuse_lbfgs("step()")
        data = self.network.dataset(X, y, self.loss, sample_weight)
        threads = _threads.resolve(self.threads)
        self.network.exclusive.claim()
        try:
            total, _ = self._train(data, None, data.rows, threads)
        finally:
            self.network.exclusive.release()
        return total / data.rows

    def learn_one(self, x: ArrayLike, y: ArrayLike) -> float:
        """One update from one row, as rows come in one at a time.

        Parameters
        ----------
        x : array (inputs,)
        y : number or array (outputs,)
            The target; a class label for a loss with labels.

        Returns
        -------
        float
            The row's loss before the update.

        Raises
        ------
        TypeError, ValueError, RuntimeError, FloatingPointError
            See `step`.

        Examples
        --------
        >>> import downslope as ds
        >>> net = ds.Network([2, 1], weights="zeros")
        >>> trainer = ds.Trainer(net, loss="half_squared_error", optimizer=ds.SGD(0.1))
        >>> trainer.learn_one([1.0, 2.0], 3.0)
        4.5
        """
        return self.step(as_row("x", x, self.network.inputs), np.asarray(y)[None])

    def row_gradients(
        self,
        X: ArrayLike,
        y: ArrayLike,
        *,
        sample_weight: ArrayLike | None = None,
        out: NDArray[Any] | None = None,
    ) -> NDArray[Any]:
        """The gradients of the loss of each row by itself (per-sample gradients).

        Parameters
        ----------
        X : array (rows, inputs)
        y : array (rows, outputs), or (rows,) for one output or for class labels
        sample_weight : array (rows,), optional
            Factors of the rows' losses.
        out : array (rows, parameters), optional
            Where to write them, of the network's type.

        Returns
        -------
        array (rows, parameters)
            `out`, if given.  Without the layers' penalties, the mean over the rows is what
            `compute_gradients` gives, to rounding.

        Raises
        ------
        TypeError, ValueError
            If an argument is not as it should be.
        RuntimeError
            If another thread is training the network.
        FloatingPointError
            If a loss is not finite.

        Examples
        --------
        >>> import downslope as ds
        >>> net = ds.Network([1, 1], weights="zeros", dtype="float64")
        >>> ds.Trainer(net).row_gradients([[1.0], [2.0]], [[2.0], [1.0]])
        array([[-4., -4.],
               [-4., -2.]])
        """
        data = self.network.dataset(X, y, self.loss, sample_weight)
        if isinstance(data, Rows):
            raise TypeError(
                "row_gradients needs a loss by its name; for a function, give its gradient to "
                "Pass.backward with an array (rows, parameters)"
            )
        if self.network.is_noisy:
            raise ValueError(
                "row_gradients would be those of noise drawn for each row: drop the dropout and "
                "the input noise"
            )
        shape, dtype = (data.rows, self.network.parameters.size), self.network.dtype
        result = np.empty(shape, dtype) if out is None else as_memory("out", out, shape, dtype)
        with self.network.exclusive:
            total = self._descent.compute_row_gradients(
                data, self._losses[data.has_labels], result, _threads.resolve(self.threads)
            )
        if not math.isfinite(total):
            self._check(_engine.STATUS_LOSS_NOT_FINITE)
        return result

    def compute_gradients(
        self, X: ArrayLike, y: ArrayLike, *, sample_weight: ArrayLike | None = None
    ) -> float:
        """The gradients of the mean loss of a batch and the layers' penalties, without an update.

        They are in ``network.gradients``, where they can be changed before `update`.

        Parameters
        ----------
        X : array (rows, inputs)
        y : array (rows, outputs), or (rows,) for one output or for class labels
        sample_weight : array (rows,), optional

        Returns
        -------
        float
            The mean loss of the batch, with the penalties.

        Raises
        ------
        TypeError, ValueError
            If an argument is not as it should be.
        RuntimeError
            If another thread is training the network.
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
        threads = _threads.resolve(self.threads)
        with self.network.exclusive:
            return self._gradients_of(data, threads)

    def update(self) -> None:
        """One step of the optimiser with ``network.gradients`` as they stand.

        If the optimiser clips, they are clipped in place.

        Raises
        ------
        RuntimeError
            If another thread is training the network.
        FloatingPointError
            If a new parameter is not finite; it is left as it was.
        """
        self._refuse_lbfgs("update()")
        with self.network.exclusive:
            if self._rule.schedule is not None:
                self._descent.learning_rate = self._rule.schedule.rates(self.steps, 1)[0]
            self._descent.keep_gradients(self.network.gradients)
            self._check(self._descent.update())

    def partial_fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        *,
        batch_size: int | None = 32,
        sample_weight: ArrayLike | None = None,
        threads: int | None = None,
    ) -> float:
        """One pass over rows that have come in, in mini-batches as they lie.

        The optimiser's state goes on from call to call; it is no epoch of `fit`.

        Parameters
        ----------
        X : array (rows, inputs)
        y : array (rows, outputs), or (rows,) for one output or for class labels
        batch_size : int or None, default 32
            Rows of a step; None: all.
        sample_weight : array (rows,), optional
        threads : int, optional

        Returns
        -------
        float
            The mean loss of the rows, each as it was met.

        Raises
        ------
        TypeError, ValueError, RuntimeError, FloatingPointError
            See `step`.

        Examples
        --------
        >>> import downslope as ds, numpy as np
        >>> trainer = ds.Trainer(ds.Network([1, 1], seed=0), optimizer=ds.SGD(0.1))
        >>> x = np.linspace(-1, 1, 64).reshape(-1, 1)
        >>> losses = [trainer.partial_fit(x, 2 * x) for _ in range(20)]
        >>> losses[-1] < losses[0]
        True
        """
        self._refuse_lbfgs("partial_fit()")
        data = self.network.dataset(X, y, self.loss, sample_weight)
        batch = data.rows if batch_size is None else as_count("batch_size", batch_size)
        batch *= self._rule.gradient_accumulation_steps
        threads = _threads.resolve(self.threads if threads is None else threads)
        with self.network.exclusive:
            total, _ = self._train(data, None, min(batch, data.rows), threads)
        return total / data.rows

    # ---- Checkpoints ----

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write everything that `resume` needs to a file, atomically.

        Between calls, or from a callback's `Callback.on_pause`; `Checkpoint` does it in a run.

        Parameters
        ----------
        path : path
            The file; one that is there is replaced whole, or left as it is if anything fails.

        Raises
        ------
        RuntimeError
            If another thread is training the network.
        OSError
            If the file can not be written.

        Examples
        --------
        See `resume`.
        """
        with self.network.exclusive:
            run, states = self._resumed or (
                self._run,
                [(_name(callback), callback.state_dict()) for callback in self._with_state],
            )
            description = {
                **self._specification(),
                "steps": self.steps,
                "epoch": self.epoch,
                "learning_rate": self.learning_rate,
                "run": run and asdict(run),
            }
            write_checkpoint(path, self.network, self.state, description, states)

    def resume(self, path: str | os.PathLike[str]) -> None:
        """Go back to where a checkpoint was written; the next `fit` finishes its run.

        That `fit` takes the data and the arguments of the interrupted one; everything it gives, the
        history of the whole run among it, equals what the run would have given uninterrupted, to
        the bit.  `epochs` counts from the start of the run: one that was at its end ends at once,
        or with a larger number goes on to that; one that a callback had stopped stays stopped.

        Parameters
        ----------
        path : path
            A file written by `Checkpoint` or `save`.

        Raises
        ------
        ValueError
            If the file is damaged, was changed or is no checkpoint, or if its network, loss or
            optimiser are not like this trainer's; nothing has changed then.
        RuntimeError
            If another thread is training the network.
        OSError
            If it can not be read.

        Examples
        --------
        A program that can be ended at any moment and started again:

        >>> import downslope as ds, numpy as np, pathlib, tempfile
        >>> x = np.linspace(-1, 1, 64).reshape(-1, 1)
        >>> def train(path, epochs):
        ...     trainer = ds.Trainer(ds.Network([1, 8, 1], seed=0), optimizer=ds.Adam(0.01))
        ...     if path.exists():
        ...         trainer.resume(path)
        ...     return trainer.fit(x, x**2, epochs=epochs, callbacks=[ds.Checkpoint(path)])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     train(pathlib.Path(folder, "a.safetensors"), epochs=2).epochs
        ...     resumed = train(pathlib.Path(folder, "a.safetensors"), epochs=5)
        ...     whole = train(pathlib.Path(folder, "b.safetensors"), epochs=5)
        2
        >>> resumed.loss == whole.loss
        True
        """
        network, state, description, callbacks = read_checkpoint(path)
        found = {**_without_seed(network), **{k: description[k] for k in self._specification()}}
        _compare(found, {**_without_seed(self.network), **self._specification()})
        with self.network.exclusive:
            self.network.parameters[...] = network.parameters
            self.network.seed = self._descent.seed = network.seed
            self.state[...] = state
            self._descent.steps, self.epoch = description["steps"], description["epoch"]
            self._descent.learning_rate = description["learning_rate"]
            run = description["run"]
            if run is None:
                self._resumed = self.history = None
            else:
                self.history = History(**run.pop("history"))
                self._resumed = _Run(history=self.history, **run), callbacks

    def _specification(self) -> dict[str, str]:
        """What must be the same in the trainer that a checkpoint is read into."""
        return {"loss": repr(self.loss), "optimizer": repr(self.optimizer)}

    # ---- The whole loop ----

    def fit(
        self,
        X: Any,
        y: ArrayLike | None = None,
        *,
        epochs: int = 1,
        batch_size: int | None = 32,
        shuffle: bool = True,
        sampling: str = "without_replacement",
        sample_weight: ArrayLike | None = None,
        class_weight: Any = None,
        metrics: Sequence[Any] = (),
        validation_data: tuple[Any, ...] | None = None,
        validation_split: float = 0.0,
        callbacks: Sequence[Callback] = (),
        on_divergence: str = "raise",
        threads: int | None = None,
        verbose: int = 0,
    ) -> History:
        """Train for some epochs; called again, it goes on.

        After `resume` it finishes the run of the checkpoint: give it the arguments of that run.

        Parameters
        ----------
        X : array (rows, inputs), or iterable of batches
            Finite numbers: of NumPy, pandas, polars, Arrow, or PyTorch on the CPU.  Used without a
            copy if they are of the network's type and each row's values lie next to each other,
            a `numpy.memmap` too, of which only what is at work comes into memory.  Without `y`:
            an iterable of batches, each (X, y) or (X, y, sample_weight) and one step, whose end is
            the epoch's; a generator is good for one epoch.
        y : array (rows, outputs), or (rows,) for one output or for class labels
        epochs : int, default 1
            Passes over the rows.
        batch_size : int or None, default 32
            Rows of a step: 1 is stochastic descent, None full-batch descent.
        shuffle : bool, default True
            A new order of the rows in each epoch, a function of the network's seed and the epoch.
            False: as they lie.
        sampling : {"without_replacement", "with_replacement", "weighted", "stratified"}
            With replacement, every row of every step is drawn uniformly from all rows; an epoch is
            as many draws as there are rows.  "weighted" draws rows in proportion to their weights
            (sample times class weight), and their losses then count alike.  "stratified" is
            without replacement, with the classes spread evenly over the epoch, for labels.
        sample_weight : array (rows,), optional
            Factors of the rows' losses; the mean is ``sum(weight * loss) / rows``.
        class_weight : "balanced", dict or list, optional
            Further factors, by the class of a row; validation data have none.  "balanced" is
            ``rows / (classes * rows of the class)``, over the classes that occur in the data, as
            in scikit-learn.
        metrics : list of str, Metric or callable, default ()
            To compute after each epoch, on training and on validation data: "accuracy", "f1",
            "roc_auc", "top_<k>_accuracy", "r2", "mae", or functions of targets and outputs; see
            `downslope.metrics`.  Those on training data take a pass over its rows.
        validation_data : (X, y) or (X, y, sample_weight), optional
            Evaluated after each epoch.
        validation_split : float, default 0.0
            Split off this fraction of the rows for validation, chosen by the network's seed.
        callbacks : list of Callback, optional
        on_divergence : {"raise", "warn"}, default "raise"
            What to do when a loss or a new parameter is not finite: raise the error, or end the run
            with a RuntimeWarning.  The parameters are the last finite ones either way.
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
            If an argument is not as it should be, or does not go with the run of the checkpoint;
            nothing has changed then.
        RuntimeError
            If another thread is training the network; nothing has changed then.
        FloatingPointError
            If a loss or a new parameter is not finite, unless `on_divergence` is "warn".
        KeyboardInterrupt
            On Ctrl-C; the parameters are those of the last completed step.

        Warns
        -----
        UnscaledInputsWarning
            If the inputs are of a scale that training takes badly; of batches, if the first one's
            are.
        """
        epochs = as_count("epochs", epochs)
        choose("sampling", sampling, SAMPLINGS)
        if sampling != "without_replacement" and not shuffle:
            raise ValueError(
                f"shuffle=False contradicts sampling={sampling!r}, which draws the rows "
                "at random; drop one of them"
            )
        choose("on_divergence", on_divergence, DIVERGENCES)
        threads = _threads.resolve(self.threads if threads is None else threads)
        watchers = [*_checked_callbacks(callbacks), *([Progress()] if verbose else [])]
        if isinstance(self.optimizer, LBFGS):
            _check_for_lbfgs(self.network, watchers, in_batches=y is None)
        if y is None:
            _check_batches(X, epochs, sample_weight, sampling, class_weight, validation_split)
            source = _Source(None, batches=X, class_weight=class_weight)
            validation = None if validation_data is None else self._validation(validation_data)
            count = batch = 0
            labels = validation is not None and validation.has_labels
        else:
            data = self.network.dataset(X, y, self.loss, sample_weight)
            rows, validation = self._split(data, validation_data, validation_split)
            data = self._weighted(data, class_weight)
            order = Order(sampling, shuffle, data, rows)
            source = _Source(
                data.with_weight(None) if sampling == "weighted" else data, rows, order
            )
            count = data.rows if rows is None else len(rows)
            batch = count if batch_size is None else as_count("batch_size", batch_size)
            batch = min(batch * self._rule.gradient_accumulation_steps, count)
            labels = data.has_labels
            warn_if_unscaled(data.arrays[0])
        self.metrics = as_metrics(metrics, labels)
        held_out = 0 if validation is None else validation.rows
        run = _Run(count, held_out, batch, shuffle, sampling, self.epoch)
        together = contextlib.nullcontext() if self._ranks is None else self._ranks.together()

        with self.network.exclusive, together:
            run = self._begin(run, watchers)
            self.history = run.history
            self.rows, self.epochs = run.rows, epochs
            self.validates, self.target_epoch = validation is not None, run.first_epoch + epochs
            self.interrupted = True
            begun: list[Callback] = []
            try:
                for callback in watchers:
                    run.stopped |= bool(callback.on_fit_begin(self))
                    begun.append(callback)
                self._load_callbacks()
                if isinstance(self.optimizer, LBFGS):
                    taken = source if source.rows is None else source.take()
                    self._run_lbfgs(self.optimizer, run, taken, validation, threads, watchers)
                else:
                    self._run_epochs(run, source, validation, threads, watchers)
                if self._descent.average is not None:
                    self.network.parameters[...] = self._descent.average
                self.interrupted = False
            except _Divergence as error:
                if on_divergence == "raise":
                    raise
                self.interrupted = False
                warnings.warn(str(error), RuntimeWarning, stacklevel=2)
            finally:
                self._run, self._with_state = None, []
                with contextlib.ExitStack() as endings:  # each is called, even if another one fails
                    for callback in reversed(begun):
                        endings.callback(callback.on_fit_end, self)
        return run.history

    def _begin(self, run: _Run, callbacks: Sequence[Callback]) -> _Run:
        """The run to make: `run`, or the one of the checkpoint, if that is as `run` is."""
        with_state = [callback for callback in callbacks if callback.state_dict()]
        if self._resumed is not None:
            resumed, states = self._resumed
            _compare(resumed.settings, run.settings)
            _compare(
                {"callbacks": [name for name, _ in states]},
                {"callbacks": [_name(callback) for callback in with_state]},
            )
            run = resumed
        self._run, self._with_state = run, with_state
        return run

    def _load_callbacks(self) -> None:
        """Bring the callbacks to where they were when the checkpoint was written."""
        if self._resumed is not None:
            for callback, (_, state) in zip(self._with_state, self._resumed[1], strict=True):
                callback.load_state_dict(state)
            self._resumed = None

    def _run_epochs(
        self,
        run: _Run,
        source: _Source,
        validation: _engine.Dataset | Rows | None,
        threads: int,
        callbacks: Sequence[Callback],
    ) -> None:
        while self.epoch < self.target_epoch and not run.stopped:
            if run.batch == 0 and self._any_stops(
                callback.on_epoch_begin(self, self.epoch) for callback in callbacks
            ):
                run.stopped = True
                return
            if source.data is None:
                run.stopped = self._run_given(run, source, threads, callbacks)
            else:
                run.stopped = self._run_batches(run, source, threads, callbacks)
            if run.met == 0:
                return
            self._end_epoch(run, run.total / run.met, source, validation, threads, callbacks)

    def _end_epoch(
        self,
        run: _Run,
        loss: float,
        source: _Source,
        validation: _engine.Dataset | Rows | None,
        threads: int,
        callbacks: Sequence[Callback],
    ) -> None:
        """Validate, note and report an epoch with this mean loss."""
        begin = time.perf_counter()
        logs = self._logs(loss, source, validation, threads)
        run.seconds += time.perf_counter() - begin
        run.end_epoch(logs)
        self.epoch += 1
        run.stopped |= self._any_stops(
            callback.on_epoch_end(self, self.epoch - 1, logs) for callback in callbacks
        )
        if run.stopped:
            self.target_epoch = self.epoch
        run.stopped |= self._any_stops(callback.on_pause(self) for callback in callbacks)

    def _logs(
        self,
        loss: float,
        source: _Source,
        validation: _engine.Dataset | Rows | None,
        threads: int,
    ) -> dict[str, float]:
        """Losses and metrics at the end of an epoch with this mean loss."""
        logs = {"loss": loss}
        if validation is not None:
            logs["val_loss"] = self.network.mean_loss(validation, self.loss, threads)
        if self.metrics and source.data is not None:
            logs |= self._measure(source.data, source.rows, "", threads)
        if self.metrics and validation is not None:
            logs |= self._measure(validation, None, "val_", threads)
        return logs

    def _measure(
        self,
        data: _engine.Dataset | Rows,
        rows: NDArray[np.int64] | None,
        prefix: str,
        threads: int,
    ) -> dict[str, float]:
        """The metrics on some rows of a data set; None: all."""
        x, targets, _ = data.arrays
        outputs = self.network.outputs_of(x, threads)
        if rows is not None:
            targets, outputs = targets[rows], outputs[rows]
        return {f"{prefix}{metric.name}": metric(targets, outputs) for metric in self.metrics}

    def _run_lbfgs(
        self,
        optimizer: LBFGS,
        run: _Run,
        source: _Source,
        validation: _engine.Dataset | Rows | None,
        threads: int,
        callbacks: Sequence[Callback],
    ) -> None:
        """Iterations on all rows of a data set; each is an epoch."""
        data = source.data
        assert data is not None

        def begin_epoch() -> float:
            run.stopped |= self._any_stops(
                callback.on_epoch_begin(self, self.epoch) for callback in callbacks
            )
            return time.perf_counter()

        begin = begin_epoch()
        if run.stopped:
            return

        def loss_and_gradient() -> tuple[float, NDArray[Any]]:
            return self._gradients_of(data, threads), self.network.gradients

        def after_iteration(loss: float) -> bool:
            nonlocal begin
            run.seconds = time.perf_counter() - begin
            self._descent.steps += 1
            self._end_epoch(run, loss, source, validation, threads, callbacks)
            if self.epoch < self.target_epoch:
                begin = begin_epoch()
            return run.stopped

        iterations = self.target_epoch - self.epoch
        _lbfgs.run(
            optimizer, self.network.parameters, loss_and_gradient, iterations, after_iteration
        )

    def _run_batches(
        self, run: _Run, source: _Source, threads: int, callbacks: Sequence[Callback]
    ) -> bool:
        """The batches of the epoch that are left, with a pause whenever a callback asks for one;
        whether a callback ends the run."""
        assert source.data is not None
        assert source.order is not None
        begin = time.perf_counter()
        order = source.order.draw(self.network.seed, self.epoch)
        run.seconds += time.perf_counter() - begin
        watchers = [callback for callback in callbacks if callback.watches_batches]
        stops = False
        while run.batch < run.batches and not stops:
            if self._begin_batch(run, watchers):
                return True
            begin, met, total = time.perf_counter(), run.met, run.total
            pause = min((callback.next_pause() for callback in callbacks), default=math.inf)
            run.advance(
                *self._train(
                    source.data,
                    order,
                    run.batch_size,
                    threads,
                    run.batch,
                    run.total,
                    0.0 if watchers else pause,
                )
            )
            run.seconds += time.perf_counter() - begin
            stops = self._end_batch(run, (run.total - total) / (run.met - met), watchers)
            if run.batch < run.batches:
                pauses = _any_stops(callback.on_pause(self) for callback in callbacks)
                stops |= pauses and self._ranks is None  # ranks pause each at its own time
        return stops

    def _run_given(
        self, run: _Run, source: _Source, threads: int, callbacks: Sequence[Callback]
    ) -> bool:
        """The same with batches as they come, each a step."""
        watchers = [callback for callback in callbacks if callback.watches_batches]
        for batch in itertools.islice(source.batches, run.batch, None):
            if self._begin_batch(run, watchers):
                return True
            begin = time.perf_counter()
            x, y, weight = _as_batch(batch)
            data = self.network.dataset(x, y, self.loss, weight)
            if run.batch == 0 and self.epoch == run.first_epoch:
                warn_if_unscaled(data.arrays[0])
            data = self._weighted(data, source.class_weight)
            total, _ = self._train(data, None, data.rows, threads)
            run.total += total
            run.met += data.rows
            run.batch += 1
            run.seconds += time.perf_counter() - begin
            stops = self._end_batch(run, total / data.rows, watchers)
            pauses = _any_stops(callback.on_pause(self) for callback in callbacks)
            if stops or (pauses and self._ranks is None):
                return True
        if run.met == 0:
            raise ValueError(
                "there are no batches: give an iterable with at least one, that can be gone "
                "through in every epoch"
            )
        return False

    def _any_stops(self, answers: Iterable[bool | None]) -> bool:
        """The same of all ranks, if there are several."""
        stops = _any_stops(answers)
        return stops if self._ranks is None else self._ranks.any(stops)

    def _begin_batch(self, run: _Run, watchers: Sequence[Callback]) -> bool:
        return bool(watchers) and self._any_stops(
            callback.on_batch_begin(self, run.batch) for callback in watchers
        )

    def _end_batch(self, run: _Run, loss: float, watchers: Sequence[Callback]) -> bool:
        logs = {"loss": loss}
        return bool(watchers) and self._any_stops(
            callback.on_batch_end(self, run.batch - 1, logs) for callback in watchers
        )

    def _weighted(self, data: _engine.Dataset | Rows, class_weight: Any) -> _engine.Dataset | Rows:
        if class_weight is None:
            return data
        return with_class_weight(data, class_weight, self.loss, self.network.outputs)

    def _train(
        self,
        data: _engine.Dataset | Rows,
        order: NDArray[np.int64] | None,
        batch_size: int,
        threads: int,
        batch: int = 0,
        total: float = 0.0,
        seconds: float = math.inf,
    ) -> tuple[float, int]:
        """Steps from batch number `batch` of the order on, for so many seconds; the sum of the
        rows' losses, on top of `total`, and the batch to go on with."""
        if self._ranks is not None:
            return self._ranks.train(self, data, order, batch_size, threads, batch, total, seconds)
        if isinstance(data, Rows):
            return self._train_own(data, order, batch_size, threads, batch, total, seconds)
        rates = None
        if self._rule.schedule is not None:
            count = data.rows if order is None else len(order)
            rates = self._rule.schedule.rates(self.steps, -(-count // batch_size) - batch)
        if self._descent.needs_gradients(batch_size):
            self._descent.keep_gradients(self.network.gradients)
        loss = self._losses[data.has_labels]
        status, total, batch = self._descent.train(
            data, loss, order, batch_size, threads, batch, total, seconds, rates
        )
        self._check(status)
        return total, batch

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
            total += rows.rows * self._gradients_of(rows, threads)
            self.update()
            batch += 1
            if time.monotonic() >= deadline:
                break
        return total, batch

    def _gradients_of(self, data: _engine.Dataset | Rows, threads: int) -> float:
        """The mean loss over a data set; its gradients are in ``network.gradients``."""
        if isinstance(data, Rows):
            loss = _own_loss.compute_gradients(self.network, data, threads)
            if not np.isfinite(loss):
                self._check(_engine.STATUS_LOSS_NOT_FINITE)
            return loss
        self._descent.keep_gradients(self.network.gradients)
        status, total = self._descent.compute_gradients(
            data, self._losses[data.has_labels], threads
        )
        self._check(status)
        return total / data.rows

    def _refuse_lbfgs(self, what: str) -> None:
        if isinstance(self.optimizer, LBFGS):
            raise TypeError(
                f"LBFGS has no use for {what}: it works on whole runs; call fit, or take another "
                "optimizer"
            )

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
        raise _Divergence(
            f"{what} step {number}: the descent diverges. The parameters are the last finite "
            "ones. Lower the learning rate, or scale the inputs and targets"
        )

    def _split(
        self,
        data: _engine.Dataset | Rows,
        validation_data: tuple[Any, ...] | None,
        validation_split: float,
    ) -> tuple[NDArray[np.int64] | None, _engine.Dataset | Rows | None]:
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

    def _validation(self, validation_data: tuple[Any, ...]) -> _engine.Dataset | Rows:
        if not isinstance(validation_data, tuple | list) or len(validation_data) not in (2, 3):
            raise TypeError(
                "validation_data must be (X, y) or (X, y, sample_weight); "
                f"got {type(validation_data).__name__}"
            )
        x, y, *weight = validation_data
        return self.network.dataset(x, y, self.loss, weight[0] if weight else None, "_val")


def _any_stops(answers: Iterable[bool | None]) -> bool:
    """Whether a callback says True; all are asked."""
    return any(list(answers))


def _as_batch(batch: Any) -> tuple[Any, Any, Any]:
    """X, y and sample weights (or None) of a batch."""
    if not isinstance(batch, tuple | list) or len(batch) not in (2, 3):
        raise TypeError(
            f"a batch must be (X, y) or (X, y, sample_weight); got {type(batch).__name__}"
        )
    x, y, *weight = batch
    return x, y, weight[0] if weight else None


def _check_batches(
    batches: Any,
    epochs: int,
    sample_weight: Any,
    sampling: str,
    class_weight: Any,
    validation_split: float,
) -> None:
    """Refuse what is no source of batches, or what does not go with one."""
    if hasattr(batches, "shape") or not isinstance(batches, Iterable):
        raise TypeError(
            "y must hold real numbers, or X be an iterable of batches (X, y); "
            f"got X of type {type(batches).__name__} without y"
        )
    if isinstance(batches, Iterator) and epochs > 1:
        raise ValueError(
            f"a generator can be gone through once, not {epochs} times: give a list of batches, or "
            "an object whose __iter__ begins anew"
        )
    for name, given in {
        "sample_weight": sample_weight is not None,
        "sampling": sampling != "without_replacement",
        "class_weight='balanced'": isinstance(class_weight, str),
        "validation_split": validation_split != 0,
    }.items():
        if given:
            raise ValueError(f"{name} needs all rows at once; it does not go with batches")


def _without_seed(network: Network) -> dict[str, Any]:
    return {key: value for key, value in network.architecture().items() if key != "seed"}


def _name(callback: Callback) -> str:
    return type(callback).__name__


def _compare(checkpoint: dict[str, Any], given: dict[str, Any]) -> None:
    """Refuse to resume what is not as it was."""
    for name, expected in checkpoint.items():
        if given[name] != expected:
            raise ValueError(
                f"the checkpoint was written with {name}={expected!r}, and here it is "
                f"{given[name]!r}: give what the interrupted run had, or begin without resume()"
            )


def _check_for_lbfgs(network: Network, callbacks: Sequence[Callback], *, in_batches: bool) -> None:
    """Before a run: SciPy is there, and nothing is asked for that L-BFGS does not do."""
    _lbfgs.scipy_minimize()
    if in_batches:
        raise ValueError("LBFGS needs all rows at once: give X and y, or another optimizer")
    if network.is_noisy:
        raise ValueError(
            "LBFGS needs the same loss at each look: drop the dropout and the input noise, or take "
            "another optimizer"
        )
    for index, layer in enumerate(network._dense):
        if layer.max_norm is not None or layer.learning_rate != 1:
            raise ValueError(
                f"LBFGS heeds neither max_norm nor learning_rate of a layer; layer {index} has "
                "one: drop it, or take another optimizer"
            )
    if any(isinstance(callback, Checkpoint) for callback in callbacks):
        raise ValueError(
            "a run of LBFGS can not be resumed: drop the Checkpoint, or take another optimizer"
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
