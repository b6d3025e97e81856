"""Pictures of networks: their values and gradients, activations, the error around them."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from downslope import _kernels, _plan
from downslope._validate import as_count, as_number, as_seed
from downslope.activations import ACTIVATIONS, Activation, as_activation
from downslope.explanation import Explanation, LayerPass
from downslope.layers import Dense
from downslope.losses import Loss
from downslope.network import Network
from downslope.plots._figure import BLACK, BLUE, GREY, ORANGE, RED, heights, new_axes, new_row
from downslope.training import Trainer

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Points along a curve.
_CURVE = 200
# Up to so many weights between two layers have their values written beside them.
_WRITTEN = 6


def plot_weight(
    network: Network,
    X: ArrayLike,
    y: ArrayLike,
    weight: tuple[int, int, int],
    ax: Axes | None = None,
    *,
    loss: str | Loss = "mse",
    learning_rate: float = 0.01,
    span: float | None = None,
) -> Axes:
    """Draw the error as a function of one weight, with the tangent and the next step.

    Parameters
    ----------
    network : Network
        It is not changed.
    X : array (rows, inputs)
    y : array (rows, outputs), or (rows,) for one output or for class labels
    weight : (layer, input, output)
        Which one, counted from 0: ``network.layers[layer].weights[input, output]``.
    ax : matplotlib.axes.Axes, optional
    loss : str, default "mse"
    learning_rate : float, default 0.01
        Of the step.
    span : float, optional
        How far to look to either side; by default 2, or farther if the step is longer.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    TypeError, ValueError
        If an argument is not as it should be.
    ImportError
        If matplotlib is not installed.
    """
    layer, i, j = _checked_weight(network, weight)
    rate = as_number("learning_rate", learning_rate, above=0.0)
    trial = copy.deepcopy(network)
    error = Trainer(trial, loss).compute_gradients(X, y)
    gradients = _plan.make_views(trial.inputs, trial._dense, trial.gradients)
    weights = trial.layers[layer].weights
    here, slope = float(weights[i, j]), float(gradients[layer].weights[i, j])
    there = here - rate * slope
    reach = max(2.0, 1.5 * abs(there - here))
    if span is not None:
        reach = as_number("span", span, above=0.0)
    values = np.linspace(here - reach, here + reach, _CURVE)

    def error_at(value: float) -> float:
        weights[i, j] = value
        return trial.evaluate(X, y, loss=loss)

    errors = np.array([error_at(value) for value in values])
    ax = new_axes(ax)
    ax.plot(values, errors, color=BLUE, label="error")
    room = 0.1 * (errors.max() - errors.min())
    ax.set_ylim(errors.min() - room, errors.max() + room)
    tangent = error + slope * (values - here)
    ax.plot(values, tangent, "--", color=GREY, linewidth=1.2, label=f"tangent, slope {slope:.4g}")
    ax.plot(here, error, "o", color=RED, label=f"weight {here:.6g}", zorder=4)
    label = f"after a step of {rate:g} × {slope:.4g}: {there:.6g}"
    ax.plot(there, error_at(there), "s", color=ORANGE, markersize=5, label=label, zorder=3)
    ax.set_xlabel(f"weight from unit {i + 1} to unit {j + 1} of layer {layer + 1}")
    ax.set_ylabel("error")
    ax.set_xlim(values[0], values[-1])
    ax.grid(alpha=0.3)
    ax.legend()
    return ax


def _checked_weight(network: Network, weight: tuple[int, int, int]) -> tuple[int, int, int]:
    """Layer, input and output, if there is such a weight."""
    layer, i, j = (as_count("weight", n, at_least=0) for n in weight)
    if layer >= len(network.layers):
        raise ValueError(f"there is no layer {layer}; the last one is {len(network.layers) - 1}")
    shape = network.layers[layer].weights.shape
    if i >= shape[0] or j >= shape[1]:
        raise ValueError(f"there is no weight {(i, j)} in layer {layer}, of shape {shape}")
    return layer, i, j


def plot_network(explanation: Explanation, ax: Axes | None = None) -> Axes:
    """Draw a network with its values, and its gradients as the widths and colours of the lines.

    Parameters
    ----------
    explanation : Explanation
        What `downslope.explain` returned.
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    TypeError, ValueError
        If it is no explanation, or a layer has more than 20 units.
    ImportError
        If matplotlib is not installed.
    """
    if not isinstance(explanation, Explanation):
        raise TypeError(
            "give what downslope.explain(network, x, target) returns; got "
            f"{type(explanation).__name__}"
        )
    layers = explanation.layers
    columns = [layers[0].inputs, *(layer.output for layer in layers)]
    tallest = max(len(column) for column in columns)
    if tallest > 20:
        raise ValueError(f"a diagram has room for 20 units in a layer; this one has {tallest}")
    ax = new_axes(ax, figsize=(3.2 * len(columns), max(3.2, 1.2 * tallest + 1)))
    greatest = max(float(np.abs(layer.d_weights).max()) for layer in layers) or 1.0
    places = [_places(len(column), tallest) for column in columns]
    for number, layer in enumerate(layers):
        _draw_weights(ax, explanation, number, places[number], places[number + 1], greatest)
        _draw_bias(ax, layer, number + 1, max(places[number + 1]))
    for number, column in enumerate(columns):
        for unit, (height, value) in enumerate(zip(places[number], column, strict=True)):
            _draw_unit(ax, explanation, number, unit, height, float(value))
    for k, (height, target) in enumerate(zip(places[-1], explanation.target, strict=True)):
        error = "" if explanation.errors is None else f"\nerror {explanation.errors[k]:.4g}"
        ax.text(len(layers) + 0.24, height, f"target {target:.4g}{error}", va="center")
    _key(ax, explanation, greatest)
    ax.set_xlim(-0.35, len(layers) + 0.75)
    ax.set_ylim(-0.75, tallest - 0.15)
    ax.set_axis_off()
    return ax


def _places(count: int, tallest: int) -> list[float]:
    """Heights of the units of a layer, the first on top."""
    return [(tallest + count) / 2 - 1 - unit for unit in range(count)]


def _draw_unit(
    ax: Axes, explanation: Explanation, column: int, unit: int, height: float, value: float
) -> None:
    from matplotlib.patches import Ellipse

    name = explanation.unit_name(column, unit)
    ax.add_patch(
        Ellipse((column, height), 0.36, 0.52, facecolor="white", edgecolor=BLACK, zorder=3)
    )
    ax.text(column, height, f"{name}\n{value:.4g}", ha="center", va="center", zorder=4)


def _draw_weights(
    ax: Axes,
    explanation: Explanation,
    number: int,
    left: Sequence[float],
    right: Sequence[float],
    greatest: float,
) -> None:
    layer = explanation.layers[number]
    written = layer.weights.size <= _WRITTEN
    for i, begin in enumerate(left):
        for j, end in enumerate(right):
            gradient = float(layer.d_weights[i, j])
            ax.plot(
                [number, number + 1],
                [begin, end],
                linestyle=(0, (4, 1)) if gradient < 0 else "-",
                color=RED if gradient > 0 else BLUE if gradient < 0 else GREY,
                linewidth=0.5 + 5.5 * abs(gradient) / greatest,
                alpha=0.75,
                zorder=1,
            )
            if written:
                _write_weight(ax, number, begin, end, float(layer.weights[i, j]), gradient)


def _write_weight(
    ax: Axes, number: int, begin: float, end: float, weight: float, gradient: float
) -> None:
    """A weight and its gradient, a third of the way along: there, lines that cross are apart."""
    along = 0.34
    ax.text(
        number + along,
        begin + along * (end - begin),
        f"{weight:.4g}\n({gradient:+.3g})",
        ha="center",
        va="center",
        fontsize="small",
        bbox={"boxstyle": "round,pad=0.15", "facecolor": "white", "edgecolor": "none"},
        zorder=2,
    )


def _draw_bias(ax: Axes, layer: LayerPass, column: int, top: float) -> None:
    if layer.bias is not None and (layer.shared_bias or layer.bias.size == 1):
        gradient = 0.0 if layer.d_bias is None else float(layer.d_bias[0])
        text = f"bias {float(layer.bias[0]):.4g}\n({gradient:+.3g})"
        ax.text(column, top + 0.36, text, ha="center", va="bottom", fontsize="small")


def _key(ax: Axes, explanation: Explanation, greatest: float) -> None:
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], color=RED, linewidth=3, label="gradient above 0: the weight falls"),
        Line2D([], [], color=BLUE, linewidth=3, linestyle="--", label="below 0: the weight grows"),
    ]
    title = f"error {explanation.error:.6g} · widest line: gradient of size {greatest:.3g}"
    ax.legend(handles=handles, title=title, loc="lower center", ncols=2, frameon=False)


def plot_activations(
    activations: Sequence[str | Activation] | str | Activation | None = None,
    *,
    span: float = 5.0,
) -> NDArray[Any]:
    """Draw activation functions with their derivatives, as the engine computes them.

    Parameters
    ----------
    activations : name, Activation, or sequence of these, optional
        The default is all that work on single units.
    span : float, default 5.0
        How far to show to either side of 0.

    Returns
    -------
    array of matplotlib.axes.Axes
        One for each.

    Raises
    ------
    TypeError, ValueError
        If an activation is unknown, or works on all units of a layer together, as softmax does.
    ImportError
        If matplotlib is not installed.
    """
    if activations is None:
        activations = [name for name in ACTIVATIONS if name not in _kernels.ROWWISE_ACTIVATIONS]
    if isinstance(activations, str | Activation):
        activations = [activations]
    chosen = [as_activation(activation) for activation in activations]
    span = as_number("span", span, above=0.0)
    for activation in chosen:
        if activation.name in _kernels.ROWWISE_ACTIVATIONS:
            raise ValueError(
                f"{activation.name} works on all units of a layer together; there is no curve"
            )
    axes = new_row(len(chosen), 3, sharex=True)
    z = np.linspace(-span, span, 2 * _CURVE + 1)
    for ax, activation in zip(axes, chosen, strict=True):
        y, slope = _curve(activation, z)
        ax.plot(z, y, color=BLUE, label="function")
        ax.plot(z, slope, "--", color=RED, label="derivative")
        ax.set_title(_title(activation), fontsize="medium")
        ax.grid(alpha=0.3)
    axes[0].legend()
    return axes


def _title(activation: Activation) -> str:
    parameter = "" if activation.parameter is None else f"({activation.parameter:g})"
    return activation.name + parameter


def _curve(
    activation: Activation, z: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The function and its derivative at z, by a network that is nothing but the activation."""
    network = Network(1, [Dense(1, activation, weights=[[1.0]], use_bias=False)], dtype="float64")
    rows = z.reshape(-1, 1)
    y = network.forward(rows)
    return y[:, 0], network.backward(np.ones_like(rows))[:, 0]


