"""Random numbers: the generator against an independent one, the draws, the initial weights."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import downslope as ds
from downslope import _kernels, _plan

SEED, STREAM = 0x0123456789ABCDEF, 0xFEDCBA9876543210
WORDS = st.integers(0, 2**64 - 1)


# ---- Philox4x32-10, by the paper ----


def philox(counter, key):
    """The four words of a block (Salmon and others, 2011, section 3.3)."""
    c, k = list(counter), list(key)
    for _ in range(10):
        high_0, low_0 = divmod(0xD2511F53 * c[0], 2**32)
        high_2, low_2 = divmod(0xCD9E8D57 * c[2], 2**32)
        c = [high_2 ^ c[1] ^ k[0], low_2, high_0 ^ c[3] ^ k[1], low_0]
        k = [(k[0] + 0x9E3779B9) % 2**32, (k[1] + 0xBB67AE85) % 2**32]
    return c


def draw(seed, stream, i):
    """Draw number i of 64 bits, in the layout that random.c documents."""
    counter = (i // 2 % 2**32, i // 2 >> 32, stream % 2**32, stream >> 32)
    words = philox(counter, (seed % 2**32, seed >> 32))
    return words[2 * (i % 2)] | words[2 * (i % 2) + 1] << 32


def integers(seed, stream, bound, n):
    out = np.empty(n, np.int64)
    _kernels.random_integers(seed, stream, bound, out)
    return out


def permutation(seed, stream, n):
    out = np.empty(n, np.int64)
    _kernels.random_permutation(seed, stream, out)
    return out


@pytest.mark.parametrize(
    ("counter", "key", "words"),
    [
        ([0] * 4, [0] * 2, [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
        ([2**32 - 1] * 4, [2**32 - 1] * 2, [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
        (
            [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
            [0xA4093822, 0x299F31D0],
            [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
        ),
    ],
)
def test_the_generator_of_the_tests_gives_the_published_answers(counter, key, words):
    """kat_vectors of the authors' Random123 library."""
    assert philox(counter, key) == words


# ---- Draws ----


@given(seed=WORDS, stream=WORDS, n=st.integers(0, 200))
def test_uniform_numbers_are_the_high_53_bits(seed, stream, n):
    expected = [(draw(seed, stream, i) >> 11) * 2.0**-53 for i in range(n)]
    np.testing.assert_array_equal(_kernels.random_uniform(seed, stream, n), expected)


@given(seed=WORDS, stream=WORDS, bound=st.integers(1, 2**63 - 1), n=st.integers(0, 200))
def test_integers_are_the_high_half_of_a_product(seed, stream, bound, n):
    expected = [draw(seed, stream, i) * bound >> 64 for i in range(n)]
    np.testing.assert_array_equal(integers(seed, stream, bound, n), np.array(expected, np.int64))


@given(seed=WORDS, stream=WORDS, n=st.integers(0, 200))
def test_permutation_is_the_inside_out_shuffle(seed, stream, n):
    order = []
    for i in range(n):
        place = draw(seed, stream, i) * (i + 1) >> 64
        order.append(i)
        order[i], order[place] = order[place], i
    np.testing.assert_array_equal(permutation(seed, stream, n), order)


@given(seed=WORDS, stream=WORDS, n=st.integers(0, 1000))
def test_permutation_is_one(seed, stream, n):
    np.testing.assert_array_equal(np.sort(permutation(seed, stream, n)), np.arange(n))


def test_pinned_values():
    """A change here changes the result of every training run."""
    np.testing.assert_array_equal(permutation(0, 0, 10), [3, 5, 6, 7, 2, 4, 8, 0, 1, 9])
    np.testing.assert_array_equal(
        _kernels.random_uniform(0, 0, 2), [0.8805201978886142, 0.6054818538799213]
    )
    np.testing.assert_array_equal(
        _kernels.random_normal(0, 0, 2), [1.1775912390542727, 0.26756224953309987]
    )


@pytest.mark.parametrize("draws", [_kernels.random_uniform, _kernels.random_normal])
def test_an_element_does_not_depend_on_how_many(draws):
    many = draws(SEED, STREAM, 1000)
    for n in (0, 1, 2, 63, 64, 65, 129, 999):
        np.testing.assert_array_equal(draws(SEED, STREAM, n), many[:n])


def test_an_integer_does_not_depend_on_how_many():
    many = integers(SEED, STREAM, 1000, 500)
    for n in (0, 1, 64, 65, 499):
        np.testing.assert_array_equal(integers(SEED, STREAM, 1000, n), many[:n])


def test_seeds_and_streams_differ():
    first = _kernels.random_uniform(0, 0, 100)
    for seed, stream in [(1, 0), (0, 1), (1 << 32, 0), (0, 1 << 32)]:
        assert not (_kernels.random_uniform(seed, stream, 100) == first).any()


# ---- Distributions: the statistics lie within five standard errors ----

N = 200_000


def test_uniform_distribution():
    x = _kernels.random_uniform(SEED, 0, N)
    assert x.min() >= 0
    assert x.max() < 1
    assert abs(x.mean() - 0.5) < 5 / math.sqrt(12 * N)
    counts = np.histogram(x, 20, (0, 1))[0]
    assert np.abs(counts - N / 20).max() < 5 * math.sqrt(N / 20)


def test_normal_numbers_are_quantiles_of_the_draws():
    """The distribution function takes them back to the uniform number that they came from."""
    x = _kernels.random_normal(SEED, STREAM, 500)
    back = [0.5 * math.erfc(-v / math.sqrt(2)) for v in x]
    expected = [((draw(SEED, STREAM, i) >> 12) + 0.5) * 2.0**-52 for i in range(500)]
    np.testing.assert_allclose(back, expected, rtol=1e-13)


def test_normal_distribution():
    x = _kernels.random_normal(SEED, 0, N)
    assert abs(x.mean()) < 5 / math.sqrt(N)
    assert abs(x.var() - 1) < 5 * math.sqrt(2 / N)
    assert abs((x**3).mean()) < 5 * math.sqrt(15 / N)
    assert abs((x**4).mean() - 3) < 5 * math.sqrt(96 / N)
    assert abs((np.abs(x) > 2).mean() - math.erfc(math.sqrt(2))) < 5 * math.sqrt(0.05 / N)


def test_integers_are_equally_frequent():
    counts = np.bincount(integers(SEED, 0, 7, N), minlength=7)
    assert counts.size == 7
    assert np.abs(counts - N / 7).max() < 5 * math.sqrt(N / 7)


def test_every_order_of_four_is_equally_frequent():
    orders = [tuple(permutation(SEED, stream, 4)) for stream in range(12_000)]
    counts = np.array([orders.count(order) for order in set(orders)])
    assert counts.size == 24
    assert np.abs(counts - 500).max() < 5 * math.sqrt(500)


# ---- Initial weights ----


def test_initial_weights_are_a_function_of_seed_and_layer():
    draws = _kernels.random_normal(7, _plan.STREAM_WEIGHTS + 1, 5 * 3).reshape(5, 3)
    deep = ds.Network([4, 5, 3, 3], weights="normal", seed=7, dtype="float64")
    np.testing.assert_array_equal(deep.layers[1].weights, 0.05 * draws)
    # Neither the layers around it nor the float type count.
    other = ds.Network(9, [ds.Dense(5, weights="zeros"), ds.Dense(3, weights="normal")], seed=7)
    np.testing.assert_array_equal(other.layers[1].weights, (0.05 * draws).astype(np.float32))
