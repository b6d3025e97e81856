"""What both estimators share: parameters, the course of a fit, and the network behind them.

`coefs_` and `intercepts_` are lists of views into a `downslope.Network`.  They are what is pickled;
the network is made anew from them.  Arrays that a caller puts in their place are copied into the
network before it is used.
"""

from __future__ import annotations

import math
import warnings
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from numbers import Integral, Real
from time import perf_counter
from typing import Any, ClassVar

import joblib
import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import get_scorer, get_scorer_names
from sklearn.model_selection import train_test_split
from sklearn.utils import _safe_indexing, check_random_state
from sklearn.utils._param_validation import Interval, Options, StrOptions
from sklearn.utils.validation import _check_sample_weight, check_is_fitted

from downslope import _plan
from downslope._validate import as_number
from downslope.activations import ACTIVATIONS, Activation, as_activation
from downslope.callbacks import Callback, Checkpoint
from downslope.layers import Dense
from downslope.network import Network
from downslope.optimizers import SGD, Adam, Optimizer
from downslope.sklearn._data import Rows, as_dense, as_sliceable, dense_parts, validate_data
from downslope.sklearn._training import (
    Epochs,
    Objective,
    make_trainer,
    minimize_lbfgs,
    set_learning_rate,
    watched,
)
from downslope.training import Trainer

# scikit-learn's names of activations, where downslope has others.
# "exp" is of the last layer under the Poisson loss, which takes the logarithm of the rate.
_ACTIVATION_NAMES = {"logistic": "sigmoid", "exp": "identity"}
# The learning rate at which "adaptive" gives up, and what it is divided by before.
_SMALLEST_RATE, _RATE_DIVISOR = 1e-6, 5.0

# For warnings in a solver's method to name the caller's line: over _train, _fit and fit.
_TO_CALLER = 5

_NOT_FINITE = (
    "Solver produced non-finite parameter weights. The input data may contain large values and "
    "need to be preprocessed."
)


