"""Checking back-propagation against differences of the loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from downslope._validate import as_number
from downslope.layers import Dense
from downslope.losses import Loss
from downslope.network import Network
from downslope.training import Trainer


@dataclass(frozen=True, eq=False)
class GradientCheck:
    """Gradients by back-propagation beside gradients by differences.

    Attributes
    ----------
    analytic, numerical : array (parameters,)
        In the order of ``network.parameters``, float64.
    max_error : float
        The largest difference, relative to the largest gradient (or to 1e-5 of the loss, if that
        is larger: smaller gradients are lost in the rounding of the loss).
    tolerance : float
        What `max_error` may be.
    passed : bool
        Whether it is; also the truth value of the object.
    """

    analytic: NDArray[np.float64]
    numerical: NDArray[np.float64]
    max_error: float
    tolerance: float

    @property
    def passed(self) -> bool:
        return self.max_error <= self.tolerance

    def __bool__(self) -> bool:
        return self.passed

    def __repr__(self) -> str:
        verdict = "passed" if self.passed else "failed"
        return (
            f"GradientCheck({verdict}: max_error={self.max_error:.2e}, "
            f"tolerance={self.tolerance:.0e}, parameters={self.analytic.size})"
        )


def check_gradients(
    network: Network,
    X: ArrayLike,
    y: ArrayLike,
    *,
    loss: str | Loss = "mse",
    sample_weight: ArrayLike | None = None,
    step: float = 1e-3,
    tolerance: float = 1e-7,
) -> GradientCheck:
    """Compare back-propagation with fourth-order central differences of the loss.

    Both are computed on a float64 copy; the network is not changed.  The cost is four evaluations
    of the loss for each parameter.  At a kink (relu at exactly zero) differences mean nothing.

    Parameters
    ----------
    network : Network
    X : array (rows, inputs)
    y : array (rows, outputs), or (rows,) for one output or for class labels
    loss : str, default "mse"
    sample_weight : array (rows,), optional
    step : float, default 1e-3
        Of the differences, for parameters up to 1; it grows with larger ones.
    tolerance : float, default 1e-7
        The largest error that passes, relative to the largest gradient.

    Returns
    -------
    GradientCheck

    Raises
    ------
    TypeError, ValueError
        If an argument is not as it should be.

    Notes
    -----
    ``f'(p) = (f(p - 2h) - 8 f(p - h) + 8 f(p + h) - f(p + 2h)) / 12h + O(h^4)``, Abramowitz and
    Stegun (1964), table 25.2.

    Examples
    --------
    >>> import downslope as ds
    >>> net = ds.Network([2, 3, 1], activation="tanh", seed=0)
    >>> ds.check_gradients(net, [[0.5, -1.0]], [[1.0]]).passed
    True
    """
    if not isinstance(network, Network):
        raise TypeError(f"network must be a downslope.Network; got {type(network).__name__}")
    step = as_number("step", step, above=0.0)
    tolerance = as_number("tolerance", tolerance, above=0.0)
    copy = in_float64(network)
    loss_value = Trainer(copy, loss).compute_gradients(X, y, sample_weight=sample_weight)
    analytic = copy.gradients.copy()
    numerical = np.empty_like(analytic)
    data = copy.dataset(X, y, copy.checked_loss(loss), sample_weight)

    def loss_at(index: int, value: float) -> float:
        copy.parameters[index] = value
        return copy.mean_loss(data, copy.checked_loss(loss), 1)

    for index, value in enumerate(copy.parameters.copy()):
        h = step * max(1.0, abs(value))
        nearer = loss_at(index, value + h) - loss_at(index, value - h)
        farther = loss_at(index, value + 2 * h) - loss_at(index, value - 2 * h)
        numerical[index] = (8 * nearer - farther) / (12 * h)
        copy.parameters[index] = value

    # below a hundred-thousandth of the loss, differences of it are rounding noise
    floor = max(1e-5 * abs(loss_value), np.finfo(np.float64).tiny)
    scale = max(np.abs(numerical).max(), np.abs(analytic).max(), floor)
    error = float(np.abs(analytic - numerical).max() / scale)
    return GradientCheck(analytic, numerical, error, tolerance)


def in_float64(network: Network) -> Network:
    """A copy to look into: without the noise of training."""
    layers: list[Any] = [
        Dense(
            layer.outputs,
            layer.activation,
            weights="zeros",
            use_bias=layer.bias is not None,
            shared_bias=layer.bias is not None and layer.bias.size < layer.outputs,
        )
        for layer in network.layers
    ]
    copy = Network(network.inputs, layers, dtype="float64", seed=network.seed)
    copy.parameters[...] = network.parameters
    return copy
