"""`Trainer`: a network with a loss and an optimiser; its steps, its checkpoints, its runs."""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from downslope import _lbfgs, _threads
from downslope._epochs import EpochLoop
from downslope._own_loss import LossFunction, Rows
from downslope._run import Run, compare
from downslope._sampling import check_sampling
from downslope._scale import warn_if_unscaled
from downslope._source import make_source
from downslope._stepper import Divergence, Stepper
from downslope._validate import (
    as_count,
    as_memory,
    as_number,
    as_row,
    check_apart,
    choose,
    name_of,
)
from downslope.callbacks import Callback, Progress, as_callbacks
from downslope.checkpoints import CallbackState, read_checkpoint, write_checkpoint
from downslope.history import History
from downslope.losses import Loss
from downslope.metrics import Metric, as_metrics
from downslope.network import Network, as_network
from downslope.optimizers import LBFGS, SGD, Optimizer, as_optimizer

DIVERGENCES = ("raise", "warn")


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
        self.network = as_network(network)
        self.loss = network.checked_loss(loss)
        if not isinstance(self.loss, Loss) and network.is_noisy:
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
        self._run: Run | None = None
        self._with_state: list[Callback] = []
        # From `resume` to the `fit` that goes on: the run, and the states of its callbacks.
        self._resumed: tuple[Run, list[CallbackState]] | None = None
        # L-BFGS needs the gradients alone
        rule = SGD() if isinstance(self.optimizer, LBFGS) else self.optimizer
        self._stepper = Stepper(network, self.loss, rule, state)
        self.state = self._stepper.state
        if communicator is not None:
            self._join(communicator, rank_order)

    def _join(self, communicator: Any, rank_order: str) -> None:
        """Train together with the other ranks of an MPI job."""
        from downslope.interop.mpi import Ranks

        if self.network.is_noisy:
            raise ValueError(
                "ranks that train together would draw the same noise for their different rows: "
                "drop the dropout and the input noise, or the communicator"
            )
        ranks = Ranks(communicator, rank_order)
        description = {**_without_seed(self.network), **self._specification()}
        ranks.join(description, self.network, self.state)
        self._stepper.ranks = ranks

    @property
    def steps(self) -> int:
        return self._stepper.descent.steps

    @property
    def learning_rate(self) -> float:
        return self._stepper.descent.learning_rate

    @learning_rate.setter
    def learning_rate(self, value: float) -> None:
        self._refuse_lbfgs("a learning rate")
        if self._stepper.rule.schedule is not None:
            raise ValueError(
                "the optimizer's learning rate follows a schedule and can not be set besides; give "
                "the optimizer a number"
            )
        self._stepper.descent.learning_rate = as_number("learning_rate", value, at_least=0.0)

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
        threads = _threads.resolve(self.threads)
        if sample_weight is None:
            loss = self._stepper.step_ready(X, y, 2, threads)
            if loss is not None:
                return loss
        data = self.network.dataset(X, y, self.loss, sample_weight)
        with self.network.exclusive:
            total, _ = self._stepper.train(data, None, data.rows, threads)
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
        self._refuse_lbfgs("learn_one()")
        loss = self._stepper.step_ready(x, y, 1, _threads.resolve(self.threads))
        if loss is None:
            loss = self.step(as_row("x", x, self.network.inputs), np.asarray(y)[None])
        return loss

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
        TypeError, ValueError, RuntimeError, FloatingPointError
            See `step`; and if the loss is a function, or the network's training has noise.

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
        check_apart(out=result, parameters=self.network.parameters)
        with self.network.exclusive:
            self._stepper.compute_row_gradients(data, result, _threads.resolve(self.threads))
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
        TypeError, ValueError, RuntimeError, FloatingPointError
            See `step`.

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
            return self._stepper.compute_gradients(data, threads)

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
            self._stepper.update()

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
        batch = self._batch_rows(batch_size, data.rows)
        threads = _threads.resolve(self.threads if threads is None else threads)
        with self.network.exclusive:
            total, _ = self._stepper.train(data, None, batch, threads)
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
        compare(found, {**_without_seed(self.network), **self._specification()})
        with self.network.exclusive:
            self.network.parameters[...] = network.parameters
            self.network.seed = self._stepper.descent.seed = network.seed
            self.state[...] = state
            self._stepper.descent.steps, self.epoch = description["steps"], description["epoch"]
            self._stepper.descent.learning_rate = description["learning_rate"]
            run = description["run"]
            if run is None:
                self._resumed = self.history = None
            else:
                self.history = History(**run.pop("history"))
                self._resumed = Run(history=self.history, **run), callbacks

    def _specification(self) -> dict[str, str]:
        """What must be the same in the trainer that a checkpoint is read into."""
        loss = repr(self.loss) if isinstance(self.loss, Loss) else name_of(self.loss)
        return {"loss": loss, "optimizer": repr(self.optimizer)}

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
            an iterable of batches, each (X, y) or (X, y, sample_weight) and one step, whatever
            `batch_size` and `shuffle` say, whose end is the epoch's; a generator is good for one
            epoch.
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
            without replacement, with the classes spread evenly over the epoch, for targets that are
            classes.
        sample_weight : array (rows,), optional
            Factors of the rows' losses; the mean is ``sum(weight * loss) / rows``.
        class_weight : "balanced", dict or list, optional
            Further factors, by the class of a row; validation data have none.  "balanced" is
            ``rows / (classes * rows of the class)``, over the classes that occur in the data, as
            in scikit-learn.
        metrics : list of str, Metric or callable, default ()
            To compute after each epoch, on training and on validation data: "accuracy", "f1",
            "roc_auc", "top_<k>_accuracy", "r2", "mae", or functions of targets and outputs; see
            `downslope.metrics`.  Those on training data take a pass over its rows; of data that
            come in batches there are none.
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
        check_sampling(sampling, shuffle)
        choose("on_divergence", on_divergence, DIVERGENCES)
        threads = _threads.resolve(self.threads if threads is None else threads)
        if verbose not in (0, 1):
            raise ValueError(
                "verbose must be 0 or 1; for lines instead of a bar give "
                f"callbacks=[downslope.Progress('lines')]; got {verbose!r}"
            )
        watchers = [*as_callbacks(callbacks), *([Progress()] if verbose else [])]
        if isinstance(self.optimizer, LBFGS):
            _lbfgs.check(self.network, watchers, in_batches=y is None, sampling=sampling)
        source, validation = make_source(
            self.network,
            self.loss,
            X,
            y,
            epochs=epochs,
            shuffle=shuffle,
            sampling=sampling,
            sample_weight=sample_weight,
            class_weight=class_weight,
            validation_data=validation_data,
            validation_split=validation_split,
        )
        batch = self._batch_rows(batch_size, source.count)
        measured = validation if source.data is None else source.data
        if source.data is not None:
            warn_if_unscaled(source.data.arrays[0])
        self.metrics = as_metrics(metrics, self.loss, measured, self.network.outputs)
        held_out = 0 if validation is None else validation.rows
        run = Run(source.count, held_out, batch, shuffle, sampling, self.epoch)

        with self.network.exclusive, self._stepper.together():
            run = self._begin(run, watchers)
            self.history = run.history
            self.rows, self.epochs = run.rows, epochs
            self.validates, self.target_epoch = validation is not None, run.first_epoch + epochs
            loop = EpochLoop(self, self._stepper, run, source, validation, threads, watchers)
            with self._watched(run, watchers):
                try:
                    loop.run_epochs()
                except Divergence as error:
                    if on_divergence == "raise":
                        raise
                    warnings.warn(str(error), RuntimeWarning, stacklevel=2)
        return run.history

    def _batch_rows(self, batch_size: int | None, rows: int) -> int:
        """Rows of a step, of as many as there are: those whose gradients accumulate count as one
        batch."""
        size = rows if batch_size is None else as_count("batch_size", batch_size)
        return min(size * self._stepper.rule.gradient_accumulation_steps, rows)

    def _begin(self, run: Run, callbacks: Sequence[Callback]) -> Run:
        """The run to make: `run`, or the one of the checkpoint, if that is as `run` is."""
        with_state = [callback for callback in callbacks if callback.state_dict()]
        if self._resumed is not None:
            resumed, states = self._resumed
            compare(resumed.settings, run.settings)
            compare(
                {"callbacks": [name for name, _ in states]},
                {"callbacks": [_name(callback) for callback in with_state]},
            )
            run = resumed
        self._run, self._with_state = run, with_state
        return run

    @contextlib.contextmanager
    def _watched(self, run: Run, callbacks: Sequence[Callback]) -> Iterator[None]:
        """A run under the eyes of callbacks: each that was told of the beginning is told of the
        end, also after an error."""
        self.interrupted = True
        begun: list[Callback] = []
        try:
            for callback in callbacks:
                run.stopped |= bool(callback.on_fit_begin(self))
                begun.append(callback)
            self._load_callbacks()
            yield
            self.interrupted = False
        finally:
            self._run, self._with_state = None, []
            with contextlib.ExitStack() as endings:  # each is called, even if another one fails
                for callback in reversed(begun):
                    endings.callback(callback.on_fit_end, self)

    def _load_callbacks(self) -> None:
        """Bring the callbacks to where they were when the checkpoint was written."""
        if self._resumed is not None:
            for callback, (_, state) in zip(self._with_state, self._resumed[1], strict=True):
                callback.load_state_dict(state)
            self._resumed = None

    def _refuse_lbfgs(self, what: str) -> None:
        if isinstance(self.optimizer, LBFGS):
            raise TypeError(
                f"LBFGS has no use for {what}: it works on whole runs; call fit, or take another "
                "optimizer"
            )


def _without_seed(network: Network) -> dict[str, Any]:
    return {key: value for key, value in network.architecture().items() if key != "seed"}


def _name(callback: Callback) -> str:
    return type(callback).__name__
