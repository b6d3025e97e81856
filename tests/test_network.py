"""Networks: construction, the flat parameters and their views, and copies."""

from __future__ import annotations

import copy
import dataclasses
import math
import pickle

import numpy as np
import pytest

import downslope as ds
import numpy_reference as reference
from downslope import _kernels, _plan
from random_networks import random_network

DTYPES = ["float32", "float64"]


def names(network):
    return [layer.activation.name for layer in network.layers]


# ---- Construction ----


def test_widths_and_layers_say_the_same():
    by_widths = ds.Network([5, 4, 3, 2], activation=["tanh", "relu"], output="softmax", seed=3)
    by_layers = ds.Network(
        5, [ds.Dense(4, "tanh"), ds.Dense(3, "relu"), ds.Dense(2, "softmax")], seed=3
    )
    assert repr(by_widths) == repr(by_layers)
    np.testing.assert_array_equal(by_widths.parameters, by_layers.parameters)


def test_defaults():
    network = ds.Network([3, 4, 2])
    assert names(network) == ["relu", "identity"]
    assert network.dtype == np.float32
    assert (network.inputs, network.outputs, network.metadata) == (3, 2, {})
    assert [layer.bias.shape for layer in network.layers] == [(4,), (2,)]
    assert [(layer.inputs, layer.outputs) for layer in network.layers] == [(3, 4), (4, 2)]


def test_one_activation_for_all_hidden_layers():
    assert names(ds.Network([2, 3, 3, 3, 1], activation="gelu")) == ["gelu"] * 3 + ["identity"]


def test_a_network_of_one_layer_has_no_hidden_activation():
    assert names(ds.Network([2, 1], activation=[], output="sigmoid")) == ["sigmoid"]


def test_activations_with_a_parameter():
    network = ds.Network(
        [2, 3, 4, 1], activation=[ds.Activation("leaky_relu", 0.2), "elu"], output="leaky_relu"
    )
    assert [layer.activation for layer in network.layers] == [
        ds.Activation("leaky_relu", 0.2),
        ds.Activation("elu", 1.0),
        ds.Activation("leaky_relu", 0.01),
    ]


