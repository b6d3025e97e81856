"""The oracle itself: against differences, identities and numbers worked out elsewhere."""

from __future__ import annotations

import copy
import itertools
import math

import numpy as np
import pytest

import numpy_reference as reference
from numpy_reference import Layer, Network
from optimizer_oracles import SGD, Adam

ELEMENTWISE = sorted(reference.DERIVATIVES)
LOSSES = reference.LOSSES


def make_network(rng, widths, hidden="tanh", output="identity", *, bias="each", dtype=np.float64):
    """A network with normal weights; bias: "each" unit its own, "shared" or "none"."""
    layers = []
    for i, (inputs, outputs) in enumerate(itertools.pairwise(widths)):
        name = hidden if i < len(widths) - 2 else output
        size = {"each": outputs, "shared": 1, "none": 0}[bias]
        layers.append(
            Layer(
                rng.normal(size=(inputs, outputs)).astype(dtype),
                rng.normal(size=size).astype(dtype) if size else None,
                name,
                reference.DEFAULT_PARAMETERS.get(name, 0.0),
            )
        )
    return Network(layers)


# ---- Activations and losses ----


@pytest.mark.parametrize("name", ELEMENTWISE)
@pytest.mark.parametrize("parameter", [0.01, 0.7])
def test_derivative_is_the_slope(name, parameter):
    z = np.array([-30.0, -4.0, -1.1, -0.3, 0.2, 0.9, 2.9, 25.0])
    f = reference.ACTIVATIONS[name]
    slope = [
        reference.central_differences(lambda x: f(x, parameter)[0], np.array([value]))[0]
        for value in z
    ]
    np.testing.assert_allclose(reference.DERIVATIVES[name](z, parameter), slope, atol=1e-11)


@pytest.mark.parametrize("name", ["relu", "relu6", "leaky_relu"])
def test_derivative_at_zero_is_that_of_the_negative_side(name):
    at_zero = reference.DERIVATIVES[name](np.zeros(1), 0.3)[0]
    assert at_zero == reference.DERIVATIVES[name](np.full(1, -1.0), 0.3)[0]


def test_activations_at_known_points():
    z = np.array([-1.0, 0.0, 1.0])
    value = {name: f(z, 1.0) for name, f in reference.ACTIVATIONS.items() if name in ELEMENTWISE}
    e = math.e
    np.testing.assert_allclose(value["sigmoid"], [1 / (1 + e), 0.5, e / (1 + e)], rtol=1e-15)
    np.testing.assert_allclose(value["elu"], [1 / e - 1, 0, 1], rtol=1e-15)
    np.testing.assert_allclose(value["silu"], z * value["sigmoid"], rtol=1e-15)
    np.testing.assert_allclose(value["softplus"], np.log1p(np.exp(z)), rtol=1e-15)
    np.testing.assert_allclose(value["hard_sigmoid"], [1 / 3, 1 / 2, 2 / 3], rtol=1e-15)
    np.testing.assert_allclose(value["softsign"], [-0.5, 0, 0.5], rtol=1e-15)
    np.testing.assert_allclose(value["celu"], value["elu"], rtol=1e-15)
    np.testing.assert_allclose(value["selu"][2], reference.SELU_SCALE, rtol=1e-15)
    np.testing.assert_allclose(value["mish"], z * np.tanh(np.log1p(np.exp(z))), rtol=1e-15)
    by_tanh = z / 2 * (1 + np.tanh(math.sqrt(2 / math.pi) * (z + 0.044715 * z**3)))
    np.testing.assert_allclose(value["gelu_tanh"], by_tanh, rtol=1e-15)
    # Phi(1), from tables of the normal distribution.
    np.testing.assert_allclose(value["gelu"], [-0.15865525393145707, 0, 0.8413447460685429])


def test_extreme_inputs_reach_the_limits_without_overflow():
    z = np.array([[-1e4, 0.0, 1e4]])
    with np.errstate(all="raise", under="ignore"):
        assert reference.sigmoid(z).tolist() == [[0.0, 0.5, 1.0]]
        assert reference.softplus(z).tolist() == [[0.0, math.log(2), 1e4]]
        assert reference.softmax(z).tolist() == [[0.0, 0.0, 1.0]]
        one_hot = np.array([[1.0, 0.0, 0.0]])
        y = reference.softmax(z)
        assert reference.row_losses("cross_entropy", z, y, one_hot).tolist() == [2e4]


