"""Single kernels: every kernel x instruction set x float type, from the lists of downslope.h.

Each result is held against an oracle in the next wider type, within a number of ULP, and against
the scalar variant, bit by bit.  Every array stands in fenced memory: behind it (or one element
further, which also unaligns it) lies a page that can not be touched, before it a canary.
"""

from __future__ import annotations

import ctypes
import math
import mmap

import numpy as np
import pytest

import fresh_python
import numpy_reference as reference
from downslope import _kernels
from downslope._kernels import ACTIVATIONS, ELEMENTARY, LOSSES, OPTIMIZER_STATES, OPTIMIZERS
from kernel_oracles import (
    ALPHA,
    BOUNDED,
    ELEMENTARY_ORACLES,
    ELEMENTARY_ULPS,
    HYPER,
    KERNELS,
    LANES,
    STEP,
    Truth,
    wide_range,
)

ISAS = _kernels.available_isas()
VECTOR_BITS = {"neon": 128, "avx2": 256, "avx512": 512}
WIDER = {"float32": np.float64, "float64": np.longdouble}
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


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_what_an_update_leaves_below_the_normal_range_becomes_zero(isa, dtype, name):
    """Values and states that no gradient feeds: none stays where arithmetic is slow."""
    smallest = np.finfo(dtype).smallest_normal
    values = np.array([0.25, 0.75, 1, 1.01, 2, 3]).astype(dtype) * smallest
    values = np.concatenate([values, -values])[None]
    p, *states = values.copy(), *(np.abs(values) for _ in range(_kernels.MAX_STATES))
    g = np.zeros_like(values)
    _kernels.run_update(isa, name, np.array(HYPER[name]), STEP, g, states, p)
    for array in (p, *states[: OPTIMIZER_STATES[name]]):
        assert not ((array != 0) & (np.abs(array) < smallest)).any()
    if name == "sgd":
        assert_same_bits(p, np.where(np.abs(values) < smallest, 0, values).astype(dtype))


def test_a_running_mean_below_the_normal_range_becomes_zero(isa, dtype):
    smallest = np.finfo(dtype).smallest_normal
    mean = np.array([[1, 1.5, -1.25, 8, 0.1]]).astype(dtype) * smallest
    _kernels.run_average(isa, np.zeros_like(mean), 0.75, mean)
    expected = np.array([[0, 1.125, 0, 6, 0]]).astype(dtype) * smallest
    np.testing.assert_array_equal(mean, expected)


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
