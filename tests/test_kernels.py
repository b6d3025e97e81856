"""Single kernels: every kernel x instruction set x float type, from the lists of downslope.h.

Each result is held against an oracle in the next wider type, within a number of ULP, and against
the scalar variant, bit by bit.  Every array stands in fenced memory: behind it (or one element
further, which also unaligns it) lies a page that can not be touched, before it a canary.
"""

from __future__ import annotations

import ctypes
import math
import mmap
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest

import fresh_python
import numpy_reference as reference
from downslope import _kernels
from downslope._kernels import ACTIVATIONS, ELEMENTARY, LOSSES, OPTIMIZER_STATES, OPTIMIZERS

ISAS = _kernels.available_isas()
VECTOR_BITS = {"neon": 128, "avx2": 256, "avx512": 512}
WIDER = {"float32": np.float64, "float64": np.longdouble}
LANES = 16
ALPHA = 0.25  # exact in both types
FLOATS = {"float32": 32, "float64": 64}


@pytest.fixture(params=ISAS)
def isa(request):
    return request.param


# ---- Fenced memory ----

_mprotect = ctypes.CDLL(None, use_errno=True).mprotect
_mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
PROT_NONE = 0
CANARY = 0xFF  # of such bytes every float is NaN: what is read by mistake shows in the result


class Fenced:
    """A copy of an array whose end is `gap` elements before a page that can not be touched."""

    def __init__(self, values: np.ndarray, gap: int = 0) -> None:
        size = values.nbytes + gap * values.itemsize
        end = max(1, math.ceil(size / mmap.PAGESIZE)) * mmap.PAGESIZE
        self._memory = np.frombuffer(mmap.mmap(-1, end + mmap.PAGESIZE), np.uint8)
        begin = end - size
        self._before = self._memory[:begin]
        self._behind = self._memory[begin + values.nbytes : end]
        self._before[:] = self._behind[:] = CANARY
        inside = self._memory[begin : begin + values.nbytes]
        self.array = inside.view(values.dtype).reshape(values.shape)
        self.array[...] = values
        if _mprotect(self._memory.ctypes.data + end, mmap.PAGESIZE, PROT_NONE) != 0:
            raise OSError(ctypes.get_errno(), "mprotect")

    def assert_intact(self) -> None:
        assert (self._before == CANARY).all(), "written before the array"
        assert (self._behind == CANARY).all(), "written behind the array"


@pytest.mark.parametrize("place", [-1, 1])
def test_the_fence_notices(place):
    fenced = Fenced(np.zeros(3, np.float32), gap=1)
    outside = np.lib.stride_tricks.as_strided(fenced.array[1:], (3,), (place * 8,))
    fenced.assert_intact()
    outside[1] = 0
    with pytest.raises(AssertionError, match="written"):
        fenced.assert_intact()


# ---- Comparing ----


def assert_same_bits(got, expected):
    """Equal to the bit, the sign of zeros included; NaNs may differ in sign and payload."""
    assert got.dtype == expected.dtype
    both_nan = np.isnan(got) & np.isnan(expected)
    unsigned = f"u{got.dtype.itemsize}"
    different = (got.view(unsigned) != expected.view(unsigned)) & ~both_nan
    assert not different.any(), (
        f"{different.sum()} differ, first at {np.argwhere(different)[0]}: "
        f"{got[different][0]!r} instead of {expected[different][0]!r}"
    )


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


def add_penalty_truth(p, g):
    value = g + 0.5 * p + 0.125 * np.sign(p)
    return [Truth(value, 2, np.abs(g) + 0.5 * np.abs(p) + 0.125)]


def limit_columns_truth(x):
    norm = np.sqrt((x * x).sum(axis=0))
    return [Truth(x * np.where(norm > 2, 2 / norm, 1), 4 + len(x))]


ADD_PENALTY = Kernel(
    lambda rng, rows, cols: list(rng.normal(size=(2, rows, cols))),
    lambda isa, p, g: _kernels.run_add_penalty(isa, p, 0.125, 0.25, g),
    add_penalty_truth,
)
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
POWER_SUMS = Kernel(
    lambda rng, rows, cols: [rng.normal(size=(rows, cols)), np.zeros(2)],
    lambda isa, x, out: _kernels.run_power_sums(isa, x, out),
    lambda x, out: [Truth(np.array([np.abs(x).sum(), (x * x).sum()]), 2 + lane_sum_ulps(x.size))],
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
    "add penalty": ADD_PENALTY,
    "scale": SCALING,
    "clip": CLIP,
    "power sums": POWER_SUMS,
    "limit columns": LIMIT_COLUMNS,
    "average": AVERAGE,
}


