"""What a run trains on and what it is validated on: rows of a data set, or batches as they come."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from downslope import _kernels, _plan
from downslope._own_loss import Data, LossFunction
from downslope._sampling import Order, with_class_weight
from downslope._validate import as_number
from downslope.losses import Loss
from downslope.network import Network


@dataclass
class Source:
    """Rows of a data set in an order, or batches as they come."""

    data: Data | None
    rows: NDArray[np.int64] | None = None
    order: Order | None = None
    batches: Iterable[Any] = ()
    class_weight: Any = None

    @property
    def count(self) -> int:
        """Rows of an epoch; 0 if they come in batches."""
        if self.data is None:
            return 0
        return self.data.rows if self.rows is None else len(self.rows)

    def take(self) -> Source:
        """The rows alone, copied."""
        assert self.data is not None
        assert self.rows is not None
        return Source(self.data.take(self.rows))


def make_source(
    network: Network,
    loss: Loss | LossFunction,
    X: Any,
    y: ArrayLike | None,
    *,
    epochs: int,
    shuffle: bool,
    sampling: str,
    sample_weight: ArrayLike | None,
    class_weight: Any,
    validation_data: tuple[Any, ...] | None,
    validation_split: float,
) -> tuple[Source, Data | None]:
    """What to train on, from the arguments of `Trainer.fit`, and the data to validate on (None:
    none)."""
    if y is None:
        _check_batches(X, epochs, sample_weight, sampling, class_weight, validation_split)
        validation = (
            None if validation_data is None else validation_set(network, loss, validation_data)
        )
        return Source(None, batches=X, class_weight=class_weight), validation
    data = network.dataset(X, y, loss, sample_weight)
    rows, validation = _split(network, loss, data, validation_data, validation_split)
    data = with_class_weight(data, class_weight, loss, network.outputs)
    order = Order(sampling, shuffle, data, rows)
    if sampling == "weighted":  # the order has the weights in it
        data = data.with_weight(None)
    return Source(data, rows, order), validation


def _check_batches(
    batches: Any,
    epochs: int,
    sample_weight: Any,
    sampling: str,
    class_weight: Any,
    validation_split: float,
) -> None:
    """Refuse what is no source of batches, or what does not go with one."""
    if hasattr(batches, "shape") or not isinstance(batches, Iterable):
        raise TypeError(
            "y must hold real numbers, or X be an iterable of batches (X, y); "
            f"got X of type {type(batches).__name__} without y"
        )
    if isinstance(batches, Iterator) and epochs > 1:
        raise ValueError(
            f"a generator can be gone through once, not {epochs} times: give a list of batches, or "
            "an object whose __iter__ begins anew"
        )
    for name, given in {
        "sample_weight": sample_weight is not None,
        "sampling": sampling != "without_replacement",
        "class_weight='balanced'": isinstance(class_weight, str),
        "validation_split": validation_split != 0,
    }.items():
        if given:
            raise ValueError(f"{name} needs all rows at once; it does not go with batches")


def validation_set(
    network: Network, loss: Loss | LossFunction, validation_data: tuple[Any, ...]
) -> Data:
    """The data set of the argument `validation_data`."""
    x, y, *weight = _parts("validation_data", validation_data)
    return network.dataset(x, y, loss, weight[0] if weight else None, "_val")


def _parts(what: str, given: Any) -> tuple[Any, ...] | list[Any]:
    """The two or three parts of a data set, as they are."""
    if isinstance(given, tuple | list) and len(given) in (2, 3):
        return given
    found = type(given).__name__
    if isinstance(given, tuple | list):
        found += f" of length {len(given)}"
    raise TypeError(f"{what} must be (X, y) or (X, y, sample_weight); got {found}")


def batch_set(
    network: Network, loss: Loss | LossFunction, batches: list[Any], class_weight: Any
) -> Data:
    """The data set of one of the caller's batches, or of some that make one step."""
    parts = [_batch_part(network, loss, batch, class_weight) for batch in batches]
    if len(parts) == 1:
        return parts[0]
    x, y, weights = zip(*(part.arrays for part in parts), strict=True)
    odd = next((targets for targets in y if targets.shape[1:] != y[0].shape[1:]), None)
    if odd is not None:
        raise ValueError(
            "batches that make one step must have targets of one kind, all labels or all rows of "
            f"numbers; got shapes {y[0].shape} and {odd.shape}"
        )
    weight = None
    if any(given is not None for given in weights):
        ones = [np.ones(len(rows)) for rows in x]
        weight = np.concatenate([b if a is None else a for a, b in zip(weights, ones, strict=True)])
    return network.dataset(np.concatenate(x), np.concatenate(y), loss, weight)


def _batch_part(network: Network, loss: Loss | LossFunction, batch: Any, class_weight: Any) -> Data:
    x, y, *weight = _parts("a batch", batch)
    data = network.dataset(x, y, loss, weight[0] if weight else None)
    return with_class_weight(data, class_weight, loss, network.outputs)


def _split(
    network: Network,
    loss: Loss | LossFunction,
    data: Data,
    validation_data: tuple[Any, ...] | None,
    validation_split: float,
) -> tuple[NDArray[np.int64] | None, Data | None]:
    """The rows to train on (None: all) and the data to validate on (None: none)."""
    fraction = as_number("validation_split", validation_split, at_least=0.0, below=1.0)
    if validation_data is not None:
        if fraction:
            raise ValueError(
                "validation_data and validation_split contradict each other; give one of them"
            )
        return None, validation_set(network, loss, validation_data)
    if fraction == 0:
        return None, None
    held_out = round(fraction * data.rows)
    if not 0 < held_out < data.rows:
        raise ValueError(
            f"validation_split={fraction:g} of {data.rows} rows leaves {held_out} for "
            f"validation and {data.rows - held_out} for training; both need at least one"
        )
    order = np.empty(data.rows, np.int64)
    _kernels.random_permutation(network.seed, _plan.STREAM_SPLIT, order)
    return np.sort(order[held_out:]), data.take(np.sort(order[:held_out]))
