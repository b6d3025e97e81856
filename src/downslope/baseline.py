"""A strong NumPy implementation: what downslope is measured against.

This is how to write training to be fast with NumPy alone, so that a comparison is honest: the demo
trains it beside downslope, and `benches/` times both.  (The clear NumPy implementation, written to
be read, is the tests' oracle.)

A network of a given batch size makes the same calls on the same buffers in every step.  So the
calls are recorded once, each a `functools.partial` over preallocated arrays, and a step replays
them: nothing is allocated, sliced or looked up.  What else makes it fast, each the winner of
timings against the alternatives named:

- Activations and deltas are feature-major, (units, batch), with a last row of ones below the
  activations; weights and bias of a layer are one block [W; b] of (inputs + 1, outputs).  One
  product then adds the bias, one product gives both gradients, and every element-wise call runs
  over contiguous memory.  (Batch-major with separate bias sums: 5 to 40 % slower.)
- Products are `ndarray.dot` with an output array: less than half the overhead of `np.matmul` for
  small arrays, the same BLAS for large ones.
- Scalars are arrays of no dimension: half the overhead of Python floats.
- relu is a maximum with an array of zeros: with a scalar it takes NumPy's slow loop, 2 to 3 times
  as long.
- Parameters, gradients and optimiser state are flat, so an update is a handful of calls however
  many layers there are, and constant factors are folded into scalars.  (Cutting the update into
  blocks that fit the cache costs more in calls than it gains.)
- Rows are gathered by `ndarray.take(..., mode="clip")`, which needs no temporary copy, as the
  default mode does.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from downslope.optimizers import SGD, Adam

Calls = list[Callable[[], object]]

HIDDEN = ("identity", "sigmoid", "tanh", "relu")
KERNELS = ("sgd", "momentum", "nesterov", "adam")
# Loss -> the output activations that it goes with.
LOSSES = {"mse": HIDDEN, "cross_entropy": ("softmax",)}


class NumpyNetwork:
    """A feed-forward network trained by NumPy alone, as fast as NumPy allows.

    Parameters
    ----------
    widths : sequence of int
        Inputs, units of each hidden layer, outputs.
    activation : {"relu", "sigmoid", "tanh", "identity"}, default "relu"
        Activation of the hidden layers.
    output : {"identity", "sigmoid", "tanh", "relu", "softmax"}, default "identity"
        Activation of the last layer; "softmax" with the loss "cross_entropy".
    loss : {"mse", "cross_entropy"}, default "mse"
        Mean over the rows, as in `Network.fit`.
    optimizer : SGD or Adam, optional
        Default ``SGD()``.
    dtype : dtype, default np.float32
        float32 or float64.

    Attributes
    ----------
    parameters : ndarray of shape (n_parameters,)
        Laid out as `Network.parameters`: per layer weights, then bias.  All zero at first; copy
        initial values in.
    weights : list of ndarray of shape (inputs, outputs)
        Views of `parameters`, one for each layer.
    biases : list of ndarray of shape (outputs,)
        Views of `parameters`, one for each layer.

    Raises
    ------
    ValueError
        If an activation or loss is unknown, or the two do not go together.

    Examples
    --------
    >>> import numpy as np
    >>> from downslope.baseline import NumpyNetwork
    >>> from downslope.optimizers import SGD
    >>> X = np.array([[0.0], [1.0]], dtype=np.float32)
    >>> net = NumpyNetwork([1, 1], optimizer=SGD(0.5))
    >>> losses = net.fit(X, 3 * X + 1, epochs=50, batch_size=2, rng=np.random.default_rng(0))
    >>> net.predict(X).round(2)
    array([[1.],
           [4.]], dtype=float32)
    """

    def __init__(
        self,
        widths: Sequence[int],
        activation: str = "relu",
        output: str = "identity",
        *,
        loss: str = "mse",
        optimizer: SGD | Adam | None = None,
        dtype: np.dtype | type = np.float32,
    ) -> None:
        if activation not in HIDDEN:
            raise ValueError(f"activation is {activation!r}; the baseline knows {HIDDEN}")
        if loss not in LOSSES:
            raise ValueError(f"loss is {loss!r}; the baseline knows {tuple(LOSSES)}")
        if output not in LOSSES[loss]:
            raise ValueError(f"output is {output!r}; with loss {loss!r} give one of {LOSSES[loss]}")
        self.widths = tuple(widths)
        self.activations = (*[activation] * (len(self.widths) - 2), output)
        self.loss = loss
        self.dtype = np.dtype(dtype)
        size = sum((i + 1) * o for i, o in itertools.pairwise(self.widths))
        self.parameters = np.zeros(size, self.dtype)
        self._gradients = np.zeros(size, self.dtype)
        self._parameter_blocks = self._blocks(self.parameters)
        self._gradient_blocks = self._blocks(self._gradients)
        self.weights = [block[:-1] for block in self._parameter_blocks]
        self.biases = [block[-1] for block in self._parameter_blocks]
        # One column of the identity for each class: gathers labels into one-hot columns.
        self._one_hot = np.eye(self.widths[-1], dtype=self.dtype)
        optimizer = optimizer or SGD()
        if optimizer.schedule or optimizer.weight_decay or optimizer.kernel not in KERNELS:
            raise ValueError(f"the baseline does not know {optimizer!r}; give plain SGD or Adam")
        if isinstance(optimizer, Adam):
            self._gradient_scale = 1.0
            self._update_calls = adam_calls(optimizer, self.parameters, self._gradients)
        else:
            # The backward pass multiplies by it together with the mean over the rows: for nothing.
            self._gradient_scale = optimizer.hyper[0]
            self._update_calls = sgd_calls(optimizer, self.parameters, self._gradients)
        self._passes: dict[int, _Pass] = {}

    def _blocks(self, flat: np.ndarray) -> list[np.ndarray]:
        """Views [W; b] of shape (inputs + 1, outputs), one for each layer."""
        blocks, start = [], 0
        for inputs, outputs in itertools.pairwise(self.widths):
            stop = start + (inputs + 1) * outputs
            blocks.append(flat[start:stop].reshape(inputs + 1, outputs))
            start = stop
        return blocks

    def _pass(self, rows: int) -> _Pass:
        """The buffers and calls for a batch of that many rows, kept for the next such batch."""
        if rows not in self._passes:
            self._passes[rows] = _Pass(self, rows)
        return self._passes[rows]

    @np.errstate(over="ignore")
    def step(self, X: np.ndarray, y: np.ndarray) -> float:
        """One step of gradient descent on one mini-batch.

        Parameters
        ----------
        X : ndarray of shape (rows, inputs)
        y : ndarray of shape (rows, outputs), or labels of shape (rows,) for cross_entropy

        Returns
        -------
        float
            The loss before the step.
        """
        batch = self._pass(len(X))
        batch.load(X, y)
        return batch.train() / len(X)

    def prepare(self, X: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Lay training data out as `epoch` gathers it from: once for a whole training.

        Parameters
        ----------
        X : ndarray of shape (rows, inputs)
        y : ndarray of shape (rows, outputs), or labels of shape (rows,) for cross_entropy

        Returns
        -------
        inputs : ndarray of shape (rows, inputs + 1)
            With a last column of ones.
        targets : ndarray of shape (outputs, rows)
            Labels become one-hot columns.
        """
        inputs = np.ones((len(X), self.widths[0] + 1), self.dtype)
        inputs[:, :-1] = X
        targets = np.empty((self.widths[-1], len(X)), self.dtype)
        self._load_targets(y, targets)
        return inputs, targets

    def _load_targets(self, y: np.ndarray, targets: np.ndarray) -> None:
        """Write y, (rows, outputs) or labels (rows,), into targets (outputs, rows)."""
        if self.loss == "cross_entropy" and y.ndim == 1:
            self._one_hot.take(y, 1, targets, "clip")
        else:
            targets.T[...] = y.reshape(targets.T.shape)

    @np.errstate(over="ignore")
    def epoch(
        self, data: tuple[np.ndarray, np.ndarray], order: np.ndarray, *, batch_size: int = 32
    ) -> float:
        """Train on mini-batches of the rows in the order given.

        Parameters
        ----------
        data : tuple of ndarray
            What `prepare` returned.
        order : ndarray of int of shape (rows,)
            Row numbers, usually a permutation.
        batch_size : int, default 32
            Rows of a mini-batch; the last one may be smaller.

        Returns
        -------
        float
            The mean of the rows' losses as they were met.
        """
        inputs, targets = data
        met = 0.0
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            batch = self._pass(len(rows))
            inputs.take(rows, 0, batch.inputs, "clip")
            targets.take(rows, 1, batch.targets, "clip")
            met += batch.train()
        return met / len(order)

    def fit(
        self,
        X: np.ndarray,
        y: np.ndarray,
        *,
        epochs: int = 1,
        batch_size: int = 32,
        rng: np.random.Generator,
    ) -> list[float]:
        """Train for a number of epochs, each in a new random order of the rows.

        Parameters
        ----------
        X : ndarray of shape (rows, inputs)
        y : ndarray of shape (rows, outputs), or labels of shape (rows,) for cross_entropy
        epochs : int, default 1
        batch_size : int, default 32
        rng : Generator
            Draws the orders.

        Returns
        -------
        list of float
            The loss of each epoch.
        """
        data = self.prepare(X, y)
        return [
            self.epoch(data, rng.permutation(len(X)), batch_size=batch_size) for _ in range(epochs)
        ]

    @np.errstate(over="ignore")
    def predict(self, X: np.ndarray) -> np.ndarray:
        """The outputs (rows, outputs) for X (rows, inputs)."""
        batch = self._pass(len(X))
        batch.inputs[:, :-1] = X
        batch.predict()
        return batch.outputs.T.copy()

    @np.errstate(over="ignore")
    def evaluate(self, X: np.ndarray, y: np.ndarray) -> float:
        """The mean loss on X (rows, inputs) and y, as `step` takes them."""
        batch = _Pass(self, len(X))
        batch.load(X, y)
        return batch.evaluate() / len(X)


