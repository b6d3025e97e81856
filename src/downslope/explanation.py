"""One step of training, number by number.

The numbers are the engine's.  A network's pass shows only its ends, so each layer also goes through
the engine on its own, as a network of one layer with a bias for each unit: its `forward` gives the
net inputs and the outputs, and the gradient of its biases is the delta.  By the numerics contract
(docs/design.md) these are the bits of the whole pass.  Gradients and new parameters are those of a
`Trainer` on a copy of the network.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from downslope import _kernels, _plan, _working
from downslope._explanation_lines import Writer
from downslope._own_loss import LossFunction
from downslope._validate import as_count, as_numeric, as_rows, choose
from downslope._working import Section
from downslope.activations import Activation
from downslope.layers import Dense, Layer
from downslope.losses import Loss
from downslope.network import Network, as_network
from downslope.optimizers import Optimizer, as_stepwise
from downslope.training import Trainer

SYMBOLS = ("numbered", "indexed")

# Up to so many parameters every line is written out, and units and weights are simply numbered.
_FEW = 100


@dataclass(frozen=True, eq=False)
class LayerPass:
    """What goes through a layer in one step of one row; arrays of the network's type.

    Attributes
    ----------
    activation : Activation
    inputs : array (inputs,)
    weights : array (inputs, outputs)
    bias : array (outputs,) or (1,) or None
    net_input, output : array (outputs,)
    d_output : array (outputs,) or None
        Error by output; None in a last layer whose loss is taken together with the activation.
    derivative : array (outputs,) or None
        Output by net input; None for softmax, where each output depends on all net inputs.
    delta : array (outputs,)
        Error by net input.
    d_weights, d_bias, new_weights, new_bias : arrays as weights and bias
        The gradients, and the parameters after the step.
    """

    activation: Activation
    inputs: NDArray[Any]
    weights: NDArray[Any]
    bias: NDArray[Any] | None
    net_input: NDArray[Any]
    output: NDArray[Any]
    d_output: NDArray[Any] | None
    derivative: NDArray[Any] | None
    delta: NDArray[Any]
    d_weights: NDArray[Any]
    d_bias: NDArray[Any] | None
    new_weights: NDArray[Any]
    new_bias: NDArray[Any] | None

    @property
    def shared_bias(self) -> bool:
        return self.bias is not None and self.bias.size < self.output.size


@dataclass(frozen=True, eq=False)
class Explanation:
    """One step of training of a network on one row: ``print`` it, or let a notebook show it.

    Attributes
    ----------
    layers : list of LayerPass
        Every number of every layer.
    target : array (outputs,)
    errors : array (outputs,) or None
        Each output's part of the error; None where a loss has no parts.
    error : float
        The total.
    loss : Loss
    optimizer : Optimizer
    learning_rate : float
        Of the step that is shown.
    symbols : {"numbered", "indexed"}
    digits : int
    full : bool
    """

    layers: list[LayerPass]
    target: NDArray[Any]
    errors: NDArray[Any] | None
    error: float
    loss: Loss
    optimizer: Optimizer
    learning_rate: float
    symbols: str
    digits: int
    full: bool

    def unit_name(self, layer: int, unit: int) -> str:
        """The symbol of a unit, counted from 0; layer 0 are the inputs."""
        return Writer(self).input(layer, unit)

    def sections(self) -> list[Section]:
        """The lines of arithmetic, in the order of the step."""
        return list(Writer(self).full() if self.full else Writer(self).summary())

    def to_text(self) -> str:
        """Lines of text, aligned."""
        return _working.as_text(self.sections(), self.digits)

    def to_html(self) -> str:
        """A fragment of HTML, as notebooks show it."""
        return _working.as_html(self.sections(), self.digits)

    def to_latex(self) -> str:
        """LaTeX, for a document with the package amsmath."""
        return _working.as_latex(self.sections(), self.digits)

    def to_dict(self) -> dict[str, Any]:
        """Every number by its symbol.

        Returns
        -------
        dict
            ``inputs`` and ``targets`` (symbol to number); ``units``, each with ``net_input``,
            ``output``, ``error_by_output``, ``output_by_net_input`` and ``delta``; ``weights`` and
            ``biases``, each with ``value``, ``gradient``, ``step`` and ``new_value``; ``errors``
            and ``error``.
        """
        return Writer(self).dictionary()

    def __str__(self) -> str:
        return self.to_text()

    def __repr__(self) -> str:
        widths = [self.layers[0].inputs.size, *(layer.output.size for layer in self.layers)]
        return (
            f"Explanation({widths}, loss={self.loss.name!r}, error={self.error:.6g}, "
            f"optimizer={self.optimizer})"
        )

    def _repr_html_(self) -> str:
        return self.to_html()


def explain(
    network: Network,
    x: ArrayLike,
    target: ArrayLike,
    *,
    loss: str | Loss = "mse",
    optimizer: str | Optimizer = "sgd",
    symbols: str | None = None,
    digits: int = 7,
    full: bool | None = None,
) -> Explanation:
    """Show one step of training on one row: forward, error, backward, update.

    The network is not changed.  The numbers are those of the engine, in the network's own type.

    Parameters
    ----------
    network : Network
    x : array (inputs,)
        The row.
    target : array (outputs,), number, or class label
    loss : str or Loss, default "mse"
        See `Network.fit`; one that has a target for each output.
    optimizer : str or Optimizer, default "sgd"
        Its first step is shown.
    symbols : {"numbered", "indexed"}, optional
        "numbered" counts weights unit by unit and hidden units layer by layer: w1, h1, y1.
        "indexed" names the layer: W1[2,3] is the weight from unit 2 to unit 3 in layer 1, a1[3] the
        output of unit 3.  The default is by the size.
    digits : int, default 7
        Significant digits that are written.
    full : bool, optional
        Whether every number is written, or a summary of each layer; by default up to 100
        parameters are.  `Explanation.to_dict` and `Explanation.layers` hold all in either case.

    Returns
    -------
    Explanation

    Raises
    ------
    TypeError, ValueError
        If an argument is not as it should be.

    Examples
    --------
    >>> import downslope as ds
    >>> net = ds.Network([2, 1], weights=[[[0.5], [-1.0]]], dtype="float64")
    >>> print(ds.explain(net, [1.0, 2.0], 0.5, loss="half_squared_error", optimizer=ds.SGD(0.1)))
    Forward, output layer
      net_y1 = w1 * x1 + w2 * x2 + b1
             = 0.5 * 1 + (-1) * 2 + 0 = -1.5
          y1 = identity(net_y1)
             = identity(-1.5) = -1.5
    <BLANKLINE>
    Error: half_squared_error
      E1 = 0.5 * (t1 - y1)^2
         = 0.5 * (0.5 - (-1.5))^2 = 2
       E = E1
         = 2
    <BLANKLINE>
    Backward, output layer
           dE/dy1 = y1 - t1
                  = (-1.5) - 0.5 = -2
      dy1/dnet_y1 = 1
         delta_y1 = dE/dy1 * dy1/dnet_y1
                  = (-2) * 1 = -2
           dE/dw1 = dE/dy1 * dy1/dnet_y1 * dnet_y1/dw1
                  = (-2) * 1 * 1 = -2
           dE/dw2 = dE/dy1 * dy1/dnet_y1 * dnet_y1/dw2
                  = (-2) * 1 * 2 = -4
           dE/db1 = delta_y1
                  = -2
    <BLANKLINE>
    Update: SGD(learning_rate=0.1, momentum=0.0, nesterov=False)
      step_w1 = rate * dE/dw1
              = 0.1 * (-2) = -0.2
       new_w1 = w1 - step_w1
              = 0.5 - (-0.2) = 0.7
      step_w2 = rate * dE/dw2
              = 0.1 * (-4) = -0.4
       new_w2 = w2 - step_w2
              = (-1) - (-0.4) = -0.6
      step_b1 = rate * dE/db1
              = 0.1 * (-2) = -0.2
       new_b1 = b1 - step_b1
              = 0 - (-0.2) = 0.2
    """
    as_network(network)
    chosen, optimizer = _one_by_one(network.checked_loss(loss)), as_stepwise(optimizer, "explain")
    for number, dense in enumerate(network._dense, 1):
        if dense.l1 or dense.l2 or not dense.trainable:
            raise ValueError(
                f"explain shows the gradient of the loss alone; layer {number} has a penalty or is "
                "frozen: build the network without l1, l2 and trainable=False"
            )
    small = network.parameters.size <= _FEW
    symbols = SYMBOLS[not small] if symbols is None else choose("symbols", symbols, SYMBOLS)
    row = as_rows("x", _one_row("x", x), network.inputs, network.dtype)
    wanted = _one_target(target, network, chosen)

    after = copy.deepcopy(network)
    trainer = Trainer(after, chosen, optimizer)
    error = trainer.compute_gradients(row, wanted)
    gradients = _plan.make_views(network.inputs, network._dense, after.gradients)
    rate = trainer.learning_rate
    trainer.update()
    layers = _layer_passes(network, row, wanted, chosen, gradients, after.layers)
    return Explanation(
        layers=layers,
        target=wanted[0],
        errors=_output_errors(layers[-1], wanted[0], chosen, error),
        error=error,
        loss=chosen,
        optimizer=optimizer,
        learning_rate=rate,
        symbols=symbols,
        digits=as_count("digits", digits),
        full=small if full is None else bool(full),
    )


# ---- The numbers ----


def _one_row(name: str, values: ArrayLike) -> NDArray[Any]:
    array = as_numeric(name, np.atleast_1d(np.asarray(values)))
    row = array.reshape(1, -1) if array.ndim == 1 else array
    if len(row) != 1:
        raise ValueError(f"{name} must be one row; got shape {array.shape}: give {name}[0]")
    return row


def _one_by_one(loss: Loss | LossFunction) -> Loss:
    """The loss, if it is one of the package's and has a target for each output."""
    if not isinstance(loss, Loss):
        raise TypeError(f"explain needs a loss of the package, by its name; got {loss!r}")
    if loss.kind.outputs_per_target != 1:
        raise ValueError(
            f"explain shows losses with a target for each output; {loss.name!r} has one for "
            f"{loss.kind.outputs_per_target}"
        )
    return loss


