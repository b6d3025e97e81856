"""The layers that the arguments of `Network` ask for: from a list of widths, or of `Dense`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from downslope._validate import as_count
from downslope.activations import Activation
from downslope.initializers import Initializer
from downslope.layers import Dense


def from_widths(
    widths: Any, activation: Any, output: Any, weights: Any, dropout: Any, **bias: bool
) -> tuple[int, list[Dense]]:
    """Inputs and layers from a list of widths."""
    if isinstance(widths, int | np.integer):
        raise TypeError(
            f"give all widths, as in Network([{widths}, 32, 1]), or layers as the second argument"
        )
    if not isinstance(widths, Iterable):
        raise TypeError(f"widths must be a list of whole numbers; got {widths!r}")
    sizes = [as_count(f"widths[{i}]", width) for i, width in enumerate(widths)]
    if len(sizes) < 2:
        raise ValueError(f"a network needs at least two widths, inputs and outputs; got {sizes}")
    hidden = len(sizes) - 2
    activations = _for_each("activation", activation, Activation, "hidden layers", hidden)
    initial = _for_each("weights", weights, Initializer, "layers", hidden + 1)
    rates = _for_each("dropout", dropout, float | int, "hidden layers", hidden)
    return sizes[0], [
        Dense(units, function, weights=values, dropout=rate, **bias)
        for units, function, values, rate in zip(
            sizes[1:], [*activations, output], initial, [*rates, 0.0], strict=True
        )
    ]


def _for_each(name: str, value: Any, kind: Any, layers: str, count: int) -> list[Any]:
    """The values of `count` layers: one name or object for all, or a list with one for each."""
    if isinstance(value, str | kind):
        return [value] * count
    if not isinstance(value, Iterable):
        single = f"a name, a downslope.{kind.__name__}" if isinstance(kind, type) else "a number"
        raise TypeError(
            f"{name} must be {single}, or a list with one for each of the {count} {layers}; "
            f"got {value!r}"
        )
    values = list(value)
    if len(values) != count:
        raise ValueError(
            f"{name} must have one entry for each of the {count} {layers}; got {len(values)}"
        )
    return values


def as_layers(layers: Any) -> list[Dense]:
    """A list of at least one `Dense`."""
    if not isinstance(layers, Iterable):
        raise TypeError(f"layers must be a list of downslope.Dense; got {layers!r}")
    dense = list(layers)
    if not dense:
        raise ValueError("a network needs at least one layer; got none")
    for index, layer in enumerate(dense):
        if not isinstance(layer, Dense):
            raise TypeError(
                f"layers[{index}] must be a downslope.Dense; got {type(layer).__name__}"
            )
    return dense


def refuse_beside_layers(options: dict[str, Any], defaults: dict[str, Any]) -> None:
    """Each layer says for itself what these options say for a list of widths."""
    for name, value in options.items():
        default = defaults[name]
        if type(value) is not type(default) or value != default:
            raise ValueError(
                f"{name} goes with a list of widths; with layers, give it to each Dense"
            )


def check_layers(inputs: int, layers: Sequence[Dense]) -> None:
    """Refuse layers that do not go together."""
    for index, layer in enumerate(layers):
        if not isinstance(layer.weights, Initializer):
            expected = (inputs, layer.units)
            if layer.weights.shape != expected:
                raise ValueError(
                    f"the weights of layer {index} must have shape {expected}, (inputs, outputs); "
                    f"got {layer.weights.shape}"
                )
        inputs = layer.units
    if layers[-1].dropout:
        raise ValueError("dropout of the last layer drops outputs; give it to those before")
