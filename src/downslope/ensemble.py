"""Many networks of one shape, trained in one call."""

from __future__ import annotations

import copy
import threading
import time
import warnings
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from downslope import _engine, _plan, _threads
from downslope._memory import aligned_zeros
from downslope._own_loss import Data, LossFunction, Rows
from downslope._scale import warn_if_unscaled
from downslope._source import validation_set
from downslope._stepper import Stepper
from downslope._tasks import results_of
from downslope._validate import as_count, as_rows, as_weights, choose
from downslope.callbacks import EarlyStopping
from downslope.history import History
from downslope.losses import Loss
from downslope.network import Network
from downslope.optimizers import LBFGS, Optimizer, as_optimizer
from downslope.training import DIVERGENCES, Trainer

# Bytes of a cache line: members that are trained by different threads share none.
_LINE = 64


class Ensemble:
    """Networks of one shape, each with its own seed, trained side by side.

    A member is trained by one thread from its first step to its last, so that its parameters stay
    in that thread's cache, and the threads never wait for each other or for Python.  What comes out
    is, to the bit, what ``Network(..., seed=seed).fit(...)`` gives for each member alone.

    Parameters
    ----------
    n : int
        Number of members.
    widths, layers
        As for `Network`.
    seed : int or list of int, optional
        Of each member; one number stands for seed, seed + 1, ...; drawn at random if not given.
    **arguments
        The other arguments of `Network`, the same for all members.

    Attributes
    ----------
    networks : list of Network
        The members.
    parameters : array (n, parameters)
        Those of all members, writable; each member's own are a row of it.

    Raises
    ------
    TypeError, ValueError
        As for `Network`.

    Examples
    --------
    >>> import downslope as ds, numpy as np
    >>> x = np.linspace(-1, 1, 64).reshape(-1, 1)
    >>> ensemble = ds.Ensemble(5, [1, 16, 1], activation="tanh", seed=0)
    >>> histories = ensemble.fit(x, x**2, optimizer=ds.Adam(0.01), epochs=100)
    >>> mean, spread = ensemble.mean_and_spread([[0.5], [3.0]])
    >>> bool(spread[0, 0] < spread[1, 0])  # they differ where there was no data
    True
    """

    def __init__(
        self,
        n: int,
        widths: Sequence[int] | int,
        layers: Sequence[Any] | None = None,
        *,
        seed: int | Sequence[int] | None = None,
        **arguments: Any,
    ) -> None:
        n = as_count("n", n)
        widths, layers, seed = _read(widths), _read(layers), _read(seed)
        for name in ("parameters", "gradients"):
            if name in arguments:
                raise TypeError(
                    f"an Ensemble has memory of its own and takes no {name}; write into "
                    "ensemble.parameters instead"
                )
        first = Network(widths, layers, seed=_first_seed(seed, n), **arguments)
        seeds = (
            seed
            if isinstance(seed, list)
            else [(first.seed + member) % (1 << 64) for member in range(n)]
        )
        self._gather([Network(widths, layers, seed=own, **arguments) for own in seeds])

    def _gather(self, networks: list[Network]) -> None:
        """Have these members, with their parameters in one array."""
        size, dtype = networks[0].parameters.size, networks[0].dtype
        padded = -(-size // _LINE) * _LINE
        self.networks = networks
        self.parameters: NDArray[Any] = aligned_zeros((len(networks), padded), dtype)[:, :size]
        for network, row in zip(networks, self.parameters, strict=True):
            network._move_to(row)

    def __len__(self) -> int:
        return len(self.networks)

    def __copy__(self) -> Ensemble:
        return copy.deepcopy(self)  # one array can not be that of two

    def __getstate__(self) -> dict[str, Any]:
        return {"networks": self.networks}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._gather(state["networks"])

    def fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        *,
        loss: str | Loss = "mse",
        optimizer: str | Optimizer | Sequence[str | Optimizer] = "sgd",
        epochs: int = 1,
        batch_size: int | None = 32,
        shuffle: bool = True,
        sample_weight: ArrayLike | None = None,
        validation_data: tuple[Any, ...] | None = None,
        early_stopping: EarlyStopping | None = None,
        on_divergence: str = "raise",
        threads: int | None = None,
    ) -> list[History]:
        """Train all members.

        Parameters
        ----------
        X : array (rows, inputs)
        y : array (rows, outputs), or (rows,) for one output or for class labels
        loss : str or Loss, default "mse"
            By its name, see `Network.fit`.
        optimizer : str or Optimizer, or a list with one for each member, default "sgd"
        epochs, batch_size, shuffle
            See `Trainer.fit`.
        sample_weight : array (rows,) or (n, rows), optional
            For all members, or for each its own: counts of a bootstrap sample, zeros for the fold
            that is held out.
        validation_data : (X, y) or (X, y, sample_weight), optional
            Evaluated by each member after each of its epochs.
        early_stopping : EarlyStopping, optional
            Its settings, for each member by itself.
        on_divergence : {"raise", "warn"}, default "raise"
            What to do, after all members have ended, if some met numbers that are not finite.
            These have their last finite parameters.
        threads : int, optional
            At most so many, for this call; each trains other members.

        Returns
        -------
        list of History
            One for each member.

        Raises
        ------
        TypeError, ValueError
            If an argument is not as it should be; nothing has changed then.
        RuntimeError
            If another thread is training a member.
        FloatingPointError
            If members diverge, unless `on_divergence` is "warn".
        KeyboardInterrupt
            On Ctrl-C.

        Warns
        -----
        UnscaledInputsWarning
            See `Trainer.fit`.
        """
        epochs, n = as_count("epochs", epochs), len(self)
        choose("on_divergence", on_divergence, DIVERGENCES)
        first = self.networks[0]
        checked_loss, rules = first.checked_loss(loss), _rules(optimizer, n)
        data = self._data(checked_loss, X, y, sample_weight)
        validation = None
        if validation_data is not None:
            validation = _by_name(validation_set(first, checked_loss, validation_data))
        if early_stopping is not None:
            _check_stopping(early_stopping, Trainer(first, loss), validation is not None)
        warn_if_unscaled(data[0].arrays[0])
        rows = data[0].rows
        batch = rows if batch_size is None else min(as_count("batch_size", batch_size), rows)
        members = [
            _Member(
                Stepper(network, checked_loss, rule, None),
                own,
                validation,
                batch,
                epochs,
                shuffle,
                early_stopping,
                on_divergence,
            )
            for network, rule, own in zip(self.networks, rules, data, strict=True)
        ]
        _train(members, _threads.resolve(threads))

        diverged = [index for index, member in enumerate(members) if member.status]
        if diverged:
            message = (
                f"the descent of members {diverged} diverges; their parameters are the last finite "
                "ones. Lower their learning rates, or scale the inputs and targets"
            )
            if on_divergence == "raise":
                raise FloatingPointError(message)
            warnings.warn(message, RuntimeWarning, stacklevel=2)
        return [member.history for member in members]

    def predict(self, X: ArrayLike, *, threads: int | None = None) -> NDArray[Any]:
        """The outputs of each member.

        Parameters
        ----------
        X : array (rows, inputs)
        threads : int, optional

        Returns
        -------
        array (n, rows, outputs)

        Raises
        ------
        TypeError, ValueError
            If X is not as it should be.
        """
        first = self.networks[0]
        x = as_rows("X", X, first.inputs, first.dtype)
        result = np.empty((len(self), len(x), first.outputs), first.dtype)
        for network, out in zip(self.networks, result, strict=True):
            network.predict(x, out=out, threads=threads)
        return result

    def mean_and_spread(
        self, X: ArrayLike, *, threads: int | None = None
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Mean and standard deviation of the members' outputs.

        Parameters
        ----------
        X : array (rows, inputs)
        threads : int, optional

        Returns
        -------
        mean, spread : array (rows, outputs)
            The standard deviation is that of the members themselves (divided by n).

        Raises
        ------
        TypeError, ValueError
            If X is not as it should be.
        """
        outputs = self.predict(X, threads=threads)
        return outputs.mean(axis=0, dtype=np.float64), outputs.std(axis=0, dtype=np.float64)

    def _data(
        self,
        loss: Loss | LossFunction,
        X: ArrayLike,
        y: ArrayLike,
        sample_weight: ArrayLike | None,
    ) -> list[_engine.Dataset]:
        """The same rows for each member, with its own weights."""
        first = self.networks[0]
        shared = None if sample_weight is None or np.ndim(sample_weight) == 2 else sample_weight
        data = _by_name(first.dataset(X, y, loss, shared))
        x, targets, weight = data.arrays
        weights = [weight] * len(self)
        if sample_weight is not None and shared is None:
            given = np.asarray(sample_weight)
            if given.shape != (len(self), data.rows):
                raise ValueError(
                    f"sample_weight must have shape ({data.rows},) or ({len(self)}, {data.rows}), "
                    f"a row for each member; got {given.shape}"
                )
            weights = [as_weights(row, data.rows, first.dtype) for row in given]
        return [
            _engine.Dataset(network._engine_plan, x, targets, own)
            for network, own in zip(self.networks, weights, strict=True)
        ]


class _Member:
    """The training of one member."""

    def __init__(
        self,
        stepper: Stepper,
        data: _engine.Dataset,
        validation: _engine.Dataset | None,
        batch_rows: int,
        epochs: int,
        shuffle: bool,
        stopping: EarlyStopping | None,
        on_divergence: str,
    ) -> None:
        self.stepper, self.data, self.validation = stepper, data, validation
        self.batch_rows, self.epochs, self.shuffle = batch_rows, epochs, shuffle
        self.stopping = stopping
        self.restores = stopping is not None and stopping.restore_best_weights
        self.keeps_last = on_divergence == "raise"
        self.history = History()
        self.status = _engine.STATUS_OK
        self.order: NDArray[np.int64] | None = None

    def train(self, cancelled: NDArray[np.int8], before: _Member | None) -> None:
        """All epochs, on the calling thread, in the memory of the member that it trained before."""
        network, descent = self.stepper.network, self.stepper.descent
        if before is not None:
            descent.work_in(before.stepper.descent)
            self.order = before.order
        elif self.shuffle:
            self.order = np.empty(self.data.rows, np.int64)
        run = _engine.Run(self.order, cancelled, network.seed, _plan.STREAM_ORDER, self.batch_rows)
        if self.stopping is not None:
            run.stop_early(
                self.stopping.monitor == "val_loss",
                self.stopping._more_is_better,
                self.stopping.patience,
                self.stopping.min_delta,
                self.stopping.warm_up,
            )
        losses = np.empty((2, self.epochs))
        by_targets, validation = self.stepper.losses, self.validation
        best = np.empty_like(network.parameters) if self.restores else None
        with network.exclusive:
            if descent.needs_gradients(self.batch_rows):
                descent.keep_gradients(network.gradients)
            begin = time.perf_counter()
            self.status, epochs, has_best = descent.run(
                run,
                self.data,
                by_targets[self.data.has_labels],
                validation,
                None if validation is None else by_targets[validation.has_labels],
                None if validation is None else network._inference.take(),
                losses,
                best,
            )
            self.history.seconds = time.perf_counter() - begin
            if best is not None and has_best and not (self.status and self.keeps_last):
                network.parameters[:] = best
        self.history.loss = losses[0, :epochs].tolist()
        if validation is not None:
            self.history.val_loss = losses[1, :epochs].tolist()


def _train(members: Sequence[_Member], threads: int) -> None:
    """Train all members, on the calling thread and so many less one; the first error ends it."""
    cancelled = np.zeros(1, np.int8)  # not zero from when a run should end
    remaining, lock = iter(members), threading.Lock()
    errors: list[BaseException] = []

    def work() -> None:
        before = None
        try:
            for member in _taken(remaining, lock):
                member.train(cancelled, before)
                before = member
        except BaseException as error:
            cancelled[0] = 1
            errors.append(error)

    count = min(threads, len(members))
    with ThreadPoolExecutor(count) as pool:
        helping = [pool.submit(work) for _ in range(count - 1)]
        try:
            work()
            results_of(helping)
        except BaseException:  # Ctrl-C, while this thread had no member to train
            cancelled[0] = 1
            results_of(helping)
            raise
    if errors:
        raise errors[0]


def _taken(members: Iterator[_Member], lock: threading.Lock) -> Iterator[_Member]:
    """Members from an iterator that several threads take from."""
    while True:
        with lock:
            member = next(members, None)
        if member is None:
            return
        yield member


def _by_name(data: Data) -> _engine.Dataset:
    """Data for a loss by its name."""
    if isinstance(data, Rows):
        raise TypeError("an Ensemble is trained without Python in between: give a loss by name")
    return data


def _read(given: Any) -> Any:
    """A list of what is in an iterable, which may be one that is read but once."""
    return list(given) if isinstance(given, Iterable) else given


def _first_seed(seed: Any, n: int) -> Any:
    if not isinstance(seed, list):
        return seed
    if len(seed) != n:
        raise ValueError(f"seed must be a number or have one for each of {n} members; got {seed}")
    return seed[0]


def _rules(optimizer: Any, n: int) -> list[Optimizer]:
    """The optimiser of each member."""
    if isinstance(optimizer, str | Optimizer) or not isinstance(optimizer, Iterable):
        return [_stepwise(as_optimizer(optimizer))] * n
    optimizers = list(optimizer)
    if len(optimizers) != n:
        raise ValueError(
            f"optimizer must be one for all or a list of one for each of {n} members; "
            f"got {len(optimizers)}"
        )
    return [_stepwise(as_optimizer(given)) for given in optimizers]


def _stepwise(optimizer: Optimizer | LBFGS) -> Optimizer:
    """The optimiser, unless the loop in the engine does not do what it asks for."""
    if isinstance(optimizer, LBFGS) or optimizer.schedule is not None:
        raise ValueError(
            "an Ensemble takes step-wise optimisers with a constant learning rate; "
            f"got {optimizer!r}"
        )
    if optimizer.ema_momentum is not None or optimizer.gradient_accumulation_steps > 1:
        raise ValueError(
            "an Ensemble does not average parameters or accumulate gradients over steps; "
            f"got {optimizer!r}"
        )
    return optimizer


def _check_stopping(stopping: Any, trainer: Trainer, validates: bool) -> None:
    if not isinstance(stopping, EarlyStopping):
        raise TypeError(f"early_stopping must be a downslope.EarlyStopping; got {stopping!r}")
    trainer.validates = validates
    stopping.on_fit_begin(trainer)
