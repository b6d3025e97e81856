"""Why a network does not learn: its layers on some data, in numbers and in words.

One forward and one backward pass in float64, layer by layer in plain view: activations y = f(z) of
(rows, outputs), the derivative f'(z), and the gradients of the mean loss.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from downslope import _kernels, _plan
from downslope._scale import LARGEST, sizes
from downslope.gradients import in_float64
from downslope.layers import Layer
from downslope.losses import Loss
from downslope.network import Network
from downslope.training import Trainer

# A unit is dead if its derivative is zero in every row; an element is saturated if its derivative
# is below this share of the activation's largest.
_FLAT = 0.02
# Shares of a layer's units and elements from which on the report says something.
_MANY_DEAD, _MANY_SATURATED = 0.2, 0.5
# Ratios of the gradient's size between the first and the last layer; and of gradient to weights.
_VANISHING, _EXPLODING, _STEEP = 1e-3, 1e3, 1e3
# The least spread of an input column that varies at all.
_SPREAD = 0.02


@dataclass(frozen=True)
class LayerDiagnosis:
    """One layer in numbers.

    Attributes
    ----------
    layer : int
        From 0.
    activation : str
    dead : float
        The share of units whose derivative is zero in every row: no gradient reaches their weights.
    saturated : float
        The share of outputs where the activation is nearly flat; 0 for activations that do not
        level off on both sides.
    gradient : float
        The root mean square of the gradient by the weights.
    weights : float
        The root mean square of the weights.
    """

    layer: int
    activation: str
    dead: float
    saturated: float
    gradient: float
    weights: float


@dataclass(frozen=True)
class Diagnosis:
    """What `Network.diagnose` found; print it to read it.

    Attributes
    ----------
    layers : list of LayerDiagnosis
    unscaled : list of int
        Columns of the inputs that lie far from zero, or hardly or widely vary.
    loss : float
        The mean loss of the rows.
    findings : list of str
        Each says what is wrong, where, and what to try; empty if nothing is.
    """

    layers: list[LayerDiagnosis]
    unscaled: list[int]
    loss: float
    findings: list[str]

    def __str__(self) -> str:
        table = [
            f"loss {self.loss:.5g}",
            "layer  activation      dead  saturated   gradient    weights",
        ]
        table += [
            f"{part.layer:5}  {part.activation:<12}{part.dead:8.1%}{part.saturated:11.1%}"
            f"{part.gradient:11.3g}{part.weights:11.3g}"
            for part in self.layers
        ]
        return "\n".join([*table, *(self.findings or ["Nothing stands out."])])


def diagnose(
    network: Network,
    X: ArrayLike,
    y: ArrayLike,
    *,
    loss: str | Loss = "mse",
    sample_weight: ArrayLike | None = None,
) -> Diagnosis:
    """See `Network.diagnose`."""
    copy = in_float64(network)
    chosen = copy.checked_loss(loss)
    data = copy.dataset(X, y, chosen, sample_weight)
    x, targets, weight = data.arrays
    value = Trainer(copy, chosen).compute_gradients(x, targets, sample_weight=weight)
    layers = _layers(copy, x)
    unscaled = _unscaled(x)
    findings = [*_about_inputs(unscaled, x), *_about_units(layers), *_about_gradients(layers)]
    return Diagnosis(layers, unscaled, value, findings)


# ---- Numbers ----


def _layers(network: Network, x: NDArray[np.float64]) -> list[LayerDiagnosis]:
    """The layers on rows of inputs, with the gradients that the network holds."""
    found = []
    gradients = _plan.make_views(network.inputs, network._dense, network.gradients)
    for number, (layer, gradient) in enumerate(zip(network.layers, gradients, strict=True)):
        z = x @ layer.weights
        if layer.bias is not None:
            z += layer.bias
        y, slope = _activate(layer, z)
        found.append(
            LayerDiagnosis(
                number,
                layer.activation.name,
                float(np.mean((slope == 0).all(axis=0))),
                _saturated(layer, slope),
                _size(gradient.weights),
                _size(layer.weights),
            )
        )
        x = y
    return found


def _activate(
    layer: Layer, z: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """y = f(z) and the derivative, of each y by its own z; 1 where whole rows are activated."""
    isa, name = _kernels.active_isa(), layer.activation.name
    alpha = layer.activation.parameter or 0.0
    z = np.ascontiguousarray(z)
    y, slope = np.empty_like(z), np.ones_like(z)
    _kernels.run_activation(isa, name, z, alpha, y)
    if name not in _kernels.ROWWISE_ACTIVATIONS:
        _kernels.run_derivative(isa, name, z, y, alpha, slope)
    return y, slope


def _saturated(layer: Layer, slope: NDArray[np.float64]) -> float:
    """The share of nearly flat places, if the activation levels off on both sides."""
    ends = np.array([[-1e4, 0.0, 1e4]])
    _, (flat,) = _activate(layer, ends)
    if flat[0] != 0 or flat[2] != 0:
        return 0.0
    return float(np.mean(np.abs(slope) < _FLAT * np.abs(flat).max()))


def _size(values: NDArray[np.float64]) -> float:
    return float(np.sqrt(np.mean(values**2)))


def _unscaled(x: NDArray[np.float64]) -> list[int]:
    spread = x.std(axis=0)
    odd = ((spread > 0) & (spread < _SPREAD)) | (sizes(x) > LARGEST)
    return [int(column) for column in np.flatnonzero(odd)]


# ---- Words ----


def _about_inputs(unscaled: list[int], x: NDArray[np.float64]) -> list[str]:
    if not unscaled:
        return []
    worst = max(unscaled, key=lambda column: float(np.abs(x[:, column]).max()))
    some = ", ".join(map(str, unscaled[:5])) + (", ..." if len(unscaled) > 5 else "")
    return [
        f"Inputs are unscaled: columns {some} ({len(unscaled)} of {x.shape[1]}); column {worst} "
        f"has mean {x[:, worst].mean():.3g} and standard deviation {x[:, worst].std():.3g}. "
        "Subtract the mean and divide by the standard deviation of the training data."
    ]


def _about_units(layers: list[LayerDiagnosis]) -> list[str]:
    found = []
    for part in layers:
        if part.dead >= _MANY_DEAD:
            found.append(
                f"Layer {part.layer} ({part.activation}) has {part.dead:.0%} dead units: their "
                "derivative is zero for every row, so they do not learn. Try a lower learning "
                'rate, leaky_relu or elu instead of relu, weights="he_normal", or scaled inputs.'
            )
        if part.saturated >= _MANY_SATURATED and part.dead < 1:
            found.append(
                f"Layer {part.layer} ({part.activation}) is saturated in {part.saturated:.0%} of "
                "its outputs: hardly any gradient passes. Try smaller initial weights "
                '("glorot_uniform"), scaled inputs, a lower learning rate, or relu.'
            )
    return found


def _about_gradients(layers: list[LayerDiagnosis]) -> list[str]:
    first, last = layers[0], layers[-1]
    if all(part.gradient == 0 for part in layers):
        return [
            "All gradients are zero: nothing will change. Look for dead or saturated layers above, "
            "or targets that are met exactly."
        ]
    found = []
    if len(layers) > 1 and first.gradient < _VANISHING * last.gradient:
        found.append(
            f"Gradients vanish: from {last.gradient:.3g} in layer {last.layer} to "
            f"{first.gradient:.3g} in layer 0. Try fewer layers, relu or its kin with "
            'weights="he_normal", or tanh with "glorot_uniform".'
        )
    if len(layers) > 1 and first.gradient > _EXPLODING * last.gradient:
        found.append(
            f"Gradients explode: from {last.gradient:.3g} in layer {last.layer} to "
            f"{first.gradient:.3g} in layer 0. Try smaller initial weights, fewer layers, scaled "
            "inputs, or clipping of the gradients."
        )
    steep = [part.layer for part in layers if part.gradient > _STEEP * max(part.weights, 1e-3)]
    if steep:
        found.append(
            f"Gradients are large against the weights in layers {', '.join(map(str, steep))}. Try "
            "a lower learning rate, and scaled inputs and targets."
        )
    return found