@pytest.mark.parametrize("name", sorted(reference.ACTIVATIONS))
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_activation_in_every_place(rng, name, dtype):
    network = random_network(rng, activation=["tanh", name], output=name, dtype=dtype)
    x = rng.normal(size=(7, 4))
    expected = reference.Network.copy_of(network).predict(x.astype(dtype))
    tolerance = 1e-12 if dtype == "float64" else 1e-5
    np.testing.assert_allclose(network.predict(x), expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("dtype", [*DTYPES, np.float32, float, np.dtype("f8")])
def test_dtype_of_everything(dtype):
    network = ds.Network([2, 3, 1], dtype=dtype)
    assert network.dtype == np.dtype(dtype)
    network.forward([[1, 2]])
    arrays = [
        network.parameters,
        network.gradients,
        network.layers[0].weights,
        network.layers[1].bias,
        network.predict([[1, 2]]),
        network.backward([[1]]),
    ]
    assert {array.dtype for array in arrays} == {np.dtype(dtype)}


@pytest.mark.parametrize("widths", [(4, 3, 2), np.array([4, 3, 2]), range(4, 1, -1)])
def test_widths_of_any_sequence(widths):
    assert ds.Network(widths, seed=0).layers[0].weights.shape == (4, 3)


def test_dense_keeps_what_it_was_given():
    layer = ds.Dense(3, "tanh", shared_bias=True)
    assert (layer.units, layer.activation, layer.bias_count) == (3, ds.Activation("tanh"), 1)
    assert ds.Dense(3).bias_count == 3
    assert ds.Dense(3, use_bias=False).bias_count == 0


# ---- Initial values ----


def test_the_seed_decides_the_weights():
    first, again, other = (ds.Network([5, 5], seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.parameters, again.parameters)
    assert (first.layers[0].weights != other.layers[0].weights).all()


def test_a_seed_is_drawn_and_kept():
    network = ds.Network([5, 5])
    assert 0 <= network.seed < 2**64
    again = ds.Network([5, 5], seed=network.seed)
    np.testing.assert_array_equal(network.parameters, again.parameters)
    assert ds.Network([5, 5]).seed != network.seed


@pytest.mark.parametrize("seed", [0, 2**64 - 1, np.int64(7), np.uint64(2**63)])
def test_seeds(seed):
    assert ds.Network([1, 1], seed=seed).seed == int(seed)


def test_both_float_types_begin_at_the_same_weights():
    single, double = (ds.Network([7, 6, 5], seed=4, dtype=dtype) for dtype in DTYPES)
    np.testing.assert_array_equal(single.parameters, double.parameters.astype(np.float32))


def test_equal_layers_begin_at_different_weights():
    layers = ds.Network([5, 5, 5], seed=0).layers
    assert (layers[0].weights != layers[1].weights).all()


UNIFORM, NORMAL = "uniform", "normal"
INITIALIZERS = {
    "uniform": (UNIFORM, 0.05 / math.sqrt(3)),
    "normal": (NORMAL, 0.05),
    "glorot_uniform": (UNIFORM, math.sqrt(2 / 500)),
    "glorot_normal": (NORMAL, math.sqrt(2 / 500)),
    "he_uniform": (UNIFORM, math.sqrt(2 / 200)),
    "he_normal": (NORMAL, math.sqrt(2 / 200)),
    "lecun_uniform": (UNIFORM, math.sqrt(1 / 200)),
    "lecun_normal": (NORMAL, math.sqrt(1 / 200)),
    ds.Initializer("uniform", 0.3): (UNIFORM, 0.3 / math.sqrt(3)),
    ds.Initializer("normal", scale=2.0): (NORMAL, 2.0),
    ds.Initializer("normal", fan="he"): (NORMAL, math.sqrt(2 / 200)),
}


@pytest.mark.parametrize("initializer", INITIALIZERS, ids=str)
def test_distribution_of_initial_weights(initializer):
    """60,000 draws: mean and variance within five standard errors."""
    distribution, deviation = INITIALIZERS[initializer]
    weights = ds.Network([200, 300], weights=initializer, dtype="float64", seed=0).layers[0].weights
    # var(x^2) is 2 sigma^4 for a normal distribution and 0.8 sigma^4 for a uniform one
    kurtosis = 2 if distribution == NORMAL else 0.8
    assert abs(weights.mean()) < 5 * deviation / math.sqrt(weights.size)
    assert abs(weights.var() / deviation**2 - 1) < 5 * math.sqrt(kurtosis / weights.size)
    largest = np.abs(weights).max() / deviation
    if distribution == UNIFORM:
        assert 0.999 * math.sqrt(3) < largest <= math.sqrt(3)
    else:
        assert 3.5 < largest < 6


@pytest.mark.parametrize("zeros", ["zeros", ds.Initializer("normal", 0)])
def test_zeros(zeros):
    assert not ds.Network([3, 2], weights=zeros, seed=0).parameters.any()


def test_constant_initial_weights():
    layer = ds.Network([3, 2], weights=ds.Initializer("constant", -0.25), seed=0).layers[0]
    assert (layer.weights == -0.25).all()


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (7, 1), (40, 40), (50, 20), (20, 50)], ids=str)
@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_orthogonal_initial_weights(shape, scale):
    """Orthonormal to the precision of float64, and the Q of NumPy's QR decomposition with a
    positive diagonal of R."""
    initializer = ds.Initializer("orthogonal", scale)
    w = ds.Network([*shape], weights=initializer, dtype="float64", seed=3).layers[0].weights
    tall = w if shape[0] >= shape[1] else w.T
    identity = scale**2 * np.eye(tall.shape[1])
    np.testing.assert_allclose(tall.T @ tall, identity, rtol=0, atol=1e-14)
    draws = _kernels.random_normal(3, _plan.STREAM_WEIGHTS, w.size).reshape(tall.shape)
    q, r = np.linalg.qr(draws)
    np.testing.assert_allclose(tall, scale * q * np.sign(np.diag(r)), rtol=0, atol=1e-10)


def test_orthogonal_initial_weights_are_the_same_bits_everywhere():
    """Python's own numbers, one operation after another, give the same."""
    rows, cols = 9, 5
    draws = _kernels.random_normal(0, _plan.STREAM_WEIGHTS, rows * cols).tolist()
    a = [draws[i * cols : (i + 1) * cols] for i in range(rows)]
    for c in [*range(cols)] * 2:
        norm = math.sqrt(in_order(row[c] * row[c] for row in a))
        for row in a:
            row[c] /= norm
        for j in range(c + 1, cols):
            shadow = in_order(row[c] * row[j] for row in a)
            for row in a:
                row[j] -= row[c] * shadow
    net = ds.Network([rows, cols], weights="orthogonal", dtype="float64", seed=0)
    assert net.layers[0].weights.tolist() == a


def in_order(terms):
    """Their sum, one after another; the built-in one corrects its rounding."""
    total = 0.0
    for term in terms:
        total += term
    return total