def test_softmax_is_a_distribution_and_ignores_a_shift(rng):
    z = rng.normal(size=(5, 4))
    y = reference.softmax(z)
    np.testing.assert_allclose(y.sum(axis=1), 1, rtol=1e-15)
    np.testing.assert_allclose(reference.softmax(z + 7), y, rtol=1e-13)


def test_losses_are_their_definitions(rng):
    z, t = rng.normal(size=(2, 6, 3))
    t = np.abs(t) / np.abs(t).sum(axis=1, keepdims=True)
    p, q = reference.sigmoid(z), reference.softmax(z)
    definitions = {
        "half_squared_error": (z, 0.5 * ((t - z) ** 2).sum(axis=1)),
        "mse": (z, ((t - z) ** 2).mean(axis=1)),
        "binary_cross_entropy": (p, -(t * np.log(p) + (1 - t) * np.log(1 - p)).mean(axis=1)),
        "cross_entropy": (q, -(t * np.log(q)).sum(axis=1)),
    }
    for loss, (y, rows) in definitions.items():
        np.testing.assert_allclose(reference.row_losses(loss, z, y, t), rows, rtol=1e-13)


def test_labels_mean_one_hot_targets(rng):
    network = make_network(rng, [3, 4], output="softmax")
    x, labels = rng.normal(size=(6, 3)), rng.integers(0, 4, 6)
    dense = np.eye(4)[labels]
    for loss in ("cross_entropy", "focal"):
        assert network.loss(x, labels, loss) == network.loss(x, dense, loss)


# ---- Back-propagation ----


def assert_gradient_is_the_slope(rng, network, loss, sample_weight=None):
    x = reference.rows_clear_of_kinks(rng, network, 4)
    y = reference.random_targets(rng, loss, network.predict(x))
    analytic = network.gradient(x, y, loss, sample_weight)
    numeric = network.difference_gradient(x, y, loss, sample_weight)
    scale = max(np.abs(analytic).max(), 0.1)
    np.testing.assert_allclose(analytic, numeric, rtol=0, atol=1e-8 * scale)


@pytest.mark.parametrize("hidden", ELEMENTWISE)
@pytest.mark.parametrize("loss", LOSSES)
def test_gradient_of_each_hidden_activation(rng, hidden, loss):
    output = reference.LOSS_OUTPUTS.get(loss, "identity")
    network = make_network(rng, [3, 5, 4, 2], hidden, output)
    assert_gradient_is_the_slope(rng, network, loss)


def test_selu_keeps_mean_and_variance():
    """What its two constants are for; by the trapezoidal rule over normal net inputs."""
    z = np.linspace(-12, 12, 200_001)
    y, weight = reference.ACTIVATIONS["selu"](z, 0.0), reference.normal_density(z) * (z[1] - z[0])
    assert (y * weight).sum() == pytest.approx(0, abs=1e-9)
    assert (y * y * weight).sum() == pytest.approx(1, abs=1e-9)


