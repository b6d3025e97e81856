"""Losses that are Python functions of a whole batch: the slow path.

A function takes the network's outputs (rows, outputs) and the targets of the same rows, as they
were given, and returns

    losses     (rows,) the error of each row, or one number: the error of the batch
    gradient   (rows, outputs) of the mean of the losses (or of the number) by the outputs

A batch then is `Network.forward`, the function, `Network.backward` and one update.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from downslope._engine import Dataset

if TYPE_CHECKING:
    from downslope.network import Network

LossFunction = Callable[[NDArray[Any], NDArray[Any]], tuple[ArrayLike, ArrayLike]]


@dataclass(frozen=True, eq=False)
class Rows:
    """Rows to train or evaluate on with a loss function: x (rows, inputs), y with as many rows,
    weight (rows,) or None."""

    function: LossFunction
    x: NDArray[Any]
    y: NDArray[Any]
    weight: NDArray[Any] | None

    @property
    def rows(self) -> int:
        return len(self.x)

    @property
    def arrays(self) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any] | None]:
        return self.x, self.y, self.weight

    @property
    def has_labels(self) -> bool:
        """Whether the targets are integers of shape (rows,)."""
        return self.y.ndim == 1 and self.y.dtype.kind in "iu"

    def with_weight(self, weight: NDArray[Any] | None) -> Rows:
        """The same rows with other weights, or with None."""
        return Rows(self.function, self.x, self.y, weight)

    def take(self, rows: NDArray[np.int64]) -> Rows:
        """Some rows, copied."""
        weight = self.weight if self.weight is None else self.weight[rows]
        return Rows(self.function, self.x[rows], self.y[rows], weight)


#: Rows to train or evaluate on, for a loss by its name or for a function.
Data = Dataset | Rows


def mean_loss(network: Network, data: Rows, threads: int) -> float:
    """The mean loss over all rows, as one batch."""
    return _call(data, network.predict(data.x, threads=threads))[0]


def compute_gradients(network: Network, data: Rows, threads: int) -> float:
    """The mean loss of a batch; its gradients are in ``network.gradients`` if it is finite."""
    loss, gradient = _call(data, network.forward(data.x, threads=threads))
    if np.isfinite(loss):
        network.backward(gradient, threads=threads)
    return loss


def _call(data: Rows, outputs: NDArray[Any]) -> tuple[float, NDArray[np.float64]]:
    """The mean loss and its gradient by the outputs, both with the rows' weights."""
    result = data.function(outputs, data.y)
    if not isinstance(result, tuple) or len(result) != 2:
        raise TypeError(
            f"the loss function must return a tuple (losses, gradient); got {type(result).__name__}"
        )
    try:
        losses, gradient = (np.asarray(part, dtype=np.float64) for part in result)
    except (TypeError, ValueError) as error:
        raise TypeError(f"the loss function must return numbers: {error}") from None
    if losses.shape not in ((), (data.rows,)):
        raise ValueError(
            f"the loss function must return losses of shape ({data.rows},), one for each row, or "
            f"one number; got shape {losses.shape}"
        )
    if gradient.shape != outputs.shape:
        raise ValueError(
            f"the loss function must return a gradient of the outputs' shape {outputs.shape}; "
            f"got {gradient.shape}"
        )
    if data.weight is None:
        return float(losses.mean()), gradient
    if losses.ndim == 0:
        raise ValueError(
            "sample_weight needs the loss of each row; let the loss function return losses of "
            f"shape ({data.rows},) instead of one number"
        )
    return float((losses * data.weight).mean()), gradient * data.weight[:, np.newaxis]
