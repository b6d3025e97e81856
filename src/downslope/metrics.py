"""Metrics: how good the outputs are, in numbers for people.  Plain NumPy, after an epoch.

Every metric takes the targets as the loss has them, labels (rows,) or targets (rows, targets), and
the network's outputs (rows, outputs).  Sample weights do not count.

Targets are classes that exclude each other if they are labels, or rows of several numbers that are
not negative, with sum 1: the class of a row is then the greatest.  Otherwise each column is a class
of its own, yes or no.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from downslope._own_loss import Data, LossFunction
from downslope._validate import as_count, choose
from downslope.losses import Loss

_Array = NDArray[Any]


@dataclass(frozen=True)
class Metric:
    """A number to follow in training.

    Attributes
    ----------
    name : str
        Its key in ``history.metrics``, there also with ``"val_"`` before it.
    function : callable
        ``function(targets, outputs) -> float``: labels (rows,) or targets (rows, targets), and
        outputs (rows, outputs).
    greater_is_better : bool
        For `EarlyStopping` and `ReduceLROnPlateau`.

    Raises
    ------
    TypeError
        If the name is no text, the function can not be called, or what it returns is no number.

    Examples
    --------
    >>> import downslope as ds, numpy as np
    >>> worst = ds.Metric("worst", lambda t, y: abs(t - y).max(), greater_is_better=False)
    >>> x = np.linspace(-1, 1, 64).reshape(-1, 1)
    >>> history = ds.Network([1, 1], seed=0).fit(x, x, epochs=3, metrics=["r2", worst])
    >>> sorted(history.metrics)
    ['r2', 'worst']
    """

    name: str
    function: Callable[[_Array, _Array], float]
    greater_is_better: bool

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not callable(self.function):
            raise TypeError(
                "a metric has a name and a function of targets and outputs; "
                f"got {self.name!r} and {self.function!r}"
            )

    def __call__(self, targets: _Array, outputs: _Array) -> float:
        value = self.function(targets, outputs)
        try:
            return float(value)
        except TypeError:
            raise TypeError(
                f"metric {self.name!r} must return a number; got {type(value).__name__}"
            ) from None


def accuracy(targets: _Array, outputs: _Array, *, signs: bool = False) -> float:
    """The share of right answers: the greatest output for classes that exclude each other, else
    each output on its own side of a half (of zero, where targets are -1 and 1; `signs` says that
    they are, should there be no -1 among these)."""
    truth, guess = _answers(targets, outputs, signs)
    return float(np.mean(truth == guess))


def top_k_accuracy(k: int) -> Metric:
    """The metric "top_<k>_accuracy": the share of rows whose class is among the k greatest
    outputs; a tie with the k-th counts as among them.

    Parameters
    ----------
    k : int
        At least 1.

    Returns
    -------
    Metric
    """
    k = as_count("k", k)
    return Metric(f"top_{k}_accuracy", partial(_among_greatest, k), True)


def _among_greatest(k: int, targets: _Array, outputs: _Array) -> float:
    labels = _labels(targets, outputs)
    if labels is None:
        raise ValueError("there must be classes that exclude each other, an output for each")
    own = np.take_along_axis(outputs, labels[:, np.newaxis], axis=1)
    return float(np.mean((outputs > own).sum(axis=1) < k))


def f1(targets: _Array, outputs: _Array, *, signs: bool = False) -> float:
    """The harmonic mean of precision and recall, ``2 TP / (2 TP + FP + FN)``: of the positive class
    for one output, else the mean over the classes (macro), those that occur nowhere left out.

    Answers are as those of `accuracy`.
    """
    truth, guess = _answers(targets, outputs, signs)
    if truth.ndim == 1:
        classes = np.arange(outputs.shape[1])
        truth, guess = truth[:, np.newaxis] == classes, guess[:, np.newaxis] == classes
    right = (truth & guess).sum(axis=0)
    both = truth.sum(axis=0) + guess.sum(axis=0)
    occurs = both > 0
    return float(np.mean(2 * right[occurs] / both[occurs])) if occurs.any() else 0.0


def roc_auc(targets: _Array, outputs: _Array) -> float:
    """The area under the ROC curve: how probably a row of the class has a greater output than one
    that is not, ties counting half (Hanley and McNeil, 1982).

    Of the positive class for one or two outputs, else the mean over the classes, each against the
    rest; NaN where a class has no rows, or all of them.
    """
    truth, _ = _answers(targets, outputs)
    if truth.ndim == 1:
        classes = np.arange(outputs.shape[1])[1 if outputs.shape[1] == 2 else 0 :]
        truth, outputs = truth[:, np.newaxis] == classes, outputs[:, classes]
    return float(np.mean([_area(truth[:, c], outputs[:, c]) for c in range(truth.shape[1])]))


def _area(truth: _Array, score: _Array) -> float:
    positives = int(truth.sum())
    negatives = len(truth) - positives
    if positives == 0 or negatives == 0:
        return float("nan")
    _, inverse, counts = np.unique(score, return_inverse=True, return_counts=True)
    rank = np.cumsum(counts) - (counts - 1) / 2  # of each value: the mean of its rows' ranks
    above = rank[inverse][truth].sum() - positives * (positives + 1) / 2
    return float(above / (positives * negatives))


def r2(targets: _Array, outputs: _Array) -> float:
    """The coefficient of determination, ``1 - sum (t - y)^2 / sum (t - mean t)^2``, the mean over
    the outputs; an output whose targets are all alike gives 1 if it is exact, else 0.

    Of twice as many outputs as targets, as "gaussian_nll" has, the first half, the means.
    """
    targets, outputs = _values(targets, outputs)
    left = ((targets - outputs) ** 2).sum(axis=0)
    whole = ((targets - targets.mean(axis=0)) ** 2).sum(axis=0)
    flat = whole == 0
    shares = 1 - left / np.where(flat, 1, whole)
    return float(np.mean(np.where(flat, left == 0, shares)))


def mae(targets: _Array, outputs: _Array) -> float:
    """The mean of the absolute differences.

    Of twice as many outputs as targets, as "gaussian_nll" has, the first half, the means.
    """
    targets, outputs = _values(targets, outputs)
    return float(np.mean(np.abs(targets - outputs)))


#: The metrics that have names; "top_<k>_accuracy" beside them, for any k.
METRICS = {
    metric.name: metric
    for metric in (
        Metric("accuracy", accuracy, True),
        Metric("f1", f1, True),
        Metric("roc_auc", roc_auc, True),
        Metric("r2", r2, True),
        Metric("mae", mae, False),
    )
}
_OF_CLASSES, _OF_VALUES = (accuracy, f1, roc_auc, _among_greatest), (r2, mae)
#: What other libraries call them.
_ELSEWHERE = {
    "acc": "accuracy",
    "auc": "roc_auc",
    "binary_accuracy": "accuracy",
    "categorical_accuracy": "accuracy",
    "mean_absolute_error": "mae",
    "sparse_categorical_accuracy": "accuracy",
}


def as_metrics(
    metrics: Any, loss: Loss | LossFunction, data: Data | None, outputs: int
) -> list[Metric]:
    """The metrics of a list of names, `Metric` objects and functions, fit for a loss, a network
    with so many outputs, and the targets of the rows that they are computed on (None: there are
    none).

    Raises
    ------
    TypeError, ValueError
        If there is something else, a name twice, or one that does not go with the targets.
    """
    if isinstance(metrics, str | Metric) or not isinstance(metrics, Iterable):
        raise TypeError(f"metrics must be a list, such as ['accuracy']; got {metrics!r}")
    checked = [_as_metric(metric) for metric in metrics]
    names = [metric.name for metric in checked]
    if len({*names, "loss"}) < len(names) + 1 or any(name.startswith("val_") for name in names):
        raise ValueError(
            "metrics must have different names, not 'loss', and not with 'val_' before; "
            f"got {names}"
        )
    if data is None:
        if checked:
            raise ValueError(
                "metrics are computed on rows that stay: with batches, give validation_data=(X, y)"
            )
        return checked
    return [_fitted(metric, loss, data.arrays[1], outputs) for metric in checked]


def _fitted(metric: Metric, loss: Loss | LossFunction, targets: _Array, outputs: int) -> Metric:
    """The metric, checked against the targets; one with a threshold has that of all of them, which
    some of them alone may not show: where all are 1, they may be signs or numbers in [0, 1]."""
    function = getattr(metric.function, "func", metric.function)
    if function in _OF_CLASSES or function in _OF_VALUES:
        _check_targets(metric, targets, outputs)
    if function in (accuracy, f1):
        of_signs = isinstance(loss, Loss) and loss.kind.targets == "signs"
        if of_signs or _are_signs(targets):
            return replace(metric, function=partial(function, signs=True))
    return metric


def _check_targets(metric: Metric, targets: _Array, outputs: int) -> None:
    """Refuse a metric that says nothing of such targets."""
    try:
        metric(targets[:1], np.zeros((1, outputs)))
    except (TypeError, ValueError) as error:
        raise type(error)(f"metric {metric.name!r}: {error}") from None
    if metric.function in _OF_VALUES or targets.dtype.kind != "f":
        return
    least, greatest = targets.min(), targets.max()
    if greatest > 1 or (least < 0 and not _are_signs(targets)):
        raise ValueError(
            f"metric {metric.name!r}: {_NEEDS_CLASSES}; these lie in {least:.6g} .. {greatest:.6g}"
        )


def _as_metric(metric: Any) -> Metric:
    if isinstance(metric, Metric):
        return metric
    if isinstance(metric, str):
        top = re.fullmatch(r"top_([1-9]\d*)_accuracy", metric)
        if top:
            return top_k_accuracy(int(top[1]))
        return METRICS[choose("metric", metric, [*METRICS, "top_3_accuracy"], _ELSEWHERE)]
    if callable(metric):
        name = getattr(metric, "__name__", type(metric).__name__)
        known = METRICS.get(name)
        return known if known and known.function is metric else Metric(name, metric, False)
    raise TypeError(
        "a metric must be a name, a downslope.Metric or a function of targets and outputs; "
        f"got {metric!r}"
    )


# ---- What targets say ----

_NEEDS_CLASSES = "the targets must be classes: labels, numbers in [0, 1], or -1 and 1"


def _answers(targets: _Array, outputs: _Array, signs: bool = False) -> tuple[_Array, _Array]:
    """What is right and what the outputs say: classes (rows,), or yes and no (rows, outputs)."""
    labels = _labels(targets, outputs)
    if labels is not None:
        return labels, outputs.argmax(axis=1)
    targets = _as_columns(targets)
    middle = 0.0 if signs or _are_signs(targets) else 0.5
    return targets >= middle, outputs >= middle


def _labels(targets: _Array, outputs: _Array) -> _Array | None:
    """The class of each row (rows,), where classes exclude each other; else None."""
    if outputs.shape[1] == 1:
        return None
    if targets.ndim == 1 and targets.dtype.kind in "iu":
        return targets
    targets = _as_columns(targets)
    sums = targets.sum(axis=1, dtype=np.float64)
    if targets.shape[1] > 1 and (targets >= 0).all() and np.allclose(sums, 1, atol=1e-3):
        return targets.argmax(axis=1)
    return None


def _are_signs(targets: _Array) -> bool:
    """Whether targets are -1 and 1, as for "hinge"."""
    return bool((targets == -1).any() and (np.abs(targets) == 1).all())


def _values(targets: _Array, outputs: _Array) -> tuple[_Array, _Array]:
    """Targets and the outputs that stand for them (rows, targets), float64."""
    if targets.ndim == 1 and targets.dtype.kind in "iu" and outputs.shape[1] > 1:
        raise ValueError("the targets must be numbers, not class labels")
    targets = _as_columns(targets).astype(np.float64)
    count = targets.shape[1]
    if outputs.shape[1] not in (count, 2 * count):
        raise ValueError(
            f"there must be an output for each of {count} targets; got {outputs.shape[1]}"
        )
    return targets, outputs[:, :count].astype(np.float64)


def _as_columns(targets: _Array) -> _Array:
    """Targets (rows, targets); those for a loss function may have come with one axis."""
    if targets.dtype.kind not in "biuf":
        raise TypeError(f"the targets must be numbers; got dtype {targets.dtype}")
    return targets.reshape(len(targets), -1)