def test_losses_by_hand():
    """Of one row with outputs 2 and -1 and targets 1 and 1: errors 1 and -2."""
    y, t = np.array([[2.0, -1.0]]), np.array([[1.0, 1.0]])
    by_hand = {
        ("mae", ()): (1 + 2) / 2,
        ("huber", (("delta", 1.5),)): (1 / 2 + 1.5 * (2 - 0.75)) / 2,
        ("log_cosh", ()): (math.log(math.cosh(1)) + math.log(math.cosh(2))) / 2,
        ("quantile", (("levels", (0.9, 0.1)),)): (0.1 * 1 + 0.1 * 2) / 2,
        ("poisson", ()): (math.exp(2) - 2 + math.exp(-1) + 1) / 2,
        ("hinge", ()): (0 + 2) / 2,
    }
    for (name, parameters), expected in by_hand.items():
        values = dict(parameters) or None
        assert reference.row_losses(name, y, y, t, values).item() == pytest.approx(expected)
    # mean 2, variance exp(-1), target 1: minus the logarithm of the density, but for the constant
    density = math.exp(-((2 - 1) ** 2) / (2 * math.exp(-1))) / math.sqrt(2 * math.pi * math.exp(-1))
    nll = reference.row_losses("gaussian_nll", y, y, t[:, :1]).item()
    assert nll == pytest.approx(-math.log(density) - math.log(2 * math.pi) / 2)
    # sigmoid(log 3) = 3/4 for t = 1: 0.25 (1/4)^2 log(4/3); for t = 0: 0.75 (3/4)^2 log 4
    z = np.full((1, 1), math.log(3))
    for target, expected in ((1.0, math.log(4 / 3) / 64), (0.0, math.log(4) * 27 / 64)):
        focal = reference.row_losses("binary_focal", z, z, np.array([[target]])).item()
        assert focal == pytest.approx(expected)
    # softmax(0, log 3) = (1/4, 3/4)
    z = np.array([[0.0, math.log(3)]])
    for target, expected in ((0, math.log(4) * 9 / 16), (1, math.log(4 / 3) / 16)):
        focal = reference.row_losses("focal", z, z, np.eye(2)[[target]]).item()
        assert focal == pytest.approx(expected)


@pytest.mark.parametrize("output", sorted(reference.ACTIVATIONS))
@pytest.mark.parametrize("loss", ["half_squared_error", "mse"])
def test_gradient_of_each_output_activation(rng, output, loss):
    assert_gradient_is_the_slope(rng, make_network(rng, [3, 4, 3], "tanh", output), loss)


@pytest.mark.parametrize("bias", ["each", "shared", "none"])
@pytest.mark.parametrize("loss", LOSSES)
def test_gradient_with_sample_weights_and_each_kind_of_bias(rng, bias, loss):
    output = reference.LOSS_OUTPUTS.get(loss, "sigmoid")
    network = make_network(rng, [3, 4, 2], "sigmoid", output, bias=bias)
    assert_gradient_is_the_slope(rng, network, loss, np.array([0.0, 0.5, 1.0, 3.0]))


def test_gradient_of_the_input(rng):
    network = make_network(rng, [3, 4, 3], "gelu", "softmax")
    x, d_outputs = rng.normal(size=(2, 3)), rng.normal(size=(2, 3))
    _, d_x = network.backward_from_outputs(*network.forward(x), d_outputs)

    def projected(flat_x):
        return float((network.predict(flat_x.reshape(x.shape)) * d_outputs).sum())

    numeric = reference.central_differences(projected, x.ravel())
    np.testing.assert_allclose(d_x.ravel(), numeric, rtol=0, atol=1e-10)


def test_differences_are_of_fourth_order():
    def error(step):
        slope = reference.central_differences(lambda x: math.exp(x[0]), np.zeros(1), step)
        return abs(slope[0] - 1)

    assert error(0.1) / error(0.05) == pytest.approx(16, rel=0.02)


# ---- Optimisers and training ----


def test_optimisers_by_hand():
    """Two steps from p = 1 with gradients 2 and 1, worked out on paper."""
    one, gradients = np.array([1.0]), [np.array([2.0]), np.array([1.0])]

    def after_two(optimizer):
        p = one
        for g in gradients:
            p = optimizer.update(p, g)
        return p.item()

    assert after_two(SGD(0.1)) == pytest.approx(1 - 0.1 * 2 - 0.1 * 1)
    # v = 2, then 0.5 * 2 + 1 = 2
    assert after_two(SGD(0.1, momentum=0.5)) == pytest.approx(1 - 0.1 * 2 - 0.1 * 2)
    # g + 0.5 v = 3, then 1 + 0.5 * 2 = 2
    assert after_two(SGD(0.1, momentum=0.5, nesterov=True)) == pytest.approx(1 - 0.3 - 0.2)
    # m_hat = 2, v_hat = 4; then m = 0.1 (0.9 * 2 + 1), v = 0.001 (0.999 * 4 + 1)
    second = (0.28 / 0.19) / math.sqrt(0.004996 / 0.001999)
    assert after_two(Adam(0.1)) == pytest.approx(1 - 0.1 - 0.1 * second, rel=1e-8)