class _Pass:
    """The buffers of a mini-batch, and the calls of one step on them."""

    def __init__(self, network: NumpyNetwork, rows: int) -> None:
        self.network = network
        widths = network.widths
        self.inputs = np.ones((rows, widths[0] + 1), network.dtype)
        self.targets = np.empty((widths[-1], rows), network.dtype)
        self.outputs = np.empty((widths[-1], rows), network.dtype)
        # What each layer reads, (inputs + 1, rows) with a last row of ones, and what it writes.
        hidden = [np.ones((width + 1, rows), network.dtype) for width in widths[1:-1]]
        self.reads = [self.inputs.T, *hidden]
        self.writes = [*(block[:-1] for block in hidden), self.outputs]
        self.forward_calls = self._record_forward()
        self.evaluate_calls = self.forward_calls + self._record_loss()
        self.train_calls = self.evaluate_calls + self._record_backward() + network._update_calls

    def _record_forward(self) -> Calls:
        calls: Calls = []
        net = self.network
        for x, block, y, activation in zip(
            self.reads, net._parameter_blocks, self.writes, net.activations, strict=True
        ):
            if activation == "softmax":
                # The loss reads the net inputs, the backward pass the outputs: both are kept.
                self.logits, self.exp_sums = np.empty_like(y), np.empty_like(y[0])
                calls.append(partial(block.T.dot, x, self.logits))
                calls += softmax_calls(self.logits, y, self.exp_sums)
            else:
                calls.append(partial(block.T.dot, x, y))
                calls += activation_calls(activation, y)
        return calls

    def _record_loss(self) -> Calls:
        """The sum of the rows' losses becomes (loss_sum - loss_offset) * loss_scale."""
        y = self.outputs
        self.loss_sum, self.loss_offset = np.zeros((), y.dtype), np.zeros((), y.dtype)
        if self.network.loss == "mse":
            self.loss_scale = 1 / len(y)
            self.errors = np.empty_like(y)
            errors = self.errors.ravel()
            return [
                partial(np.subtract, y, self.targets, self.errors),
                partial(errors.dot, errors, self.loss_sum),
            ]
        # -sum t log p = log(sum exp z) - sum t z, with z less its largest element.
        self.loss_scale = 1.0
        logs, ones = np.empty_like(self.exp_sums), np.ones_like(self.exp_sums)
        return [
            partial(np.log, self.exp_sums, logs),
            partial(ones.dot, logs, self.loss_sum),
            partial(self.targets.ravel().dot, self.logits.ravel(), self.loss_offset),
        ]

    def _record_backward(self) -> Calls:
        """The gradients, times the factor that the update wants them with."""
        net, rows = self.network, len(self.inputs)
        scale = np.array(net._gradient_scale / rows, net.dtype)
        if net.loss == "mse":
            # dE_i/dy = 2 (y - t) / outputs, then dE_i/dz by the activation's derivative
            delta = self.errors
            scale *= 2 / len(delta)
            calls: Calls = [partial(np.multiply, delta, scale, delta)]
            calls += derivative_calls(net.activations[-1], self.outputs, delta)
        else:
            # dE_i/dz = p - t
            delta = self.outputs
            calls = [
                partial(np.subtract, delta, self.targets, delta),
                partial(np.multiply, delta, scale, delta),
            ]
        for i in reversed(range(len(self.reads))):
            calls.append(partial(self.reads[i].dot, delta.T, net._gradient_blocks[i]))
            if i > 0:
                below = np.empty((net.widths[i], rows), net.dtype)
                calls.append(partial(net.weights[i].dot, delta, below))
                calls += derivative_calls(net.activations[i - 1], self.writes[i - 1], below)
                delta = below
        return calls

    def load(self, X: np.ndarray, y: np.ndarray) -> None:
        self.inputs[:, :-1] = X
        self.network._load_targets(y, self.targets)

    def predict(self) -> None:
        """Fill `outputs`."""
        replay(self.forward_calls)

    def evaluate(self) -> float:
        """The sum of the rows' losses."""
        replay(self.evaluate_calls)
        return self._loss()

    def train(self) -> float:
        """One step; returns the sum of the rows' losses before it."""
        replay(self.train_calls)
        return self._loss()

    def _loss(self) -> float:
        return (self.loss_sum.item() - self.loss_offset.item()) * self.loss_scale


