"""`MLPClassifier` and `MLPRegressor`: what scikit-learn's of these names do, and more."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse, special
from sklearn.base import ClassifierMixin, RegressorMixin
from sklearn.metrics import accuracy_score, r2_score
from sklearn.preprocessing import LabelBinarizer
from sklearn.utils import column_or_1d
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.class_weight import compute_class_weight, compute_sample_weight
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import (
    _check_partial_fit_first_call,
    type_of_target,
    unique_labels,
)

from downslope.activations import Activation
from downslope.callbacks import Callback
from downslope.losses import Loss
from downslope.optimizers import Optimizer
from downslope.sklearn._base import BaseMLP
from downslope.sklearn._data import Rows, validate_data
from downslope.sklearn._training import Objective

_PARAMETERS = """hidden_layer_sizes : int or sequence of int, default (100,)
        Units of each hidden layer.
    activation : str, Activation or list of these, default "relu"
        Of the hidden layers: ``identity``, ``logistic``, ``tanh``, ``relu``, or any other of
        `downslope.Activation`; a list has one for each layer.
    solver : {"lbfgs", "sgd", "adam"} or Optimizer, default "adam"
        L-BFGS of SciPy, gradient descent with momentum, or Adam; or one of downslope's optimisers
        with its own hyper-parameters, such as ``downslope.SGD(0.1)``.
    alpha : float, default 0.0001
        Strength of the L2 penalty, which is divided by the rows of a batch.
    batch_size : int or "auto", default "auto"
        Rows of a step; "auto" is ``min(200, rows)``.  lbfgs takes all rows at once.
    learning_rate : {"constant", "invscaling", "adaptive"}, default "constant"
        For sgd: "invscaling" is ``learning_rate_init / (t_ + 1)**power_t`` after each epoch;
        "adaptive" a fifth of what it was when `n_iter_no_change` epochs brought no improvement.
    learning_rate_init : float, default 0.001
        Rate of the first steps of sgd and adam.
    power_t : float, default 0.5
        Exponent of "invscaling".
    max_iter : int, default 200
        Epochs at most; iterations of lbfgs.
    shuffle : bool, default True
        A new order of the rows in each epoch.
    random_state : int, RandomState or None, default None
        Of the first weights, the split for validation and the order of the rows.
    tol : float, default 1e-4
        What counts as an improvement of the loss, or of the validation score.
    verbose : bool, default False
        Print the loss of each epoch.
    warm_start : bool, default False
        Go on from the weights of the last `fit`.
    momentum : float, default 0.9
        For sgd, from 0 to 1.
    nesterovs_momentum : bool, default True
        Whether it is Nesterov's.
    early_stopping : bool, default False
        Stop when the validation score no longer improves, and keep the best weights.
    validation_fraction : float, default 0.1
        What part of the rows is held out for it.
    beta_1, beta_2, epsilon : float, default 0.9, 0.999 and 1e-8
        For adam.
    n_iter_no_change : int, default 10
        Epochs without improvement before the end.
    max_fun : int, default 15000
        Evaluations of the loss by lbfgs at most.
    scoring : str, callable or None, default None
        The validation score: a scorer of scikit-learn, or "loss" for the validation loss; None is
        the accuracy of a classifier, the R2 of a regressor.
    dropout : float or list of float, default 0.0
        The share of a hidden layer's outputs that is set to zero in training, at least 0 and below
        1; a list has one for each layer.  See `downslope.Dense`.  Not with lbfgs.
    input_dropout : float, default 0.0
        The same of the inputs.
    keep_optimizer : bool, default False
        With `warm_start`, go on from the optimiser's state too (as `partial_fit` always does).
    callbacks : list of Callback, default ()
        Called around each epoch, for example ``[downslope.Progress()]`` for a progress bar.  Not
        with lbfgs.
    n_jobs : int or None, default None
        Threads: -1 for all CPUs; None for downslope's default (one in a worker of joblib).  Results
        do not depend on it."""

_ATTRIBUTES = """coefs_ : list of array (inputs, units)
        Weights of each layer; writable, or other arrays can be put in their place.
    intercepts_ : list of array (units,)
        Biases of each layer.
    loss_ : float
        The loss of the last epoch, penalty included.
    loss_curve_ : list of float
        That of each epoch.  Not with lbfgs.
    best_loss_ : float or None
        The least of them; None with `early_stopping`.  Not with lbfgs.
    validation_scores_ : list of float or None
        The score after each epoch, with `early_stopping`.  Not with lbfgs.
    best_validation_score_ : float or None
        The greatest of them.
    validation_loss_curve_ : list of float or None
        The loss on the validation set after each epoch, without the penalty; None without such a
        set.
    n_iter_, t_ : int
        Epochs of the last `fit` (iterations of lbfgs), and rows seen.
    n_layers_, n_outputs_ : int
        Layers, the inputs counted as one, and outputs.
    n_features_in_, feature_names_in_
        Number of inputs, and their names if they had any.
    out_activation_ : str
        Of the last layer.
    network_ : Network
        The `downslope.Network` that does the work."""

_FIT = """X : array-like or sparse matrix (rows, inputs)
            float32 and float64 are trained with as they are, all else as float64.
        y : array-like (rows,) or (rows, outputs)
        sample_weight : array-like (rows,), optional
            Not negative.
        X_val, y_val, sample_weight_val : optional
            A validation set of your own.  Its loss is in `validation_loss_curve_`; with
            `early_stopping` it takes the place of the rows held out.
        eval_set : (X_val, y_val) or [(X_val, y_val)], optional
            The same in one argument.

        Returns
        -------
        self

        Raises
        ------
        TypeError, ValueError
            If a parameter or an argument is not as it should be, or the descent diverges."""


# scikit-learn's names of losses for values, of this estimator or others, and downslope's.
_REGRESSION_LOSSES = {
    "squared_error": "half_squared_error",
    "poisson": "poisson",
    "absolute_error": "mae",
    "huber": "huber",
    "quantile": "quantile",
}


def _poisson_offset(targets: NDArray[Any]) -> NDArray[Any]:
    """What half the Poisson deviance of a row has beyond ``rate - y log(rate)``: (rows,)."""
    return (special.xlogy(targets, targets) - targets).sum(axis=1)


def _documented(cls: Any) -> Any:
    """Fill in what the docstrings of both estimators share."""
    for documented in (cls, cls.fit):
        documented.__doc__ = documented.__doc__.format(
            parameters=_PARAMETERS, attributes=_ATTRIBUTES, fit=_FIT
        )
    return cls


def _validation_set(X_val: Any, y_val: Any, weight: Any, eval_set: Any) -> tuple[Any, ...] | None:
    """The validation set as (X, y, weights), from the two ways to give it."""
    if eval_set is None:
        if (X_val is None) != (y_val is None):
            raise ValueError("X_val and y_val go together; give both or neither")
        if X_val is None and weight is not None:
            raise ValueError("sample_weight_val needs X_val and y_val")
        return None if X_val is None else (X_val, y_val, weight)
    if X_val is not None or y_val is not None or weight is not None:
        raise ValueError("eval_set and X_val, y_val contradict each other; give one of them")
    pairs = [eval_set] if isinstance(eval_set, tuple) else list(eval_set)
    if len(pairs) != 1 or len(pairs[0]) != 2:
        raise ValueError("eval_set must be one pair (X_val, y_val), or a list with one pair")
    return (*pairs[0], None)


@_documented
class MLPClassifier(ClassifierMixin, BaseMLP):
    """Multi-layer perceptron for classes: scikit-learn's `MLPClassifier` on downslope's engine.

    It descends along the log-loss of a softmax (several classes) or of a sigmoid for each output
    (two classes, or several labels at once).

    Parameters
    ----------
    {parameters}
    class_weight : dict, "balanced" or None, default None
        Weights of the classes, multiplied with the sample weights.

    Attributes
    ----------
    classes_ : array (classes,)
        The labels, in the order of the columns of `predict_proba`.
    {attributes}

    Notes
    -----
    The same `random_state` gives the same weights, splits and order of the rows as in scikit-learn,
    so that in float64 the results agree to rounding.

    Examples
    --------
    >>> from downslope.sklearn import MLPClassifier
    >>> from sklearn.datasets import load_iris
    >>> X, y = load_iris(return_X_y=True)
    >>> model = MLPClassifier((8,), solver="lbfgs", max_iter=1000, random_state=0).fit(X, y)
    >>> model.score(X, y) > 0.95
    True
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **BaseMLP._parameter_constraints,
        "class_weight": [StrOptions({"balanced"}), dict, None],
    }
    loss = "log_loss"  # as in scikit-learn an attribute, and no parameter

    def __init__(
        self,
        hidden_layer_sizes: int | Sequence[int] = (100,),
        activation: str | Activation | Sequence[str | Activation] = "relu",
        *,
        solver: str | Optimizer = "adam",
        alpha: float = 0.0001,
        batch_size: int | str = "auto",
        learning_rate: str = "constant",
        learning_rate_init: float = 0.001,
        power_t: float = 0.5,
        max_iter: int = 200,
        shuffle: bool = True,
        random_state: Any = None,
        tol: float = 1e-4,
        verbose: bool = False,
        warm_start: bool = False,
        momentum: float = 0.9,
        nesterovs_momentum: bool = True,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        n_iter_no_change: int = 10,
        max_fun: int = 15000,
        scoring: Any = None,
        dropout: float | Sequence[float] = 0.0,
        input_dropout: float = 0.0,
        keep_optimizer: bool = False,
        callbacks: Sequence[Callback] = (),
        n_jobs: int | None = None,
        class_weight: Any = None,
    ) -> None:
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.solver = solver
        self.alpha = alpha
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.learning_rate_init = learning_rate_init
        self.power_t = power_t
        self.max_iter = max_iter
        self.shuffle = shuffle
        self.random_state = random_state
        self.tol = tol
        self.verbose = verbose
        self.warm_start = warm_start
        self.momentum = momentum
        self.nesterovs_momentum = nesterovs_momentum
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon
        self.n_iter_no_change = n_iter_no_change
        self.max_fun = max_fun
        self.scoring = scoring
        self.dropout = dropout
        self.input_dropout = input_dropout
        self.keep_optimizer = keep_optimizer
        self.callbacks = callbacks
        self.n_jobs = n_jobs
        self.class_weight = class_weight

    def fit(
        self,
        X: Any,
        y: Any,
        sample_weight: ArrayLike | None = None,
        *,
        X_val: Any = None,
        y_val: Any = None,
        sample_weight_val: ArrayLike | None = None,
        eval_set: Any = None,
    ) -> Any:
        """Train on rows and their classes.

        Parameters
        ----------
        {fit}
        """
        validation = _validation_set(X_val, y_val, sample_weight_val, eval_set)
        return self._fit(X, y, sample_weight, validation)

    @available_if(lambda self: self._has_epochs())
    def partial_fit(
        self, X: Any, y: Any, sample_weight: ArrayLike | None = None, classes: Any = None
    ) -> Any:
        """Train for one more epoch, on these rows.

        Parameters
        ----------
        X : array-like or sparse matrix (rows, inputs)
        y : array-like (rows,) or (rows, labels)
        sample_weight : array-like (rows,), optional
        classes : array-like (classes,), optional
            All classes that there will be; needed in the first call.

        Returns
        -------
        self

        Raises
        ------
        TypeError, ValueError
            If a parameter or an argument is not as it should be, or the descent diverges.
        """
        if _check_partial_fit_first_call(self, classes):
            several = type_of_target(y).startswith("multilabel")
            self._label_binarizer = LabelBinarizer().fit(y if several else classes)
        return self._fit(X, y, sample_weight, incremental=True)

    def predict_proba(self, X: Any) -> NDArray[Any]:
        """Probabilities of the classes.

        Parameters
        ----------
        X : array-like or sparse matrix (rows, inputs)

        Returns
        -------
        array (rows, classes)
        """
        outputs = self._outputs(self._checked(X))
        return np.hstack([1 - outputs, outputs]) if self.n_outputs_ == 1 else outputs

    def predict_log_proba(self, X: Any) -> NDArray[Any]:
        """Logarithms of the probabilities of the classes.

        Parameters
        ----------
        X : array-like or sparse matrix (rows, inputs)

        Returns
        -------
        array (rows, classes)
        """
        return np.log(self.predict_proba(X))

    def _validate_input(self, X: Any, y: Any, *, first: bool, incremental: bool) -> tuple[Any, Any]:
        X, y = validate_data(
            self,
            X,
            y,
            accept_sparse=["csr", "csc"],
            multi_output=True,
            dtype=(np.float64, np.float32),
            reset=first,
        )
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        if not hasattr(self, "classes_") or (first and not incremental):
            self._label_binarizer = LabelBinarizer().fit(y)
            self.classes_ = self._label_binarizer.classes_
            return X, y
        classes = unique_labels(y)
        if not incremental and set(classes) != set(self.classes_):
            raise ValueError(
                "warm_start can only be used where `y` has the same classes as in the previous "
                f"call to fit. Previously got {self.classes_}, `y` has {classes}"
            )
        if len(np.setdiff1d(classes, self.classes_, assume_unique=True)):
            raise ValueError(
                "`y` has classes not in `self.classes_`. "
                f"`self.classes_` has {self.classes_}. 'y' has {classes}."
            )
        return X, y

    def _encode(self, y: Any, dtype: np.dtype[Any]) -> NDArray[Any]:
        if self._label_binarizer.y_type_ == "multiclass":
            self.n_outputs_ = len(self.classes_)
            return np.searchsorted(self.classes_, y)
        targets = self._label_binarizer.transform(y).astype(dtype)
        self.n_outputs_ = targets.shape[1]
        return targets

    def _choose_output(self) -> str:
        return "softmax" if self._label_binarizer.y_type_ == "multiclass" else "logistic"

    def _objective(self) -> Objective:
        if self.out_activation_ == "softmax":
            return Objective("cross_entropy", self.alpha)
        return Objective("binary_cross_entropy", self.alpha, row_factor=float(self.n_outputs_))

    def _labels(self, outputs: NDArray[Any]) -> NDArray[Any]:
        return self._label_binarizer.inverse_transform(
            outputs.ravel() if self.n_outputs_ == 1 else outputs
        )

    def _score_outputs(self, y: Any, outputs: NDArray[Any], sample_weight: Any) -> float:
        return float(accuracy_score(y, self._labels(outputs), sample_weight=sample_weight))

    def _stratify(self, rows: Rows) -> NDArray[Any] | None:
        return rows.targets.ravel() if self.n_outputs_ == 1 else None

    def _class_weighted(self, y: Any, sample_weight: Any, incremental: bool) -> Any:
        if self.class_weight is None:
            return sample_weight
        if self.class_weight == "balanced" and incremental:
            raise ValueError(
                "class_weight='balanced' needs all rows at once, which partial_fit does not have; "
                "give the weights as a dict"
            )
        weight = self._weights_of_classes(y)
        return weight if sample_weight is None else weight * sample_weight

    def _weights_of_classes(self, y: Any) -> NDArray[Any]:
        """The weight of each row's class, or labels."""
        if self._label_binarizer.y_type_.startswith("multilabel"):
            dense = y.toarray() if sparse.issparse(y) else y
            return compute_sample_weight(self.class_weight, dense)
        # of all classes: a batch of partial_fit may lack some of them
        weights = compute_class_weight(self.class_weight, classes=self.classes_, y=y)
        return weights[np.searchsorted(self.classes_, y)]

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags


