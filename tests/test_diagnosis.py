"""Network.diagnose: what is wrong is found, what is not is not."""

from __future__ import annotations

import numpy as np
import pytest

import downslope as ds


def data(rng, rows=200, columns=5):
    return rng.normal(size=(rows, columns)), rng.normal(size=(rows, 1))


def test_a_sound_network_is_left_in_peace(rng):
    x, y = data(rng)
    for activation in ("relu", "tanh", "sigmoid", "gelu"):
        found = ds.Network([5, 16, 16, 1], activation=activation, seed=1).diagnose(x, y)
        assert found.findings == []
        assert str(found).endswith("Nothing stands out.")


def test_numbers(rng):
    """Of a layer in plain view."""
    x = np.array([[1.0, 0.0], [2.0, 0.0]])
    net = ds.Network([2, 2, 1], dtype="float64", weights=[np.eye(2), [[1.0], [1.0]]])
    net.layers[0].bias[...] = [0, -1]
    found = net.diagnose(x, [0.0, 0.0], loss="half_squared_error")
    first, last = found.layers
    assert (first.dead, first.saturated, last.dead, last.saturated) == (0.5, 0, 0, 0)
    assert found.loss == (0.5 + 2) / 2
    # dE/dw of the first weight: mean of y x = (1 + 4) / 2; all others are zero
    assert first.gradient == pytest.approx(2.5 / 2)
    assert first.weights == pytest.approx(np.sqrt(0.5))
    assert last.gradient == pytest.approx(2.5 / np.sqrt(2))


def test_dead_units(rng):
    x, y = data(rng)
    net = ds.Network([5, 10, 1], seed=1)
    net.layers[0].bias[:4] = -100
    found = net.diagnose(x, y)
    assert found.layers[0].dead == 0.4
    assert any("Layer 0 (relu) has 40% dead units" in text for text in found.findings)


def test_everything_dead(rng):
    x, y = data(rng)
    net = ds.Network([5, 10, 10, 1], seed=1)
    net.layers[0].bias[...] = net.layers[1].bias[...] = -100
    net.layers[2].weights[...] = 0
    net.layers[2].bias[...] = y[0]
    found = net.diagnose(x, np.full_like(y, np.float32(y[0])))
    assert any(text.startswith("All gradients are zero") for text in found.findings)


@pytest.mark.parametrize("activation", ["tanh", "sigmoid"])
def test_saturation(rng, activation):
    x, y = data(rng)
    net = ds.Network([5, 10, 1], activation=activation, seed=1)
    net.layers[0].weights[...] *= 100
    found = net.diagnose(x, y)
    assert found.layers[0].saturated > 0.9
    assert any(f"Layer 0 ({activation}) is saturated in 9" in text for text in found.findings)


def test_vanishing_gradients(rng):
    x, y = data(rng)
    net = ds.Network([5, *[10] * 10, 1], activation="sigmoid", seed=1)
    assert any(text.startswith("Gradients vanish") for text in net.diagnose(x, y).findings)


def test_exploding_gradients(rng):
    x, y = data(rng)
    net = ds.Network([5, *[10] * 10, 1], activation="identity", seed=1)
    for layer in net.layers[1:]:
        layer.weights[...] *= 10
    net.layers[0].weights[...] *= 1e-9
    found = net.diagnose(x, y)
    assert any(text.startswith("Gradients explode") for text in found.findings)
    assert any(text.startswith("Gradients are large") for text in found.findings)


def test_unscaled_inputs(rng):
    x, y = data(rng)
    x[:, 1] *= 1000
    x[:, 2] += 300
    x[:, 3] = 1.0
    x[:, 4] *= 1e-3
    found = ds.Network([5, 8, 1], seed=1).diagnose(x, y)
    assert found.unscaled == [1, 2, 4]
    assert "columns 1, 2, 4 (3 of 5); column 1 has mean" in found.findings[0]


def test_nothing_is_changed_and_softmax_has_no_say(rng):
    x, _ = data(rng)
    net = ds.Network([5, 8, 3], output="softmax", dropout=0.5, seed=1)
    before, gradients = net.parameters.copy(), net.gradients.copy()
    found = net.diagnose(x, rng.integers(0, 3, len(x)), loss="cross_entropy")
    assert (found.layers[1].dead, found.layers[1].saturated) == (0, 0)
    np.testing.assert_array_equal(net.parameters, before)
    np.testing.assert_array_equal(net.gradients, gradients)