def plot_loss_landscape(
    network: Network,
    X: ArrayLike,
    y: ArrayLike,
    ax: Axes | None = None,
    *,
    loss: str | Loss = "mse",
    span: float = 1.0,
    resolution: int = 41,
    seed: int | None = 0,
) -> Axes:
    """Draw the loss around a network's parameters, along two random directions.

    Each direction is scaled, for each unit, to the length of the unit's own weights (Li et al.,
    "Visualizing the loss landscape of neural nets", 2018), so that 1 on an axis is a change as
    large as the weights; the biases stay.

    Parameters
    ----------
    network : Network
        A trained one; it is not changed.
    X : array (rows, inputs)
    y : array (rows, outputs), or (rows,) for one output or for class labels
    ax : matplotlib.axes.Axes, optional
    loss : str, default "mse"
    span : float, default 1.0
        How far to look along each direction.
    resolution : int, default 41
        Points along each side; the loss is evaluated at the square of it.
    seed : int, default 0
        Of the directions.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    TypeError, ValueError
        If an argument is not as it should be.
    ImportError
        If matplotlib is not installed.
    """
    span = as_number("span", span, above=0.0)
    resolution = as_count("resolution", resolution, at_least=2)
    trial = copy.deepcopy(network)
    here = trial.parameters.astype(np.float64)
    directions = _directions(trial, np.random.default_rng(as_seed(seed)))
    sides = np.linspace(-span, span, resolution)
    losses = np.empty((resolution, resolution))
    for row, b in enumerate(sides):
        for column, a in enumerate(sides):
            trial.parameters[...] = here + a * directions[0] + b * directions[1]
            losses[row, column] = trial.evaluate(X, y, loss=loss)
    ax = new_axes(ax)
    levels = heights(losses, 25) if losses.max() > losses.min() else None
    map_ = ax.contourf(sides, sides, losses, levels=levels, cmap="viridis")
    ax.contour(sides, sides, losses, levels=levels, colors="white", linewidths=0.3)
    ax.plot(0, 0, "P", color="white", markeredgecolor=BLACK, markersize=10, label="the network")
    figure: Any = ax.figure
    figure.colorbar(map_, ax=ax, label="loss", format="%.3g")
    ax.set_xlabel("direction 1")
    ax.set_ylabel("direction 2")
    ax.legend(loc="upper right")
    return ax


def _directions(network: Network, rng: np.random.Generator) -> NDArray[np.float64]:
    """Two random directions (2, parameters), as long as the weights unit by unit."""
    probe = copy.deepcopy(network)
    directions = np.empty((2, network.parameters.size))
    for direction in directions:
        for layer, drawn in zip(network.layers, probe.layers, strict=True):
            values = rng.normal(size=layer.weights.shape)
            lengths = np.linalg.norm(layer.weights, axis=0) / np.linalg.norm(values, axis=0)
            drawn.weights[...] = values * lengths
            if drawn.bias is not None:
                drawn.bias[...] = 0
        direction[...] = probe.parameters
    return directions
