"""Pictures of training: the losses over the epochs, the boundary between classes."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from downslope._validate import as_count
from downslope.losses import Loss
from downslope.network import Network
from downslope.optimizers import Optimizer
from downslope.plots._figure import BLACK, BLUE, RED, SERIES, new_axes, new_row, pyplot
from downslope.training import Trainer

if TYPE_CHECKING:
    from matplotlib.animation import FuncAnimation
    from matplotlib.axes import Axes

    from downslope.history import History
    from downslope.learning_rate import LearningRateSearch

# Losses that span more than this factor are drawn on a logarithmic axis.
_LOGARITHMIC_FROM = 10.0
# Points along each side of a plane on which a network is evaluated.
_GRID = 200


def plot_history(history: History, ax: Axes | None = None) -> Axes:
    """Draw the training loss, and the validation loss if there was any, over the epochs.

    The epoch of the least validation loss is marked: the weights of that epoch are the ones that
    `EarlyStopping(restore_best_weights=True)` brings back.

    Parameters
    ----------
    history : History
        What `Network.fit` returned: `loss` and `val_loss`, one float per epoch.
    ax : matplotlib.axes.Axes, optional
        Where to draw; by default the axes of a new pyplot figure.

    Returns
    -------
    matplotlib.axes.Axes
        The axes drawn on, to be changed further; `ax.figure.savefig("loss.png")` saves them.

    Raises
    ------
    ValueError
        If the history holds no epoch.
    ImportError
        If matplotlib is not installed.
    """
    if not history.loss:
        raise ValueError("the history holds no epoch yet: call fit before plotting")
    ax = new_axes(ax)
    epochs = np.arange(1, len(history.loss) + 1)
    ax.plot(epochs, history.loss, color=BLUE, label="training")
    if history.val_loss:
        ax.plot(epochs, history.val_loss, color=RED, linestyle="--", label="validation")
        _mark_best(ax, history.val_loss)
    _label(ax, [*history.loss, *history.val_loss])
    return ax


def plot_learning_rate_search(search: LearningRateSearch, ax: Axes | None = None) -> Axes:
    """Draw the loss over the learning rates that were tried, with the suggested one marked.

    Parameters
    ----------
    search : LearningRateSearch
        What `find_learning_rate` returned.
    ax : matplotlib.axes.Axes, optional
        Where to draw; by default the axes of a new figure.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    """
    ax = new_axes(ax)
    ax.plot(search.learning_rates, search.losses, color=BLUE, label="training, smoothed")
    label = f"suggested: {search.suggestion:.3g}"
    ax.axvline(search.suggestion, color=BLACK, linewidth=0.8, linestyle=":", label=label)
    ax.set_xscale("log")
    ax.set_xlabel("learning rate")
    ax.set_ylabel("loss")
    ax.grid(alpha=0.3)
    ax.legend()
    return ax


def _mark_best(ax: Axes, losses: list[float]) -> None:
    """Mark the least of `losses` with a dot and a vertical line."""
    best = int(np.argmin(losses))
    label = f"least validation loss: {losses[best]:.4g} at epoch {best + 1}"
    ax.axvline(best + 1, color=BLACK, linewidth=0.8, linestyle=":")
    ax.plot(best + 1, losses[best], "o", color=BLACK, markersize=5, label=label)


def _label(ax: Axes, losses: list[float]) -> None:
    from matplotlib.ticker import MaxNLocator

    least, largest = min(losses), max(losses)
    if least > 0.0 and largest > _LOGARITHMIC_FROM * least:
        ax.set_yscale("log")
    ax.set_xlabel("epoch")
    ax.set_ylabel("loss")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.grid(alpha=0.3)
    ax.legend()


def plot_boundary(network: Network, X: ArrayLike, y: ArrayLike, ax: Axes | None = None) -> Axes:
    """Draw what a classifier of two inputs says over the plane, and the rows on it.

    Parameters
    ----------
    network : Network
        With two inputs, and one output (the probability of class 1) or one for each class.
    X : array (rows, 2)
    y : array (rows,)
        Class labels.
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ValueError
        If the network has not two inputs, or X and y do not go with it.
    ImportError
        If matplotlib is not installed.
    """
    x, labels = _plane_rows(network, X, y)
    ax = new_axes(ax)
    _draw_boundary(network, x, labels, ax)
    return ax


def plot_boundaries(
    network: Network,
    X: ArrayLike,
    y: ArrayLike,
    *,
    epochs: Sequence[int] = (0, 10, 50, 200),
    loss: str | Loss = "cross_entropy",
    optimizer: str | Optimizer = "sgd",
    batch_size: int | None = 32,
) -> NDArray[Any]:
    """Draw the boundary between classes after some numbers of epochs, side by side.

    A copy of the network is trained.

    Parameters
    ----------
    network, X, y
        See `plot_boundary`.
    epochs : sequence of int, default (0, 10, 50, 200)
        When to draw, ascending.
    loss, optimizer, batch_size
        See `Network.fit`.

    Returns
    -------
    array of matplotlib.axes.Axes
        One for each number of epochs.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as it should be.
    ImportError
        If matplotlib is not installed.
    """
    x, labels = _plane_rows(network, X, y)
    snapshots = _snapshots(network, x, y, epochs, loss, optimizer, batch_size)
    axes = new_row(len(snapshots), sharex=True, sharey=True)
    shown = copy.deepcopy(network)
    for ax, epoch, parameters in zip(axes, epochs, snapshots, strict=True):
        shown.parameters[...] = parameters
        _draw_boundary(shown, x, labels, ax)
        ax.set_title(_epochs_text(epoch))
        ax.label_outer()
    for ax in axes[1:]:
        ax.get_legend().remove()
    return axes


def animate_boundary(
    network: Network,
    X: ArrayLike,
    y: ArrayLike,
    *,
    epochs: Sequence[int] = tuple(range(0, 101, 5)),
    loss: str | Loss = "cross_entropy",
    optimizer: str | Optimizer = "sgd",
    batch_size: int | None = 32,
    interval: int = 150,
) -> FuncAnimation:
    """The boundary between classes over training, as a film.

    Parameters
    ----------
    network, X, y, loss, optimizer, batch_size
        See `plot_boundaries`.
    epochs : sequence of int, default 0, 5, ..., 100
        One picture each, ascending.
    interval : int, default 150
        Milliseconds between them.

    Returns
    -------
    matplotlib.animation.FuncAnimation
        ``animation.save("boundary.gif", writer="pillow")``, or ``animation.to_jshtml()`` for a
        page or a notebook.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as it should be.
    ImportError
        If matplotlib is not installed.
    """
    x, labels = _plane_rows(network, X, y)
    snapshots = _snapshots(network, x, y, epochs, loss, optimizer, batch_size)
    pyplot()  # says how to install matplotlib, if it is missing
    from matplotlib.animation import FuncAnimation

    ax, shown = new_axes(None, figsize=(4.5, 4)), copy.deepcopy(network)

    def draw(frame: int) -> list[Any]:
        ax.clear()
        shown.parameters[...] = snapshots[frame]
        _draw_boundary(shown, x, labels, ax)
        ax.set_title(_epochs_text(epochs[frame]))
        return []

    draw(0)
    figure: Any = ax.figure
    return FuncAnimation(figure, draw, frames=len(snapshots), interval=interval, init_func=list)


def _epochs_text(epoch: int) -> str:
    return f"{epoch} epoch" if epoch == 1 else f"{epoch} epochs"


def _plane_rows(
    network: Network, X: ArrayLike, y: ArrayLike
) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Rows (rows, 2) and labels (rows,), if they go with the network."""
    if network.inputs != 2:
        raise ValueError(
            f"a boundary is drawn for a network with two inputs; this one has {network.inputs}"
        )
    x, labels = np.asarray(X), np.asarray(y).reshape(-1)
    if x.ndim != 2 or x.shape[1] != 2 or len(x) != len(labels):
        raise ValueError(
            f"X must be (rows, 2) and y (rows,) class labels; got {x.shape} and {np.shape(y)}"
        )
    if len(x) == 0:
        raise ValueError("X has no rows; give at least one")
    return x, labels.astype(np.int64)