# ---- The tests ----


def shapes_for(isa, dtype):
    """Empty, within a vector, whole vectors, one column more or less, strips, lanes, large."""
    info = _kernels.kernel_info(isa, FLOATS[dtype])
    w, strip = info["vector"], info["strip"]
    cols = {0, 1, w - 1, w, w + 1, 2 * w + 1, strip - 1, strip, strip + 1, LANES + 1}
    small = [(rows, n) for n in sorted(cols) for rows in (1, 7, 13)]
    return [*small, (0, 3), (1, 1000), (131, 2), (67, 261)]


def make_inputs(kernel, rng, rows, cols, dtype):
    return [
        a.astype(dtype) if a.dtype == np.float64 and i not in kernel.float64 else a
        for i, a in enumerate(kernel.inputs(rng, rows, cols))
    ]


def run_fenced(kernel, isa, arrays, gap):
    """The arrays after the kernel has run on copies of them."""
    fenced = [Fenced(array, gap) for array in arrays]
    kernel.run(isa, *(f.array for f in fenced))
    for f in fenced:
        f.assert_intact()
    return [f.array for f in fenced]


def widened(arrays, dtype):
    return [a if a.dtype == np.int64 else a.astype(WIDER[dtype]) for a in arrays]


@pytest.mark.parametrize("gap", [0, 1])
@pytest.mark.parametrize("name", KERNELS)
def test_kernel(rng, isa, dtype, name, gap):
    kernel = KERNELS[name]
    for rows, cols in shapes_for(isa, dtype):
        if rows * cols == 0 and not kernel.takes_nothing:
            continue
        arrays = make_inputs(kernel, rng, rows, cols, dtype)
        results = run_fenced(kernel, isa, arrays, gap)
        read = len(arrays) - kernel.written
        for got, given in zip(results[:read], arrays[:read], strict=True):
            np.testing.assert_array_equal(got, given, err_msg="an input was changed")
        with np.errstate(all="ignore"):
            truths = kernel.truth(*widened(arrays, dtype))
        for got, truth in zip(results[read:], truths, strict=True):
            truth.check(got, dtype)
        scalar = run_fenced(kernel, "scalar", arrays, 0)
        for got, expected in zip(results[read:], scalar[read:], strict=True):
            assert_same_bits(got, expected)


@pytest.mark.parametrize("name", ELEMENTARY)
def test_elementary_accuracy_at_many_points(rng, isa, dtype, name):
    x = wide_range(rng, 20_000).astype(dtype)
    y = np.empty_like(x)
    _kernels.run_elementary(isa, name, x, y)
    with np.errstate(all="ignore"):
        truth = ELEMENTARY_ORACLES[name](x.astype(WIDER[dtype]))
    Truth(truth, ELEMENTARY_ULPS).check(y, dtype)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activation_in_place(rng, isa, dtype, name):
    z = rng.normal(size=(5, 37)).astype(dtype)
    expected = np.empty_like(z)
    _kernels.run_activation(isa, name, z, ALPHA, expected)
    _kernels.run_activation(isa, name, z, ALPHA, z)
    assert_same_bits(z, expected)


# -- Special values: of each function, x -> y --

