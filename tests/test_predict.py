"""Networks: what goes into `predict`, `forward`, `backward` and `evaluate`, and what comes out."""

from __future__ import annotations

import copy
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import downslope as ds
import numpy_reference as reference
from downslope._validate import as_rows
from odd_arrays import read_only, unaligned
from random_networks import random_network

DTYPES = ["float32", "float64"]


# ---- predict: what goes in and comes out ----


@pytest.mark.parametrize("rows", [0, 1, 2, 513, 1100])
@pytest.mark.parametrize("dtype", DTYPES)
def test_predict_by_number_of_rows(rng, rows, dtype):
    network = random_network(rng, dtype=dtype)
    x = rng.normal(size=(rows, 4)).astype(dtype)
    y = network.predict(x)
    assert y.shape == (rows, 3)
    assert y.dtype == dtype
    expected = reference.Network.copy_of(network).predict(x)
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-5)


def test_predict_into_an_array_of_the_callers(rng):
    network, x = random_network(rng), rng.normal(size=(6, 4))
    out = np.full((6, 3), np.nan, np.float32)
    assert network.predict(x, out=out) is out
    np.testing.assert_array_equal(out, network.predict(x))
    rows = np.full((8, 3), np.nan, np.float32)
    network.predict(x, out=rows[1:7])
    np.testing.assert_array_equal(rows[1:7], out)
    assert np.isnan(rows[[0, 7]]).all()
    empty = np.empty((0, 3), np.float32)
    assert network.predict(x[:0], out=empty) is empty


def test_predict_gives_a_new_array_each_time(rng):
    network, x = random_network(rng), rng.normal(size=(6, 4))
    first = network.predict(x)
    kept = first.copy()
    network.predict(-x)
    np.testing.assert_array_equal(first, kept)


def test_predict_from_several_python_threads(rng):
    network, x = random_network(rng, (4, 40, 3)), rng.normal(size=(700, 4))
    expected = network.predict(x)
    with ThreadPoolExecutor(4) as pool:
        for result in pool.map(lambda _: network.predict(x), range(40)):
            np.testing.assert_array_equal(result, expected)


# Small whole numbers that every type holds, so that each form below is the same matrix.
MATRIX = np.arange(20).reshape(5, 4) % 7


class Boxed:
    """Not an array, but gives one."""

    def __array__(self, dtype=None, copy=None):
        return MATRIX.astype(dtype or float)


def fortran(x):
    return np.asfortranarray(x)


def apart(x):
    wide = np.full((2 * len(x), x.shape[1] + 3), 99, x.dtype)
    wide[::2, 2:-1] = x
    return wide[::2, 2:-1]


def backwards(x):
    return x[::-1].copy()[::-1]


def mirrored(x):
    return x[:, ::-1].copy()[:, ::-1]


def big_endian(x):
    return x.astype(x.dtype.newbyteorder(">"))


LAYOUTS = [fortran, apart, backwards, mirrored, read_only, unaligned, big_endian]

