"""Pictures of a training run.  Needs matplotlib, which is imported when a picture is drawn."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from downslope.history import History
    from downslope.learning_rate import LearningRateSearch

# From the palette of Okabe and Ito, whose colours people with any colour vision can tell apart;
# dashes and a marker carry the same distinction without colour.
_TRAINING, _VALIDATION, _BEST = "#0072B2", "#D55E00", "#000000"

# Losses that span more than this factor are drawn on a logarithmic axis.
_LOGARITHMIC_FROM = 10.0


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
    if ax is None:
        ax = _new_axes()
    epochs = np.arange(1, len(history.loss) + 1)
    ax.plot(epochs, history.loss, color=_TRAINING, label="training")
    if history.val_loss:
        ax.plot(epochs, history.val_loss, color=_VALIDATION, linestyle="--", label="validation")
        _mark_best(ax, history.val_loss)
    _label(ax, [*history.loss, *history.val_loss])
    return ax


def plot_learning_rates(search: LearningRateSearch, ax: Axes | None = None) -> Axes:
    """Draw the loss over the learning rates, with the suggested one marked.

    Parameters
    ----------
    search : LearningRateSearch
        What `find_learning_rate` returned.
    ax : matplotlib.axes.Axes, optional
        Where to draw; by default the axes of a new pyplot figure.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    """
    if ax is None:
        ax = _new_axes()
    ax.plot(search.learning_rates, search.losses, color=_TRAINING, label="training, smoothed")
    label = f"suggested: {search.suggestion:.3g}"
    ax.axvline(search.suggestion, color=_BEST, linewidth=0.8, linestyle=":", label=label)
    ax.set_xscale("log")
    ax.set_xlabel("learning rate")
    ax.set_ylabel("loss")
    ax.grid(alpha=0.3)
    ax.legend()
    return ax


def _new_axes() -> Axes:
    try:
        from matplotlib import pyplot
    except ImportError as error:
        raise ImportError(
            'plotting needs matplotlib: python -m pip install "downslope[cli]"'
        ) from error
    return pyplot.subplots(layout="constrained")[1]


def _mark_best(ax: Axes, losses: list[float]) -> None:
    """Mark the least of `losses` with a dot and a vertical line."""
    best = int(np.argmin(losses))
    label = f"least validation loss: {losses[best]:.4g} at epoch {best + 1}"
    ax.axvline(best + 1, color=_BEST, linewidth=0.8, linestyle=":")
    ax.plot(best + 1, losses[best], "o", color=_BEST, markersize=5, label=label)


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
