"""Gradients by differences, and checks of other gradients against them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from downslope._own_loss import LossFunction
from downslope._validate import as_number, as_point
from downslope.layers import Dense
from downslope.losses import Loss
from downslope.network import Network, as_network
from downslope.training import Trainer


@dataclass(frozen=True, eq=False)
class GradientCheck:
    """A gradient as given or by back-propagation, beside the gradient by differences.

    Attributes
    ----------
    analytic, numerical : array (n,)
        By the variables, or in the order of ``network.parameters``; float64.
    max_error : float
        The largest difference, relative to the largest gradient (or to 1e-5 of the value, if that
        is larger: smaller gradients are lost in the rounding of the value).
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


def gradient(fun: Callable[[Any], Any], x: ArrayLike, *, step: float = 1e-3) -> Any:
    """The gradient of a function of one or many variables, by fourth-order central differences.

    The cost is four evaluations for each variable.  At a kink (as of abs(x) at 0) differences mean
    nothing.

    Parameters
    ----------
    fun : callable
        From a point like `x` to a number.
    x : float or array of any shape
        Where.
    step : float, default 1e-3
        Of the differences, for variables up to 1; it grows with larger ones.

    Returns
    -------
    float or float64 array of the shape of x

    Raises
    ------
    TypeError, ValueError
        If `x` or `step` is not as it should be, or `fun` does not return one number.

    Notes
    -----
    ``f'(x) = (f(x - 2h) - 8 f(x - h) + 8 f(x + h) - f(x + 2h)) / 12h + O(h^4)``, Abramowitz and
    Stegun (1964), table 25.2.

    Examples
    --------
    The slope of e^2 sin x at 0 is e^2 = 7.389; the gradient of xy + x^2 is (y + 2x, x).

    >>> import downslope as ds, numpy as np
    >>> round(ds.gradient(lambda x: np.exp(2) * np.sin(x), 0.0), 3)
    7.389
    >>> ds.gradient(lambda p: p[0] * p[1] + p[0] ** 2, [3.0, -3.0]).round(9)
    array([3., 3.])
    """
    point = as_point("x", x)
    slope = differences(
        lambda flat: value_at(fun, flat.reshape(point.shape)),
        point.reshape(-1),
        as_number("step", step, above=0.0),
    ).reshape(point.shape)
    return slope if point.ndim else float(slope)


def check_gradient(
    fun: Callable[[Any], Any],
    gradient: Callable[[Any], Any],
    x: ArrayLike,
    *,
    step: float = 1e-3,
    tolerance: float = 1e-7,
) -> GradientCheck:
    """Compare a gradient that is given with differences of the function.

    Parameters
    ----------
    fun, gradient : callable
        From a point like `x` to a number, and to something of the shape of `x`.
    x : float or array of any shape
        Where.
    step : float, default 1e-3
        See `gradient`.
    tolerance : float, default 1e-7
        The largest error that passes, relative to the largest gradient.

    Returns
    -------
    GradientCheck

    Raises
    ------
    TypeError, ValueError
        If an argument is not as it should be, or a function returns something else.

    Examples
    --------
    >>> import downslope as ds
    >>> ds.check_gradient(lambda x: x**3, lambda x: 3 * x**2, 2.0).passed
    True
    >>> ds.check_gradient(lambda x: x**3, lambda x: 2 * x**2, 2.0).passed
    False
    """
    point = as_point("x", x)
    tolerance = as_number("tolerance", tolerance, above=0.0)
    numerical = differences(
        lambda flat: value_at(fun, flat.reshape(point.shape)),
        point.reshape(-1),
        as_number("step", step, above=0.0),
    )
    analytic = slope_at(gradient, point).reshape(-1)
    return _compare(analytic, numerical, value_at(fun, point), tolerance)