@_documented
class MLPRegressor(RegressorMixin, BaseMLP):
    """Multi-layer perceptron for numbers: scikit-learn's `MLPRegressor` on downslope's engine.

    Parameters
    ----------
    loss : {{"squared_error", "poisson", "absolute_error", "huber", "quantile"}} or Loss
        Default "squared_error", which is half the squared error.  "poisson" is half the deviance,
        and the network gives the logarithm of what `predict` gives.  "huber" and "quantile" with
        other parameters than the defaults: ``downslope.Loss("quantile", levels=0.9)``.
    {parameters}

    Attributes
    ----------
    {attributes}

    Notes
    -----
    The same `random_state` gives the same weights, splits and order of the rows as in scikit-learn,
    so that in float64 the results agree to rounding.

    Examples
    --------
    >>> from downslope.sklearn import MLPRegressor
    >>> from sklearn.datasets import make_regression
    >>> X, y = make_regression(100, 4, random_state=0)
    >>> model = MLPRegressor(solver="lbfgs", max_iter=1000, random_state=0).fit(X, y)
    >>> model.score(X, y) > 0.99
    True
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **BaseMLP._parameter_constraints,
        "loss": [StrOptions(set(_REGRESSION_LOSSES)), Loss],
    }

    def __init__(
        self,
        loss: str | Loss = "squared_error",
        hidden_layer_sizes: int | Sequence[int] = (100,),
        activation: str | Activation | Sequence[str | Activation] = "relu",
        *,
        solver: str | Optimizer = "adam",
        alpha: float = 0.0001,
        batch_size: int | str = "auto",
        learning_rate: str = "constant",
        learning_rate_init: float = 0.001,
        power_t: float = 0.5,
        max_iter: int = 200,
        shuffle: bool = True,
        random_state: Any = None,
        tol: float = 1e-4,
        verbose: bool = False,
        warm_start: bool = False,
        momentum: float = 0.9,
        nesterovs_momentum: bool = True,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        n_iter_no_change: int = 10,
        max_fun: int = 15000,
        scoring: Any = None,
        dropout: float | Sequence[float] = 0.0,
        input_dropout: float = 0.0,
        keep_optimizer: bool = False,
        callbacks: Sequence[Callback] = (),
        n_jobs: int | None = None,
    ) -> None:
        self.loss = loss
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.solver = solver
        self.alpha = alpha
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.learning_rate_init = learning_rate_init
        self.power_t = power_t
        self.max_iter = max_iter
        self.shuffle = shuffle
        self.random_state = random_state
        self.tol = tol
        self.verbose = verbose
        self.warm_start = warm_start
        self.momentum = momentum
        self.nesterovs_momentum = nesterovs_momentum
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon
        self.n_iter_no_change = n_iter_no_change
        self.max_fun = max_fun
        self.scoring = scoring
        self.dropout = dropout
        self.input_dropout = input_dropout
        self.keep_optimizer = keep_optimizer
        self.callbacks = callbacks
        self.n_jobs = n_jobs

    def fit(
        self,
        X: Any,
        y: Any,
        sample_weight: ArrayLike | None = None,
        *,
        X_val: Any = None,
        y_val: Any = None,
        sample_weight_val: ArrayLike | None = None,
        eval_set: Any = None,
    ) -> Any:
        """Train on rows and their targets.

        Parameters
        ----------
        {fit}
        """
        validation = _validation_set(X_val, y_val, sample_weight_val, eval_set)
        return self._fit(X, y, sample_weight, validation)

    @available_if(lambda self: self._has_epochs())
    def partial_fit(self, X: Any, y: Any, sample_weight: ArrayLike | None = None) -> Any:
        """Train for one more epoch, on these rows.

        Parameters
        ----------
        X : array-like or sparse matrix (rows, inputs)
        y : array-like (rows,) or (rows, outputs)
        sample_weight : array-like (rows,), optional

        Returns
        -------
        self

        Raises
        ------
        TypeError, ValueError
            If a parameter or an argument is not as it should be, or the descent diverges.
        """
        return self._fit(X, y, sample_weight, incremental=True)

    def _validate_input(self, X: Any, y: Any, *, first: bool, incremental: bool) -> tuple[Any, Any]:
        X, y = validate_data(
            self,
            X,
            y,
            accept_sparse=["csr", "csc"],
            multi_output=True,
            y_numeric=True,
            dtype=(np.float64, np.float32),
            reset=first,
        )
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        return X, y

    def _encode(self, y: Any, dtype: np.dtype[Any]) -> NDArray[Any]:
        targets = y.reshape(len(y), -1).astype(dtype, copy=False)
        self.n_outputs_ = targets.shape[1]
        return targets

    def _engine_loss(self) -> Loss:
        """downslope's loss, if it is one for values."""
        given = self.loss
        loss = given if isinstance(given, Loss) else Loss(_REGRESSION_LOSSES[given])
        levels = loss.parameters.get("levels", 0.5)
        if loss.name not in {"mse", "log_cosh", *_REGRESSION_LOSSES.values()}:
            raise ValueError(f"loss {loss.name!r} is not one for values, as MLPRegressor has them")
        if not isinstance(levels, float):
            raise ValueError(f"MLPRegressor predicts one quantile; got levels={levels}")
        return loss

    def _choose_output(self) -> str:
        return "exp" if self._engine_loss().name == "poisson" else "identity"

    def _objective(self) -> Objective:
        loss, outputs = self._engine_loss(), self.n_outputs_
        if loss.name == "half_squared_error":
            return Objective(loss, self.alpha, reported=1 / outputs)
        if loss.name == "poisson":
            return Objective(loss, self.alpha, row_factor=float(outputs), offset=_poisson_offset)
        return Objective(loss, self.alpha)

    def _labels(self, outputs: NDArray[Any]) -> NDArray[Any]:
        return outputs.ravel() if outputs.shape[1] == 1 else outputs

    def _score_outputs(self, y: Any, outputs: NDArray[Any], sample_weight: Any) -> float:
        return float(r2_score(y, outputs, sample_weight=sample_weight))
