"""The oracle: feed-forward networks by the textbook, in plain NumPy.

Written to be read and to be right, not to be fast (the fast NumPy is `downslope.baseline`).  It
depends on NumPy alone and computes in the floating-point type of the arrays that it is given.

Notation and shapes, for a layer with activation f and a batch of rows:

    x (rows, inputs)       what comes in: the data, or the outputs of the layer before
    W (inputs, outputs)    weights; b (outputs,) bias, or (1,) when the layer shares one
    z = x W + b            net inputs (rows, outputs)
    y = f(z)               outputs    (rows, outputs)
    delta = dE/dz          (rows, outputs)

The error E of a batch is the mean over its rows of w_i E_i, with sample weights w_i (1 by default).
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

# ---- Activations: name -> f(z, a) and f'(z, a), with a the parameter of leaky_relu and elu ----


def erf(z: np.ndarray) -> np.ndarray:
    return np.vectorize(math.erf, otypes=[np.float64])(z).astype(z.dtype)


def sigmoid(z: np.ndarray) -> np.ndarray:
    # exp(-|z|) never overflows: 1 / (1 + e^-z) for z >= 0, e^z / (1 + e^z) below.
    e = np.exp(-np.abs(z))
    return np.where(z >= 0, 1, e) / (1 + e)


def softplus(z: np.ndarray) -> np.ndarray:
    return np.maximum(z, 0) + np.log1p(np.exp(-np.abs(z)))


def normal_cdf(z: np.ndarray) -> np.ndarray:
    return 0.5 * (1 + erf(z / math.sqrt(2)))


def normal_density(z: np.ndarray) -> np.ndarray:
    return np.exp(-0.5 * z * z) / math.sqrt(2 * math.pi)


def elu(z: np.ndarray, a: float) -> np.ndarray:
    return np.where(z > 0, z, a * np.expm1(np.minimum(z, 0)))


def elu_derivative(z: np.ndarray, a: float) -> np.ndarray:
    return np.where(z > 0, 1, a * np.exp(np.minimum(z, 0)))


def softmax(z: np.ndarray) -> np.ndarray:
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


ACTIVATIONS: dict[str, Callable[[np.ndarray, float], np.ndarray]] = {
    "identity": lambda z, a: z.copy(),
    "sigmoid": lambda z, a: sigmoid(z),
    "tanh": lambda z, a: np.tanh(z),
    "relu": lambda z, a: np.maximum(z, 0),
    "leaky_relu": lambda z, a: np.where(z > 0, z, a * z),
    "elu": elu,
    "gelu": lambda z, a: z * normal_cdf(z),
    "silu": lambda z, a: z * sigmoid(z),
    "softplus": lambda z, a: softplus(z),
    "softmax": lambda z, a: softmax(z),
}

# The derivatives of the activations that work element by element: all but softmax.
DERIVATIVES: dict[str, Callable[[np.ndarray, float], np.ndarray]] = {
    "identity": lambda z, a: np.ones_like(z),
    "sigmoid": lambda z, a: sigmoid(z) * sigmoid(-z),
    "tanh": lambda z, a: 1 - np.tanh(z) ** 2,
    "relu": lambda z, a: np.where(z > 0, 1, 0),
    "leaky_relu": lambda z, a: np.where(z > 0, 1, a),
    "elu": elu_derivative,
    "gelu": lambda z, a: normal_cdf(z) + z * normal_density(z),
    "silu": lambda z, a: sigmoid(z) * (1 + z * sigmoid(-z)),
    "softplus": lambda z, a: sigmoid(z),
}

DEFAULT_PARAMETERS = {"leaky_relu": 0.01, "elu": 1.0}


def back_through(activation: str, z: np.ndarray, d_y: np.ndarray, a: float) -> np.ndarray:
    """dE/dz (rows, units) from dE/dy (rows, units)."""
    if activation == "softmax":
        # dy_j/dz_k = y_j (1[j = k] - y_k), so dE/dz_k = y_k (dE/dy_k - sum_j y_j dE/dy_j).
        y = softmax(z)
        return y * (d_y - (y * d_y).sum(axis=1, keepdims=True))
    return (d_y * DERIVATIVES[activation](z, a)).astype(d_y.dtype)


# ---- Losses ----

# Which output activation a loss is defined on; the others take any.
LOSS_OUTPUTS = {"binary_cross_entropy": "sigmoid", "cross_entropy": "softmax"}


def one_hot(labels: np.ndarray, classes: int, dtype: np.dtype) -> np.ndarray:
    return np.eye(classes, dtype=dtype)[labels]


def row_losses(loss: str, z: np.ndarray, y: np.ndarray, t: np.ndarray) -> np.ndarray:
    """E_i (rows,) from the last layer's net inputs z, outputs y and the targets t (rows, outputs).

    The cross-entropies are written in z, where they neither overflow nor take log(0):
        -t log p - (1 - t) log(1 - p) = softplus(z) - t z        with p = sigmoid(z)
        -sum t log p = sum t (log(sum exp z) - z)                with p = softmax(z)
    """
    if loss == "half_squared_error":
        return (0.5 * (t - y) ** 2).sum(axis=1)
    if loss == "mse":
        return ((t - y) ** 2).mean(axis=1)
    if loss == "binary_cross_entropy":
        return (softplus(z) - t * z).mean(axis=1)
    if loss == "cross_entropy":
        top = z.max(axis=1, keepdims=True)
        log_sum = top + np.log(np.exp(z - top).sum(axis=1, keepdims=True))
        return (t * (log_sum - z)).sum(axis=1)
    raise ValueError(loss)


def output_delta(
    loss: str, activation: str, z: np.ndarray, y: np.ndarray, t: np.ndarray, a: float
) -> np.ndarray:
    """dE_i/dz (rows, outputs) of each row's own error at the last layer."""
    if loss == "binary_cross_entropy":
        return (y - t) / y.shape[1]
    if loss == "cross_entropy":
        # sum(t) is 1 for a one-hot or a distribution of probabilities.
        return y * t.sum(axis=1, keepdims=True) - t
    d_y = (y - t) if loss == "half_squared_error" else 2 * (y - t) / y.shape[1]
    return back_through(activation, z, d_y, a)


