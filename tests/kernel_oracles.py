"""What every kernel of downslope.h should give, by the oracle in the next wider type, and within
how many ULP: the list that test_kernels.py goes through."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

import numpy_reference as reference
from downslope import _kernels
from downslope._kernels import ACTIVATIONS, ELEMENTARY, LOSSES, OPTIMIZERS

LANES = 16
ALPHA = 0.25  # exact in both types


@dataclass
class Truth:
    """What a result should be: values in the wider type, and how far it may be off: `ulps` units in
    the last place of the value, or of `scale`, the size of the numbers that it is made of."""

    values: np.ndarray
    ulps: float | np.ndarray = 0
    scale: np.ndarray | float = 0

    def check(self, got: np.ndarray, dtype: str) -> None:
        """`dtype`: the type that it was computed in."""
        with np.errstate(all="ignore"):
            expected = self.values.astype(got.dtype)
            size = np.maximum(np.abs(self.values), self.scale).astype(dtype)
            errors = np.abs(got.astype(self.values.dtype) - self.values) / np.spacing(size)
        same = (got == expected) | (np.isnan(got) & np.isnan(expected))
        # `not <=`: a NaN is wrong
        wrong = ~same & ~(errors <= np.broadcast_to(self.ulps, errors.shape))
        assert not wrong.any(), (
            f"{wrong.sum()} of {wrong.size} too far off, first at {np.argwhere(wrong)[0]}: "
            f"{got[wrong][0]!r}, not {expected[wrong][0]!r}, {errors[wrong][0]:.1f} ULP"
        )


# ---- The kernels ----


@dataclass(frozen=True)
class Kernel:
    """One entry of the list.

    inputs(rng, rows, cols): float64 or int64 arrays; the kernel writes to the last `written`.
    run(isa, *arrays): calls it.
    truth(*arrays): from the arrays in the wider type as they were before, a Truth for each written.
    """

    inputs: Callable[..., list[np.ndarray]]
    run: Callable[..., object]
    truth: Callable[..., list[Truth]]
    written: int = 1
    float64: tuple[int, ...] = ()  # which arrays are of that type always
    takes_nothing: bool = True  # blocks without rows or columns


def erfc(x):
    """From the float64 erfc; what x has beyond float64 by the first term of the Taylor series."""
    near = x.astype(np.float64)
    value = np.vectorize(math.erfc, otypes=[np.float64])(near)
    slope = 2 / np.sqrt(x.dtype.type(np.pi)) * np.exp(-(x * x))
    rest = np.where(np.isfinite(near), x - near, 0)
    return value - np.where(slope > 0, slope * rest, 0)


def normal_cdf(x):
    return erfc(-x / np.sqrt(x.dtype.type(2))) / 2


def normal_density(x):
    return np.exp(-x * x / 2) / np.sqrt(2 * x.dtype.type(np.pi))


def wide_range(rng, *shape):
    """Numbers of every size, most of them around 1."""
    size = np.where(rng.random(shape) < 0.8, rng.normal(size=shape), rng.uniform(-40, 38, shape))
    return rng.choice([-1.0, 1.0], shape) * np.where(np.abs(size) < 5, 4 * size, 10**size)


# -- Elementary functions: within 4 ULP everywhere --

ELEMENTARY_ORACLES = {
    "exp": np.exp,
    "expm1": np.expm1,
    "log": np.log,
    "log1p": np.log1p,
    "tanh": np.tanh,
    "sigmoid": reference.sigmoid,
    "softplus": reference.softplus,
    "erfc": erfc,
}
ELEMENTARY_ULPS = 4


def elementary(name):
    def inputs(rng, rows, cols):
        return [wide_range(rng, rows * cols), np.zeros(rows * cols)]

    return Kernel(
        inputs,
        lambda isa, x, y: _kernels.run_elementary(isa, name, x, y),
        lambda x, y: [Truth(ELEMENTARY_ORACLES[name](x), ELEMENTARY_ULPS)],
    )


# -- Activations: an elementary function and at most two more roundings --

ACTIVATION_ULPS = {
    "identity": 0,
    "relu": 0,
    "relu6": 0,
    "hard_tanh": 0,
    "leaky_relu": 0.5,
    "hard_sigmoid": 1.5,
    "softsign": 1.5,
    "sigmoid": 4,
    "tanh": 4,
    "softplus": 4,
    "elu": 5,
    "selu": 5,
    "celu": 5,
    "silu": 5,
    "mish": 6,
    "gelu": 6,
    "gelu_tanh": 6,
}


def lane_sum_ulps(cols):
    """Roundings on the way of a term through a sum in lanes."""
    return cols / LANES + 4


def softmax_ulps(z):
    """Of exp(z - max) / sum: the rounding of z - max counts |z - max| times."""
    return 8 + np.abs(z - z.max(axis=1, keepdims=True)) + lane_sum_ulps(z.shape[1])


def times_subnormal_ulps(z, product):
    """Of z times something: half an ULP counts |z| times where that something is subnormal."""
    narrow = np.float32 if z.dtype == np.float64 else np.float64
    return np.where(np.abs(product) < np.abs(z) * np.finfo(narrow).smallest_normal, np.abs(z), 0)


def gelu_tanh_ulps(z):
    """Of exp(2 u): the rounding of 2 u counts |2 u| times; until it has no digits."""
    return 3 * np.minimum(np.abs(2 * reference.gelu_argument(z)), 800)


def activation_truth(name, z):
    if name == "softmax":
        return Truth(reference.softmax(z), softmax_ulps(z)) if z.size else Truth(z)
    if name == "log_softmax":
        return log_softmax_truth(z) if z.size else Truth(z)
    value = z * normal_cdf(z) if name == "gelu" else reference.ACTIVATIONS[name](z, ALPHA)
    ulps = ACTIVATION_ULPS[name] + times_subnormal_ulps(z, value)
    return Truth(value, ulps + gelu_tanh_ulps(z) if name == "gelu_tanh" else ulps)


def log_softmax_truth(z):
    """(z - max) - log(sum), whose two parts can cancel."""
    value = reference.log_softmax(z)
    distance = np.abs(z - z.max(axis=1, keepdims=True))
    return Truth(value, 8 + lane_sum_ulps(z.shape[1]), 1 + distance + np.abs(value))


def activation(name):
    def inputs(rng, rows, cols):
        # What lies beyond is among the limits, further below.
        return [np.clip(wide_range(rng, rows, cols), -80, 80), np.zeros((rows, cols))]

    return Kernel(
        inputs,
        lambda isa, z, y: _kernels.run_activation(isa, name, z, ALPHA, y),
        lambda z, y: [activation_truth(name, z)],
    )


# -- Derivatives: d f'(z), from y as it was rounded where the kernel reads y --


def derivative_truth(name, z, y, d):
    ulps, scale = 2, np.zeros_like(z)
    if name == "sigmoid":
        slope = y * (1 - y)
    elif name == "hard_sigmoid":
        slope = np.where((y > 0) & (y < 1), y.dtype.type(1) / 6, 0)
    elif name == "hard_tanh":
        slope = np.where(np.abs(y) < 1, 1, 0)
    elif name == "softsign":
        slope, ulps = (1 - np.abs(y)) ** 2, 3
    elif name == "relu6":
        slope = np.where((y > 0) & (y < 6), 1, 0)
    elif name == "selu":
        # y + lambda alpha: they cancel towards the limit
        size = y.dtype.type(reference.SELU_SCALE) * y.dtype.type(reference.SELU_ALPHA)
        slope = np.where(y > 0, y.dtype.type(reference.SELU_SCALE), y + size)
        scale = np.where(y > 0, 0, size)
    elif name == "celu":
        slope, scale = np.where(y > 0, 1, 1 + y / ALPHA), np.ones_like(y)
    elif name == "tanh":
        slope = (1 - y) * (1 + y)  # 1 - y y would cancel in the oracle too
    elif name == "softplus":
        slope, ulps = -np.expm1(-y), 5
    elif name == "gelu":
        # The two terms cancel where gelu turns, at -0.75.
        cdf, slope_term = normal_cdf(z), z * normal_density(z)
        slope, scale = cdf + slope_term, cdf + np.abs(slope_term)
        ulps = 8 + times_subnormal_ulps(z, scale)
    elif name == "gelu_tanh":
        # s + z s', of opposite signs below zero
        slope, s = (
            reference.gelu_tanh_derivative(z),
            reference.sigmoid(2 * reference.gelu_argument(z)),
        )
        scale, ulps = s + np.abs(slope - s), 12 + gelu_tanh_ulps(z)
        ulps = ulps + times_subnormal_ulps(z, scale)
    elif name == "mish":
        # t + z t', of opposite signs below zero
        slope, t = reference.DERIVATIVES["mish"](z, ALPHA), np.tanh(reference.softplus(z))
        scale, ulps = t + np.abs(slope - t), 12
    elif name == "silu":
        # s + z s (1 - s): they cancel at -1.28, and z multiplies the rounding error of 1 - s.
        s = reference.sigmoid(z)
        slope, ulps, scale = (
            s * (1 + z * reference.sigmoid(-z)),
            6,
            s * (1 + np.minimum(np.abs(z), 40)),
        )
    elif name == "softmax":
        products = y * d
        mean, size = products.sum(axis=1, keepdims=True), np.abs(products)
        scale = y * (np.abs(d) + size.sum(axis=1, keepdims=True))
        return Truth(y * (d - mean), 4 + lane_sum_ulps(z.shape[1]), scale)
    elif name == "log_softmax":
        p, size = np.exp(y), np.abs(d).sum(axis=1, keepdims=True)
        value = d - p * d.sum(axis=1, keepdims=True)
        return Truth(value, 4 + lane_sum_ulps(z.shape[1]), np.abs(d) + p * size)
    else:
        slope, ulps = reference.DERIVATIVES[name](z, ALPHA), 6 if name == "elu" else 1
    return Truth(d * slope, ulps, np.abs(d) * scale)


def derivative(name):
    def inputs(rng, rows, cols):
        z = np.clip(wide_range(rng, rows, cols), -80, 80)
        y = reference.ACTIVATIONS[name](z, ALPHA) if z.size else z
        return [z, y, rng.uniform(-1, 1, (rows, cols))]

    return Kernel(
        inputs,
        lambda isa, z, y, d: _kernels.run_derivative(isa, name, z, y, ALPHA, d),
        lambda z, y, d: [derivative_truth(name, z, y, d)],
    )


# -- Losses: row_loss (always float64) and delta --

SCALE = 0.37  # as 1 / rows of the batch

# The parameters that the kernels get, exact in both types.
LOSS_PARAMETERS = {
    "huber": {"delta": 0.75},
    "quantile": {"levels": 0.25},
    "binary_focal": {"gamma": 1.5, "alpha": 0.25},
    "cross_entropy": {"label_smoothing": 0.125},
    "focal": {"gamma": 1.5},
}


def loss_truth(name, z, t, w):
    cols, kind = z.shape[1], name.removesuffix("_labels")
    parameters = LOSS_PARAMETERS.get(kind, {})
    if kind == "binary_cross_entropy":
        y = reference.sigmoid(z)
        delta = (y - t) / cols
    elif reference.LOSS_OUTPUTS.get(kind):
        delta = reference.output_delta(kind, "", z, reference.softmax(z), t, 0.0, parameters)
    else:
        delta = reference.output_gradient(kind, z, t, parameters)
    # size: of the numbers that the loss is the sum of; parts: those of which the delta is the
    # difference, with rounding errors of their own
    losses = reference.row_losses(kind, z, z, t, parameters)
    size, parts, term_ulps = losses, delta, 4
    if kind == "poisson":
        size, parts = (np.exp(z) + np.abs(t * z)).mean(axis=1), np.exp(z) / cols
    elif kind == "gaussian_nll":
        size = size + np.abs(reference.mean_and_log_variance(z)[1]).mean(axis=1)
        parts, term_ulps = np.abs(delta) + 2 / cols, 8
    elif kind == "hinge":
        size = 1 + np.abs(z).mean(axis=1)
    elif kind == "log_cosh":
        term_ulps = 8
    elif kind == "binary_cross_entropy":
        size = (reference.softplus(z) + np.abs(z * t)).mean(axis=1)
        parts, term_ulps = y / cols, 8
    elif kind == "binary_focal":
        # a power's exponent, gamma log(1 - p), counts its rounding as often as it is large
        term_ulps = 20 + 4 * parameters["gamma"] * (1 + np.abs(z).max())
    elif kind == "cross_entropy":
        t = reference.smoothed(t, parameters["label_smoothing"], cols)
        log_sum = np.log(np.exp(z).sum(axis=1, keepdims=True))
        size = (t * (1 + np.abs(log_sum) + np.abs(z))).sum(axis=1)  # 1: log(1 + something)
        parts, term_ulps = reference.softmax(z) + t, softmax_ulps(z)
    elif kind == "focal":
        # (1 - y)^gamma inherits the error of y, and its exponent's as often as that is large
        gamma, y, rest = parameters["gamma"], reference.softmax(z), reference.others(z)
        size = (t * rest**gamma * (1 - reference.log_softmax(z))).sum(axis=1)
        parts = (t + y * t.sum(axis=1, keepdims=True)) * (1 + gamma) + np.abs(delta)
        term_ulps = softmax_ulps(z) * (1 + gamma) + 4 * gamma * np.abs(np.log(rest + 1e-9))
    factor = SCALE * w[:, np.newaxis]
    return [
        Truth(
            w * losses,
            np.max(term_ulps) + lane_sum_ulps(cols),
            w * size,
        ),
        Truth(factor * delta, term_ulps, factor * np.abs(parts)),
    ]


def loss(name):
    labels, kind = name.endswith("_labels"), name.removesuffix("_labels")

    def inputs(rng, rows, cols):
        outputs = 2 * cols if name == "gaussian_nll" else cols
        z = 3 * rng.normal(size=(rows, outputs))
        target = rng.integers(0, cols, rows) if labels else reference.random_targets(rng, kind, z)
        parameters = [np.full(cols, p) for p in LOSS_PARAMETERS.get(kind, {"none": 0.0}).values()]
        if name != "quantile":
            parameters = [p[:1] for p in parameters]
        return [
            *(z, target, 2 * rng.random(rows), np.concatenate(parameters)),
            *(np.zeros(rows), np.zeros((rows, outputs))),
        ]

    def run(isa, z, target, weight, parameters, row_loss, delta):
        _kernels.run_loss(isa, name, z, target, weight, SCALE, parameters, row_loss, delta)

    def truth(z, target, weight, parameters, row_loss, delta):
        t = reference.one_hot(target, z.shape[1], z.dtype) if labels else target
        return loss_truth(name, z, t, weight)

    return Kernel(inputs, run, truth, written=2, float64=(3, 4), takes_nothing=False)


# -- Updates: parameters and states --

HYPER = {
    "sgd": (0.01,),
    "momentum": (0.01, 0.9),
    "nesterov": (0.01, 0.9),
    "adam": (0.01, 0.9, 0.99, 1e-6, 0.0),
    "amsgrad": (0.01, 0.9, 0.99, 1e-6, 0.0),
    "nadam": (0.01, 0.9, 0.99, 1e-6, 0.95),
    "radam": (0.01, 0.9, 0.99, 1e-6),
    "adagrad": (0.01, 1e-6),
    "rmsprop": (0.01, 0.9, 1e-6, 0.0),
    "rmsprop_momentum": (0.01, 0.9, 1e-6, 0.8),
    "rmsprop_centered": (0.01, 0.9, 1e-6, 0.8),
    "adadelta": (0.01, 0.9, 1e-6),
    "lion": (0.01, 0.9, 0.99),
    "rprop": (0.01, 0.5, 1.2, 1e-3, 0.015),
}
# Whose states are running means of squares, or sizes of steps: not negative.
SQUARES = {
    **dict.fromkeys(("adam", "nadam", "radam", "rprop"), (1,)),
    **dict.fromkeys(("adagrad", "rmsprop", "rmsprop_momentum", "rmsprop_centered"), (0,)),
    "amsgrad": (1, 2),
    "adadelta": (0, 1),
}
STEP = 5
STEPS = {"radam": 50}  # rectified
# Whose step and states are finite for every finite gradient.
BOUNDED = {"lion", "rprop"}


def moments(s, g, b_1, b_2):
    """m and v, and the sizes of the terms of m."""
    m, m_size = b_1 * s[0] + (1 - b_1) * g, b_1 * np.abs(s[0]) + (1 - b_1) * np.abs(g)
    return m, b_2 * s[1] + (1 - b_2) * g * g, m_size


def rmsprop_step(s, g, spread, rho, epsilon, mu):
    """The state of the momentum: its value and the size of its terms."""
    push = g / (np.sqrt(spread) + epsilon)
    return Truth(mu * s[1] + push, 40, mu * np.abs(s[1]) + np.abs(push))


def new_states_and_direction(name, s, g, t, lr, constants):
    """The states after a step, as Truths; the change in units of the learning rate; the size of the
    terms that it is the sum of."""
    if name == "sgd":
        return [], g, np.abs(g)
    if name in ("momentum", "nesterov"):
        (mu,) = constants
        velocity, size = mu * s[0] + g, mu * np.abs(s[0]) + np.abs(g)
        states = [Truth(velocity, 2, size)]
        if name == "momentum":
            return states, velocity, size
        return states, g + mu * velocity, np.abs(g) + mu * size
    if name in ("adam", "amsgrad", "radam", "nadam"):
        b_1, b_2, epsilon, *rest = constants
        m, v, m_size = moments(s, g, b_1, b_2)
        states = [Truth(m, 4, m_size), Truth(v, 4)]
        if name == "amsgrad":
            v = np.maximum(s[2], v)
            states.append(Truth(v, 4))
        if name == "nadam":
            mu = [b_1 * (1 - rest[0] ** k / 2) for k in range(1, t + 2)]
            root = np.sqrt(v / (1 - b_2**t)) + epsilon
            of_g = (1 - mu[t - 1]) / (1 - np.prod(mu[:t])) / root
            of_m = mu[t] / (1 - np.prod(mu)) / root
            return states, of_g * g + of_m * m, of_g * np.abs(g) + of_m * m_size
        if name == "radam":
            s_end = 2 / (1 - b_2) - 1
            s_t = s_end - 2 * t * b_2**t / (1 - b_2**t)
            r_2 = (s_t - 4) * (s_t - 2) * s_end / ((s_end - 4) * (s_end - 2) * s_t)
            factor = np.sqrt(r_2 * (1 - b_2**t)) / (np.sqrt(v) + epsilon) / (1 - b_1**t)
        else:
            factor = 1 / (1 - b_1**t) / (np.sqrt(v / (1 - b_2**t)) + epsilon)
        return states, factor * m, factor * m_size
    if name == "adagrad":
        total = s[0] + g * g
        direction = g / (np.sqrt(total) + constants[0])
        return [Truth(total, 2)], direction, np.abs(direction)
    if name.startswith("rmsprop"):
        rho = constants[0]
        v = rho * s[0] + (1 - rho) * g * g
        if name == "rmsprop":
            direction = g / (np.sqrt(v) + constants[1])
            return [Truth(v, 4)], direction, np.abs(direction)
        if name == "rmsprop_momentum":
            velocity = rmsprop_step(s, g, v, *constants)
            return [Truth(v, 4), velocity], velocity.values, velocity.scale
        m = rho * s[2] + (1 - rho) * g
        velocity = rmsprop_step(s, g, v - m * m, *constants)
        m_size = rho * np.abs(s[2]) + (1 - rho) * np.abs(g)
        return [Truth(v, 4), velocity, Truth(m, 4, m_size)], velocity.values, velocity.scale
    if name == "adadelta":
        rho, epsilon = constants
        v = rho * s[0] + (1 - rho) * g * g
        change = g * np.sqrt(s[1] + epsilon) / np.sqrt(v + epsilon)
        u = rho * s[1] + (1 - rho) * change * change
        return [Truth(v, 4), Truth(u, 20)], change, np.abs(change)
    if name == "lion":
        b_1, b_2 = constants
        m, m_size = b_2 * s[0] + (1 - b_2) * g, b_2 * np.abs(s[0]) + (1 - b_2) * np.abs(g)
        direction = np.sign(b_1 * s[0] + (1 - b_1) * g)
        return [Truth(m, 4, m_size)], direction, np.abs(direction)
    minus, plus, least, greatest = constants
    agreement = np.sign(g) * np.sign(s[0])
    factor = np.where(agreement < 0, minus, np.where(agreement > 0, plus, 1))
    d = np.clip(s[1] * factor, least / lr, greatest / lr)
    kept = np.where(agreement < 0, 0, g)
    return [Truth(kept), Truth(d, 2)], d * np.sign(kept), d


def update_truth(name, g, *states_and_p):
    """The states and the parameters, each with the sizes of the terms that it is the sum of."""
    *s, p = states_and_p
    t = STEPS.get(name, STEP)
    lr, *constants = (p.dtype.type(h) for h in HYPER[name])
    states, direction, size = new_states_and_direction(name, s, g, t, lr, constants)
    ulps = 4.0 if name in ("sgd", "momentum", "nesterov") else 40.0
    if name in ("adam", "amsgrad", "nadam", "radam") and p.dtype != np.float64:
        # 1 - beta^t is computed in float64, where beta^t has t roundings and 1 - beta^t > 1 - beta.
        ulps += 4 * t / (1 - constants[1])
    change = np.abs(lr) * size
    return [
        *states,
        *(Truth(untouched) for untouched in s[len(states) :]),
        Truth(p - lr * direction, ulps, np.maximum(np.abs(p) / ulps, change)),
    ]


def update(name):
    hyper = np.array(HYPER[name])

    def inputs(rng, rows, cols):
        g, *s, p = rng.normal(size=(2 + _kernels.MAX_STATES, rows, cols))
        for k in SQUARES.get(name, ()):
            s[k] = 0.5 + rng.random((rows, cols))
        s[2] *= (
            0.1 if name == "rmsprop_centered" else 1
        )  # a mean, with a square below that of squares
        return [g, *s, p]

    def run(isa, g, *states_and_p):
        *s, p = states_and_p
        assert _kernels.run_update(isa, name, hyper, STEPS.get(name, STEP), g, s, p) == 0

    return Kernel(
        inputs,
        run,
        lambda *arrays: update_truth(name, *arrays),
        written=1 + _kernels.MAX_STATES,
        takes_nothing=False,
    )


# -- What is done to gradients before, and to parameters beside, the update --


def penalty_kernel(l1, l2):
    """The penalty of some parameters, with and without its gradient: here half of that."""

    def run(isa, p, g, out):
        out[0] = _kernels.run_penalize(isa, p, l1, l2, g, 0.5)
        out[1] = _kernels.run_penalize(isa, p, l1, l2, None, 0.5)

    def truth(p, g, out):
        gradient = g + l2 * p + 0.5 * l1 * np.sign(p)
        penalty = l1 * np.abs(p).sum() + l2 * (p * p).sum()
        return [
            Truth(gradient, 2, np.abs(g) + l2 * np.abs(p) + 0.5 * l1),
            Truth(np.array([penalty, penalty]), 5 + 2 * lane_sum_ulps(p.size)),
        ]

    def inputs(rng, rows, cols):
        return [*rng.normal(size=(2, rows, cols)), np.zeros(2)]

    return Kernel(inputs, run, truth, written=2, float64=(2,))


def limit_columns_truth(x):
    norm = np.sqrt((x * x).sum(axis=0))
    return [Truth(x * np.where(norm > 2, 2 / norm, 1), 4 + len(x))]


SCALING = Kernel(
    lambda rng, rows, cols: [rng.normal(size=(rows, cols))],
    lambda isa, x: _kernels.run_scale(isa, 0.375, x),
    lambda x: [Truth(0.375 * x, 1)],
)
CLIP = Kernel(
    lambda rng, rows, cols: [rng.normal(size=(rows, cols))],
    lambda isa, x: _kernels.run_clip(isa, 0.5, x),
    lambda x: [Truth(np.clip(x, -0.5, 0.5))],
)
SUM_OF_SQUARES = Kernel(
    lambda rng, rows, cols: [rng.normal(size=(rows, cols)), np.zeros(1)],
    lambda isa, x, out: out.fill(_kernels.run_sum_of_squares(isa, x)),
    lambda x, out: [Truth(np.array([(x * x).sum()]), 2 + lane_sum_ulps(x.size))],
    float64=(1,),
)
LIMIT_COLUMNS = Kernel(
    lambda rng, rows, cols: [rng.normal(size=(rows, cols))],
    lambda isa, x: _kernels.run_limit_columns(isa, 2.0, x),
    limit_columns_truth,
)
AVERAGE = Kernel(
    lambda rng, rows, cols: list(rng.normal(size=(2, rows, cols))),
    lambda isa, x, mean: _kernels.run_average(isa, x, 0.75, mean),
    lambda x, mean: [Truth(0.75 * mean + 0.25 * x, 2, 0.75 * np.abs(mean) + 0.25 * np.abs(x))],
)


# -- Products: each element one chain over the depth; at most one rounding for each of its terms --

DEPTH = 37


def product(start=None, **transposed):
    def inputs(rng, rows, cols):
        a = rng.normal(size=(DEPTH, rows) if "transpose_a" in transposed else (rows, DEPTH))
        b = rng.normal(size=(cols, DEPTH) if "transpose_b" in transposed else (DEPTH, cols))
        first = rng.normal(size=(rows, cols) if start == "block" else cols)
        return [a, b, first, np.zeros((rows, cols))]

    def run(isa, a, b, first, c):
        _kernels.run_product(isa, a, b, first if start else None, c, **transposed)

    def truth(a, b, first, c):
        a = a.T if "transpose_a" in transposed else a
        b = b.T if "transpose_b" in transposed else b
        first = first if start else np.zeros_like(first)
        return [Truth(a @ b + first, DEPTH, np.abs(a) @ np.abs(b) + np.abs(first))]

    return Kernel(inputs, run, truth)


def accumulating_product():
    """c += a b: the product starts from what it overwrites."""

    def inputs(rng, rows, cols):
        return [rng.normal(size=shape) for shape in ((rows, DEPTH), (DEPTH, cols), (rows, cols))]

    return Kernel(
        inputs,
        lambda isa, a, b, c: _kernels.run_product(isa, a, b, c, c),
        lambda a, b, c: [Truth(a @ b + c, DEPTH, np.abs(a) @ np.abs(b) + np.abs(c))],
    )


COLUMN_SUMS = Kernel(
    lambda rng, rows, cols: [rng.normal(size=(rows, cols)), rng.normal(size=cols)],
    lambda isa, block, sums: _kernels.run_column_sums(isa, block, sums),
    lambda block, sums: [
        Truth(sums + block.sum(axis=0), 1 + len(block), np.abs(sums) + np.abs(block).sum(axis=0))
    ],
)

KERNELS: dict[str, Kernel] = {
    **{f"elementary {name}": elementary(name) for name in ELEMENTARY},
    **{f"activation {name}": activation(name) for name in ACTIVATIONS},
    **{f"derivative {name}": derivative(name) for name in ACTIVATIONS},
    **{f"loss {name}": loss(name) for name in LOSSES},
    **{f"update {name}": update(name) for name in OPTIMIZERS},
    "product": product(),
    "product from a row": product("row"),
    "product from a block": product("block"),
    "product with a transposed": product(transpose_a=True),
    "product with b transposed": product(transpose_b=True),
    "product with both transposed": product(transpose_a=True, transpose_b=True),
    "product that accumulates": accumulating_product(),
    "column sums": COLUMN_SUMS,
    "penalty l1": penalty_kernel(0.125, 0.0),
    "penalty l2": penalty_kernel(0.0, 0.25),
    "penalty l1, l2": penalty_kernel(0.125, 0.25),
    "scale": SCALING,
    "clip": CLIP,
    "sum of squares": SUM_OF_SQUARES,
    "limit columns": LIMIT_COLUMNS,
    "average": AVERAGE,
}
