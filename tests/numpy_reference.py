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
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

# ---- Activations: name -> f(z, a) and f'(z, a), with a the parameter of those that have one ----


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


# Klambauer et al. (2017), equation 14.
SELU_SCALE, SELU_ALPHA = 1.0507009873554804934193349852946, 1.6732632423543772848170429916717


def gelu_argument(z: np.ndarray) -> np.ndarray:
    """u of gelu's approximation z (1 + tanh u) / 2; Hendrycks and Gimpel (2016), section 2."""
    return math.sqrt(2 / math.pi) * (z + 0.044715 * z**3)


def gelu_tanh_derivative(z: np.ndarray) -> np.ndarray:
    u = gelu_argument(z)
    du = math.sqrt(2 / math.pi) * (1 + 3 * 0.044715 * z**2)
    return sigmoid(2 * u) + 2 * z * sigmoid(2 * u) * sigmoid(-2 * u) * du


def softmax(z: np.ndarray) -> np.ndarray:
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def log_softmax(z: np.ndarray) -> np.ndarray:
    top = z.max(axis=1, keepdims=True)
    return z - top - np.log(np.exp(z - top).sum(axis=1, keepdims=True))


ACTIVATIONS: dict[str, Callable[[np.ndarray, float], np.ndarray]] = {
    "identity": lambda z, a: z.copy(),
    "sigmoid": lambda z, a: sigmoid(z),
    "hard_sigmoid": lambda z, a: np.clip(z + 3, 0, 6) / 6,
    "tanh": lambda z, a: np.tanh(z),
    "hard_tanh": lambda z, a: np.clip(z, -1, 1),
    "softsign": lambda z, a: z / (1 + np.abs(z)),
    "relu": lambda z, a: np.maximum(z, 0),
    "relu6": lambda z, a: np.clip(z, 0, 6),
    "leaky_relu": lambda z, a: np.where(z > 0, z, a * z),
    "elu": elu,
    "selu": lambda z, a: SELU_SCALE * elu(z, SELU_ALPHA),
    "celu": lambda z, a: np.where(z > 0, z, a * np.expm1(np.minimum(z, 0) / a)),
    "gelu": lambda z, a: z * normal_cdf(z),
    "gelu_tanh": lambda z, a: z * sigmoid(2 * gelu_argument(z)),  # (1 + tanh u) / 2
    "silu": lambda z, a: z * sigmoid(z),
    "mish": lambda z, a: z * np.tanh(softplus(z)),
    "softplus": lambda z, a: softplus(z),
    "softmax": lambda z, a: softmax(z),
    "log_softmax": lambda z, a: log_softmax(z),
}

# The derivatives of the activations that work element by element: all but the softmaxes.
DERIVATIVES: dict[str, Callable[[np.ndarray, float], np.ndarray]] = {
    "identity": lambda z, a: np.ones_like(z),
    "sigmoid": lambda z, a: sigmoid(z) * sigmoid(-z),
    "hard_sigmoid": lambda z, a: np.where(np.abs(z) < 3, 1 / 6, 0),
    "tanh": lambda z, a: 1 - np.tanh(z) ** 2,
    "hard_tanh": lambda z, a: np.where(np.abs(z) < 1, 1, 0),
    "softsign": lambda z, a: 1 / (1 + np.abs(z)) ** 2,
    "relu": lambda z, a: np.where(z > 0, 1, 0),
    "relu6": lambda z, a: np.where((z > 0) & (z < 6), 1, 0),
    "leaky_relu": lambda z, a: np.where(z > 0, 1, a),
    "elu": elu_derivative,
    "selu": lambda z, a: SELU_SCALE * elu_derivative(z, SELU_ALPHA),
    "celu": lambda z, a: np.exp(np.minimum(z, 0) / a),
    "gelu": lambda z, a: normal_cdf(z) + z * normal_density(z),
    "gelu_tanh": lambda z, a: gelu_tanh_derivative(z),
    "silu": lambda z, a: sigmoid(z) * (1 + z * sigmoid(-z)),
    "mish": lambda z, a: np.tanh(softplus(z)) + z * sigmoid(z) * (1 - np.tanh(softplus(z)) ** 2),
    "softplus": lambda z, a: sigmoid(z),
}