def _snapshots(
    network: Network,
    x: NDArray[Any],
    y: ArrayLike,
    epochs: Sequence[int],
    loss: str | Loss,
    optimizer: str | Optimizer,
    batch_size: int | None,
) -> list[NDArray[Any]]:
    """The parameters after so many epochs each, of a copy of the network."""
    numbers = [as_count("epochs", epoch, at_least=0) for epoch in epochs]
    if not numbers or any(b <= a for a, b in itertools.pairwise(numbers)):
        raise ValueError(f"epochs must be ascending numbers, such as (0, 10, 100); got {epochs!r}")
    trainer = Trainer(copy.deepcopy(network), loss, optimizer)
    snapshots = []
    for number in numbers:
        if number > trainer.epoch:
            trainer.fit(x, y, epochs=number - trainer.epoch, batch_size=batch_size)
        snapshots.append(trainer.network.parameters.copy())
    return snapshots


def _draw_boundary(network: Network, x: NDArray[Any], labels: NDArray[np.int64], ax: Axes) -> None:
    """Shade the plane by class, the stronger the surer, and draw the rows."""
    from matplotlib.colors import to_rgb

    low, high = x.min(axis=0), x.max(axis=0)
    margin = 0.1 * np.where(high > low, high - low, 1.0)
    low, high = low - margin, high + margin
    sides = [np.linspace(low[axis], high[axis], _GRID) for axis in (0, 1)]
    grid = np.stack(np.meshgrid(*sides), axis=-1).reshape(-1, 2)
    outputs = network.predict(grid).astype(np.float64)
    if network.outputs == 1:
        outputs = np.hstack([1 - outputs, outputs])
    winner, sureness = outputs.argmax(axis=1), np.clip(outputs.max(axis=1), 0, 1)

    colours = np.array([to_rgb(SERIES[k % len(SERIES)][0]) for k in range(outputs.shape[1])])
    strength = 0.1 + 0.45 * sureness[:, None]
    shades = 1 - strength * (1 - colours[winner])
    ax.imshow(
        shades.reshape(_GRID, _GRID, 3),
        origin="lower",
        extent=(low[0], high[0], low[1], high[1]),
        aspect="auto",
        interpolation="bilinear",
    )
    if len(np.unique(winner)) > 1:
        levels = np.arange(outputs.shape[1] - 1) + 0.5
        ax.contour(
            *sides, winner.reshape(_GRID, _GRID), levels=levels, colors=BLACK, linewidths=0.8
        )
    _draw_rows(x, labels, ax)
    ax.set_xlabel("input 1")
    ax.set_ylabel("input 2")
    ax.legend(loc="upper right", framealpha=0.9)


def _draw_rows(x: NDArray[Any], labels: NDArray[np.int64], ax: Axes) -> None:
    for k in np.unique(labels):
        colour, _, marker = SERIES[k % len(SERIES)]
        ax.scatter(
            x[labels == k, 0],
            x[labels == k, 1],
            s=18,
            marker=marker,
            color=colour,
            edgecolors="white",
            linewidths=0.5,
            label=f"class {k}",
        )
