"""From layers to memory: offsets into the flat parameter vector, kernel codes, initial values.

Parameters are laid out layer after layer: the weights, row-major (inputs, outputs), then the bias.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from downslope import _kernels
from downslope._engine import Plan
from downslope.initializers import Initializer
from downslope.layers import Dense, Layer

# Streams of random numbers, in the upper bits of a stream's number; the lower 48 bits are the
# layer or the epoch.  Element i of stream s is a function of (seed, s, i).  Purposes 4, dropout
# masks, and 5, noise of the inputs, are the engine's, with the step in the lower bits.
STREAM_WEIGHTS, STREAM_ORDER, STREAM_SPLIT = (purpose << 48 for purpose in (1, 2, 3))


def make_plan(
    inputs: int,
    layers: Sequence[Dense],
    dtype: np.dtype[Any],
    input_dropout: float,
    input_noise: float,
) -> Plan:
    """The engine's view of a network."""
    fields = []
    offset = 0
    for layer in layers:
        weights, bias = offset, offset + inputs * layer.units
        offset = bias + layer.bias_count
        fields.append(
            (
                inputs,
                layer.units,
                weights,
                bias,
                layer.bias_count,
                _kernels.ACTIVATIONS[layer.activation.name],
                layer.activation.parameter or 0.0,
                _dropped(layer.dropout),
            )
        )
        inputs = layer.units
    return Plan(fields, dtype.itemsize * 8, _dropped(input_dropout), input_noise)


def _dropped(rate: float) -> int:
    """A dropout rate as the kernels take it; never all."""
    return min(round(rate * _kernels.DROPOUT_ONE), _kernels.DROPOUT_ONE - 1)


def make_views(inputs: int, layers: Sequence[Dense], parameters: NDArray[Any]) -> list[Layer]:
    """Each layer with views of its part of the parameters."""
    views = []
    offset = 0
    for layer in layers:
        bias = offset + inputs * layer.units
        end = bias + layer.bias_count
        views.append(
            Layer(
                inputs,
                layer.units,
                layer.activation,
                parameters[offset:bias].reshape(inputs, layer.units),
                parameters[bias:end] if layer.use_bias else None,
                layer.dropout,
            )
        )
        inputs, offset = layer.units, end
    return views


def initialize(views: Sequence[Layer], layers: Sequence[Dense], seed: int) -> None:
    """Write the initial values into the views: a function of (seed, layer, position)."""
    for index, (view, layer) in enumerate(zip(views, layers, strict=True)):
        if isinstance(layer.weights, Initializer):
            view.weights[...] = _draw(layer.weights, view.weights.shape, seed, index)
        else:
            view.weights[...] = layer.weights
        if view.bias is not None:
            view.bias[...] = layer.bias


def _draw(
    initializer: Initializer, shape: tuple[int, ...], seed: int, index: int
) -> NDArray[np.float64]:
    """Initial weights (inputs, outputs) of layer number `index`."""
    if initializer.distribution == "zeros":
        return np.zeros(shape)
    spread = initializer.standard_deviation(*shape)
    stream = STREAM_WEIGHTS + index
    if initializer.distribution == "normal":
        values = spread * _kernels.random_normal(seed, stream, math.prod(shape))
    else:
        half_width = spread * math.sqrt(3)
        values = half_width * (2 * _kernels.random_uniform(seed, stream, math.prod(shape)) - 1)
    return values.reshape(shape)