DEFAULT_PARAMETERS = {"leaky_relu": 0.01, "elu": 1.0, "celu": 1.0}

# Net inputs at which an activation has no derivative; where none is listed, at 0 if anywhere.
KINKS = {"hard_sigmoid": (-3.0, 3.0), "hard_tanh": (-1.0, 1.0), "relu6": (0.0, 6.0)}


def back_through(activation: str, z: np.ndarray, d_y: np.ndarray, a: float) -> np.ndarray:
    """dE/dz (rows, units) from dE/dy (rows, units)."""
    if activation == "softmax":
        # dy_j/dz_k = y_j (1[j = k] - y_k), so dE/dz_k = y_k (dE/dy_k - sum_j y_j dE/dy_j).
        y = softmax(z)
        return y * (d_y - (y * d_y).sum(axis=1, keepdims=True))
    if activation == "log_softmax":
        # dy_j/dz_k = 1[j = k] - softmax_k
        return d_y - softmax(z) * d_y.sum(axis=1, keepdims=True)
    return (d_y * DERIVATIVES[activation](z, a)).astype(d_y.dtype)


# ---- Losses ----

# Which output activation a loss is defined on; the others take any.
LOSS_OUTPUTS = {
    "binary_cross_entropy": "sigmoid",
    "binary_focal": "sigmoid",
    "cross_entropy": "softmax",
    "focal": "softmax",
}

LOSS_PARAMETERS: dict[str, dict[str, float]] = {
    "huber": {"delta": 1.0},
    "quantile": {"levels": 0.5},
    "binary_focal": {"gamma": 2.0, "alpha": 0.25},
    "cross_entropy": {"label_smoothing": 0.0},
    "focal": {"gamma": 2.0},
}

LOSSES = [
    *("half_squared_error", "mse", "mae", "huber", "log_cosh", "quantile", "poisson"),
    *("gaussian_nll", "hinge", "binary_cross_entropy", "binary_focal", "cross_entropy", "focal"),
]


def name_and_parameters(loss: object) -> tuple[str, dict]:
    """Of a name, with the defaults, or of any object with name and parameters."""
    if isinstance(loss, str):
        return loss, LOSS_PARAMETERS.get(loss, {})
    return loss.name, dict(loss.parameters)


def one_hot(labels: np.ndarray, classes: int, dtype: np.dtype) -> np.ndarray:
    return np.eye(classes, dtype=dtype)[labels]


def smoothed(t: np.ndarray, label_smoothing: float, outputs: int) -> np.ndarray:
    return (1 - label_smoothing) * t + label_smoothing / outputs


def mean_and_log_variance(y: np.ndarray) -> list[np.ndarray]:
    return np.split(y, 2, axis=1)