INF, NAN = math.inf, math.nan
LIMITS = {
    "exp": [(-INF, 0), (INF, INF), (0.0, 1), (-0.0, 1), (1e30, INF), (-1e30, 0)],
    "expm1": [(-INF, -1), (INF, INF), (0.0, 0), (1e30, INF), (-1e30, -1)],
    "log": [(-INF, NAN), (INF, INF), (0.0, -INF), (-0.0, -INF), (1, 0), (-1, NAN)],
    "log1p": [(-INF, NAN), (INF, INF), (0.0, 0), (-1, -INF), (-2, NAN)],
    "tanh": [(-INF, -1), (INF, 1), (0.0, 0), (-0.0, -0.0), (1e30, 1), (-1e30, -1)],
    "sigmoid": [(-INF, 0), (INF, 1), (0.0, 0.5), (-0.0, 0.5), (1e30, 1), (-1e30, 0)],
    "softplus": [(-INF, 0), (INF, INF), (1e30, 1e30), (-1e30, 0)],
    "erfc": [(-INF, 2), (INF, 0), (0.0, 1), (-0.0, 1), (1e30, 0), (-1e30, 2)],
    "identity": [(-INF, -INF), (INF, INF), (0.0, 0), (-0.0, -0.0)],
    "hard_sigmoid": [(-INF, 0), (INF, 1), (0.0, 0.5), (-3, 0), (3, 1), (1e30, 1), (-1e30, 0)],
    "hard_tanh": [(-INF, -1), (INF, 1), (0.0, 0), (-1, -1), (1, 1)],
    "softsign": [(-INF, -1), (INF, 1), (0.0, 0), (-0.0, -0.0), (1, 0.5), (1e30, 1), (-1e30, -1)],
    "relu": [(-INF, 0), (INF, INF), (0.0, 0), (1e30, 1e30), (-1e30, 0)],
    "relu6": [(-INF, 0), (INF, 6), (0.0, 0), (6, 6), (1e30, 6), (-1e30, 0)],
    "leaky_relu": [(-INF, -INF), (INF, INF), (0.0, 0)],
    "elu": [(-INF, -ALPHA), (INF, INF), (0.0, 0), (1e30, 1e30), (-1e30, -ALPHA)],
    "selu": [(-INF, -1.7580993408473768), (INF, INF), (0.0, 0), (-1e30, -1.7580993408473768)],
    "celu": [(-INF, -ALPHA), (INF, INF), (0.0, 0), (1e30, 1e30), (-1e30, -ALPHA)],
    "gelu": [(-INF, 0), (INF, INF), (0.0, 0), (1e30, 1e30), (-1e30, 0)],
    "gelu_tanh": [(-INF, 0), (INF, INF), (0.0, 0), (1e30, 1e30), (-1e30, 0)],
    "silu": [(-INF, 0), (INF, INF), (0.0, 0), (1e30, 1e30), (-1e30, 0)],
    "mish": [(-INF, 0), (INF, INF), (0.0, 0), (1e30, 1e30), (-1e30, 0)],
}
SLOPE_LIMITS = {
    "leaky_relu": [(-INF, ALPHA), (INF, 1)],
    "elu": [(-INF, 0), (INF, 1), (1e30, 1), (-1e30, 0)],
    "gelu": [(-INF, 0), (INF, 1), (0.0, 0.5), (1e30, 1), (-1e30, 0)],
    "gelu_tanh": [(-INF, 0), (INF, 1), (0.0, 0.5), (1e30, 1), (-1e30, 0)],
    "silu": [(-INF, 0), (INF, 1), (0.0, 0.5), (1e30, 1), (-1e30, 0)],
    "mish": [(-INF, 0), (INF, 1), (0.0, 0.6), (1e30, 1), (-1e30, 0)],
}


def assert_limits(got, expected):
    np.testing.assert_array_equal(got, np.array(expected).astype(got.dtype))
    zeros = np.array(expected) == 0
    signed = zeros & np.signbit(expected)  # where the sign of a zero is told
    assert np.signbit(got)[signed].all()


@pytest.mark.parametrize("name", ELEMENTARY)
def test_elementary_limits(isa, dtype, name):
    x, limits = zip(*LIMITS[name], (NAN, NAN), strict=True)
    y = np.empty(len(x), dtype)
    _kernels.run_elementary(isa, name, np.array(x, dtype), y)
    assert_limits(y, limits)


@pytest.mark.parametrize("name", sorted({*ACTIVATIONS} - {"softmax", "log_softmax"}))
def test_activation_limits(isa, dtype, name):
    z, limits = zip(*LIMITS[name], (NAN, NAN), strict=True)
    y = np.empty((1, len(z)), dtype)
    _kernels.run_activation(isa, name, np.array([z], dtype), ALPHA, y)
    assert_limits(y[0], limits)


