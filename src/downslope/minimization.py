"""Gradient descent on any function, by the optimisers that train networks.

The point is the parameter vector of a network that is never run: a `Trainer` holds the optimiser's
state and makes the updates, by the same kernels as in training, in float64.  So every optimiser of
the package works here, and a step is to the bit the step that it makes in training.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from downslope import _kernels, _plan
from downslope._validate import as_count, as_number, as_point, as_seed, choose
from downslope.gradients import as_slope, as_value, differences, given, slope_at
from downslope.layers import Dense
from downslope.network import Network
from downslope.optimizers import SGD, Optimizer, as_stepwise
from downslope.training import Trainer

# Of the differences that stand in for a gradient that is not given.
_DIFFERENCE_STEP = 1e-3
# Backtracking: what part of the decrease that the slope promises is enough (Armijo, 1966), and how
# often a rate is halved before the value counts as one that no step lowers.
_SUFFICIENT, _HALVINGS = 1e-4, 60
# A point so many times farther from the start than the start's own size has run away.
_FARTHEST = 1e10
# What a descent that diverges is told.
_OVERFLOW = "a variable would not be finite"
_ADVICE = "lower the learning rate, or see whether fun has a minimum"


@dataclass(frozen=True, eq=False)
class MinimizeResult:
    """Where a descent ended and how it came there, in the style of SciPy's ``OptimizeResult``.

    Attributes
    ----------
    x : float or array
        The last point, of the shape of the start.
    fun : float
        The value there.
    jac : float, array or None
        The gradient there; None from `random_search`.
    nit : int
        Steps made.
    nfev, njev : int
        Calls of the function and of the gradient.
    success : bool
        Whether a tolerance was met; for `random_search`, whether the value fell.
    message : str
        Why it stopped.
    path : array (nit + 1, ...)
        Every point from the start on.
    values : array (nit + 1,)
        The values along the path.
    learning_rates : array (nit,)
        Of each step; empty from `random_search`.
    """

    x: Any
    fun: float
    jac: Any
    nit: int
    nfev: int
    njev: int
    success: bool
    message: str
    path: NDArray[np.float64]
    values: NDArray[np.float64]
    learning_rates: NDArray[np.float64]

    def __repr__(self) -> str:
        shown = [field.name for field in fields(self)][:8]  # what is short
        return "\n".join(f"{name:>8}: {getattr(self, name)}" for name in shown)


def minimize(
    fun: Callable[[Any], Any],
    x0: ArrayLike | str = "zeros",
    *,
    size: int | None = None,
    gradient: Callable[[Any], Any] | bool | None = None,
    optimizer: str | Optimizer = "sgd",
    learning_rate: Callable[[int], float] | str | None = None,
    steps: int = 1000,
    gradient_tolerance: float = 1e-6,
    step_tolerance: float | None = None,
    value_tolerance: float | None = None,
    seed: int | None = 0,
) -> MinimizeResult:
    """Descend on a differentiable function of one or many variables.

    Parameters
    ----------
    fun : callable
        From a point (a float where `x0` is a number, else an array of its shape) to a number.
    x0 : float, array of any shape, "zeros" or "random", default "zeros"
        The start; "random" draws standard normal numbers.
    size : int, optional
        Number of variables for a start given by name; the default is one, as a float.
    gradient : callable or True, optional
        From a point to the gradient there, for instance ``jax.grad(fun)``; True if `fun` returns a
        pair (value, gradient), as ``jax.value_and_grad(fun)`` does.  By default, central
        differences, see `downslope.gradient`.
    optimizer : str or Optimizer, default "sgd"
        Any of the package: the update is the one that it makes in training.
    learning_rate : callable or "backtracking", optional
        By default the optimiser's own.  A callable is a schedule: from the number of the step,
        which counts from 0, to its learning rate.  "backtracking" halves the optimiser's learning
        rate in each step until the value falls enough; only with SGD without momentum.
    steps : int, default 1000
        At most so many.
    gradient_tolerance : float, default 1e-6
        Stop where no component of the gradient is larger.
    step_tolerance, value_tolerance : float, optional
        Stop after a step that changes no variable, or the value, by more; those of rate 0, as a
        schedule may have, do not count.
    seed : int, default 0
        Of a random start.

    Returns
    -------
    MinimizeResult
        With ``success=False`` and a `message` that says so if the descent diverges or `steps` are
        not enough.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as it should be, the value or gradient at the start is not finite, or
        a function returns something of the wrong shape.

    Notes
    -----
    A descent counts as diverging when a value or gradient is not finite, or the point is 1e10
    times farther from the start than the start is large.  Backtracking: Nocedal and Wright,
    "Numerical optimization" (2006), algorithm 3.1.

    Examples
    --------
    >>> import downslope as ds, numpy as np
    >>> result = ds.minimize(lambda x: np.exp(2) * np.sin(x), optimizer=ds.SGD(0.1))
    >>> round(result.x, 5), round(result.fun, 5)  # the minimum nearest to 0 is at -pi / 2
    (-1.5708, -7.38906)
    >>> bowl = ds.minimize(lambda p: p[0] ** 2 + 10 * p[1] ** 2, [3.0, 1.0],
    ...                    gradient=lambda p: np.array([2 * p[0], 20 * p[1]]),
    ...                    optimizer=ds.SGD(0.04, momentum=0.5))
    >>> bowl.success, bowl.path.shape == (bowl.nit + 1, 2)
    (True, True)
    >>> print(ds.minimize(lambda x: x * x, 1.0, optimizer=ds.SGD(1.5)).message)
    diverged at step 34: x ran away; lower the learning rate, or see whether fun has a minimum
    """
    start = _as_start(x0, size, seed)
    optimizer = as_stepwise(optimizer, "minimize")
    if learning_rate is not None and not callable(learning_rate):
        choose("learning_rate", learning_rate, ("backtracking",))
        _check_backtracking(optimizer)
    limits = _Limits(
        steps=as_count("steps", steps, at_least=0),
        gradient=as_number("gradient_tolerance", gradient_tolerance, at_least=0.0),
        step=_as_tolerance("step_tolerance", step_tolerance),
        value=_as_tolerance("value_tolerance", value_tolerance),
    )
    objective = _Objective(fun, gradient, start.shape)
    run = _Run(objective, start, optimizer)
    for step in range(limits.steps + 1):
        message, success = limits.verdict(run)
        if message:
            break
        try:
            if callable(learning_rate):
                run.step(learning_rate(step))
            elif learning_rate is None:
                run.step(None)
            else:
                run.step_back()
        except FloatingPointError:
            message, success = f"diverged at step {run.nit + 1}: {_OVERFLOW}; {_ADVICE}", False
            break
    return run.result(message, success)


def random_search(
    fun: Callable[[Any], Any],
    x0: ArrayLike | str = "zeros",
    *,
    size: int | None = None,
    step_size: float = 0.1,
    steps: int = 1000,
    seed: int | None = 0,
) -> MinimizeResult:
    """The blind walker: steps in random directions, taken where they lead down.

    It needs no gradient, and shows what a gradient is worth: beside `minimize` it is slower the
    more variables there are.

    Parameters
    ----------
    fun : callable
        From a point to a number; see `minimize`.
    x0 : float, array of any shape, "zeros" or "random", default "zeros"
        The start.
    size : int, optional
        Number of variables for a start given by name; the default is one, as a float.
    step_size : float, default 0.1
        Length of each step.
    steps : int, default 1000
        Directions tried, drawn uniformly.  Where one does not lead down the walker stays, and the
        point stands once more in the path.
    seed : int, default 0
        Of the directions, and of a random start.

    Returns
    -------
    MinimizeResult

    Raises
    ------
    TypeError, ValueError
        If an argument is not as it should be, or the value at the start is not finite.

    Examples
    --------
    >>> import downslope as ds
    >>> walk = ds.random_search(lambda p: p @ p, [3.0, 4.0], step_size=0.2, steps=200)
    >>> walk.fun < 0.1, walk.path.shape
    (True, (201, 2))
    """
    start = _as_start(x0, size, seed)
    seed = as_seed(seed)
    step_size = as_number("step_size", step_size, above=0.0)
    steps = as_count("steps", steps, at_least=0)
    objective = _Objective(fun, None, start.shape)
    x = start.reshape(-1)
    value = _finite_start(objective.value(x))
    path, values = [x], [value]
    for step in range(steps):
        direction = _kernels.random_normal(seed, _plan.STREAM_WALK + step, x.size)
        tried = x + direction * (step_size / math.sqrt(direction @ direction))
        found = objective.value(tried)
        if found < value:
            x, value = tried, found
        path.append(x)
        values.append(value)
    fell = value < values[0]
    return MinimizeResult(
        x=given(x.reshape(start.shape)),
        fun=value,
        jac=None,
        nit=steps,
        nfev=objective.nfev,
        njev=0,
        success=fell,
        message=f"tried {steps} directions" + ("" if fell else ", none of which led down"),
        path=np.reshape(path, (-1, *start.shape)),
        values=np.array(values),
        learning_rates=np.empty(0),
    )


def _as_start(x0: Any, size: int | None, seed: int | None) -> NDArray[np.float64]:
    if not isinstance(x0, str):
        if size is not None:
            raise ValueError('size goes with x0="zeros" or "random"; drop it, x0 has its own')
        return as_point("x0", x0)
    shape = () if size is None else (as_count("size", size),)
    if choose("start", x0, ("zeros", "random")) == "zeros":
        return np.zeros(shape)
    drawn = _kernels.random_normal(as_seed(seed), _plan.STREAM_START, math.prod(shape))
    return drawn.reshape(shape)


def _as_tolerance(name: str, value: float | None) -> float | None:
    return None if value is None else as_number(name, value, at_least=0.0)


def _check_backtracking(optimizer: Optimizer) -> None:
    if not isinstance(optimizer, SGD) or optimizer.momentum:
        raise ValueError(
            'learning_rate="backtracking" goes with SGD without momentum, whose step is along the '
            f"gradient; got {optimizer}"
        )


def _finite_start(value: float) -> float:
    if not math.isfinite(value):
        raise ValueError(f"fun must be finite at the start; it returned {value}: choose another x0")
    return value


class _Objective:
    """The caller's function and gradient on flat points, counted."""

    def __init__(self, fun: Any, gradient: Any, shape: tuple[int, ...]) -> None:
        if not callable(fun):
            raise TypeError(f"fun must be a function of the point; got {fun!r}")
        if not (gradient is None or gradient is True or callable(gradient)):
            raise TypeError(
                "gradient must be a function of the point, True where fun returns it with the "
                f"value, or None for differences; got {gradient!r}"
            )
        self._fun, self._gradient, self._shape = fun, gradient, shape
        self._returned: Any = None  # the gradient that came with the last value
        self.nfev = self.njev = 0

    def value(self, x: NDArray[np.float64]) -> float:
        self.nfev += 1
        value = self._fun(given(x.reshape(self._shape)))
        if self._gradient is True:
            if not isinstance(value, tuple | list) or len(value) != 2:
                raise ValueError(
                    f"with gradient=True fun must return (value, gradient); it returned {value!r}"
                )
            value, self._returned = value
        return as_value("fun", value)

    def slope(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """The gradient at x, where the last `value` was taken."""
        if self._gradient is None:
            return differences(self.value, x, _DIFFERENCE_STEP)
        self.njev += 1
        if self._gradient is True:
            return as_slope("fun", self._returned, self._shape).reshape(-1)
        return slope_at(self._gradient, x.reshape(self._shape)).reshape(-1)


class _Run:
    """A descent under way: the point, what is known there, and the path behind."""

    def __init__(
        self, objective: _Objective, start: NDArray[np.float64], optimizer: Optimizer
    ) -> None:
        network = Network(
            start.size,
            [Dense(1, weights=start.reshape(-1, 1), use_bias=False)],
            dtype="float64",
            seed=0,
        )
        self._objective, self._shape = objective, start.shape
        self._trainer = Trainer(network, optimizer=optimizer)
        self._longest = self._trainer.learning_rate
        self.x, self._gradients = network.parameters, network.gradients
        self.path: list[NDArray[np.float64]] = []
        self.values: list[float] = []
        self._rates: list[float] = []
        self.stuck = False  # whether backtracking found no rate at which the value falls
        self._arrive(_finite_start(objective.value(self.x)))
        if not np.isfinite(self.slope).all():
            raise ValueError("the gradient must be finite at the start: choose another x0")

    @property
    def nit(self) -> int:
        return len(self._rates)

    @property
    def stood_still(self) -> bool:
        """Whether there was no step yet, or the last one was of rate 0, as schedules may have."""
        return not self._rates or self._rates[-1] == 0

    def _arrive(self, value: float) -> None:
        self.slope = self._objective.slope(self.x)
        self.path.append(self.x.copy())
        self.values.append(value)

    def _try(self, rate: float | None) -> float:
        """Make the update from the last point, at the optimiser's own rate or another; the value
        it leads to."""
        self.x[...], self._gradients[...] = self.path[-1], self.slope
        if rate is not None:
            self._trainer.learning_rate = rate
        self._trainer.update()
        return self._objective.value(self.x)

    def step(self, rate: float | None) -> None:
        """One step, at the optimiser's own rate or another."""
        value = self._try(rate)
        self._rates.append(self._trainer.learning_rate)
        self._arrive(value)

    def step_back(self) -> None:
        """One step, with the optimiser's rate halved until the value falls enough."""
        rate = self._longest
        before, promised = self.values[-1], float(self.slope @ self.slope)
        for _ in range(_HALVINGS):
            value = self._try(rate)
            if value < before and value <= before - _SUFFICIENT * rate * promised:
                break
            rate /= 2
        else:
            rate, value = 0.0, self._try(0.0)
            self.stuck = True
        self._rates.append(rate)
        self._arrive(value)

    def result(self, message: str, success: bool) -> MinimizeResult:
        return MinimizeResult(
            x=given(self.path[-1].reshape(self._shape)),
            fun=self.values[-1],
            jac=given(self.slope.reshape(self._shape)),
            nit=self.nit,
            nfev=self._objective.nfev,
            njev=self._objective.njev,
            success=success,
            message=message,
            path=np.reshape(self.path, (-1, *self._shape)),
            values=np.array(self.values),
            learning_rates=np.array(self._rates),
        )


@dataclass(frozen=True)
class _Limits:
    """When a descent ends."""

    steps: int
    gradient: float
    step: float | None
    value: float | None

    def verdict(self, run: _Run) -> tuple[str, bool]:
        """Why the run ends here, or an empty text; and whether that is a success."""
        if trouble := _divergence(run):
            return f"diverged at step {run.nit}: {trouble}; {_ADVICE}", False
        if met := self._met(run):
            return met, True
        if run.stuck:
            return "no step along the gradient lowers the value by more than its rounding", False
        if run.nit >= self.steps:
            rose = run.values[-1] > run.values[0]
            hint = ", above the value at the start: lower the learning rate" if rose else ""
            return f"the limit of {self.steps} steps was reached{hint}", False
        return "", False

    def _met(self, run: _Run) -> str:
        """The tolerance that is met, or an empty text."""
        largest = float(np.abs(run.slope).max())
        if largest <= self.gradient:
            return f"the gradient, at most {largest:.2g}, is within gradient_tolerance"
        if run.stood_still:
            return ""
        step = float(np.abs(run.path[-1] - run.path[-2]).max())
        if self.step is not None and step <= self.step:
            return f"the last step, at most {step:.2g}, is within step_tolerance"
        change = abs(run.values[-1] - run.values[-2])
        if self.value is not None and change <= self.value:
            return f"the last change of the value, {change:.2g}, is within value_tolerance"
        return ""


def _divergence(run: _Run) -> str:
    """What says that the descent diverges, or an empty text."""
    if not math.isfinite(run.values[-1]):
        return f"the value is {run.values[-1]}"
    if not np.isfinite(run.slope).all():
        return "the gradient is not finite"
    start = run.path[0]
    if np.abs(run.x - start).max() > _FARTHEST * max(1.0, np.abs(start).max()):
        return "x ran away"
    return ""