def _one_target(target: ArrayLike, network: Network, loss: Loss) -> NDArray[Any]:
    """The target as a row (1, outputs); a class label as zeros and a one."""
    row = _one_row("target", target)
    if loss.kind.label_kernel is not None and row.shape == (1, 1) and network.outputs > 1:
        label = int(row[0, 0])
        if label != row[0, 0] or not 0 <= label < network.outputs:
            raise ValueError(
                f"target must be a class label in 0 .. {network.outputs - 1} or "
                f"{network.outputs} probabilities; got {target!r}"
            )
        row = np.eye(network.outputs)[[label]]
    return as_rows("target", row, network.outputs, network.dtype)


def _alone(layer: Layer, activation: Activation, dtype: np.dtype[Any]) -> Network:
    """A layer as a network of its own, with a bias for each unit."""
    bias = np.zeros(1) if layer.bias is None else layer.bias
    dense = Dense(
        layer.outputs,
        activation,
        weights=layer.weights,
        bias=np.broadcast_to(bias, layer.outputs),
    )
    return Network(layer.inputs, [dense], dtype=dtype, seed=0)


def _layer_passes(
    network: Network,
    row: NDArray[Any],
    target: NDArray[Any],
    loss: Loss,
    gradients: Sequence[Layer],
    after: Sequence[Layer],
) -> list[LayerPass]:
    identity = Activation("identity")
    inputs, net_inputs = [row], []
    for layer in network.layers:
        net_inputs.append(_alone(layer, identity, network.dtype).forward(inputs[-1]))
        inputs.append(_alone(layer, layer.activation, network.dtype).forward(inputs[-1]))

    passes: list[LayerPass] = []
    joined = bool(loss.kind.outputs)  # the loss is taken together with the last activation
    d_output = None if joined else _error_slope(inputs[-1], target, loss, network.dtype)
    for index in reversed(range(len(network.layers))):
        layer = network.layers[index]
        derivative, delta, d_inputs = _through(
            layer, inputs[index], d_output, target, loss, network.dtype
        )
        passes.append(
            LayerPass(
                activation=layer.activation,
                inputs=inputs[index][0],
                weights=layer.weights.copy(),
                bias=None if layer.bias is None else layer.bias.copy(),
                net_input=net_inputs[index][0],
                output=inputs[index + 1][0],
                d_output=None if d_output is None else d_output[0],
                derivative=derivative,
                delta=delta,
                d_weights=gradients[index].weights,
                d_bias=gradients[index].bias,
                new_weights=after[index].weights,
                new_bias=after[index].bias,
            )
        )
        d_output = d_inputs
    return passes[::-1]