def row_losses(
    loss: str, z: np.ndarray, y: np.ndarray, t: np.ndarray, p: dict | None = None
) -> np.ndarray:
    """E_i (rows,) from the last layer's net inputs z, outputs y (rows, outputs), the targets t and
    the loss's parameters p.

    The cross-entropies are written in z, where they neither overflow nor take log(0):
        -t log q - (1 - t) log(1 - q) = softplus(z) - t z        with q = sigmoid(z)
        -sum t log q = sum t (log(sum exp z) - z)                with q = softmax(z)
    """
    p = LOSS_PARAMETERS.get(loss, {}) if p is None else p
    if loss == "half_squared_error":
        return (0.5 * (t - y) ** 2).sum(axis=1)
    if loss == "mse":
        return ((t - y) ** 2).mean(axis=1)
    if loss == "mae":
        return np.abs(t - y).mean(axis=1)
    if loss == "huber":
        size, delta = np.abs(t - y), p["delta"]
        return np.where(size <= delta, 0.5 * size**2, delta * (size - 0.5 * delta)).mean(axis=1)
    if loss == "log_cosh":
        size = np.abs(t - y)
        return (size + np.log1p(np.exp(-2 * size)) - np.log(y.dtype.type(2))).mean(axis=1)
    if loss == "quantile":
        level = np.asarray(p["levels"], y.dtype)
        return np.maximum(level * (t - y), (level - 1) * (t - y)).mean(axis=1)
    if loss == "poisson":
        return (np.exp(y) - t * y).mean(axis=1)
    if loss == "gaussian_nll":
        mean, log_variance = mean_and_log_variance(y)
        return (0.5 * (log_variance + (t - mean) ** 2 / np.exp(log_variance))).mean(axis=1)
    if loss == "hinge":
        return np.maximum(0, 1 - t * y).mean(axis=1)
    if loss == "binary_cross_entropy":
        return (softplus(z) - t * z).mean(axis=1)
    if loss == "binary_focal":
        u, a = focal_parts(z, t, p)
        return (a * sigmoid(-u) ** p["gamma"] * softplus(-u)).mean(axis=1)
    if loss == "cross_entropy":
        t = smoothed(t, p["label_smoothing"], y.shape[1])
        return -(t * log_softmax(z)).sum(axis=1)
    if loss == "focal":
        return -(t * others(z) ** p["gamma"] * log_softmax(z)).sum(axis=1)
    raise ValueError(loss)


def others(z: np.ndarray) -> np.ndarray:
    """1 - softmax(z): what the other classes have."""
    return -np.expm1(log_softmax(z))


def focal_parts(z: np.ndarray, t: np.ndarray, p: dict) -> tuple[np.ndarray, np.ndarray]:
    """The net input towards the right answer, and the class's weight."""
    return np.where(t == 1, z, -z), np.where(t == 1, p["alpha"], 1 - p["alpha"])


def output_gradient(loss: str, y: np.ndarray, t: np.ndarray, p: dict | None = None) -> np.ndarray:
    """dE_i/dy (rows, outputs) of each row's own error, for losses of any output activation."""
    p, outputs = LOSS_PARAMETERS.get(loss, {}) if p is None else p, y.shape[1]
    if loss == "half_squared_error":
        return y - t
    if loss == "mse":
        return 2 * (y - t) / outputs
    if loss == "mae":
        return np.sign(y - t) / outputs
    if loss == "huber":
        return np.clip(y - t, -p["delta"], p["delta"]) / outputs
    if loss == "log_cosh":
        return np.tanh(y - t) / outputs
    if loss == "quantile":
        level = np.asarray(p["levels"], y.dtype)
        return np.where(y > t, 1 - level, np.where(y < t, -level, 0)) / outputs
    if loss == "poisson":
        return (np.exp(y) - t) / outputs
    if loss == "hinge":
        return np.where(t * y < 1, -t, 0) / outputs
    if loss == "gaussian_nll":
        mean, log_variance = mean_and_log_variance(y)
        precision = np.exp(-log_variance)
        d_mean = (mean - t) * precision
        d_log_variance = 0.5 * (1 - (mean - t) ** 2 * precision)
        return np.hstack([d_mean, d_log_variance]) / mean.shape[1]
    raise ValueError(loss)


def output_delta(
    loss: str,
    activation: str,
    z: np.ndarray,
    y: np.ndarray,
    t: np.ndarray,
    a: float,
    p: dict | None = None,
) -> np.ndarray:
    """dE_i/dz (rows, outputs) of each row's own error at the last layer."""
    p = LOSS_PARAMETERS.get(loss, {}) if p is None else p
    if loss == "binary_cross_entropy":
        return (y - t) / y.shape[1]
    if loss == "binary_focal":
        u, weight = focal_parts(z, t, p)
        q, rest = sigmoid(u), sigmoid(-u)
        d_u = -weight * rest ** p["gamma"] * (p["gamma"] * q * softplus(-u) + rest)
        return np.where(t == 1, d_u, -d_u) / y.shape[1]
    if loss == "cross_entropy":
        # sum(t) is 1 for a one-hot or a distribution of probabilities.
        t = smoothed(t, p["label_smoothing"], y.shape[1])
        return softmax(z) * t.sum(axis=1, keepdims=True) - t
    if loss == "focal":
        # dE/dy, and through the softmax
        rest, gamma = others(z), p["gamma"]
        d_y = t * (gamma * rest ** (gamma - 1) * log_softmax(z) - rest**gamma / softmax(z))
        return back_through("softmax", z, d_y, 0.0)
    return back_through(activation, z, output_gradient(loss, y, t, p).astype(y.dtype), a)


