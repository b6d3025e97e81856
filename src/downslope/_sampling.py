"""Which rows a run meets, in which order and with which weight.

Every order is a function of (seed, epoch): of the permutation, or of the draws, that csrc/random.c
makes of them.  Data: labels (rows,) int64 or targets (rows, outputs), weights (rows,).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from downslope import _kernels, _plan
from downslope._own_loss import Data, LossFunction
from downslope._validate import as_number, choose
from downslope.losses import Loss

SAMPLINGS = ("without_replacement", "with_replacement", "weighted", "stratified")


def check_sampling(sampling: object, shuffle: bool) -> None:
    """Refuse an unknown sampling, and an order as the rows lie for one that draws them."""
    choose("sampling", sampling, SAMPLINGS)
    if sampling != "without_replacement" and not shuffle:
        raise ValueError(
            f"shuffle=False contradicts sampling={sampling!r}, which draws the rows "
            "at random; drop one of them"
        )


class Order:
    """The order of the rows in each epoch.

    Parameters
    ----------
    sampling : str
        One of SAMPLINGS.
    shuffle : bool
        False: the rows as they lie, whatever the epoch.
    data : Data
    rows : array (count,) or None
        The rows of the data to choose from; None: all.

    Raises
    ------
    ValueError
        If the data do not have what the sampling needs.
    """

    def __init__(
        self, sampling: str, shuffle: bool, data: Data, rows: NDArray[np.int64] | None
    ) -> None:
        self._rows, self._sampling = rows, sampling
        self._drawn = np.empty(data.rows if rows is None else len(rows), np.int64)
        self._shuffle = shuffle
        _, y, weight = data.arrays
        if sampling == "weighted":
            if weight is None:
                raise ValueError(
                    "sampling='weighted' draws rows by their weights: give sample_weight or "
                    "class_weight"
                )
            chosen = weight if rows is None else weight[rows]
            self._cumulative = np.cumsum(chosen, dtype=np.float64)
            if self._cumulative[-1] == 0:
                raise ValueError("sampling='weighted' needs a weight that is not zero")
        elif sampling == "stratified":
            labels = _labels("sampling='stratified'", y) if data.has_labels else _classes(y)
            self._labels = labels if rows is None else labels[rows]

    def draw(self, seed: int, epoch: int) -> NDArray[np.int64] | None:
        """The rows of an epoch; None: all of them as they lie."""
        if not self._shuffle:
            return self._rows
        drawn, stream = self._drawn, _plan.STREAM_ORDER + epoch
        if self._sampling == "with_replacement":
            _kernels.random_integers(seed, stream, len(drawn), drawn)
        elif self._sampling == "weighted":
            drawn = self._by_weight(_kernels.random_uniform(seed, stream, len(drawn)))
        else:
            _kernels.random_permutation(seed, stream, drawn)
            if self._sampling == "stratified":
                drawn = _spread(drawn, self._labels)
        return drawn if self._rows is None else self._rows[drawn]

    def _by_weight(self, uniform: NDArray[np.float64]) -> NDArray[np.int64]:
        """Row i for a share of the numbers in [0, 1) that is as large as its share of the weights:
        never one of weight zero."""
        places = np.searchsorted(self._cumulative, uniform * self._cumulative[-1], side="right")
        last = np.searchsorted(self._cumulative, self._cumulative[-1])  # against rounding up
        return np.minimum(places, last)


def _labels(what: str, y: NDArray[Any]) -> NDArray[np.int64]:
    """Labels (rows,) that can count classes; those for a loss function have come unchecked."""
    if y.min() < 0:
        raise ValueError(
            f"{what} needs class labels 0, 1, 2 and so on; found {y.min()}: make them with "
            "numpy.unique(y, return_inverse=True)[1]"
        )
    return y.astype(np.int64, copy=False)


def _classes(y: NDArray[Any]) -> NDArray[np.int64]:
    """The classes (rows,) that dense targets (rows, outputs) of two values stand for: the only 1 of
    a row, or yes and no of a single column."""
    if y.ndim == 2 and (np.isin(y, (0, 1)).all() or np.isin(y, (-1, 1)).all()):
        positive = y > 0
        if y.shape[1] == 1:
            return positive[:, 0].astype(np.int64)
        if (positive.sum(axis=1) == 1).all():
            return positive.argmax(axis=1)
    raise ValueError(
        "sampling='stratified' needs classes as targets: integers of shape (rows,) for "
        "loss='cross_entropy' or 'focal', rows with one 1, or a column of 0 and 1 (or -1 and 1)"
    )


def _spread(order: NDArray[np.int64], labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """The order with each class spread evenly over it: the rows of a class keep their order among
    themselves, and any stretch holds about its share of each class."""
    classes = labels[order]
    counts = np.bincount(classes)
    grouped = np.argsort(classes, kind="stable")
    starts = np.cumsum(counts) - counts
    rank = np.empty(len(order))  # of a row within its class
    rank[grouped] = np.arange(len(order)) - starts[classes[grouped]]
    return order[np.argsort((rank + 0.5) / counts[classes], kind="stable")]


def with_class_weight(
    data: Data, class_weight: Any, loss: Loss | LossFunction, outputs: int
) -> Data:
    """The data with the weight of each row times that of its class; as they are for None.

    Dense targets weigh as their shares of the classes: ``targets @ weights``.

    Raises
    ------
    TypeError, ValueError
        If the weights are not as they should be, or the loss knows no classes.
    """
    if class_weight is None:
        return data
    x, y, weight = data.arrays
    shares = _class_shares(y, data.has_labels, loss)
    if shares is None:
        y = _labels("class_weight", y)
        # A function's labels may be of more classes than there are outputs, of two for one output.
        classes = outputs if isinstance(loss, Loss) else max(outputs, 2, int(y.max()) + 1)
    else:
        classes = shares.shape[1]
    if isinstance(class_weight, str) and class_weight == "balanced":
        counts = np.bincount(y, minlength=classes) if shares is None else shares.sum(axis=0)
        present = np.count_nonzero(counts)
        weights = np.divide(
            len(y), present * counts, out=np.zeros(classes), where=np.asarray(counts > 0)
        )
    else:
        weights = _given_weights(class_weight, classes)
    with np.errstate(over="ignore", invalid="ignore"):  # the check that follows finds it
        factors = (weights[y] if shares is None else shares @ weights).astype(x.dtype)
        product = factors if weight is None else factors * weight
    if not np.isfinite(product).all():
        raise ValueError(
            f"class_weight, times sample_weight, must not exceed {np.finfo(x.dtype).max:.3g}, the "
            f"greatest number of {x.dtype}; got class_weight={class_weight!r}: give smaller weights"
        )
    return data.with_weight(product)


def _class_shares(
    y: NDArray[Any], has_labels: bool, loss: Loss | LossFunction
) -> NDArray[Any] | None:
    """What share of each row belongs to each class; None for labels."""
    if has_labels:
        return None
    outputs = loss.kind.outputs if isinstance(loss, Loss) else ()
    if "softmax" in outputs:
        return y
    if "sigmoid" in outputs and y.shape[1] == 1:
        return np.hstack([1 - y, y])
    raise ValueError(
        f"class_weight needs classes: loss 'cross_entropy' or 'focal', or 'binary_cross_entropy' "
        f"with one output; this is {loss!r} for {y.shape[1:]}. Give sample_weight instead"
    )


def _given_weights(class_weight: Any, classes: int) -> NDArray[np.float64]:
    """The weight of each class; those that a mapping leaves out weigh 1."""
    if isinstance(class_weight, Mapping):
        entries: Iterable[tuple[Any, Any]] = class_weight.items()
    elif isinstance(class_weight, list | tuple | np.ndarray):
        if len(class_weight) != classes:
            raise ValueError(
                f"class_weight must have one weight for each of the {classes} classes; "
                f"got {len(class_weight)}"
            )
        entries = enumerate(class_weight)
    else:
        raise TypeError(
            "class_weight must be 'balanced', a dict from class to weight, or a list of weights; "
            f"got {class_weight!r}"
        )
    weights = np.ones(classes)
    for label, value in entries:
        if isinstance(label, bool) or not isinstance(label, int | np.integer):
            raise TypeError(f"the classes of class_weight must be integers; got {label!r}")
        if not 0 <= label < classes:
            raise ValueError(f"class_weight has class {label}, but classes are 0 .. {classes - 1}")
        weights[label] = as_number(f"class_weight[{label}]", value, at_least=0.0)
    return weights