def replay(calls: Calls) -> None:
    for call in calls:
        call()


# ---- Calls over feature-major blocks (units, rows) ----


def activation_calls(name: str, y: np.ndarray) -> Calls:
    """y = f(y), in place."""
    if name == "relu":
        return [partial(np.maximum, y, np.zeros_like(y), out=y)]
    if name == "tanh":
        return [partial(np.tanh, y, y)]
    if name == "sigmoid":
        # 1 / (1 + exp(-z)); where exp overflows, the result is its right limit 0.
        one = np.ones((), y.dtype)
        return [
            partial(np.negative, y, y),
            partial(np.exp, y, y),
            partial(np.add, y, one, y),
            partial(np.reciprocal, y, y),
        ]
    return []


def softmax_calls(z: np.ndarray, y: np.ndarray, sums: np.ndarray) -> Calls:
    """y = softmax of each column of z.

    Leaves each column of z less its largest element, and in sums (rows,) its sum of exp z.
    """
    top, ones = np.empty_like(sums), np.ones(len(z), z.dtype)
    return [
        partial(np.maximum.reduce, z, 0, None, top),
        partial(np.subtract, z, top, z),
        partial(np.exp, z, y),
        partial(ones.dot, y, sums),
        partial(np.divide, y, sums, y),
    ]


