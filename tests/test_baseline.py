"""The strong NumPy baseline computes what the oracle computes, so that a race with it is fair."""

from __future__ import annotations

import copy

import numpy as np
import pytest

import numpy_reference as reference
import optimizer_oracles as rules
from downslope.baseline import NumpyNetwork
from downslope.optimizers import SGD, Adam

OPTIMIZERS = {
    "sgd": (SGD(0.05), rules.SGD(0.05)),
    "momentum": (SGD(0.02, momentum=0.9), rules.SGD(0.02, 0.9)),
    "nesterov": (SGD(0.02, momentum=0.9, nesterov=True), rules.SGD(0.02, 0.9, True)),
    "adam": (
        Adam(0.01, beta_1=0.8, beta_2=0.99, epsilon=1e-6),
        rules.Adam(0.01, 0.8, 0.99, 1e-6),
    ),
}
# Widths, hidden activation, output activation, loss.
CASES = [
    ([2, 2, 2], "sigmoid", "sigmoid", "mse"),
    ([10, 32, 1], "tanh", "identity", "mse"),
    ([5, 3], "relu", "relu", "mse"),
    ([6, 9, 7, 4], "relu", "softmax", "cross_entropy"),
    ([3, 4, 2], "identity", "tanh", "mse"),
]


def make_pair(rng, case, optimizer=None, dtype=np.float64):
    """A baseline network and the oracle's, with the same weights."""
    widths, activation, output, loss = case
    fast = NumpyNetwork(widths, activation, output, loss=loss, optimizer=optimizer, dtype=dtype)
    fast.parameters[:] = rng.normal(scale=0.5, size=fast.parameters.size)
    names = [activation] * (len(widths) - 2) + [output]
    clear = reference.Network(
        reference.Layer(weights.copy(), bias.copy(), name)
        for weights, bias, name in zip(fast.weights, fast.biases, names, strict=True)
    )
    return fast, clear


def make_data(rng, case, rows, dtype=np.float64):
    widths, _, _, loss = case
    x = rng.normal(size=(rows, widths[0])).astype(dtype)
    if loss == "cross_entropy":
        return x, rng.integers(0, widths[-1], rows)
    return x, rng.random((rows, widths[-1])).astype(dtype)


@pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(map(str, case[0])))
@pytest.mark.parametrize("kind", OPTIMIZERS)
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(np.float64, 1e-10), (np.float32, 1e-3)], ids=["f64", "f32"]
)
def test_trajectory_is_the_oracles(rng, case, kind, dtype, tolerance):
    """200 steps over a shuffled set whose last batch is smaller."""
    fast_optimizer, clear_optimizer = OPTIMIZERS[kind]
    fast, clear = make_pair(rng, case, fast_optimizer, dtype)
    x, y = make_data(rng, case, 45, dtype)
    orders = [rng.permutation(45) for _ in range(40)]
    data = fast.prepare(x, y)
    losses = [fast.epoch(data, order, batch_size=10) for order in orders]
    expected = reference.train(
        clear,
        x,
        y,
        loss=case[3],
        optimizer=copy.copy(clear_optimizer),
        orders=orders,
        batch_size=10,
    )
    scale = np.abs(clear.parameters).max()
    np.testing.assert_allclose(fast.parameters, clear.parameters, rtol=0, atol=tolerance * scale)
    np.testing.assert_allclose(losses, expected, rtol=tolerance)


@pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(map(str, case[0])))
def test_step_is_a_batch_of_an_epoch(rng, case):
    fast, clear = make_pair(rng, case, SGD(0.1))
    again, _ = make_pair(rng, case, SGD(0.1))
    again.parameters[:] = fast.parameters
    x, y = make_data(rng, case, 12)
    before = clear.loss(x, y, case[3])
    assert fast.step(x, y) == pytest.approx(before, rel=1e-12)
    again.epoch(again.prepare(x, y), np.arange(12), batch_size=12)
    np.testing.assert_array_equal(fast.parameters, again.parameters)


@pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(map(str, case[0])))
def test_predict_and_evaluate_change_nothing(rng, case):
    fast, clear = make_pair(rng, case)
    start = fast.parameters.copy()
    x, y = make_data(rng, case, 7)
    np.testing.assert_allclose(fast.predict(x), clear.predict(x), rtol=1e-12)
    assert fast.evaluate(x, y) == pytest.approx(clear.loss(x, y, case[3]), rel=1e-12)
    np.testing.assert_array_equal(fast.parameters, start)


def test_dense_targets_and_labels_agree(rng):
    case = CASES[3]
    fast, _ = make_pair(rng, case)
    x, labels = make_data(rng, case, 9)
    assert fast.evaluate(x, labels) == fast.evaluate(x, np.eye(4)[labels])


def test_extreme_net_inputs_stay_finite(rng):
    for case in CASES[0], CASES[3]:
        fast, _ = make_pair(rng, case, SGD(1e-3), np.float32)
        fast.parameters *= 1e4
        x, y = make_data(rng, case, 8, np.float32)
        assert np.isfinite(fast.step(x, y))
        assert np.isfinite(fast.parameters).all()


def test_fit_shuffles_and_learns(rng):
    x = rng.normal(size=(200, 2)).astype(np.float32)
    labels = (x[:, 0] > x[:, 1]).astype(np.int64)
    fast = NumpyNetwork([2, 8, 2], "relu", "softmax", loss="cross_entropy", optimizer=Adam(0.02))
    fast.parameters[:] = rng.normal(scale=0.5, size=fast.parameters.size)
    losses = fast.fit(x, labels, epochs=15, batch_size=16, rng=rng)
    assert len(losses) == 15
    assert losses[-1] < 0.5 * losses[0]
    assert (fast.predict(x).argmax(axis=1) == labels).mean() > 0.95


def test_weights_and_biases_are_views_of_the_parameters():
    fast = NumpyNetwork([2, 3, 1])
    fast.weights[0][:] = 1
    fast.biases[1][:] = 2
    assert fast.parameters.tolist() == [1] * 6 + [0] * 3 + [0] * 3 + [2]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"activation": "gelu"}, "activation is 'gelu'"),
        ({"loss": "hinge"}, "loss is 'hinge'"),
        ({"loss": "cross_entropy"}, "output is 'identity'"),
        ({"output": "softmax"}, "output is 'softmax'"),
    ],
)
def test_what_it_does_not_know_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        NumpyNetwork([2, 3, 2], **arguments)