def _error_slope(
    output: NDArray[Any], target: NDArray[Any], loss: Loss, dtype: np.dtype[Any]
) -> NDArray[Any]:
    """Error by output (1, outputs): the delta of a layer that passes its input on."""
    width = output.shape[1]
    passing = Network(width, [Dense(width, weights=np.eye(width))], dtype=dtype, seed=0)
    Trainer(passing, loss).compute_gradients(output, target)
    return _bias_gradient(passing).reshape(1, -1)


def _through(
    layer: Layer,
    inputs: NDArray[Any],
    d_output: NDArray[Any] | None,
    target: NDArray[Any],
    loss: Loss,
    dtype: np.dtype[Any],
) -> tuple[NDArray[Any] | None, NDArray[Any], NDArray[Any]]:
    """Back through a layer: output by net input, error by net input, error by the inputs (1, n)."""
    alone = _alone(layer, layer.activation, dtype)
    if d_output is None:  # the loss goes with the activation
        Trainer(alone, loss).compute_gradients(inputs, target)
        delta = _bias_gradient(alone)
        linear = _alone(layer, Activation("identity"), dtype)
        linear.forward(inputs)
        return None, delta, linear.backward(delta.reshape(1, -1))
    alone.forward(inputs)
    derivative = None
    if layer.activation.name not in _kernels.ROWWISE_ACTIVATIONS:
        alone.backward(np.ones_like(d_output))
        derivative = _bias_gradient(alone)
    d_inputs = alone.backward(d_output)
    return derivative, _bias_gradient(alone), d_inputs