@pytest.mark.parametrize("name", SLOPE_LIMITS)
def test_derivative_limits(isa, dtype, name):
    z, limits = zip(*SLOPE_LIMITS[name], strict=True)
    block = np.array([z], dtype)
    d = np.ones_like(block)
    _kernels.run_derivative(isa, name, block, block, ALPHA, d)
    assert_limits(d[0], limits)


def test_softmax_of_large_and_special_values(isa, dtype):
    large = np.array([[1e30, -1e30, 1e30], [-1e30, -1e30, -1e30], [-INF, 0, -INF]], dtype)
    y = np.empty_like(large)
    _kernels.run_activation(isa, "softmax", large, 0, y)
    third = np.array(1, dtype) / 3
    np.testing.assert_array_equal(y, np.array([[0.5, 0, 0.5], [third] * 3, [0, 1, 0]], dtype))
    for place in range(3):
        bad = np.zeros((1, 3), dtype)
        bad[0, place] = NAN
        _kernels.run_activation(isa, "softmax", bad, 0, y[:1])
        assert np.isnan(y[0]).all()


@pytest.mark.parametrize("name", ["exp", "expm1", "log", "log1p", "tanh", "sigmoid", "erfc"])
def test_elementary_below_the_normal_range(isa, dtype, name):
    """Arguments, or results, that are subnormal."""
    info = np.finfo(dtype)
    tiny = info.smallest_subnormal * np.array([1, 2, 3, 1000, 2**20], dtype)
    smallest = float(np.log(info.smallest_normal))  # exp of this
    reach = np.linspace(smallest - 20, smallest + 1, 500).astype(dtype)
    far = np.sqrt(-reach)  # where erfc gets there
    x = np.concatenate([tiny, -tiny, reach, far])
    y = np.empty_like(x)
    _kernels.run_elementary(isa, name, x, y)
    with np.errstate(all="ignore"):
        truth = ELEMENTARY_ORACLES[name](x.astype(WIDER[dtype]))
    Truth(truth, ELEMENTARY_ULPS).check(y, dtype)


# -- Products --