def check_gradients(
    network: Network,
    X: ArrayLike,
    y: ArrayLike,
    *,
    loss: str | Loss | LossFunction = "mse",
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
    loss : str, Loss or function, default "mse"
        See `Network.fit`.
    sample_weight : array (rows,), optional
    step : float, default 1e-3
        See `gradient`.
    tolerance : float, default 1e-7
        The largest error that passes, relative to the largest gradient.

    Returns
    -------
    GradientCheck

    Raises
    ------
    TypeError, ValueError
        If an argument is not as it should be.

    Examples
    --------
    >>> import downslope as ds
    >>> net = ds.Network([2, 3, 1], activation="tanh", seed=0)
    >>> ds.check_gradients(net, [[0.5, -1.0]], [[1.0]]).passed
    True
    """
    copy = in_float64(as_network(network))
    step = as_number("step", step, above=0.0)
    tolerance = as_number("tolerance", tolerance, above=0.0)
    trainer = Trainer(copy, loss)
    loss_value = trainer.compute_gradients(X, y, sample_weight=sample_weight)
    data = copy.dataset(X, y, trainer.loss, sample_weight)

    def loss_at(parameters: NDArray[np.float64]) -> float:
        copy.parameters[...] = parameters
        return copy.mean_loss(data, trainer.loss, 1)

    numerical = differences(loss_at, copy.parameters.copy(), step)
    return _compare(copy.gradients.copy(), numerical, loss_value, tolerance)


def differences(
    fun: Callable[[NDArray[np.float64]], float], x: NDArray[np.float64], step: float
) -> NDArray[np.float64]:
    """The gradient of `fun` at x (n,), which it gets in one array that changes in between."""
    point, slope = x.copy(), np.empty_like(x)

    def value(index: int, coordinate: float) -> float:
        point[index] = coordinate
        return fun(point)

    for index, x_i in enumerate(x):
        h = step * max(1.0, abs(x_i))
        nearer = value(index, x_i + h) - value(index, x_i - h)
        farther = value(index, x_i + 2 * h) - value(index, x_i - 2 * h)
        slope[index] = (8 * nearer - farther) / (12 * h)
        point[index] = x_i
    return slope


def value_at(fun: Callable[[Any], Any], point: NDArray[np.float64]) -> float:
    """One number, the value of the caller's function at a point of any shape."""
    return as_value("fun", fun(given(point)))


def slope_at(gradient: Callable[[Any], Any], point: NDArray[np.float64]) -> NDArray[np.float64]:
    """The caller's gradient at a point, as float64 of the point's shape."""
    return as_slope("gradient", gradient(given(point)), point.shape)


def given(point: NDArray[np.float64]) -> Any:
    """A point as the caller's functions get it: a number, or an array of their own."""
    return point.copy() if point.ndim else float(point)


def as_value(name: str, value: Any) -> float:
    """The one number that a caller's function returned."""
    try:
        array = np.asarray(value, np.float64)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name} must return a number; it returned {value!r}") from error
    if array.size != 1:
        raise ValueError(f"{name} must return one number; it returned shape {array.shape}")
    return float(array.reshape(()))


def as_slope(name: str, slope: Any, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """The gradient that a caller's function returned, of the shape of the point."""
    try:
        array = np.asarray(slope, np.float64)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name} must return numbers; it returned {slope!r}") from error
    if array.shape != shape:
        raise ValueError(
            f"{name} must return the shape of the point, {shape}; it returned {array.shape}"
        )
    return array


def _compare(
    analytic: NDArray[np.float64],
    numerical: NDArray[np.float64],
    value: float,
    tolerance: float,
) -> GradientCheck:
    # below a hundred-thousandth of the value, differences of it are rounding noise
    floor = max(1e-5 * abs(value), np.finfo(np.float64).tiny)
    scale = max(np.abs(numerical).max(), np.abs(analytic).max(), floor)
    error = float(np.abs(analytic - numerical).max() / scale)
    return GradientCheck(analytic, numerical, error, tolerance)


def in_float64(network: Network) -> Network:
    """A float64 copy of a network, without the noise of training."""
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