# ---- The network ----


@dataclass
class Layer:
    """One dense layer; `bias` is (outputs,), (1,) for one shared by the layer, or None."""

    weights: np.ndarray
    bias: np.ndarray | None
    activation: str = "identity"
    parameter: float = 0.0

    def net_input(self, x: np.ndarray) -> np.ndarray:
        z = x @ self.weights
        return z if self.bias is None else z + self.bias

    def bias_gradient(self, delta: np.ndarray) -> np.ndarray | None:
        if self.bias is None:
            return None
        per_unit = delta.sum(axis=0)
        shared = self.bias.size == 1
        return per_unit.sum(keepdims=True) if shared else per_unit


class Network:
    """A chain of layers.  `parameters` lays them out flat: per layer the weights, then the bias."""

    def __init__(self, layers: Iterable[Layer]) -> None:
        self.layers = list(layers)

    @classmethod
    def copy_of(cls, network: object) -> Network:
        """From any network whose layers have weights, bias and activation.name/.parameter."""
        return cls(
            Layer(
                layer.weights.copy(),
                None if layer.bias is None else layer.bias.copy(),
                layer.activation.name,
                layer.activation.parameter or 0.0,
            )
            for layer in network.layers
        )

    @property
    def dtype(self) -> np.dtype:
        return self.layers[0].weights.dtype

    @property
    def outputs(self) -> int:
        return self.layers[-1].weights.shape[1]

    def arrays(self) -> list[np.ndarray]:
        """Every weight and bias array, in the order of the flat layout."""
        pairs = ((layer.weights, layer.bias) for layer in self.layers)
        return [array for pair in pairs for array in pair if array is not None]

    @property
    def parameters(self) -> np.ndarray:
        return flat(self.arrays())

    @parameters.setter
    def parameters(self, values: np.ndarray) -> None:
        start = 0
        for array in self.arrays():
            array[...] = values[start : start + array.size].reshape(array.shape)
            start += array.size

    def forward(self, x: np.ndarray) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """The net inputs z of each layer, and its inputs followed by the network's outputs."""
        zs, ys = [], [x]
        for layer in self.layers:
            zs.append(layer.net_input(ys[-1]))
            ys.append(ACTIVATIONS[layer.activation](zs[-1], layer.parameter).astype(self.dtype))
        return zs, ys

    def predict(self, x: np.ndarray) -> np.ndarray:
        return self.forward(x)[1][-1]

    def backward(
        self, zs: list[np.ndarray], ys: list[np.ndarray], delta: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """The flat gradient and dE/dx, from the last layer's delta = dE/dz (rows, outputs).

        dE/dW = x' delta;  dE/db = sum over rows of delta;  dE/dx = delta W'
        """
        gradients: list[np.ndarray] = []
        for i in reversed(range(len(self.layers))):
            layer, x = self.layers[i], ys[i]
            d_bias = layer.bias_gradient(delta)
            gradients = [x.T @ delta, *([] if d_bias is None else [d_bias]), *gradients]
            d_x = delta @ layer.weights.T
            if i > 0:
                below = self.layers[i - 1]
                delta = back_through(below.activation, zs[i - 1], d_x, below.parameter)
        return flat(gradients), d_x

    def backward_from_outputs(
        self, zs: list[np.ndarray], ys: list[np.ndarray], d_outputs: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """As `backward`, from dE/d outputs (rows, outputs)."""
        last = self.layers[-1]
        return self.backward(
            zs, ys, back_through(last.activation, zs[-1], d_outputs, last.parameter)
        )

    def targets(self, y: np.ndarray) -> np.ndarray:
        """Targets (rows, outputs); integer labels (rows,) become one-hot rows."""
        labels = y.ndim == 1 and np.issubdtype(y.dtype, np.integer)
        dense = one_hot(y, self.outputs, self.dtype) if labels else y
        return dense.reshape(len(y), self.outputs).astype(self.dtype)

    def weighted_row_losses(
        self, x: np.ndarray, y: np.ndarray, loss: str, sample_weight: np.ndarray | None = None
    ) -> np.ndarray:
        """w_i E_i (rows,) in float64."""
        zs, ys = self.forward(x)
        losses = row_losses(loss, zs[-1], ys[-1], self.targets(y)).astype(np.float64)
        return losses if sample_weight is None else losses * sample_weight

    def loss(
        self, x: np.ndarray, y: np.ndarray, loss: str, sample_weight: np.ndarray | None = None
    ) -> float:
        """E = sum_i w_i E_i / rows."""
        return float(self.weighted_row_losses(x, y, loss, sample_weight).mean())

    def gradient(
        self, x: np.ndarray, y: np.ndarray, loss: str, sample_weight: np.ndarray | None = None
    ) -> np.ndarray:
        """dE/d parameters, flat, of the mean error over the rows of x."""
        zs, ys = self.forward(x)
        last = self.layers[-1]
        delta = output_delta(loss, last.activation, zs[-1], ys[-1], self.targets(y), last.parameter)
        if sample_weight is not None:
            delta = delta * sample_weight[:, np.newaxis].astype(self.dtype)
        return self.backward(zs, ys, delta / len(x))[0]

    def difference_gradient(
        self, x: np.ndarray, y: np.ndarray, loss: str, sample_weight: np.ndarray | None = None
    ) -> np.ndarray:
        """`gradient` again, from differences of `loss` alone: no back-propagation."""
        start = self.parameters

        def error(parameters: np.ndarray) -> float:
            self.parameters = parameters
            return self.loss(x, y, loss, sample_weight)

        try:
            return central_differences(error, start)
        finally:
            self.parameters = start


def flat(arrays: Iterable[np.ndarray]) -> np.ndarray:
    return np.concatenate([array.ravel() for array in arrays])


def central_differences(
    f: Callable[[np.ndarray], float], x: np.ndarray, step: float = 1e-3
) -> np.ndarray:
    """df/dx of a scalar function at x (n,), of fourth order:

    f'(x) = (f(x - 2h) - 8 f(x - h) + 8 f(x + h) - f(x + 2h)) / 12h + O(h^4)
    """
    gradient = np.empty_like(x)
    for i in range(x.size):
        h = np.zeros_like(x)
        h[i] = step
        difference = f(x - 2 * h) - 8 * f(x - h) + 8 * f(x + h) - f(x + 2 * h)
        gradient[i] = difference / (12 * step)
    return gradient


def rows_clear_of_kinks(rng: np.random.Generator, network: Network, rows: int) -> np.ndarray:
    """Random inputs (rows, inputs) that bring no net input near 0: there relu and its kin have
    their kink, and differences mean nothing."""
    candidates = rng.normal(size=(30 * rows, network.layers[0].weights.shape[0]))
    zs, _ = network.forward(candidates)
    clear = candidates[np.abs(np.hstack(zs)).min(axis=1) > 0.05]
    if len(clear) < rows:
        raise ValueError(
            f"found {len(clear)} rows clear of kinks, {rows} needed: try other weights"
        )
    return clear[:rows]


# ---- Optimisers: `update` gives the new parameters from the old ones and their gradient ----


class SGD:
    """v = mu v + g;  p -= lr v,  or by Nesterov  p -= lr (g + mu v)."""

    def __init__(
        self, learning_rate: float = 0.01, momentum: float = 0.0, nesterov: bool = False
    ) -> None:
        self.learning_rate, self.momentum, self.nesterov = learning_rate, momentum, nesterov
        self.velocity: np.ndarray | None = None

    def update(self, parameters: np.ndarray, gradient: np.ndarray) -> np.ndarray:
        if self.velocity is None:
            self.velocity = np.zeros_like(parameters)
        self.velocity = self.momentum * self.velocity + gradient
        direction = gradient + self.momentum * self.velocity if self.nesterov else self.velocity
        return parameters - self.learning_rate * direction


class Adam:
    """Kingma and Ba (2015), Algorithm 1, with the bias corrections 1 - b^t written out:

    m = b1 m + (1 - b1) g;  v = b2 v + (1 - b2) g^2
    p -= lr / (1 - b1^t) * m / (sqrt(v) / sqrt(1 - b2^t) + epsilon),  t = 1, 2, ...
    """

    def __init__(
        self,
        learning_rate: float = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
    ) -> None:
        self.learning_rate, self.epsilon = learning_rate, epsilon
        self.beta_1, self.beta_2 = beta_1, beta_2
        self.m: np.ndarray | None = None
        self.v: np.ndarray | None = None
        self.t = 0

    def update(self, parameters: np.ndarray, gradient: np.ndarray) -> np.ndarray:
        if self.m is None or self.v is None:
            self.m, self.v = np.zeros_like(parameters), np.zeros_like(parameters)
        self.t += 1
        self.m = self.beta_1 * self.m + (1 - self.beta_1) * gradient
        self.v = self.beta_2 * self.v + (1 - self.beta_2) * gradient**2
        m_hat = self.m / (1 - self.beta_1**self.t)
        v_hat = self.v / (1 - self.beta_2**self.t)
        return parameters - self.learning_rate * m_hat / (np.sqrt(v_hat) + self.epsilon)


# ---- Training ----


def train(
    network: Network,
    x: np.ndarray,
    y: np.ndarray,
    *,
    loss: str,
    optimizer: SGD | Adam,
    orders: Iterable[np.ndarray],
    batch_size: int,
    sample_weight: np.ndarray | None = None,
) -> list[float]:
    """Train in place over mini-batches and return each epoch's mean loss.

    orders: one array of row numbers per epoch, in the order of their use.  A permutation is a
    shuffled epoch; rows drawn with replacement may repeat; the last batch may be smaller.
    The loss of a row is the one met on its way: before the update of its own mini-batch.
    """
    history = []
    for order in orders:
        met = 0.0
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            w = None if sample_weight is None else sample_weight[rows]
            met += network.weighted_row_losses(x[rows], y[rows], loss, w).sum()
            gradient = network.gradient(x[rows], y[rows], loss, w)
            network.parameters = optimizer.update(network.parameters, gradient)
        history.append(float(met / len(order)))
    return history


# ---- Noise of a training step: Philox4x32-10 and what is made of its words ----


def philox_words(seed: int, stream: int, blocks: np.ndarray) -> np.ndarray:
    """The words (4, n) of the blocks of those numbers (Salmon and others, 2011, section 3.3)."""
    ones = np.uint64(2**32 - 1)
    half = np.uint64(32)
    blocks = blocks.astype(np.uint64)
    stream_words = [np.full_like(blocks, word) for word in (stream % 2**32, stream >> 32)]
    c = [blocks & ones, blocks >> half, *stream_words]
    for turn in range(10):
        k = [(seed + turn * 0x9E3779B9) % 2**32, ((seed >> 32) + turn * 0xBB67AE85) % 2**32]
        p_0, p_2 = np.uint64(0xD2511F53) * c[0], np.uint64(0xCD9E8D57) * c[2]
        c = [
            (p_2 >> half) ^ c[1] ^ np.uint64(k[0]),
            p_2 & ones,
            (p_0 >> half) ^ c[3] ^ np.uint64(k[1]),
            p_0 & ones,
        ]
    return np.array(c)


def dropout_mask(seed: int, stream: int, first: int, n: int, dropped: int) -> np.ndarray:
    """Elements first .. first + n: 256 to 32 blocks, by word, half of the word, block."""
    chunk, k = np.divmod(np.arange(n, dtype=np.uint64) + np.uint64(first), np.uint64(256))
    word, half, block = k // 64, k % 64 // 32, k % 32
    words = philox_words(seed, stream, chunk * np.uint64(32) + block)
    bits = words[word.astype(int), np.arange(n)] >> (np.uint64(16) * half) & np.uint64(0xFFFF)
    return np.where(bits < dropped, 0.0, 65536 / (65536 - dropped))


def normal_noise(seed: int, stream: int, first: int, n: int) -> np.ndarray:
    """Elements first .. first + n: 128 to 32 blocks, by word and block."""
    chunk, k = np.divmod(np.arange(n, dtype=np.uint64) + np.uint64(first), np.uint64(128))
    word, block = k // 32, k % 32
    words = philox_words(seed, stream, chunk * np.uint64(32) + block)
    chosen = words[word.astype(int), np.arange(n)] >> np.uint64(9)
    quantile = statistics.NormalDist().inv_cdf
    return np.array([quantile((2 * int(k) + 1) * 2.0**-24) for k in chosen])


class NoisyNetwork(Network):
    """A network in training: `masks` has one for each layer but the last, or None."""

    masks: list[np.ndarray | None]

    def draw(self, seed: int, step: int, rows: int, rates: list[float]) -> None:
        """The masks of a step, with the dropout rates of the layers."""
        self.masks = [
            dropout_mask(
                seed,
                (4 << 48) + step,
                (number + 1) << 48,
                rows * layer.weights.shape[1],
                round(rate * 65536),
            ).reshape(rows, -1)
            if rate
            else None
            for number, (layer, rate) in enumerate(zip(self.layers, rates, strict=True))
        ]

    def forward(self, x: np.ndarray) -> tuple[list[np.ndarray], list[np.ndarray]]:
        zs, ys = [], [x]
        for layer, mask in zip(self.layers, self.masks, strict=True):
            zs.append(layer.net_input(ys[-1]))
            y = ACTIVATIONS[layer.activation](zs[-1], layer.parameter).astype(self.dtype)
            ys.append(y if mask is None else y * mask)
        return zs, ys

    def backward(
        self, zs: list[np.ndarray], ys: list[np.ndarray], delta: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        gradients: list[np.ndarray] = []
        for i in reversed(range(len(self.layers))):
            layer, x = self.layers[i], ys[i]
            gradients = [x.T @ delta, layer.bias_gradient(delta), *gradients]
            d_x = delta @ layer.weights.T
            if i > 0:
                below, mask = self.layers[i - 1], self.masks[i - 1]
                d_y = d_x if mask is None else d_x * mask
                delta = back_through(below.activation, zs[i - 1], d_y, below.parameter)
        return flat(gradients), d_x
