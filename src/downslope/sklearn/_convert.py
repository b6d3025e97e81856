"""Fitted estimators to and from scikit-learn's own."""

from __future__ import annotations

import copy
from typing import Any

from sklearn import neural_network

from downslope.sklearn._estimators import MLPClassifier, MLPRegressor

# What an estimator has learnt, beside the attributes that end in an underscore.
_LEARNT = ("_label_binarizer", "_no_improvement_count")


def from_sklearn(estimator: Any) -> MLPClassifier | MLPRegressor:
    """downslope's estimator for one of scikit-learn's, with equal predictions.

    Parameters
    ----------
    estimator : sklearn.neural_network.MLPClassifier or MLPRegressor
        Fitted or not.  The state of its optimiser is not taken over.

    Returns
    -------
    MLPClassifier or MLPRegressor

    Raises
    ------
    TypeError
        If it is neither of them.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.neural_network import MLPClassifier
    >>> from downslope.sklearn import from_sklearn
    >>> X, y = load_iris(return_X_y=True)
    >>> theirs = MLPClassifier(solver="lbfgs", max_iter=1000, random_state=0).fit(X, y)
    >>> bool((from_sklearn(theirs).predict(X) == theirs.predict(X)).all())
    True
    """
    converted: MLPClassifier | MLPRegressor
    if isinstance(estimator, neural_network.MLPClassifier):
        converted = _converted(estimator, MLPClassifier)
    elif isinstance(estimator, neural_network.MLPRegressor):
        converted = _converted(estimator, MLPRegressor)
    else:
        raise TypeError(
            "from_sklearn takes an MLPClassifier or MLPRegressor of sklearn.neural_network; "
            f"got {type(estimator).__name__}"
        )
    if hasattr(converted, "coefs_"):  # what a warm start goes on from
        converted._best_parameters = converted.network_.parameters.copy()
        converted.validation_loss_curve_ = None
    return converted


def to_sklearn(estimator: MLPClassifier | MLPRegressor) -> Any:
    """scikit-learn's estimator for one of downslope's, with equal predictions.

    Parameters
    ----------
    estimator : MLPClassifier or MLPRegressor
        Fitted or not.  What scikit-learn has no parameter for is left out if it matters in training
        alone; the state of the optimiser is not taken over.

    Returns
    -------
    sklearn.neural_network.MLPClassifier or MLPRegressor

    Raises
    ------
    TypeError
        If it is neither of them.
    ValueError
        If scikit-learn does not have its activation, solver or loss.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from downslope.sklearn import MLPClassifier, to_sklearn
    >>> X, y = load_iris(return_X_y=True)
    >>> ours = MLPClassifier(solver="lbfgs", max_iter=1000, random_state=0).fit(X, y)
    >>> bool((to_sklearn(ours).predict(X) == ours.predict(X)).all())
    True
    """
    if isinstance(estimator, MLPClassifier):
        converted = _converted(estimator, neural_network.MLPClassifier)
    elif isinstance(estimator, MLPRegressor):
        converted = _converted(estimator, neural_network.MLPRegressor)
    else:
        raise TypeError(
            "to_sklearn takes an MLPClassifier or MLPRegressor of downslope.sklearn; "
            f"got {type(estimator).__name__}"
        )
    try:
        converted._validate_params()
    except ValueError as error:
        raise ValueError(f"scikit-learn's estimator can not be like this one: {error}") from error
    if hasattr(converted, "coefs_"):  # what a warm start goes on from
        converted._best_coefs = [coef.copy() for coef in converted.coefs_]
        converted._best_intercepts = [intercept.copy() for intercept in converted.intercepts_]
    return converted


def _converted(estimator: Any, kind: Any) -> Any:
    """An estimator of another kind with the same parameters, as far as it has them, and the same
    fitted attributes, copied."""
    known = kind().get_params()
    converted = kind(**{k: v for k, v in estimator.get_params().items() if k in known})
    state = {
        name: copy.deepcopy(value)
        for name, value in vars(estimator).items()
        if name in _LEARNT or (name.endswith("_") and not name.startswith("_"))
    }
    converted.__setstate__({**converted.__getstate__(), **state})
    return converted