@pytest.mark.parametrize(
    ("activation", "initializer"),
    [(name, "he_normal") for name in ("relu", "relu6", "leaky_relu", "elu", "celu", "gelu")]
    + [(name, "he_normal") for name in ("gelu_tanh", "silu", "mish", "softplus")]
    + [(name, "glorot_uniform") for name in ("identity", "sigmoid", "tanh", "softmax")]
    + [(name, "glorot_uniform") for name in ("hard_sigmoid", "hard_tanh", "softsign")]
    + [("log_softmax", "glorot_uniform"), ("selu", "lecun_normal")],
)
def test_auto_initial_weights(activation, initializer):
    auto, named = (
        ds.Network(5, [ds.Dense(4, activation, weights=weights)], seed=0)
        for weights in ("auto", initializer)
    )
    np.testing.assert_array_equal(auto.parameters, named.parameters)


def test_given_weights_and_biases():
    first, second = np.arange(6.0).reshape(2, 3), [[1], [2], [3]]
    by_layers = ds.Network(
        2, [ds.Dense(3, weights=first, bias=[7, 8, 9]), ds.Dense(1, weights=second, bias=0.5)]
    )
    np.testing.assert_array_equal(by_layers.parameters, [*range(6), 7, 8, 9, 1, 2, 3, 0.5])
    by_widths = ds.Network([2, 3, 1], weights=[first, second])
    np.testing.assert_array_equal(by_widths.parameters, [*range(6), 0, 0, 0, 1, 2, 3, 0])
    first[:] = -1  # the network has a copy
    assert by_layers.layers[0].weights[0, 1] == 1


def test_names_and_arrays_of_weights_mixed():
    network = ds.Network([2, 3, 1], weights=["zeros", np.ones((3, 1))])
    assert not network.layers[0].weights.any()
    assert network.layers[1].weights.all()


# ---- Flat parameters and their views ----


@pytest.mark.parametrize("options", [{}, {"shared_bias": True}, {"use_bias": False}], ids=str)
@pytest.mark.parametrize("dtype", DTYPES)
def test_layout_of_the_flat_parameters(rng, options, dtype):
    network = random_network(rng, dtype=dtype, **options)
    flat = []
    for layer in network.layers:
        assert layer.weights.shape == (layer.inputs, layer.outputs)
        flat.extend(layer.weights.ravel())
        flat.extend([] if layer.bias is None else layer.bias)
    np.testing.assert_array_equal(network.parameters, flat)
    assert network.parameters.ndim == network.gradients.ndim == 1
    assert network.gradients.shape == network.parameters.shape
    assert network.parameters.ctypes.data % 64 == network.gradients.ctypes.data % 64 == 0


def test_writes_are_seen_at_once_both_ways():
    network = ds.Network([2, 2, 1], weights="zeros", activation="identity")
    x = [[1.0, 10.0]]
    assert network.predict(x) == [[0]]
    network.layers[0].weights[:, 0] = 1, 2  # h0 = 1 + 20
    network.layers[1].weights[0] = 3
    network.layers[1].bias[:] = 0.5
    np.testing.assert_array_equal(network.parameters, [1, 0, 2, 0, 0, 0, 3, 0, 0.5])
    assert network.predict(x) == [[63.5]]
    network.parameters *= 2
    np.testing.assert_array_equal(network.layers[0].weights, [[2, 0], [4, 0]])
    assert network.predict(x) == [[253.0]]


def test_views_can_not_be_replaced():
    network = ds.Network([2, 1])
    with pytest.raises(dataclasses.FrozenInstanceError):
        network.layers[0].weights = np.zeros((2, 1))


@pytest.mark.parametrize("name", ["parameters", "gradients"])
def test_assigning_writes_in_place(name):
    network = ds.Network([2, 1], seed=0)
    array = getattr(network, name)
    setattr(network, name, [1.0, 2.0, 3.0])
    network.gradients *= 2
    assert getattr(network, name) is array
    assert array.tolist() == ([2, 4, 6] if name == "gradients" else [1, 2, 3])
    if name == "parameters":
        assert network.layers[0].weights.tolist() == [[1], [2]]
    with pytest.raises(ValueError, match="broadcast"):
        setattr(network, name, np.zeros(4))


def test_gradients_begin_at_zero_and_stay_the_same_array():
    network = ds.Network([2, 1], seed=0)
    gradients = network.gradients
    assert not gradients.any()
    ds.Trainer(network).compute_gradients([[1.0, 2.0]], [10.0])
    assert network.gradients is gradients
    assert gradients.all()


