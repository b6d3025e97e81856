"""Network.diagnose: what is wrong is found, what is not is not."""

from __future__ import annotations

import warnings

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


# ---- The warning of fit ----


def fit_warnings(x, dtype="float32", method="fit"):
    """What a fit on x says."""
    x, y = np.asarray(x), np.zeros(len(x))
    net = ds.Network([x.shape[1], 2, 1], dtype=dtype, seed=0)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        if method == "fit":
            net.fit(x, y, on_divergence="warn", optimizer=ds.SGD(1e-9))
        elif method == "batches":
            net.fit([(x, y), (1e3 * x, y)], optimizer=ds.SGD(1e-9), epochs=2)
        else:
            members = ds.Ensemble(1, [x.shape[1], 2, 1], dtype=dtype, seed=0)
            members.fit(x, y, optimizer=ds.SGD(1e-9))
    return [warning for warning in caught if warning.category is ds.UnscaledInputsWarning]


SCALED = {
    "standardised": lambda rng: rng.normal(size=(500, 6)),
    "from 0 to 1": lambda rng: rng.random((500, 6)),
    "pixels of digits": lambda rng: rng.integers(0, 17, (500, 64)),
    "all 16": lambda rng: np.full((300, 2), 16),
    "indicators": lambda rng: rng.random((5000, 6)) < 0.5,
    "a rare indicator": lambda rng: np.eye(1, 3000),
    "dark pixels": lambda rng: np.where(rng.random((300, 4)) < 0.1, [1, 0.004, 0.004, 0], 0),
    "zeros": lambda rng: np.zeros((10, 2)),
    "one row": lambda rng: np.ones((1, 3)),
    "centimetres": lambda rng: rng.normal(0, 10, (400, 3)),
}
UNSCALED = {
    "pixels up to 255": (lambda rng: rng.integers(0, 256, (400, 3)), "column"),
    "a year": (lambda rng: np.c_[rng.normal(size=400), rng.integers(1950, 2020, 400)], "column 1"),
    "money": (lambda rng: np.c_[rng.normal(size=400), 5e4 * rng.normal(size=400)], "column 1"),
    "nanometres": (lambda rng: 1e-6 * rng.normal(size=(400, 3)), "none is above"),
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", SCALED)
def test_no_warning_of_scaled_inputs(rng, name, dtype):
    assert not fit_warnings(SCALED[name](rng), dtype)


@pytest.mark.parametrize("method", ["fit", "batches", "ensemble"])
@pytest.mark.parametrize("name", UNSCALED)
def test_warning_of_unscaled_inputs(rng, name, method):
    make, words = UNSCALED[name]
    [warning] = fit_warnings(make(rng), "float64", method)
    assert "the inputs are unscaled: " + words in str(warning.message)
    assert warning.filename == __file__  # the line that a user can change


def test_as_an_error_it_comes_before_anything_has_changed(rng):
    trainer = ds.Trainer(ds.Network([3, 1], seed=0))
    before = trainer.network.parameters.copy()
    with pytest.raises(ds.UnscaledInputsWarning, match="simplefilter"):
        trainer.fit(100 * rng.normal(size=(50, 3)), np.zeros(50))
    np.testing.assert_array_equal(trainer.network.parameters, before)
    assert trainer.steps == trainer.epoch == 0


def test_only_fit_warns(rng):
    x, y = 100 * rng.normal(size=(50, 3)), np.zeros(50)
    trainer = ds.Trainer(ds.Network([3, 1], seed=0), optimizer=ds.SGD(1e-9))
    trainer.step(x, y)
    trainer.partial_fit(x, y)
    trainer.network.evaluate(x, y)
    trainer.network.diagnose(x, y)


def test_squares_beyond_the_largest_number(rng):
    [warning] = fit_warnings(np.full((3, 2), 1e200), "float64")
    assert "root mean square of inf" in str(warning.message)