@pytest.mark.parametrize("transpose_b", [False, True])
@pytest.mark.parametrize("transpose_a", [False, True])
def test_product_is_exact_on_small_integers(rng, isa, dtype, transpose_a, transpose_b):
    """Every tile shape: all numbers of rows up to two tiles, ragged columns, depths from 0."""
    strip = _kernels.kernel_info(isa, FLOATS[dtype])["strip"]
    for rows in range(1, 26):
        for cols in (1, strip // 2 + 1, strip, 2 * strip + 3):
            depth = rows % 4
            a = rng.integers(-9, 10, (rows, depth))
            b = rng.integers(-9, 10, (depth, cols))
            start = rng.integers(-9, 10, cols)
            c = np.full((rows, cols), NAN, dtype)
            left = np.ascontiguousarray(a.T if transpose_a else a, dtype)
            right = np.ascontiguousarray(b.T if transpose_b else b, dtype)
            _kernels.run_product(
                isa, left, right, start.astype(dtype), c,
                transpose_a=transpose_a, transpose_b=transpose_b,
            )  # fmt: skip
            np.testing.assert_array_equal(c, a @ b + start)


def test_product_is_one_chain_of_fused_multiply_adds(rng, isa):
    """In float32, where a product is exact in float64 and a sum nearly so in long double."""
    rows, depth, cols = 7, 300, 35
    a, b, c = (
        rng.normal(size=shape).astype(np.float32)
        for shape in ((rows, depth), (depth, cols), (rows, cols))
    )
    expected = c.copy()
    for k in range(depth):
        exact = np.multiply.outer(a[:, k].astype(np.float64), b[k].astype(np.float64))
        expected = (exact.astype(np.longdouble) + expected).astype(np.float32)
    _kernels.run_product(isa, a, b, c, c)
    assert_same_bits(c, expected)


@pytest.mark.parametrize("transpose_b", [False, True])
@pytest.mark.parametrize("transpose_a", [False, True])
@pytest.mark.parametrize("start", [None, "row", "block"])
@pytest.mark.parametrize(("rows", "depth", "cols"), [(203, 1031, 1037), (1100, 300, 70)])
def test_large_product_is_exact_on_integers(
    rng, isa, dtype, rows, depth, cols, start, transpose_a, transpose_b
):
    """Deep, tall and far apart in memory: every block that the product is cut into."""
    a = rng.integers(-9, 10, (depth, rows) if transpose_a else (rows, depth)).astype(dtype)
    b = rng.integers(-9, 10, (cols, depth) if transpose_b else (depth, cols)).astype(dtype)
    first = rng.integers(-9, 10, (rows, cols) if start == "block" else cols).astype(dtype)
    c = np.full((rows, cols), NAN, dtype)
    _kernels.run_product(
        isa, a, b, first if start else None, c, transpose_a=transpose_a, transpose_b=transpose_b
    )
    product = (a.T if transpose_a else a) @ (
        b.T if transpose_b else b
    )  # below 2^24: exact in any order
    np.testing.assert_array_equal(c, product + first if start else product)


def test_column_sums_take_the_rows_in_order(rng, isa, dtype):
    block, sums = rng.normal(size=(50, 37)).astype(dtype), rng.normal(size=37).astype(dtype)
    expected = sums.copy()
    for row in block:
        expected += row
    _kernels.run_column_sums(isa, block, sums)
    assert_same_bits(sums, expected)


# -- Losses --


def loss_and_delta(isa, name, z, target, weight=None, scale=1.0, parameters=(0.0,)):
    row_loss, delta = np.full(len(z), NAN), np.full_like(z, NAN)
    values = np.array(parameters)
    _kernels.run_loss(isa, name, z, target, weight, scale, values, row_loss, delta)
    return row_loss, delta


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_labels_are_one_hot_targets(rng, isa, dtype, smoothing):
    for cols in (1, 2, 3, 17, 40):
        z = (3 * rng.normal(size=(9, cols))).astype(dtype)
        labels = rng.integers(0, cols, 9)
        weight = rng.random(9).astype(dtype)
        by_label = loss_and_delta(isa, "cross_entropy_labels", z, labels, weight, 0.1, [smoothing])
        one_hot = reference.one_hot(labels, cols, z.dtype)
        dense = loss_and_delta(isa, "cross_entropy", z, one_hot, weight, 0.1, [smoothing])
        eps = np.finfo(dtype).eps
        np.testing.assert_allclose(by_label[0], dense[0], rtol=0, atol=30 * eps)
        np.testing.assert_array_equal(by_label[1], dense[1])


@pytest.mark.parametrize("name", LOSSES)
def test_no_weights_are_weights_of_one(rng, isa, dtype, name):
    z, target, _, parameters, *_ = make_inputs(KERNELS[f"loss {name}"], rng, 6, 21, dtype)
    plain = loss_and_delta(isa, name, z, target, None, 0.3, parameters)
    ones = loss_and_delta(isa, name, z, target, np.ones(6, dtype), 0.3, parameters)
    doubled = loss_and_delta(isa, name, z, target, np.full(6, 2, dtype), 0.3, parameters)
    nothing = loss_and_delta(isa, name, z, target, np.zeros(6, dtype), 0.3, parameters)
    rescaled = loss_and_delta(isa, name, z, target, None, 0.6, parameters)
    for i in range(2):
        assert_same_bits(plain[i], ones[i])
        assert_same_bits(2 * plain[i], doubled[i])
        assert not nothing[i].any()
    assert_same_bits(rescaled[0], plain[0])
    assert_same_bits(rescaled[1], 2 * plain[1])


def test_cross_entropies_of_far_net_inputs_are_finite(isa, dtype):
    z = np.array([[1e4, -1e4], [-1e4, 1e4]], dtype)
    row_loss, delta = loss_and_delta(isa, "cross_entropy_labels", z, np.array([0, 0]))
    np.testing.assert_array_equal(row_loss, [0, 2e4])
    np.testing.assert_array_equal(delta, [[0, 0], [-1, 1]])
    row_loss, delta = loss_and_delta(isa, "binary_cross_entropy", z, np.ones_like(z))
    np.testing.assert_array_equal(row_loss, [5e3, 5e3])
    np.testing.assert_array_equal(delta, [[0, -0.5], [-0.5, 0]])


@pytest.mark.parametrize(
    "name", [name for name, code in LOSSES.items() if name not in ("gaussian_nll", "quantile")]
)
def test_one_column_as_a_row(rng, isa, dtype, name):
    """A single column without weights takes a short cut, with the same bits as row by row."""
    z, target, _, parameters, *_ = make_inputs(KERNELS[f"loss {name}"], rng, 21, 1, dtype)
    short = loss_and_delta(isa, name, z, target, None, 0.3, parameters)
    rows = loss_and_delta(isa, name, z, target, np.ones(21, dtype), 0.3, parameters)
    for got, expected in zip(short, rows, strict=True):
        assert_same_bits(got, expected)


def test_log_cosh_of_small_and_large_errors(isa, dtype):
    """e^2 / 2 and |e| - log 2, where log(cosh(e)) has no digits or overflows."""
    e = np.array([[1e-6, -1e-3, 0.0, 1e4, -1e30]], dtype).T
    row_loss, delta = loss_and_delta(isa, "log_cosh", e, np.zeros_like(e))
    near = np.log1p(2 * np.sinh(e[:3, 0].astype(np.longdouble) / 2) ** 2)
    expected = [*near, 1e4 - np.log(2), abs(e[4, 0])]
    np.testing.assert_allclose(row_loss, expected, rtol=4 * np.finfo(dtype).eps)
    np.testing.assert_allclose(delta[:, 0], np.tanh(e[:, 0]), rtol=4 * np.finfo(dtype).eps)


def test_gradients_at_a_kink_are_zero(isa, dtype):
    y = np.array([[0.5, -1.0, 1.0]], dtype)
    for name, target in (("mae", y), ("quantile", y), ("hinge", np.sign(y))):
        y_1 = y[:, 1:] if name == "hinge" else y
        t = np.ascontiguousarray(target[:, -y_1.shape[1] :])
        row_loss, delta = loss_and_delta(
            isa, name, np.ascontiguousarray(y_1), t, parameters=[0.3] * 3
        )
        assert not row_loss.any()
        assert not delta.any()


def test_quantile_levels_are_by_column(rng, isa, dtype):
    levels = rng.uniform(0.01, 0.99, 21)
    y, t = rng.normal(size=(2, 4, 21)).astype(dtype)
    _, delta = loss_and_delta(isa, "quantile", y, t, parameters=levels)
    np.testing.assert_allclose(delta, np.where(y > t, 1 - levels, -levels) / 21, rtol=1e-5)


def test_focal_loss_without_gamma_is_weighted_cross_entropy(rng, isa, dtype):
    z = (3 * rng.normal(size=(9, 5))).astype(dtype)
    t = rng.integers(0, 2, z.shape).astype(dtype)
    focal = loss_and_delta(isa, "binary_focal", z, t, parameters=[0.0, 0.5])
    plain = loss_and_delta(isa, "binary_cross_entropy", z, t)
    for got, expected in zip(focal, plain, strict=True):
        np.testing.assert_allclose(
            2 * got, expected, rtol=0, atol=1e-5 if dtype == "float32" else 1e-14
        )


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0, 5.0])
def test_focal_labels_are_one_hot_targets(rng, isa, dtype, gamma):
    for cols in (1, 2, 3, 17, 40):
        z = (3 * rng.normal(size=(9, cols))).astype(dtype)
        labels = rng.integers(0, cols, 9)
        weight = rng.random(9).astype(dtype)
        one_hot = reference.one_hot(labels, cols, z.dtype)
        by_label = loss_and_delta(isa, "focal_labels", z, labels, weight, 0.1, [gamma])
        dense = loss_and_delta(isa, "focal", z, one_hot, weight, 0.1, [gamma])
        for got, expected in zip(by_label, dense, strict=True):
            np.testing.assert_allclose(got, expected, rtol=0, atol=100 * np.finfo(dtype).eps)