FORMS = {
    "list": MATRIX.tolist(),
    "tuple": tuple(map(tuple, MATRIX.tolist())),
    "list of rows": list(MATRIX),
    "DataFrame": pd.DataFrame(MATRIX, columns=list("abcd")),
    "DataFrame of several types": pd.DataFrame(MATRIX).astype({0: "float32", 1: "int8"}),
    "__array__": Boxed(),
    "masked array without masked values": np.ma.masked_array(MATRIX),
    "broadcast rows": np.broadcast_to(MATRIX[0], (5, 4)),
    "sliding window": np.lib.stride_tricks.sliding_window_view(np.arange(8.0, dtype="f4"), 4),
    **{dtype: MATRIX.astype(dtype) for dtype in ("i1", "u1", "i4", "u8", "f2", "f4", "f8", "g")},
    **{
        f"{layout.__name__} {dtype}": layout(MATRIX.astype(dtype))
        for layout in LAYOUTS
        for dtype in ("i4", "f4", "f8")
    },
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_form_of_input(rng, form, dtype):
    network = random_network(rng, dtype=dtype)
    plain = np.array(FORMS[form], dtype=dtype)
    np.testing.assert_array_equal(network.predict(FORMS[form]), network.predict(plain))
    t = rng.normal(size=(5, 3))
    np.testing.assert_array_equal(network.evaluate(FORMS[form], t), network.evaluate(plain, t))
    np.testing.assert_array_equal(network.forward(FORMS[form]), network.forward(plain))
    other = copy.deepcopy(network)
    network.fit(FORMS[form], t, epochs=2, batch_size=2, validation_split=0.2)
    other.fit(plain, t, epochs=2, batch_size=2, validation_split=0.2)
    np.testing.assert_array_equal(network.parameters, other.parameters)


def test_booleans(rng):
    network, x = random_network(rng), rng.random((5, 4)) < 0.5
    np.testing.assert_array_equal(network.predict(x), network.predict(x.astype(int)))
    np.testing.assert_array_equal(
        network.predict(pd.DataFrame(x)), network.predict(x.astype(float))
    )


@pytest.mark.parametrize("column", [np.arange(6.0), list(range(6)), pd.Series(range(6))], ids=type)
def test_one_input_may_be_a_vector(column):
    network = ds.Network([1, 2], seed=0)
    expected = network.predict(np.arange(6.0).reshape(-1, 1))
    np.testing.assert_array_equal(network.predict(column), expected)


def test_an_index_of_a_data_frame_does_not_matter(rng):
    network, x = random_network(rng), rng.normal(size=(5, 4))
    frame = pd.DataFrame(x, index=[4, 3, 2, 1, 0])
    np.testing.assert_array_equal(network.predict(frame), network.predict(x))


@pytest.mark.parametrize("dtype", DTYPES)
def test_memory_maps(rng, tmp_path, dtype):
    network = random_network(rng, dtype=dtype)
    x, t = rng.normal(size=(50, 4)).astype(dtype), rng.normal(size=(50, 3)).astype(dtype)
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "t.npy", t)
    mapped_x, mapped_t = (np.load(tmp_path / f"{name}.npy", mmap_mode="r") for name in "xt")
    np.testing.assert_array_equal(network.predict(mapped_x), network.predict(x))
    other = copy.deepcopy(network)
    network.fit(mapped_x, mapped_t, epochs=2)
    other.fit(x, t, epochs=2)
    np.testing.assert_array_equal(network.parameters, other.parameters)


@pytest.mark.parametrize(
    "rows",
    [np.s_[:], np.s_[10:30], np.s_[::3], np.s_[5:6], np.s_[:, 2:6], np.s_[3::2, 1:5], np.s_[-4:]],
    ids=str,
)
def test_slices_of_rows_are_used_where_they_lie(rng, rows):
    x = rng.normal(size=(40, 8)).astype(np.float32)[rows]
    taken = as_rows("X", x, x.shape[1], np.dtype("float32"))
    assert np.shares_memory(taken, x)
    network = ds.Network([x.shape[1], 3], seed=0)
    np.testing.assert_array_equal(network.predict(x), network.predict(x.copy()))


@given(
    rows=st.integers(0, 9),
    widths=st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(1, 5)),
    dtype=st.sampled_from(DTYPES),
    source=st.sampled_from(["f4", "f8", "f2", "i2", "?"]),
    layouts=st.lists(st.sampled_from(LAYOUTS), max_size=3),
    seed=st.integers(0, 2**32),
)
@settings(deadline=None, max_examples=150)
def test_any_shape_layout_and_type_gives_the_reference(rows, widths, dtype, source, layouts, seed):
    rng = np.random.default_rng(seed)
    network = random_network(rng, widths, dtype=dtype)
    x = (2 * rng.normal(size=(rows, widths[0]))).astype(source)
    plain = x.astype(dtype)
    for layout in layouts:
        x = layout(x)
    y = network.predict(x)
    np.testing.assert_array_equal(y, network.predict(plain))
    expected = reference.Network.copy_of(network).predict(plain)
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-5)


# ---- forward and backward ----


@pytest.mark.parametrize("dtype", DTYPES)
def test_forward_is_predict(rng, dtype):
    network = random_network(rng, output="softmax", dtype=dtype)
    for rows in (5, 1, 30, 7):
        x = rng.normal(size=(rows, 4))
        np.testing.assert_array_equal(network.forward(x), network.predict(x))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("output", sorted(reference.ACTIVATIONS))
def test_the_gradient_of_mse_put_in_by_hand(rng, dtype, output):
    network = random_network(rng, output=output, dtype=dtype)
    x, t = rng.normal(size=(8, 4)), rng.normal(size=(8, 3))
    ds.Trainer(network, "mse").compute_gradients(x, t)
    expected = network.gradients.copy()
    y = network.forward(x)
    network.gradients[:] = np.nan  # replaced, not added to
    d_x = network.backward(2 * (y - t) / t.size)
    assert d_x.shape == x.shape
    tolerance = 1e-13 if dtype == "float64" else 1e-5
    np.testing.assert_allclose(
        network.gradients, expected, rtol=tolerance, atol=tolerance * np.abs(expected).max()
    )