def derivative_calls(name: str, y: np.ndarray, delta: np.ndarray) -> Calls:
    """delta = delta * f'(z), in place, from y = f(z)."""
    scratch = np.empty_like(delta)
    if name == "relu":
        # f' is 1 or 0.  The bits of y >= 0, read as an integer, are 0 only for 0: their minimum
        # with 1 is f', and multiplies the bits of delta.  A comparison gives booleans, which a
        # product with floats converts first: up to 1.6 times as long in all.
        bits = np.dtype(f"i{y.itemsize}")
        mask, delta_bits = scratch.view(bits), delta.view(bits)
        return [
            partial(np.minimum, y.view(bits), np.ones_like(mask), out=mask),
            partial(np.multiply, delta_bits, mask, delta_bits),
        ]
    if name == "tanh":
        # delta (1 - y^2) = delta - delta y y
        return [
            partial(np.multiply, delta, y, scratch),
            partial(np.multiply, scratch, y, scratch),
            partial(np.subtract, delta, scratch, delta),
        ]
    if name == "sigmoid":
        # delta y (1 - y) = delta y - delta y y
        return [
            partial(np.multiply, delta, y, delta),
            partial(np.multiply, delta, y, scratch),
            partial(np.subtract, delta, scratch, delta),
        ]
    return []