@pytest.mark.parametrize("labels", ["", "_labels"])
def test_softmax_focal_loss_without_gamma_is_cross_entropy(rng, isa, dtype, labels):
    z = (3 * rng.normal(size=(9, 5))).astype(dtype)
    t = rng.integers(0, 5, 9)
    target = t if labels else reference.one_hot(t, 5, z.dtype)
    focal = loss_and_delta(isa, f"focal{labels}", z, target)
    plain = loss_and_delta(isa, f"cross_entropy{labels}", z, target)
    for got, expected in zip(focal, plain, strict=True):
        np.testing.assert_allclose(got, expected, rtol=0, atol=100 * np.finfo(dtype).eps)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("labels", ["", "_labels"])
def test_softmax_focal_loss_of_far_net_inputs_is_finite(isa, dtype, labels, gamma):
    z = np.array([[1e4, -1e4], [1e4, -1e4]], dtype)
    t = np.array([0, 1])
    target = t if labels else np.eye(2, dtype=dtype)
    row_loss, delta = loss_and_delta(isa, f"focal{labels}", z, target, parameters=[gamma])
    np.testing.assert_array_equal(row_loss, [0, 2e4])
    np.testing.assert_array_equal(delta, np.array([[0, 0], [1, -1]], dtype))


def test_focal_loss_of_far_net_inputs_is_finite(isa, dtype):
    z = np.array([[1e4, -1e4]], dtype)
    row_loss, delta = loss_and_delta(
        isa, "binary_focal", z, np.array([[1, 1]], dtype), parameters=[2.0, 0.25]
    )
    assert row_loss == [0.25 * 1e4 / 2]
    np.testing.assert_array_equal(delta, np.array([[0, -0.25 / 2]], dtype))