def test_backward_again_and_accumulated(rng):
    network = random_network(rng, dtype="float64")
    d_out = rng.normal(size=(6, 3))
    network.forward(rng.normal(size=(6, 4)))
    first_d_x = network.backward(d_out)
    first = network.gradients.copy()
    np.testing.assert_array_equal(network.backward(d_out), first_d_x)
    np.testing.assert_array_equal(network.gradients, first)
    np.testing.assert_array_equal(network.backward(d_out, accumulate=True), first_d_x)
    np.testing.assert_allclose(network.gradients, 2 * first, rtol=1e-12, atol=1e-15)


def test_backward_belongs_to_the_last_forward(rng):
    """Whatever else the network does in between."""
    network = random_network(rng)
    x, d_out = rng.normal(size=(6, 4)), rng.normal(size=(6, 3))
    network.forward(x)
    expected = network.backward(d_out)
    network.forward(x)
    network.predict(-x)
    network.evaluate(-x, d_out)
    ds.Trainer(network).compute_gradients(-x, d_out)
    np.testing.assert_array_equal(network.backward(d_out), expected)


def test_forward_copies_its_input(rng):
    network = random_network(rng)
    x, d_out = rng.normal(size=(6, 4)).astype(np.float32), rng.normal(size=(6, 3))
    network.forward(x)
    network.backward(d_out)
    expected = network.gradients.copy()
    network.forward(x)
    x[:] = 0
    network.backward(d_out)
    np.testing.assert_array_equal(network.gradients, expected)


# ---- evaluate ----


@pytest.mark.parametrize(
    ("loss", "output"),
    [
        ("mse", "tanh"),
        ("half_squared_error", "identity"),
        ("binary_cross_entropy", "sigmoid"),
        ("cross_entropy", "softmax"),
    ],
)
@pytest.mark.parametrize("rows", [1, 9, 1000])
def test_evaluate(rng, loss, output, rows):
    network = random_network(rng, output=output, dtype="float64")
    x, t = rng.normal(size=(rows, 4)), rng.random((rows, 3))
    t /= t.sum(axis=1, keepdims=True)
    weight = rng.random(rows)
    oracle = reference.Network.copy_of(network)
    value = network.evaluate(x, t, loss=loss)
    assert type(value) is float
    assert value == pytest.approx(oracle.loss(x, t, loss), rel=1e-12)
    weighted = network.evaluate(x, t, loss=loss, sample_weight=weight)
    assert weighted == pytest.approx(oracle.loss(x, t, loss, weight), rel=1e-12)


TARGETS = {
    "vector": np.arange(6.0),
    "list": list(range(6)),
    "Series": pd.Series(range(6), index=range(6, 0, -1)),
    "column": np.arange(6).reshape(-1, 1),
    "DataFrame": pd.DataFrame({"y": range(6)}),
    "reversed": np.arange(5.0, -1, -1)[::-1],
    "big-endian": np.arange(6, dtype=">i4"),
    "every second": np.arange(0.0, 6, 0.5)[::2],
}


@pytest.mark.parametrize("form", TARGETS)
def test_every_form_of_a_single_target(form):
    network, x = ds.Network([2, 1], seed=0), np.arange(12.0).reshape(6, 2)
    expected = network.evaluate(x, np.arange(6.0).reshape(6, 1))
    assert network.evaluate(x, TARGETS[form]) == expected


@pytest.mark.parametrize(
    "labels",
    [
        np.array([0, 2, 1, 2]),
        [0, 2, 1, 2],
        pd.Series([0, 2, 1, 2]),
        np.array([[0], [2], [1], [2]]),
        np.array([0, 2, 1, 2], np.uint8),
        np.array([0, 2, 1, 2], ">i2"),
        np.array([2, 1, 2, 0])[::-1],
        np.eye(3)[[0, 2, 1, 2]],
        np.eye(3, dtype=bool)[[0, 2, 1, 2]],
    ],
    ids=lambda labels: f"{type(labels).__name__}-{np.asarray(labels).dtype}",
)
def test_every_form_of_labels(rng, labels):
    network = random_network(rng, output="softmax", dtype="float64")
    x = rng.normal(size=(4, 4))
    expected = -np.log(network.predict(x)[range(4), [0, 2, 1, 2]]).mean()
    assert network.evaluate(x, labels, loss="cross_entropy") == pytest.approx(expected, rel=1e-13)


def test_boolean_labels(rng):
    network = random_network(rng, (4, 2), output="softmax")
    x, labels = rng.normal(size=(4, 4)), np.array([True, False, False, True])
    expected = network.evaluate(x, labels.astype(int), loss="cross_entropy")
    assert network.evaluate(x, labels, loss="cross_entropy") == expected