def test_a_shared_bias_is_one_number_for_all_units(rng):
    shared = random_network(rng, shared_bias=True)
    assert [layer.bias.shape for layer in shared.layers] == [(1,)] * 3
    single = ds.Network([4, 6, 5, 3], activation="tanh")
    for layer, other in zip(shared.layers, single.layers):
        other.weights[:], other.bias[:] = layer.weights, layer.bias
    x = rng.normal(size=(9, 4))
    np.testing.assert_array_equal(shared.predict(x), single.predict(x))
    t = rng.normal(size=(9, 3))
    for network in (shared, single):
        ds.Trainer(network).compute_gradients(x, t)
    shared.parameters[:], single.parameters[:] = shared.gradients, single.gradients
    for layer, other in zip(shared.layers, single.layers):
        np.testing.assert_array_equal(layer.weights, other.weights)
        np.testing.assert_allclose(layer.bias, other.bias.sum(), rtol=1e-5)


def test_an_initial_shared_bias():
    layer = ds.Dense(3, shared_bias=True, bias=0.25, weights="zeros")
    np.testing.assert_array_equal(ds.Network(1, [layer]).predict([[1.0]]), [[0.25] * 3])


def test_without_bias(rng):
    network = random_network(rng, use_bias=False)
    assert [layer.bias for layer in network.layers] == [None] * 3
    assert network.parameters.size == 4 * 6 + 6 * 5 + 5 * 3
    assert not network.predict(np.zeros((1, 4))).any()


def test_kinds_of_bias_in_one_network(rng):
    layers = [ds.Dense(3, shared_bias=True), ds.Dense(2, use_bias=False), ds.Dense(1, bias=5)]
    network = ds.Network(2, layers, seed=0)
    assert [layer.bias_count for layer in layers] == [1, 0, 1]
    expected = reference.Network.copy_of(network)
    x = rng.normal(size=(4, 2)).astype("float32")
    np.testing.assert_allclose(network.predict(x), expected.predict(x), rtol=1e-6)


# ---- Text and copies ----


def test_repr():
    network = ds.Network([4, 8, 3], activation="tanh", output="softmax", dtype="float64", seed=5)
    assert repr(network) == (
        "Network([4, 8, 3], activation=['tanh'], output='softmax', dtype='float64', seed=5)"
    )
    assert repr(ds.Network([2, 1], seed=0)) == (
        "Network([2, 1], output='identity', dtype='float32', seed=0)"
    )
    assert repr(network.layers[0]) == "Layer(4 -> 8, tanh)"
    assert repr(ds.Dense(2, "relu", use_bias=False)) == "Dense(2, 'relu', use_bias=False)"
    assert repr(ds.Dense(2, shared_bias=True)) == "Dense(2, 'identity', shared_bias=True)"


@pytest.mark.parametrize(
    "duplicate",
    [copy.copy, copy.deepcopy, lambda network: pickle.loads(pickle.dumps(network))],
    ids=["copy", "deepcopy", "pickle"],
)
@pytest.mark.parametrize("options", [{}, {"shared_bias": True}, {"use_bias": False}], ids=str)
@pytest.mark.parametrize("dtype", DTYPES)
def test_copies_are_equal_and_independent(rng, duplicate, options, dtype):
    network = random_network(rng, dtype=dtype, output=ds.Activation("elu", 0.3), **options)
    network.metadata["made by"] = "hand"
    network.forward(np.ones((2, 4)))
    other = duplicate(network)
    assert repr(other) == repr(network)
    assert other.metadata == {"made by": "hand"}
    x = rng.normal(size=(5, 4))
    np.testing.assert_array_equal(other.predict(x), network.predict(x))
    before = network.parameters.copy()
    other.metadata["made by"] = "machine"
    other.layers[0].weights[:] = 0
    assert not other.parameters[: other.layers[0].weights.size].any()
    np.testing.assert_array_equal(network.parameters, before)
    assert network.metadata == {"made by": "hand"}


def test_a_copy_trains_as_the_original(rng):
    network = random_network(rng)
    other = copy.deepcopy(network)
    x, t = rng.normal(size=(20, 4)), rng.normal(size=(20, 3))
    for one in (network, other):
        one.fit(x, t, epochs=3, batch_size=6)
    np.testing.assert_array_equal(network.parameters, other.parameters)


def test_layers_compare_by_identity():
    one, other = ds.Network([2, 2], seed=0).layers[0], ds.Network([2, 2], seed=0).layers[0]
    assert one == one
    assert one != other
    assert len({one, other}) == 2
