"""From layers to memory: offsets into the flat parameter vector, kernel codes, initial values.

Parameters are laid out layer after layer: the weights, row-major (inputs, outputs), then the bias.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from downslope import _engine, _kernels
from downslope.initializers import Initializer
from downslope.layers import Dense, Layer
from downslope.losses import Loss

# Streams of random numbers, in the upper bits of a stream's number; the lower 48 bits are the
# layer or the epoch.  Element i of stream s is a function of (seed, s, i).  Purposes 4, dropout
# masks, and 5, noise of the inputs, are the engine's, with the step in the lower bits.
STREAM_WEIGHTS, STREAM_ORDER, STREAM_SPLIT = (purpose << 48 for purpose in (1, 2, 3))
# Of `minimize` and `random_search`, whose seed is no network's: the start, and step after step.
STREAM_START, STREAM_WALK = (purpose << 48 for purpose in (64, 65))


def make_plan(
    inputs: int,
    layers: Sequence[Dense],
    dtype: np.dtype[Any],
    input_dropout: float,
    input_noise: float,
) -> _engine.Plan:
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
                layer.l1,
                layer.l2,
                math.inf if layer.max_norm is None else layer.max_norm,
                layer.learning_rate,
                layer.trainable,
                _dropped(layer.dropout),
            )
        )
        inputs = layer.units
    return _engine.Plan(fields, dtype.itemsize * 8, _dropped(input_dropout), input_noise)


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


def make_losses(loss: Loss, outputs: int) -> tuple[_engine.Loss, _engine.Loss]:
    """The engine's view of a loss: for dense targets, and for labels if it takes those."""
    parameters = loss.kernel_parameters(outputs)
    dense = _engine.Loss(_kernels.LOSSES[loss.name], parameters)
    if loss.kind.label_kernel is None:
        return dense, dense
    return dense, _engine.Loss(_kernels.LOSSES[loss.kind.label_kernel], parameters)


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
    stream = STREAM_WEIGHTS + index
    if initializer.distribution == "constant":
        return np.full(shape, initializer.scale)
    if initializer.distribution == "orthogonal":
        assert initializer.scale is not None
        return initializer.scale * _orthogonal(shape, seed, stream)
    spread = initializer.standard_deviation(*shape)
    if initializer.distribution == "normal":
        values = spread * _kernels.random_normal(seed, stream, math.prod(shape))
    else:
        half_width = spread * math.sqrt(3)
        values = half_width * (2 * _kernels.random_uniform(seed, stream, math.prod(shape)) - 1)
    return values.reshape(shape)


def _orthogonal(shape: tuple[int, ...], seed: int, stream: int) -> NDArray[np.float64]:
    """A random matrix (inputs, outputs) with orthonormal columns, or rows where those are fewer."""
    draws = _kernels.random_normal(seed, stream, math.prod(shape))
    columns = draws.reshape(max(shape), min(shape))
    _kernels.orthogonalize(columns)
    return columns if shape[0] >= shape[1] else columns.T
