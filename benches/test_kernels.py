"""Single kernels of the instruction set in use, driven by the lists of csrc/include/downslope.h.

The blocks fit the second-level cache.  A time includes a call from Python, about a microsecond.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from downslope import _kernels
from downslope.cases import SEED

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_benchmark.fixture import BenchmarkFixture

ISA = _kernels.active_isa()
ROWS, COLS = 128, 128

# rows, depth, cols: the products of the benchmarked networks, from the narrowest to the widest.
PRODUCTS = [(32, 10, 32), (32, 64, 64), (256, 256, 256), (128, 784, 128), (128, 512, 512)]

each_dtype = pytest.mark.parametrize("dtype", ["float32", "float64"])


def block(dtype: str, rows: int = ROWS, cols: int = COLS, *, positive: bool = False) -> np.ndarray:
    values = np.random.default_rng(SEED).normal(size=(rows, cols))
    return (np.abs(values) + 0.1 if positive else values).astype(dtype)


def time_kernel(
    benchmark: BenchmarkFixture, kernel: Callable[..., object], *args: object, **options: object
) -> None:
    benchmark.pedantic(kernel, args, options, rounds=30, iterations=10, warmup_rounds=2)


@pytest.mark.benchmark(group="product")
@each_dtype
@pytest.mark.parametrize("shape", PRODUCTS, ids=lambda shape: "x".join(map(str, shape)))
@pytest.mark.parametrize("transposed", [False, True], ids=["AB", "ATB"])
def test_product(
    benchmark: BenchmarkFixture,
    shape: tuple[int, int, int],
    dtype: str,
    transposed: bool,
) -> None:
    """A weight gradient is the transposed form."""
    rows, depth, cols = shape
    a = block(dtype, depth, rows) if transposed else block(dtype, rows, depth)
    b, out = block(dtype, depth, cols), np.empty((rows, cols), dtype)
    _kernels.run_product(ISA, a, b, None, out, transpose_a=transposed)
    expected = (a.T if transposed else a).astype(np.float64) @ b
    np.testing.assert_allclose(out, expected, rtol=1e-3, atol=1e-3)
    time_kernel(benchmark, _kernels.run_product, ISA, a, b, None, out, transpose_a=transposed)
    if not benchmark.disabled:
        gflops = 2e-9 * rows * depth * cols / benchmark.stats.stats.median
        benchmark.extra_info["GFLOP/s"] = round(gflops, 1)


@pytest.mark.benchmark(group="elementary")
@each_dtype
@pytest.mark.parametrize("name", _kernels.ELEMENTARY)
def test_elementary(benchmark: BenchmarkFixture, name: str, dtype: str) -> None:
    x = block(dtype, positive=True).ravel()
    time_kernel(benchmark, _kernels.run_elementary, ISA, name, x, np.empty_like(x))


@pytest.mark.benchmark(group="activation")
@each_dtype
@pytest.mark.parametrize("name", _kernels.ACTIVATIONS)
def test_activation(benchmark: BenchmarkFixture, name: str, dtype: str) -> None:
    z = block(dtype)
    time_kernel(benchmark, _kernels.run_activation, ISA, name, z, 0.5, np.empty_like(z))


@pytest.mark.benchmark(group="derivative")
@each_dtype
@pytest.mark.parametrize("name", _kernels.ACTIVATIONS)
def test_derivative(benchmark: BenchmarkFixture, name: str, dtype: str) -> None:
    z = block(dtype)
    y = np.empty_like(z)
    _kernels.run_activation(ISA, name, z, 0.5, y)
    time_kernel(benchmark, _kernels.run_derivative, ISA, name, z, y, 0.5, np.ones_like(z))


@pytest.mark.benchmark(group="loss")
@each_dtype
@pytest.mark.parametrize("name", _kernels.LOSSES)
def test_loss(benchmark: BenchmarkFixture, name: str, dtype: str) -> None:
    output, delta = block(dtype), np.empty((ROWS, COLS), dtype)
    labels = name.endswith("labels")
    target = np.arange(ROWS) % COLS if labels else np.full((ROWS, COLS), 1 / COLS, dtype)
    parameters = np.full(COLS, 0.5)  # within the bounds of every loss's
    loss = (output, target, None, 1.0, parameters, np.empty(ROWS), delta)
    time_kernel(benchmark, _kernels.run_loss, ISA, name, *loss)


@pytest.mark.benchmark(group="update")
@each_dtype
@pytest.mark.parametrize("name", _kernels.OPTIMIZERS)
def test_update(benchmark: BenchmarkFixture, name: str, dtype: str) -> None:
    gradient, parameters = block(dtype), block(dtype)
    states = [np.zeros_like(gradient) for _ in range(_kernels.MAX_STATES)]
    hyper = np.array([1e-3, 0.9, 0.999, 1e-8, 0.99])
    time_kernel(benchmark, _kernels.run_update, ISA, name, hyper, 1, gradient, states, parameters)


@pytest.mark.benchmark(group="column sums")
@each_dtype
def test_column_sums(benchmark: BenchmarkFixture, dtype: str) -> None:
    time_kernel(benchmark, _kernels.run_column_sums, ISA, block(dtype), np.zeros(COLS, dtype))