def random_targets(rng: np.random.Generator, loss: str, y: np.ndarray) -> np.ndarray:
    """Targets that suit a loss, away from where it has a kink for the outputs y."""
    if loss == "hinge":
        return rng.choice([-1.0, 1.0], y.shape)
    if loss == "binary_focal":
        return rng.choice([0.0, 1.0], y.shape)
    if loss == "gaussian_nll":
        return rng.normal(size=(len(y), y.shape[1] // 2))
    if loss in ("mae", "huber", "quantile"):
        return y + rng.choice([-1.7, -0.3, 0.4, 2.1], y.shape)
    t = rng.random(y.shape)
    return t / t.sum(axis=1, keepdims=True) if LOSS_OUTPUTS.get(loss) == "softmax" else t


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
        """Targets (rows, columns); integer labels (rows,) become one-hot rows."""
        labels = y.ndim == 1 and np.issubdtype(y.dtype, np.integer)
        dense = one_hot(y, self.outputs, self.dtype) if labels else y
        return dense.reshape(len(y), -1).astype(self.dtype)

    def weighted_row_losses(
        self, x: np.ndarray, y: np.ndarray, loss: object, sample_weight: np.ndarray | None = None
    ) -> np.ndarray:
        """w_i E_i (rows,) in float64."""
        zs, ys = self.forward(x)
        name, p = name_and_parameters(loss)
        losses = row_losses(name, zs[-1], ys[-1], self.targets(y), p).astype(np.float64)
        return losses if sample_weight is None else losses * sample_weight

    def loss(
        self, x: np.ndarray, y: np.ndarray, loss: object, sample_weight: np.ndarray | None = None
    ) -> float:
        """E = sum_i w_i E_i / rows."""
        return float(self.weighted_row_losses(x, y, loss, sample_weight).mean())

    def gradient(
        self, x: np.ndarray, y: np.ndarray, loss: object, sample_weight: np.ndarray | None = None
    ) -> np.ndarray:
        """dE/d parameters, flat, of the mean error over the rows of x."""
        zs, ys = self.forward(x)
        last = self.layers[-1]
        name, p = name_and_parameters(loss)
        delta = output_delta(
            name, last.activation, zs[-1], ys[-1], self.targets(y), last.parameter, p
        )
        if sample_weight is not None:
            delta = delta * sample_weight[:, np.newaxis].astype(self.dtype)
        return self.backward(zs, ys, delta / len(x))[0]

    def difference_gradient(
        self, x: np.ndarray, y: np.ndarray, loss: object, sample_weight: np.ndarray | None = None
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
    """Random inputs (rows, inputs) that bring no net input near a kink of its activation, where
    differences mean nothing."""
    candidates = rng.normal(size=(30 * rows, network.layers[0].weights.shape[0]))
    zs, _ = network.forward(candidates)
    distances = [
        np.abs(z - kink)
        for z, layer in zip(zs, network.layers, strict=True)
        for kink in KINKS.get(layer.activation, (0.0,))
    ]
    clear = candidates[np.hstack(distances).min(axis=1) > 0.05]
    if len(clear) < rows:
        raise ValueError(
            f"found {len(clear)} rows clear of kinks, {rows} needed: try other weights"
        )
    return clear[:rows]


# ---- Training ----


def train(
    network: Network,
    x: np.ndarray,
    y: np.ndarray,
    *,
    loss: object,
    optimizer: object,
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
