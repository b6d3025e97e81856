"""Rows to train on or to validate on, dense or sparse, and scikit-learn's checks of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

# Elements of a sparse matrix that are made dense together outside of training.
_DENSE_ELEMENTS = 1 << 22

try:
    from sklearn.utils.validation import validate_data as validate_data
except ImportError:  # scikit-learn 1.5, where it is a method

    def validate_data(estimator: Any, X: Any, y: Any = "no_validation", **options: Any) -> Any:
        """Check what comes in, as later versions of scikit-learn do."""
        return estimator._validate_data(X, y, **options)


@dataclass(frozen=True)
class Rows:
    """Checked rows.

    Attributes
    ----------
    x : array or sparse CSR matrix (rows, inputs)
    targets : array (rows, outputs), or labels (rows,) int64
        As the engine takes them.
    y : array
        As the user gave them, for scores.
    weight : array (rows,) or None
        Sample weights.
    """

    x: Any
    targets: NDArray[Any]
    y: Any
    weight: NDArray[Any] | None

    def __len__(self) -> int:
        return len(self.targets)

    @property
    def total(self) -> float:
        """The sum of the weights: what a mean over the rows is divided by."""
        return float(len(self) if self.weight is None else self.weight.sum())

    def take(self, index: NDArray[np.int64] | slice) -> Self:
        """Some of the rows."""
        weight = None if self.weight is None else self.weight[index]
        return type(self)(self.x[index], self.targets[index], self.y[index], weight)

    def parts(self) -> Iterator[Self]:
        """The rows with dense x: all at once, or bit by bit where x is sparse."""
        for where, x in dense_parts(self.x):
            yield replace(self.take(where), x=x)


def as_dense(x: Any) -> NDArray[Any]:
    """An array from an array or a sparse matrix."""
    return x.toarray() if sparse.issparse(x) else x


def as_sliceable(x: Any) -> Any:
    """An array as it is, a sparse matrix in the format whose rows can be taken."""
    return x.tocsr() if sparse.issparse(x) else x


def dense_parts(x: Any) -> Iterator[tuple[slice, NDArray[Any]]]:
    """An array whole, or a sparse CSR matrix in parts made dense, each with where it stands."""
    if not sparse.issparse(x):
        yield slice(0, x.shape[0]), x
        return
    step = max(1, _DENSE_ELEMENTS // x.shape[1])
    for first in range(0, x.shape[0], step):
        rows = slice(first, min(first + step, x.shape[0]))
        yield rows, x[rows].toarray()