class BaseMLP(BaseEstimator, ABC):
    """Base of `MLPClassifier` and `MLPRegressor`."""

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "hidden_layer_sizes": ["array-like", Interval(Integral, 1, None, closed="left")],
        "activation": [
            StrOptions({*ACTIVATIONS, "logistic"} - {"sigmoid", "softmax", "log_softmax"}),
            Activation,
            list,
            tuple,
        ],
        "solver": [StrOptions({"lbfgs", "sgd", "adam"}), Optimizer],
        "alpha": [Interval(Real, 0, None, closed="left")],
        "batch_size": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
        "learning_rate": [StrOptions({"constant", "invscaling", "adaptive"})],
        "learning_rate_init": [Interval(Real, 0, None, closed="neither")],
        "power_t": [Interval(Real, 0, None, closed="left")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "shuffle": ["boolean"],
        "random_state": ["random_state"],
        "tol": [Interval(Real, 0, None, closed="left")],
        "verbose": ["verbose"],
        "warm_start": ["boolean"],
        "momentum": [Interval(Real, 0, 1, closed="both")],
        "nesterovs_momentum": ["boolean"],
        "early_stopping": ["boolean"],
        "validation_fraction": [Interval(Real, 0, 1, closed="left")],
        "beta_1": [Interval(Real, 0, 1, closed="left")],
        "beta_2": [Interval(Real, 0, 1, closed="left")],
        "epsilon": [Interval(Real, 0, None, closed="neither")],
        "n_iter_no_change": [
            Interval(Integral, 1, None, closed="left"),
            Options(Real, {np.inf}),
        ],
        "max_fun": [Interval(Integral, 1, None, closed="left")],
        "scoring": [StrOptions({"loss", *get_scorer_names()}), callable, None],
        "dropout": [Interval(Real, 0, 1, closed="left"), list, tuple],
        "input_dropout": [Interval(Real, 0, 1, closed="left")],
        "keep_optimizer": ["boolean"],
        "callbacks": ["array-like"],
        "n_jobs": [Integral, None],
    }

    coefs_: list[NDArray[Any]]
    intercepts_: list[NDArray[Any]]
    loss_curve_: list[float]
    best_loss_: Any  # a float, or None with early stopping
    validation_scores_: Any  # a list of float and a float, or None without early stopping
    best_validation_score_: Any
    validation_loss_curve_: Any  # a list of float, or None without a validation set
    n_outputs_: int
    _network: Network
    _trainer: Any  # the Trainer of the last stochastic fit, or None
    _best_parameters: NDArray[Any]

    # ---- What the two kinds differ in ----

    @abstractmethod
    def _validate_input(self, X: Any, y: Any, *, first: bool, incremental: bool) -> tuple[Any, Any]:
        """Checked X, and y as scores take it."""

    @abstractmethod
    def _encode(self, y: Any, dtype: np.dtype[Any]) -> NDArray[Any]:
        """Targets for the engine."""

    @abstractmethod
    def _objective(self) -> Objective:
        """What is minimised."""

    @abstractmethod
    def _choose_output(self) -> str:
        """The activation of the last layer, by scikit-learn's name."""

    @abstractmethod
    def _labels(self, outputs: NDArray[Any]) -> NDArray[Any]:
        """What `predict` gives for the network's outputs (rows, outputs)."""

    @abstractmethod
    def _score_outputs(self, y: Any, outputs: NDArray[Any], sample_weight: Any) -> float:
        """The score of the early stopping, from the network's outputs."""

    def _stratify(self, rows: Rows) -> NDArray[Any] | None:
        """Labels whose shares a split for validation keeps."""
        return None

    def _class_weighted(self, y: Any, sample_weight: Any, incremental: bool) -> Any:
        """Sample weights with the weights of the classes."""
        return sample_weight

    # ---- The network behind the attributes ----

    @property
    def network_(self) -> Network:
        """The `downslope.Network` whose parameters `coefs_` and `intercepts_` are views of."""
        check_is_fitted(self, "coefs_")
        if self._network_made_for != self._what_a_network_is_made_for(self.coefs_):
            self.__setstate__(self.__getstate__())
        network = self._network
        self._link(self.coefs_, [layer.weights for layer in network.layers])
        self._link(self.intercepts_, [layer.bias for layer in network.layers])
        return network

    @staticmethod
    def _link(given: list[NDArray[Any]], views: list[Any]) -> None:
        """Copy what is not a view of the network's into it, and put the view in its place."""
        for i, view in enumerate(views):
            if given[i] is not view:
                view[...] = given[i]
                given[i] = view

    def _what_a_network_is_made_for(self, coefs: Sequence[NDArray[Any]]) -> tuple[Any, ...]:
        shapes = [np.shape(coef) for coef in coefs]
        return (self.alpha, self.activation, self.dropout, self.input_dropout, shapes)

    def _make_network(self, coefs: Sequence[NDArray[Any]], *, noisy: bool = True) -> Network:
        """A network for weights of these shapes, itself still without weights."""
        self._network_made_for = self._what_a_network_is_made_for(coefs)
        hidden, output = len(coefs) - 1, _engine_activation(self.out_activation_)
        rates = self._dropout_rates(hidden) if noisy else [0.0] * hidden
        layers = [
            Dense(coef.shape[1], activation, weights="zeros", l2=self.alpha / 2, dropout=rate)
            for coef, activation, rate in zip(
                coefs, [*self._hidden_activations(hidden), output], [*rates, 0.0], strict=True
            )
        ]
        return Network(
            coefs[0].shape[0],
            layers,
            dtype=coefs[0].dtype,
            input_dropout=self.input_dropout if noisy else 0.0,
            seed=getattr(self, "_noise_seed", 0),
        )

    def _dropout_rates(self, hidden: int) -> list[float]:
        """The dropout of each hidden layer."""
        given = self.dropout
        if isinstance(given, Real):
            return [float(given)] * hidden
        if len(given) != hidden:
            raise ValueError(
                f"dropout must be a number, or a list with one for each of the {hidden} hidden "
                f"layers; got {len(given)}"
            )
        return [as_number("dropout", rate, at_least=0.0, below=1.0) for rate in given]

    def _hidden_activations(self, hidden: int) -> list[Activation]:
        """The activation of each hidden layer."""
        given = self.activation
        if isinstance(given, str | Activation):
            return [_engine_activation(given)] * hidden
        if len(given) != hidden:
            raise ValueError(
                "activation must be a name, or a list with one for each of the "
                f"{hidden} hidden layers; got {len(given)}"
            )
        return [_engine_activation(activation) for activation in given]

    def _hidden_sizes(self) -> list[int]:
        sizes = self.hidden_layer_sizes
        sizes = list(sizes) if hasattr(sizes, "__iter__") else [sizes]
        if np.any(np.array(sizes) <= 0):
            raise ValueError(f"hidden_layer_sizes must be > 0, got {sizes}.")
        return sizes

    def _threads(self) -> int | None:
        """Threads for the engine: its default for None, but one in a worker of joblib's."""
        if self.n_jobs is not None:
            return int(joblib.effective_n_jobs(self.n_jobs))
        backend, _ = joblib.parallel.get_active_backend()
        return 1 if backend.nesting_level else None

    def __getstate__(self) -> dict[str, Any]:
        state = dict(super().__getstate__())
        state.pop("_network", None)
        trainer = state.pop("_trainer", None)
        if trainer is not None:
            state["_optimizer_state"] = (
                trainer.optimizer,
                trainer.steps,
                trainer.learning_rate,
                np.array(trainer.state),
            )
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        state = dict(state)
        optimizer_state = state.pop("_optimizer_state", None)
        super().__setstate__(state)
        if not hasattr(self, "coefs_"):
            return
        self._network = self._make_network(self.coefs_)
        self._trainer = None
        if optimizer_state is not None:
            optimizer, steps, learning_rate, values = optimizer_state
            trainer = self._make_trainer(optimizer)
            if trainer.state.shape == values.shape:
                trainer._stepper.descent.steps = steps
                trainer._stepper.descent.learning_rate = learning_rate
                trainer.state[...] = values
                self._trainer = trainer

    # ---- The course of a fit ----

    def _fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any,
        validation: tuple[Any, Any, Any] | None = None,
        incremental: bool = False,
    ) -> Any:
        self._check_parameters(validation, incremental)
        first = not hasattr(self, "coefs_") or not (self.warm_start or incremental)
        rows = self._learn_data(X, y, sample_weight, first=first, incremental=incremental)
        self._prepare(rows, first=first)
        self._train(rows, X, validation, incremental)
        return self

    def _train(
        self,
        rows: Rows,
        X: Any,
        validation: tuple[Any, Any, Any] | None = None,
        incremental: bool = False,
    ) -> None:
        """Train on checked rows, which came from X."""
        if self.solver == "lbfgs":
            self._fit_lbfgs(rows)
        else:
            raw = None if self.scoring in (None, "loss") else X
            self._fit_stochastic(rows, raw, validation, incremental)

    def initialize(self, X: Any, y: Any) -> Any:
        """Draw the first weights for data like these, without training.

        ``fit`` with ``warm_start=True`` and ``partial_fit`` start from them.

        Parameters
        ----------
        X : array-like or sparse matrix (rows, inputs)
        y : array-like (rows,) or (rows, outputs)
            Every class must be among the labels.

        Returns
        -------
        self

        Raises
        ------
        TypeError, ValueError
            If a parameter, X or y is not as it should be.
        """
        self._check_parameters(None, False)
        self._prepare(self._learn_data(X, y, None, first=True, incremental=False), first=True)
        return self

    def _learn_data(
        self, X: Any, y: Any, sample_weight: Any, *, first: bool, incremental: bool
    ) -> Rows:
        """Checked rows; what the data say of inputs, outputs and classes goes into attributes."""
        X, y = self._validate_input(X, y, first=first, incremental=incremental)
        if sample_weight is not None:
            sample_weight = _check_sample_weight(sample_weight, X)
        weight = self._class_weighted(y, sample_weight, incremental)
        if weight is not None and not np.any(weight):
            raise ValueError("sample_weight must not be zero for all rows")
        return Rows(as_sliceable(X), self._encode(y, self._float_type(X)), y, weight)

    def _float_type(self, X: Any) -> np.dtype[Any]:
        """Of the network for these rows."""
        # L-BFGS needs float64: its line search compares losses that differ by little
        return np.dtype(np.float64) if self.solver == "lbfgs" else X.dtype

    def _prepare(self, rows: Rows, *, first: bool) -> None:
        """Weights to start from."""
        sizes = self._hidden_sizes()
        self._random_state = check_random_state(self.random_state)
        if first:
            self._initialize([rows.x.shape[1], *sizes, self.n_outputs_], self._float_type(rows.x))
            return
        if [layer.outputs for layer in self.network_.layers] != [*sizes, self.n_outputs_]:
            raise ValueError(
                f"the network has layers of {[c.shape[1] for c in self.coefs_]} units, and "
                f"hidden_layer_sizes={sizes} with {self.n_outputs_} outputs asks for others; "
                "fit with warm_start=False to begin anew"
            )

    def _check_parameters(self, validation: Any, incremental: bool) -> None:
        self._validate_params()
        hidden = len(self._hidden_sizes())
        self._hidden_activations(hidden)
        drops = any([*self._dropout_rates(hidden), self.input_dropout])
        if drops and self.solver == "lbfgs":
            raise ValueError(
                "solver='lbfgs' needs the same loss at each look: drop the dropout, or take "
                "another solver"
            )
        if len(self.callbacks) and self.solver == "lbfgs":
            raise ValueError(
                "solver='lbfgs' has no epochs to call callbacks after; drop them, or take another "
                "solver"
            )
        for callback in self.callbacks:
            if not isinstance(callback, Callback):
                raise TypeError(f"callbacks must be downslope.Callback objects; got {callback!r}")
            if isinstance(callback, Checkpoint):
                raise ValueError(
                    "an estimator's fit can not be resumed from a Checkpoint: drop it, and pickle "
                    "the estimator after each partial_fit"
                )
        if self.early_stopping and incremental:
            raise ValueError("partial_fit does not support early_stopping=True")
        if validation is None:
            return
        if self.solver == "lbfgs":
            raise ValueError(
                "solver='lbfgs' has no epochs to validate after; drop X_val or eval_set"
            )
        if self.validation_fraction != 0.1:
            raise ValueError(
                "validation_fraction and a validation set of your own contradict each other; "
                "give one of them"
            )

    def _initialize(self, widths: list[int], dtype: np.dtype[Any]) -> None:
        """Draw the first weights and biases, layer by layer, and forget what was learnt."""
        self.n_iter_ = 0
        self.t_ = 0
        self.n_layers_ = len(widths)
        self.out_activation_ = self._choose_output()
        activations = self._hidden_activations(len(widths) - 2)
        activations += activations[-1:] or self._hidden_activations(1)  # the last layer's too
        self.coefs_, self.intercepts_ = [], []
        for inputs, outputs, activation in zip(widths, widths[1:], activations, strict=False):
            factor = 2.0 if activation.name == "sigmoid" else 6.0
            bound = math.sqrt(factor / (inputs + outputs))
            coef = self._random_state.uniform(-bound, bound, (inputs, outputs))
            self.coefs_.append(coef.astype(dtype))
            self.intercepts_.append(self._random_state.uniform(-bound, bound, outputs))
        self._network = self._make_network(self.coefs_)
        self._trainer = None
        self._best_parameters = self.network_.parameters.copy()
        if self.solver == "lbfgs":
            return
        self.loss_curve_ = []
        self.validation_loss_curve_ = None
        self._no_improvement_count = 0
        self.best_loss_ = None if self.early_stopping else np.inf
        self.validation_scores_ = [] if self.early_stopping else None
        self.best_validation_score_ = -np.inf if self.early_stopping else None

    # ---- lbfgs ----

    def _fit_lbfgs(self, rows: Rows) -> None:
        result = minimize_lbfgs(
            self._make_trainer(SGD()),
            self._objective(),
            replace(rows, x=as_dense(rows.x).astype(self._network.dtype, copy=False)),
            max_iter=self.max_iter,
            max_fun=self.max_fun,
            tol=self.tol,
            report=self._print_iteration if self.verbose else lambda *_: None,
        )
        if not np.isfinite(result.fun):
            raise ValueError(_NOT_FINITE)
        self.n_iter_ = min(result.nit, self.max_iter)
        self.loss_ = result.fun
        if result.status != 0:
            warnings.warn(
                f"lbfgs failed to converge after {result.nit} iterations (status={result.status}): "
                f"{result.message}. Increase max_iter or max_fun, or scale the data.",
                ConvergenceWarning,
                stacklevel=_TO_CALLER,
            )

    # ---- sgd, adam, and downslope's optimisers ----

    def _make_optimizer(self) -> Optimizer:
        if isinstance(self.solver, Optimizer):
            return self.solver
        rate = float(self.learning_rate_init)
        if self.solver == "adam":
            return Adam(
                rate,
                beta_1=float(self.beta_1),
                beta_2=float(self.beta_2),
                epsilon=float(self.epsilon),
                epsilon_hat=True,
            )
        momentum = min(float(self.momentum), math.nextafter(1.0, 0.0))
        return SGD(rate, momentum=momentum, nesterov=self.nesterovs_momentum and momentum > 0)

    def _make_trainer(self, optimizer: Optimizer) -> Trainer:
        return make_trainer(self.network_, self._objective(), optimizer, self._threads())

    def _fit_stochastic(
        self, rows: Rows, raw: Any, validation: tuple[Any, Any, Any] | None, incremental: bool
    ) -> None:
        if self._trainer is None or not (incremental or self.keep_optimizer):
            if self.network_.is_noisy:  # else scikit-learn's draws would not be the same
                self._noise_seed = int(self._random_state.randint(1 << 31))
                self._network.seed = self._noise_seed
            self._trainer = self._make_trainer(self._make_optimizer())
        trainer, objective = self._trainer, self._objective()
        trainer.threads = self._threads()
        order, held_out, raw = self._split(rows, raw, validation)
        epochs = Epochs(trainer, objective, rows, self._batch_size(len(order)))
        positions = np.arange(len(order))
        trainer.validates = held_out is not None
        if trainer.validates and self.validation_loss_curve_ is None:
            self.validation_loss_curve_ = []
        trainer.rows, trainer.epochs = len(order), 1 if incremental else self.max_iter
        trainer.target_epoch = trainer.epoch + trainer.epochs
        self.n_iter_ = 0
        try:
            with watched(trainer, self.callbacks):
                stopping = False
                while not stopping and trainer.epoch < trainer.target_epoch:
                    for callback in self.callbacks:
                        callback.on_epoch_begin(trainer, trainer.epoch)
                    begin = perf_counter()
                    if self.shuffle:
                        positions = positions[self._random_state.permutation(len(positions))]
                    loss = epochs.run(order[positions])
                    logs = self._end_epoch(loss, len(order), objective, held_out, raw)
                    trainer.history.append(logs, perf_counter() - begin)
                    stopping = self._adjust(trainer)
                    trainer.epoch += 1
                    for callback in self.callbacks:
                        asked = callback.on_epoch_end(trainer, trainer.epoch - 1, logs)
                        paused = callback.on_pause(trainer)
                        stopping = bool(stopping or asked or paused)
        except KeyboardInterrupt:
            warnings.warn("Training interrupted by user.", stacklevel=_TO_CALLER)
            stopping = True
        except FloatingPointError as error:
            raise ValueError(_NOT_FINITE) from error
        if not stopping and not incremental:
            warnings.warn(
                f"Stochastic Optimizer: Maximum iterations ({self.max_iter}) reached and the "
                "optimization hasn't converged yet.",
                ConvergenceWarning,
                stacklevel=_TO_CALLER,
            )
        if self.early_stopping:
            self.network_.parameters = self._best_parameters
        elif trainer._stepper.descent.average is not None and not incremental:
            self.network_.parameters = trainer._stepper.descent.average

    def _batch_size(self, rows: int) -> int:
        """Rows of a step, with those whose gradients an optimiser of downslope's accumulates."""
        size = 200 if self.batch_size == "auto" else self.batch_size
        if size > rows and self.batch_size != "auto":
            warnings.warn(
                f"batch_size={size} is larger than the number of rows, {rows}; it is clipped",
                stacklevel=_TO_CALLER + 1,
            )
        return min(size * self._trainer.optimizer.gradient_accumulation_steps, rows)

    def _split(
        self, rows: Rows, raw: Any, validation: tuple[Any, Any, Any] | None
    ) -> tuple[NDArray[np.int64], Rows | None, Any]:
        """Which rows to train on, what to validate on, and that as a scorer takes it."""
        everything = np.arange(len(rows))
        if validation is not None:
            X, y, weight = validation
            return everything, self._held_out(X, y, weight), X
        if not self.early_stopping:
            return everything, None, None
        train, held_out = train_test_split(
            everything,
            random_state=self._random_state,
            test_size=self.validation_fraction,
            stratify=self._stratify(rows),
        )
        if len(held_out) < 2:
            raise ValueError(
                "The validation set is too small. Increase 'validation_fraction' or the size of "
                "your dataset."
            )
        validation_rows = rows.take(held_out)
        if validation_rows.total == 0:
            raise ValueError(
                "sample_weight is zero for all rows held out for validation, which then have no "
                "score: increase validation_fraction, or give X_val and y_val"
            )
        return train, validation_rows, None if raw is None else _safe_indexing(raw, held_out)

    def _held_out(self, X: Any, y: Any, weight: Any) -> Rows:
        """Checked rows that the network is used on and not trained with."""
        check_is_fitted(self, "coefs_")
        X, y = self._validate_input(X, y, first=False, incremental=True)
        if weight is not None:
            weight = _check_sample_weight(weight, X)
            if not np.any(weight):  # which older versions of scikit-learn let pass
                raise ValueError(
                    "the sample weights of a validation set, or for gradients, must not all be zero"
                )
        return Rows(as_sliceable(X), self._encode(y, self._network.dtype), y, weight)

    def _end_epoch(
        self, loss: float, rows: int, objective: Objective, held_out: Rows | None, raw: Any
    ) -> dict[str, float]:
        """Write down what an epoch gave, and count epochs without improvement."""
        self.n_iter_ += 1
        self.loss_ = loss
        self.t_ += rows
        self.loss_curve_.append(loss)
        logs = {"loss": loss}
        if self.verbose:
            self._print_iteration(self.n_iter_, loss)
        if held_out is not None:
            logs["val_loss"] = objective.mean_loss(self.network_, held_out, self._threads())
            self.validation_loss_curve_.append(logs["val_loss"])
        if self.early_stopping:
            self._note_score(self._score(held_out, raw, logs))
        else:
            self._no_improvement_count = (
                self._no_improvement_count + 1 if loss > self.best_loss_ - self.tol else 0
            )
            self.best_loss_ = min(loss, self.best_loss_)
        return logs

    def _note_score(self, score: float) -> None:
        self.validation_scores_.append(score)
        if self.verbose:
            print(f"Validation score: {score:f}")
        self._no_improvement_count = (
            self._no_improvement_count + 1 if score < self.best_validation_score_ + self.tol else 0
        )
        if score > self.best_validation_score_:
            self.best_validation_score_ = score
            self._best_parameters = self.network_.parameters.copy()

    def _score(self, held_out: Any, raw: Any, logs: dict[str, float]) -> float:
        """The validation score after an epoch, more being better."""
        if self.scoring == "loss":
            return -logs["val_loss"]
        if self.scoring is not None:
            return float(get_scorer(self.scoring)(self, raw, held_out.y))
        outputs = self._outputs(held_out.x)
        if not np.isfinite(outputs).all():
            return math.nan
        return self._score_outputs(held_out.y, outputs, held_out.weight)

    def _adjust(self, trainer: Trainer) -> bool:
        """Set the learning rate of the epoch to come; True if there is to be none."""
        if self.solver == "sgd" and self.learning_rate == "invscaling":
            rate = float(self.learning_rate_init) / (self.t_ + 1) ** self.power_t
            set_learning_rate(trainer, rate)
        if self._no_improvement_count <= self.n_iter_no_change:
            return False
        what = "Validation score" if self.early_stopping else "Training loss"
        message = (
            f"{what} did not improve more than tol={self.tol:f} for {self.n_iter_no_change} "
            "consecutive epochs."
        )
        adaptive = self.solver == "sgd" and self.learning_rate == "adaptive"
        if not adaptive or trainer.learning_rate <= _SMALLEST_RATE:
            self._print(message + (" Learning rate too small." if adaptive else "") + " Stopping.")
            return True
        set_learning_rate(trainer, trainer.learning_rate / _RATE_DIVISOR)
        self._print(f"{message} Setting learning rate to {trainer.learning_rate:f}")
        self._no_improvement_count = 0
        return False

    def _print(self, message: str) -> None:
        if self.verbose:
            print(message)

    def _print_iteration(self, iteration: int, loss: float) -> None:
        print(f"Iteration {iteration}, loss = {loss:.8f}")

    # ---- Using the network ----

    def _outputs(self, X: Any) -> NDArray[Any]:
        """The network's outputs (rows, outputs) for checked rows."""
        network, threads = self.network_, self._threads()
        out = np.empty((X.shape[0], network.outputs), network.dtype)
        for where, x in dense_parts(as_sliceable(X)):
            network.predict(x, out=out[where], threads=threads)
        return np.exp(out, out=out) if self.out_activation_ == "exp" else out

    def _checked(self, X: Any) -> Any:
        """Rows to predict for."""
        check_is_fitted(self, "coefs_")
        return validate_data(
            self, X, accept_sparse=["csr", "csc"], dtype=(np.float64, np.float32), reset=False
        )

    def predict(self, X: Any) -> NDArray[Any]:
        """Predict the targets of rows.

        Parameters
        ----------
        X : array-like or sparse matrix (rows, inputs)

        Returns
        -------
        array (rows,) or (rows, outputs)
            Class labels of a classifier, values of a regressor.
        """
        return self._labels(self._outputs(self._checked(X)))

    def layer_outputs(self, X: Any) -> list[NDArray[Any]]:
        """The outputs of every layer.

        Parameters
        ----------
        X : array-like or sparse matrix (rows, inputs)

        Returns
        -------
        list of array (rows, units)
            From the first hidden layer to the network's outputs.
        """
        values, outputs = as_dense(self._checked(X)), []
        for layer in self.network_.layers:
            bias = 0.0 if layer.bias is None else layer.bias
            dense = Dense(layer.outputs, layer.activation, weights=layer.weights, bias=bias)
            single = Network(layer.inputs, [dense], dtype=self.network_.dtype, seed=0)
            values = single.predict(values, threads=self._threads())
            outputs.append(values)
        if self.out_activation_ == "exp":
            outputs[-1] = np.exp(values)
        return outputs

    def gradients(
        self, X: Any, y: Any, sample_weight: Any = None
    ) -> tuple[float, list[NDArray[Any]], list[NDArray[Any]]]:
        """The loss of a batch with its penalty, and its gradients; without dropout.

        With squared error and several outputs scikit-learn descends along the sum over the outputs
        and reports their mean: ``loss`` is then that mean with the penalty, and the gradients are
        of the sum with the penalty.

        Parameters
        ----------
        X : array-like or sparse matrix (rows, inputs)
        y : array-like (rows,) or (rows, outputs)
        sample_weight : array-like (rows,), optional

        Returns
        -------
        loss : float
        coef_grads : list of array (inputs, outputs)
            By the weights of each layer.
        intercept_grads : list of array (outputs,)
            By the biases.
        """
        rows, objective = self._held_out(X, y, sample_weight), self._objective()
        network = self.network_
        if network.is_noisy:
            network = self._make_network(self.coefs_, noisy=False)
            network.parameters = self.network_.parameters
        loss = objective.gradients(make_trainer(network, objective, SGD(), self._threads()), rows)
        views = _plan.make_views(network.inputs, network._dense, network.gradients)
        return (
            loss,
            [view.weights.copy() for view in views],
            [np.array(view.bias) for view in views],
        )

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags

    def _has_epochs(self) -> bool:
        """For `available_if`: whether the solver is one that can go on for a single epoch."""
        if self.solver == "lbfgs":
            raise AttributeError(
                "partial_fit is only available for stochastic optimizers. lbfgs is not stochastic."
            )
        return True


def _engine_activation(activation: str | Activation) -> Activation:
    """downslope's activation for one of scikit-learn's names, or of its own."""
    if isinstance(activation, str):
        activation = _ACTIVATION_NAMES.get(activation, activation)
    return as_activation(activation)
