"""The worked example that the project grew from, number by number through the public API.

A 2-2-2 network, sigmoid everywhere, one bias shared by each layer:

    h1 = f(w1 x1 + w2 x2 + b1)    h2 = f(w3 x1 + w4 x2 + b1)
    y1 = f(w5 h1 + w6 h2 + b2)    y2 = f(w7 h1 + w8 h2 + b2)

with E = E1 + E2, Ek = 0.5 (tk - yk)^2, and one step of gradient descent at learning rate 0.01.
"""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import downslope as ds

W1, W2, W3, W4, W5, W6, W7, W8 = 0.10, 0.15, 0.03, 0.08, 0.18, 0.06, 0.11, 0.26
B1, B2 = 0.05, 0.42
X, T = np.array([[0.95, 0.06]]), np.array([[0.05, 0.82]])
LEARNING_RATE = 0.01

H = [0.5384240911869264, 0.5208129664845009]
Y = [0.6337097788448925, 0.6489980701022744]
E1, E2, E = 0.17035855295957666, 0.014620830014373323, 0.18497938297395
# dE/dw1 .. dE/dw8
GRADIENT = [
    *(0.004746395662335128, 0.000299772357621166, -0.0004738405815432046, -2.9926773571149765e-05),
    *(0.0729519972006264, 0.07056583591806004, -0.020973861950366927, -0.02028783525812679),
]
W5_AFTER = 0.17927048002799373

LOSS = "half_squared_error"
# Relative to each number.  In float32 the inputs themselves are rounded, by up to 6e-8.
TOLERANCES = {"float64": 1e-13, "float32": 1e-6}


@pytest.fixture
def network(dtype):
    hidden = ds.Dense(2, "sigmoid", weights=[[W1, W3], [W2, W4]], bias=B1, shared_bias=True)
    output = ds.Dense(2, "sigmoid", weights=[[W5, W7], [W6, W8]], bias=B2, shared_bias=True)
    return ds.Network(2, [hidden, output], dtype=dtype)


def in_order_of_names(network, flat):
    """w1 .. w8 from an array laid out as `network.parameters`: w1 w3 w2 w4 b1, w5 w7 w6 w8 b2."""
    assert flat.shape == network.parameters.shape == (10,)
    return flat[[0, 2, 1, 3, 5, 7, 6, 8]]


def assert_close(actual, expected, dtype):
    np.testing.assert_allclose(np.squeeze(actual), expected, rtol=TOLERANCES[dtype], atol=0)


def test_hidden_layer(network, dtype):
    first = network.layers[0]
    hidden = ds.Dense(2, "sigmoid", weights=first.weights, bias=first.bias, shared_bias=True)
    assert_close(ds.Network(2, [hidden], dtype=dtype).predict(X), H, dtype)


def test_outputs(network, dtype):
    assert_close(network.predict(X), Y, dtype)
    assert_close(network.forward(X), Y, dtype)


def test_errors(network, dtype):
    assert_close(network.evaluate(X, T, loss=LOSS), E, dtype)
    # With the other output's target met, what is left is the error of one output.
    met = network.predict(X)
    for k, error in enumerate((E1, E2)):
        target = np.where(np.arange(2) == k, T, met)
        assert_close(network.evaluate(X, target, loss=LOSS), error, dtype)


def test_gradients_of_a_backward_pass(network, dtype):
    network.backward(network.forward(X) - T)
    assert_close(in_order_of_names(network, network.gradients), GRADIENT, dtype)


def test_gradients_of_the_loss(network, dtype):
    trainer = ds.Trainer(network, loss=LOSS)
    assert_close(trainer.compute_gradients(X, T), E, dtype)
    assert_close(in_order_of_names(network, network.gradients), GRADIENT, dtype)
    assert ds.check_gradients(network, X, T, loss=LOSS).passed


@pytest.mark.parametrize("way", ["step", "fit", "piece by piece"])
def test_weights_after_one_step(network, dtype, way):
    trainer = ds.Trainer(network, loss=LOSS, optimizer=ds.SGD(LEARNING_RATE))
    if way == "step":
        assert_close(trainer.step(X, T), E, dtype)
    elif way == "fit":
        assert_close(trainer.fit(X, T, epochs=1).loss, E, dtype)
    else:
        network.backward(network.forward(X) - T)
        trainer.update()
    before = np.array([W1, W2, W3, W4, W5, W6, W7, W8])
    after = in_order_of_names(network, network.parameters)
    assert_close(after, before - LEARNING_RATE * np.array(GRADIENT), dtype)
    assert_close(after[4], W5_AFTER, dtype)


def test_the_error_falls(network):
    trainer = ds.Trainer(network, loss=LOSS, optimizer=ds.SGD(LEARNING_RATE))
    losses = trainer.fit(X, T, epochs=100).loss
    assert all(later < earlier for earlier, later in itertools.pairwise(losses))


def test_the_whole_network_from_widths_and_arrays(network, dtype):
    """The shorter way to write the same network."""
    short = ds.Network(
        [2, 2, 2],
        activation="sigmoid",
        output="sigmoid",
        weights=[[[W1, W3], [W2, W4]], [[W5, W7], [W6, W8]]],
        shared_bias=True,
        dtype=dtype,
    )
    for layer, bias in zip(short.layers, (B1, B2), strict=True):
        layer.bias[:] = bias
    np.testing.assert_array_equal(short.parameters, network.parameters)
    assert_close(short.predict(X), Y, dtype)
