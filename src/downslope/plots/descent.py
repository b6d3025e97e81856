"""Pictures of descent on a function of one or two variables."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from downslope._validate import as_count
from downslope.minimization import MinimizeResult, minimize
from downslope.optimizers import SGD
from downslope.plots._figure import (
    BLUE,
    GREY,
    SERIES,
    heights,
    mark_ends,
    new_axes,
    new_row,
    pyplot,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Limits = tuple[float, float]
Results = MinimizeResult | Mapping[str, MinimizeResult]

# Points along a curve, and along each side of a plane.
_CURVE, _PLANE = 400, 80


def plot_descent(
    fun: Callable[[float], Any],
    result: MinimizeResult,
    ax: Axes | None = None,
    *,
    xlim: Limits | None = None,
) -> Axes:
    """Draw a function of one variable and the steps of a descent on it.

    Parameters
    ----------
    fun : callable
        From a float to a number.
    result : MinimizeResult
        A descent on it.
    ax : matplotlib.axes.Axes, optional
    xlim : (float, float), optional
        What to show; by default the path with some room.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ValueError
        If the result is of a function of several variables.
    ImportError
        If matplotlib is not installed.

    Examples
    --------
    >>> import downslope as ds, math
    >>> fun = lambda x: math.e**2 * math.sin(x)
    >>> result = ds.minimize(fun, optimizer=ds.SGD(0.05))
    >>> from downslope.plots import plot_descent
    >>> ax = plot_descent(fun, result)
    """
    path = _path(result, 1)[:, 0]
    low, high = _limits(path, xlim)
    ax = new_axes(ax)
    x = np.linspace(low, high, _CURVE)
    ax.plot(x, [float(fun(v)) for v in x], color=GREY)
    bottom, top = ax.get_ylim()
    values = result.values
    if len(path) > 1:
        _arrows(ax, path, values, BLUE)
    ax.plot(path, values, "o", color=BLUE, markersize=4, zorder=4)
    mark_ends(ax, (path[0], values[0]), (path[-1], values[-1]), BLUE)
    ax.set_ylim(bottom, top)
    ax.set_xlim(low, high)
    ax.set_xlabel("x")
    ax.set_ylabel("f(x)")
    ax.grid(alpha=0.3)
    return ax


def plot_learning_rates(
    fun: Callable[[float], Any],
    x0: float,
    learning_rates: Sequence[float],
    *,
    gradient: Callable[[float], Any] | None = None,
    steps: int = 20,
    xlim: Limits | None = None,
) -> NDArray[Any]:
    """Draw descents with several learning rates side by side: too small, right, too large.

    Parameters
    ----------
    fun : callable
        From a float to a number.
    x0 : float
        Where all begin.
    learning_rates : sequence of float
        A picture each.
    gradient : callable, optional
        See `downslope.minimize`.
    steps : int, default 20
        At most so many.
    xlim : (float, float), optional
        What to show, in all; by default all paths with some room, but not farther from where the
        best of them ends than twice the way there.

    Returns
    -------
    array of matplotlib.axes.Axes
        One for each learning rate.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as it should be.
    ImportError
        If matplotlib is not installed.
    """
    steps = as_count("steps", steps)
    results = [
        minimize(fun, float(x0), gradient=gradient, optimizer=SGD(rate), steps=steps)
        for rate in learning_rates
    ]
    if not results:
        raise ValueError("learning_rates is empty; give at least one")
    limits = _common_limits(results) if xlim is None else xlim
    axes = new_row(len(results), sharey=True)
    for ax, rate, result in zip(axes, learning_rates, results, strict=True):
        plot_descent(fun, result, ax, xlim=limits)
        ax.set_title(f"learning rate {rate:g}\n{_outcome(result)}", fontsize="medium")
        ax.label_outer()
    return axes


def _outcome(result: MinimizeResult) -> str:
    if result.success:
        return f"arrived after {result.nit} steps"
    if "diverged" in result.message or result.fun > result.values[0]:
        return f"diverges: f(x) = {result.fun:.3g} after {result.nit} steps"
    return f"f(x) = {result.fun:.3g} after {result.nit} steps"


def _common_limits(results: Sequence[MinimizeResult]) -> Limits:
    best = min(results, key=lambda result: result.fun if math.isfinite(result.fun) else math.inf)
    middle = float(best.x)
    reach = 2 * max(abs(middle - float(best.path[0])), 1e-3)
    everything = np.concatenate([result.path for result in results])
    return _limits(np.clip(everything, middle - reach, middle + reach), None)


def plot_contour(
    fun: Callable[[NDArray[np.float64]], Any],
    results: Results,
    ax: Axes | None = None,
    *,
    xlim: Limits | None = None,
    ylim: Limits | None = None,
    levels: int = 25,
) -> Axes:
    """Draw a function of two variables as a map, with the paths of descents on it.

    Parameters
    ----------
    fun : callable
        From an array (2,) to a number.
    results : MinimizeResult, or dict of name to MinimizeResult
        Descents on it, and walks of `random_search`.
    ax : matplotlib.axes.Axes, optional
    xlim, ylim : (float, float), optional
        What to show; by default the paths with some room.
    levels : int, default 25
        Number of contour lines, closer to each other near the least value.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ValueError
        If a result is not of a function of two variables.
    ImportError
        If matplotlib is not installed.
    """
    named = _named(results)
    x, y, z = _plane(fun, named, xlim, ylim)
    ax = new_axes(ax)
    count = as_count("levels", levels)
    if z.max() > z.min():
        ax.contourf(x, y, z, levels=heights(z, count), cmap="Greys", alpha=0.35)
        ax.contour(x, y, z, levels=heights(z, count), colors=GREY, linewidths=0.5)
    for (name, result), (colour, dashes, _) in zip(named.items(), _cycle(), strict=False):
        path = result.path
        ax.plot(*path.T, dashes, color=colour, marker=".", markersize=4, linewidth=1.5, label=name)
        mark_ends(ax, tuple(path[0]), tuple(path[-1]), colour)
    ax.set_xlim(x[0], x[-1])
    ax.set_ylim(y[0], y[-1])
    ax.set_xlabel("x")
    ax.set_ylabel("y")
    if any(named):
        ax.legend(framealpha=0.9)
    return ax


def plot_surface(
    fun: Callable[[NDArray[np.float64]], Any],
    results: Results,
    ax: Axes | None = None,
    *,
    xlim: Limits | None = None,
    ylim: Limits | None = None,
) -> Axes:
    """Draw a function of two variables as a surface, with the paths of descents on it.

    Parameters
    ----------
    fun, results, xlim, ylim
        See `plot_contour`.
    ax : mpl_toolkits.mplot3d.Axes3D, optional
        Axes with ``projection="3d"``.

    Returns
    -------
    mpl_toolkits.mplot3d.Axes3D

    Raises
    ------
    ValueError
        If a result is not of a function of two variables, or `ax` is flat.
    ImportError
        If matplotlib is not installed.
    """
    named = _named(results)
    x, y, z = _plane(fun, named, xlim, ylim)
    if ax is None:
        ax = pyplot().figure(figsize=(6.4, 5.4)).add_subplot(projection="3d")
    if ax.name != "3d":
        raise ValueError('a surface needs axes with projection="3d"; got flat ones')
    deep: Any = ax
    # What is drawn last is on top: paths are on the surface, not behind it.
    deep.computed_zorder = False
    deep.plot_surface(
        *np.meshgrid(x, y), z, cmap="viridis", alpha=0.65, linewidth=0, rcount=60, ccount=60
    )
    for (name, result), (colour, dashes, _) in zip(named.items(), _cycle(), strict=False):
        path = result.path
        inside = (path >= [x[0], y[0]]).all(axis=1) & (path <= [x[-1], y[-1]]).all(axis=1)
        points = np.column_stack([path, result.values])[inside]
        deep.plot(*points.T, dashes, color=colour, marker=".", linewidth=1.8, label=name, zorder=4)
        if len(points):
            mark_ends(ax, tuple(points[0]), tuple(points[-1]), colour)
    deep.set(xlabel="x", ylabel="y", zlabel="f(x, y)")
    deep.view_init(elev=38, azim=-60)
    deep.set_box_aspect(None, zoom=0.95)
    if any(named):
        ax.legend(loc="upper center", ncols=2, bbox_to_anchor=(0.5, 1.08))
    return ax


def _path(result: MinimizeResult, variables: int) -> NDArray[np.float64]:
    """The path (points, variables)."""
    points = result.path.reshape(len(result.path), -1)
    if points.shape[1] != variables:
        raise ValueError(
            f"this picture is of a function of {variables} variable{'s'[: variables - 1]}; the "
            f"result is of one of {points.shape[1]}"
        )
    return points


def _named(results: Results) -> dict[str, MinimizeResult]:
    """Results by name; a single one has none."""
    named = {"": results} if isinstance(results, MinimizeResult) else dict(results)
    if not named:
        raise ValueError("there is no result to draw; give at least one")
    for result in named.values():
        _path(result, 2)
    return named


def _limits(values: NDArray[np.float64], given: Limits | None) -> Limits:
    """The range of the values with some room."""
    if given is not None:
        return given
    low, high = float(values.min()), float(values.max())
    room = 0.15 * (high - low) or 1.0
    return low - room, high + room


def _plane(
    fun: Callable[[NDArray[np.float64]], Any],
    named: Mapping[str, MinimizeResult],
    xlim: Limits | None,
    ylim: Limits | None,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Two sides and the values (y, x) of the function over them."""
    points = np.concatenate([result.path.reshape(-1, 2) for result in named.values()])
    x = np.linspace(*_limits(points[:, 0], xlim), _PLANE)
    y = np.linspace(*_limits(points[:, 1], ylim), _PLANE)
    return x, y, np.array([[float(fun(np.array([a, b]))) for a in x] for b in y])


def _cycle() -> list[tuple[str, str, str]]:
    return [*SERIES] * 4


def _arrows(ax: Axes, x: NDArray[np.float64], y: NDArray[np.float64], colour: str) -> None:
    """From each point to the next."""
    ax.quiver(
        x[:-1],
        y[:-1],
        np.diff(x),
        np.diff(y),
        angles="xy",
        scale_units="xy",
        scale=1,
        width=0.005,
        color=colour,
        alpha=0.6,
        zorder=3,
    )
