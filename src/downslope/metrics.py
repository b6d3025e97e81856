"""Metrics: how good the outputs are, in numbers for people.  Plain NumPy, after an epoch.

Every metric takes the targets as they were given, labels (rows,) int64 or targets (rows, outputs),
and the network's outputs (rows, outputs).  Sample weights do not count.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from downslope._validate import as_count, choose

_Array = NDArray[Any]


@dataclass(frozen=True)
class Metric:
    """A number to follow in training.

    Attributes
    ----------
    name : str
        Its key in ``history.metrics``, there also with ``"val_"`` before it.
    function : callable
        ``function(targets, outputs) -> float``: labels (rows,) or targets (rows, outputs), and
        outputs (rows, outputs).
    greater_is_better : bool
        For `EarlyStopping`.

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

    def __call__(self, targets: _Array, outputs: _Array) -> float:
        return float(self.function(targets, outputs))


def accuracy(targets: _Array, outputs: _Array) -> float:
    """The share of right answers: the greatest output for labels and one-hot targets, else each
    output on its own side of a half."""
    if targets.ndim == 1 or _is_one_hot(targets):
        return float(np.mean(outputs.argmax(axis=1) == _labels(targets)))
    return float(np.mean((outputs >= 0.5) == (targets >= 0.5)))


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

    def share(targets: _Array, outputs: _Array) -> float:
        own = np.take_along_axis(outputs, _labels(targets)[:, np.newaxis], axis=1)
        return float(np.mean((outputs > own).sum(axis=1) < k))

    return Metric(f"top_{k}_accuracy", share, True)


def f1(targets: _Array, outputs: _Array) -> float:
    """The harmonic mean of precision and recall, ``2 TP / (2 TP + FP + FN)``: of the positive class
    for one output, else the mean over the classes (macro), those that occur nowhere left out."""
    if targets.ndim == 1 or _is_one_hot(targets):
        classes = np.arange(outputs.shape[1])
        truth = _labels(targets)[:, np.newaxis] == classes
        guess = outputs.argmax(axis=1)[:, np.newaxis] == classes
    else:
        truth, guess = targets >= 0.5, outputs >= 0.5
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
    if targets.ndim == 1 or _is_one_hot(targets):
        classes = np.arange(outputs.shape[1])[1 if outputs.shape[1] == 2 else 0 :]
        truth = _labels(targets)[:, np.newaxis] == classes
        outputs = outputs[:, classes]
    else:
        truth = targets >= 0.5
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
    the outputs; an output whose targets are all alike gives 1 if it is exact, else 0."""
    targets, outputs = targets.astype(np.float64), outputs.astype(np.float64)
    left = ((targets - outputs) ** 2).sum(axis=0)
    whole = ((targets - targets.mean(axis=0)) ** 2).sum(axis=0)
    flat = whole == 0
    shares = 1 - left / np.where(flat, 1, whole)
    return float(np.mean(np.where(flat, left == 0, shares)))


def mae(targets: _Array, outputs: _Array) -> float:
    """The mean of the absolute differences."""
    return float(np.mean(np.abs(targets.astype(np.float64) - outputs)))


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
_OF_VALUES = ("r2", "mae")


def as_metrics(metrics: Any, labels: bool) -> list[Metric]:
    """The metrics of a list of names, `Metric` objects and functions, fit for such targets.

    Raises
    ------
    TypeError, ValueError
        If there is something else, a name twice, or one that does not go with the targets.
    """
    if isinstance(metrics, str | Metric) or not isinstance(metrics, Iterable):
        raise TypeError(f"metrics must be a list, such as ['accuracy']; got {metrics!r}")
    checked = [_as_metric(metric) for metric in metrics]
    for metric in checked:
        if labels and metric is METRICS.get(metric.name) and metric.name in _OF_VALUES:
            raise ValueError(f"metric {metric.name!r} needs numbers as targets, not class labels")
    names = [metric.name for metric in checked]
    if len({*names, "loss", "val_loss"}) < len(names) + 2:
        raise ValueError(f"metrics must have different names, and not 'loss'; got {names}")
    return checked


def _as_metric(metric: Any) -> Metric:
    if isinstance(metric, Metric):
        return metric
    if isinstance(metric, str):
        top = re.fullmatch(r"top_([1-9]\d*)_accuracy", metric)
        return top_k_accuracy(int(top[1])) if top else METRICS[choose("metric", metric, METRICS)]
    if callable(metric):
        name = getattr(metric, "__name__", type(metric).__name__)
        known = METRICS.get(name)
        return known if known and known.function is metric else Metric(name, metric, False)
    raise TypeError(
        "a metric must be a name, a downslope.Metric or a function of targets and outputs; "
        f"got {metric!r}"
    )


def _is_one_hot(targets: _Array) -> bool:
    """Whether each row's targets are 0 and one 1."""
    return bool(
        targets.shape[1] > 1
        and ((targets == 0) | (targets == 1)).all()
        and (targets.sum(axis=1) == 1).all()
    )


def _labels(targets: _Array) -> _Array:
    return targets if targets.ndim == 1 else targets.argmax(axis=1)