def _bias_gradient(network: Network) -> NDArray[Any]:
    """Of a network of one layer, for one row: the delta."""
    return network.gradients[-network.outputs :].copy()


def _output_errors(
    last: LayerPass, target: NDArray[Any], loss: Loss, error: float
) -> NDArray[np.float64] | None:
    """Each output's part of the error: the error of that output alone."""
    outputs, joined = target.size, loss.kind.outputs
    if "softmax" in joined:
        identity = Dense(outputs, "softmax", weights=np.eye(outputs))
        softmax = Network(outputs, [identity], dtype=target.dtype, seed=0)
        z = last.net_input.reshape(1, -1)
        surprises = [softmax.evaluate(z, [k], loss=loss) for k in range(outputs)]
        return np.asarray(surprises) * target
    if any(isinstance(value, tuple) for value in loss.parameters.values()):
        return None  # each output has a loss of its own
    single = Dense(1, last.activation if joined else "identity", weights=[[1.0]])
    one = Network(1, [single], dtype=target.dtype, seed=0)
    values = last.net_input if joined else last.output
    alone = np.array(
        [one.evaluate([[v]], [[t]], loss=loss) for v, t in zip(values, target, strict=True)]
    )
    for parts in (alone, alone / outputs):  # a loss is the sum or the mean over the outputs
        if np.isclose(parts.sum(), error, rtol=1e-4, atol=0):
            return parts
    return None