# -- Updates --


@pytest.mark.parametrize("bad", [INF, -INF, NAN, "large"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_update_that_overflows_leaves_the_element(rng, isa, dtype, name, bad):
    hyper = np.array(HYPER[name])
    if bad == "large" and name in BOUNDED:
        pytest.skip("every finite gradient makes a finite step")
    if bad == "large":  # a finite gradient whose step, or square, is not finite
        bad, hyper[0] = np.finfo(dtype).max, 100
    cols, place = 37, 33
    g, *s, p = make_inputs(KERNELS[f"update {name}"], rng, 2, cols, dtype)
    expected = [array.copy() for array in (*s, p)]
    _kernels.run_update(isa, name, hyper, STEP, g, expected[:-1], expected[-1])
    for array, before in zip(expected, (*s, p), strict=True):
        array[1, place] = before[1, place]
    g[1, place] = bad
    assert _kernels.run_update(isa, name, hyper, STEP, g, s, p) == 1
    for got, array in zip((*s, p), expected, strict=True):
        assert_same_bits(got, array)


def test_every_optimizer_moves_its_states(rng, isa, dtype):
    for name, states in OPTIMIZER_STATES.items():
        g, *state, p = make_inputs(KERNELS[f"update {name}"], rng, 1, 5, dtype)
        before = [s.copy() for s in state]
        _kernels.run_update(isa, name, np.array(HYPER[name]), STEP, g, state, p)
        moved = [bool((s != b).any()) for s, b in zip(state, before, strict=True)]
        assert moved == [i < states for i in range(_kernels.MAX_STATES)]


# -- Which variant ran --


def test_the_variant_is_the_one_asked_for(isa, dtype):
    info = _kernels.kernel_info(isa, FLOATS[dtype])
    assert info["isa"] == isa
    assert info["float_bits"] == FLOATS[dtype]
    assert info["vector"] == VECTOR_BITS.get(isa, FLOATS[dtype]) // FLOATS[dtype]
    assert info["strip"] % info["vector"] == 0


def test_scalar_is_always_there():
    assert ISAS[0] == "scalar"


def test_an_unavailable_instruction_set_is_refused():
    with pytest.raises(ValueError, match="'sse9' is not available"):
        _kernels.kernel_info("sse9", 32)


PRINT_ISA = "from downslope import _kernels; print(_kernels.active_isa())"


def test_environment_forces_an_instruction_set(isa):
    assert fresh_python.output_of("-c", PRINT_ISA, DOWNSLOPE_ISA=isa) == isa


def test_the_widest_is_the_default():
    assert fresh_python.output_of("-c", PRINT_ISA, DOWNSLOPE_ISA="") == ISAS[-1]


@pytest.mark.parametrize("name", [*(name for name in _kernels.ISAS if name not in ISAS), "AVX9"])
def test_forcing_what_is_not_there_is_an_import_error(name):
    result = fresh_python.run("-c", "import downslope", DOWNSLOPE_ISA=name)
    assert result.returncode != 0
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith(f"ImportError: DOWNSLOPE_ISA={name!r}: ")
    assert ("no such kernels" in last) == (name in _kernels.ISAS)
    assert all(available in last for available in ISAS)