# ---- Updates of the flat parameters p from their gradients g ----


def sgd_calls(optimizer: SGD, p: np.ndarray, g: np.ndarray) -> Calls:
    """Gradient descent, where g is the gradient times the learning rate.

    Plain:     p -= g
    Momentum:  v = mu v + g;  p -= v
    Nesterov:  p -= g + mu v; with u = mu v kept in v's place, u = mu (u + g);  p -= g + u
    """
    if optimizer.momentum == 0:
        return [partial(np.subtract, p, g, p)]
    velocity, momentum = np.zeros_like(p), np.array(optimizer.momentum, p.dtype)
    if optimizer.nesterov:
        return [
            partial(np.add, velocity, g, velocity),
            partial(np.multiply, velocity, momentum, velocity),
            partial(np.add, g, velocity, g),
            partial(np.subtract, p, g, p),
        ]
    return [
        partial(np.multiply, velocity, momentum, velocity),
        partial(np.add, velocity, g, velocity),
        partial(np.subtract, p, velocity, p),
    ]


def adam_calls(optimizer: Adam, p: np.ndarray, g: np.ndarray) -> Calls:
    """Adam in ten passes; g is used up.

    The moments are kept without their factors 1 - beta, which go into the scalars:
    m' = beta_1 m' + g;  v' = beta_2 v' + g^2;  p -= rate * m' / (sqrt(v') + epsilon)
    """
    m, v, scratch = np.zeros_like(p), np.zeros_like(p), np.empty_like(p)
    beta_1, beta_2 = np.array(optimizer.beta_1, p.dtype), np.array(optimizer.beta_2, p.dtype)
    rate, epsilon = np.zeros((), p.dtype), np.zeros((), p.dtype)
    steps = itertools.count(1)

    def set_scalars() -> None:
        step = next(steps)
        # m_hat = m' * mean and sqrt(v_hat) = sqrt(v') * root
        mean = (1 - optimizer.beta_1) / (1 - optimizer.beta_1**step)
        root = math.sqrt((1 - optimizer.beta_2) / (1 - optimizer.beta_2**step))
        rate[()] = optimizer.hyper[0] * mean / root
        epsilon[()] = optimizer.epsilon / root

    return [
        set_scalars,
        partial(np.multiply, m, beta_1, m),
        partial(np.add, m, g, m),
        partial(np.multiply, v, beta_2, v),
        partial(np.multiply, g, g, g),
        partial(np.add, v, g, v),
        partial(np.sqrt, v, scratch),
        partial(np.add, scratch, epsilon, scratch),
        partial(np.divide, m, scratch, scratch),
        partial(np.multiply, scratch, rate, scratch),
        partial(np.subtract, p, scratch, p),
    ]