def test_worked_example():
    """The 2-2-2 network of a well-known article, its numbers to the last digits of float64."""
    network = Network(
        [
            Layer(np.array([[0.10, 0.03], [0.15, 0.08]]), np.array([0.05]), "sigmoid"),
            Layer(np.array([[0.18, 0.11], [0.06, 0.26]]), np.array([0.42]), "sigmoid"),
        ]
    )
    x, t = np.array([[0.95, 0.06]]), np.array([[0.05, 0.82]])
    _, (_, h, y) = network.forward(x)
    np.testing.assert_allclose(h, [[0.5384240911869264, 0.5208129664845009]], rtol=1e-13)
    np.testing.assert_allclose(y, [[0.6337097788448925, 0.6489980701022744]], rtol=1e-13)
    np.testing.assert_allclose(
        0.5 * (t - y) ** 2, [[0.17035855295957666, 0.014620830014373323]], rtol=1e-13
    )
    assert network.loss(x, t, "half_squared_error") == pytest.approx(0.18497938297395, rel=1e-13)
    gradient = network.gradient(x, t, "half_squared_error")
    # In the flat layout: w1 w3 / w2 w4, shared bias, w5 w7 / w6 w8, shared bias.
    expected = [
        *(0.004746395662335128, -0.0004738405815432046),
        *(0.000299772357621166, -2.9926773571149765e-05),
        *(0.0729519972006264, -0.020973861950366927),
        *(0.07056583591806004, -0.02028783525812679),
    ]
    weights = np.delete(gradient, [4, 9])
    np.testing.assert_allclose(weights, expected, rtol=1e-13)
    stepped = SGD(0.01).update(network.parameters, gradient)
    assert stepped[5] == pytest.approx(0.17927048002799373, rel=1e-13)


def test_training_replays_the_order_given(rng):
    """Mini-batches by hand; the last is smaller, and its gradient the mean over its own rows."""
    x, y = rng.normal(size=(5, 2)), rng.normal(size=(5, 1))
    network = make_network(rng, [2, 3, 1])
    by_hand = copy.deepcopy(network)
    order = np.array([4, 1, 0, 3, 2])
    history = reference.train(
        network, x, y, loss="mse", optimizer=SGD(0.1), orders=[order], batch_size=3
    )
    first, last = order[:3], order[3:]
    met = 3 * by_hand.loss(x[first], y[first], "mse")
    by_hand.parameters = by_hand.parameters - 0.1 * by_hand.gradient(x[first], y[first], "mse")
    met += 2 * by_hand.loss(x[last], y[last], "mse")
    by_hand.parameters = by_hand.parameters - 0.1 * by_hand.gradient(x[last], y[last], "mse")
    np.testing.assert_allclose(network.parameters, by_hand.parameters, rtol=1e-14)
    assert history == [pytest.approx(met / 5, rel=1e-14)]


def test_training_lowers_the_error(rng):
    x = rng.normal(size=(60, 2))
    labels = (x[:, 0] * x[:, 1] > 0).astype(np.int64)
    network = make_network(rng, [2, 8, 2], "tanh", "softmax")
    history = reference.train(
        network,
        x,
        labels,
        loss="cross_entropy",
        optimizer=Adam(0.03),
        orders=[rng.permutation(60) for _ in range(40)],
        batch_size=10,
    )
    assert history[-1] < 0.5 * history[0]
    assert (network.predict(x).argmax(axis=1) == labels).mean() > 0.9


@pytest.mark.parametrize("optimizer", [SGD(0.1, 0.9), Adam(0.01)], ids=["momentum", "adam"])
def test_float32_stays_float32(rng, optimizer):
    x, y = rng.normal(size=(2, 8, 3)).astype(np.float32)
    for name in ELEMENTWISE:
        network = make_network(rng, [3, 4, 3], name, "softmax", dtype=np.float32)
        assert all(a.dtype == np.float32 for layer in network.forward(x) for a in layer)
        gradient = network.gradient(x, y, "mse", np.ones(8))
        assert gradient.dtype == np.float32
    assert optimizer.update(network.parameters, gradient).dtype == np.float32
