"""What stands beside an optimiser's formula: decay, penalties, clipping, frozen layers, rates of
layers, averages.  The formulas themselves: test_kernels.py, test_trajectories.py, test_peers.py."""

from __future__ import annotations

import copy
import functools
import math
import pickle
import sys

import numpy as np
import pytest

import downslope as ds
import numpy_reference as reference
import optimizer_oracles as rules
from downslope.optimizers import OPTIMIZERS as NAMES

OPTIMIZERS = {
    "sgd": ds.SGD(0.05),
    "momentum": ds.SGD(0.02, momentum=0.9),
    "nesterov": ds.SGD(0.02, momentum=0.9, nesterov=True),
    "adam": ds.Adam(0.01),
    "amsgrad": ds.Adam(0.01, amsgrad=True),
    "adamw": ds.AdamW(0.01, weight_decay=0.1),
    "nadam": ds.NAdam(0.01),
    "radam": ds.RAdam(0.01, beta_2=0.9),
    "adagrad": ds.Adagrad(0.05),
    "rmsprop": ds.RMSProp(0.001),
    "rmsprop with momentum": ds.RMSProp(0.001, momentum=0.9),
    "rmsprop, centred": ds.RMSProp(0.001, momentum=0.9, centered=True),
    "adadelta": ds.Adadelta(),
    "lion": ds.Lion(1e-3),
    "rprop": ds.Rprop(1e-3),
}
# Each of these things at once, in a network whose layers differ.
LAYERS = [
    ds.Dense(11, "tanh", l1=0.01, l2=0.02, learning_rate=0.5),
    ds.Dense(7, "relu", max_norm=0.8),
    ds.Dense(3, l2=0.1, shared_bias=True),
]


def make_data(rng, rows=40, inputs=5, outputs=3):
    return rng.normal(size=(rows, inputs)), rng.normal(size=(rows, outputs))


def make_network(layers=None, dtype="float64"):
    return ds.Network(5, LAYERS if layers is None else layers, dtype=dtype, seed=3)


def one_layer(**options):
    """A linear network with a bias, and the gradient of its mean squared error by the textbook."""
    network = ds.Network(5, [ds.Dense(3, **options)], dtype="float64", seed=1)
    network.layers[0].bias[:] = [0.5, -0.25, 0.125]
    return network


def data_gradient(network, x, y):
    weights, bias = (
        reference.Network.copy_of(network).gradient(x, y, "mse")[part]
        for part in (slice(0, 15), slice(15, 18))
    )
    return weights.reshape(5, 3), bias


# ---- Fused and kept gradients, threads ----


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_step_is_its_gradients_and_an_update(rng, optimizer, dtype):
    x, y = make_data(rng)
    whole, parts = (
        ds.Trainer(make_network(dtype=dtype), "mse", OPTIMIZERS[optimizer]) for _ in "ab"
    )
    for _ in range(12):
        assert whole.step(x, y) == parts.compute_gradients(x, y)
        parts.update()
    np.testing.assert_array_equal(whole.network.parameters, parts.network.parameters)
    np.testing.assert_array_equal(whole.state, parts.state)


def test_a_step_of_wide_layers_is_its_gradients_and_an_update(rng, dtype):
    """Wider than the parts in which a gradient is used up."""
    x, y = rng.normal(size=(30, 20)), rng.normal(size=(30, 2))
    whole, parts = (
        ds.Trainer(ds.Network([20, 2100, 2], dtype=dtype, seed=1), "mse", ds.Adam()) for _ in "ab"
    )
    assert whole.step(x, y) == parts.compute_gradients(x, y)
    parts.update()
    np.testing.assert_array_equal(whole.network.parameters, parts.network.parameters)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"l1": 0.1},
        {"l2": 0.1, "use_bias": False},
        {"max_norm": 0.5},
        {"learning_rate": 0.3},
        {"trainable": False},
    ],
    ids=repr,
)
def test_the_short_way_of_one_row_is_the_long_one(rng, optimizer, options):
    x, y = make_data(rng, 12, 3, 2)
    layers = [ds.Dense(5, "gelu", **options), ds.Dense(2, "tanh", use_bias=False)]
    short, long = (
        ds.Trainer(ds.Network(3, layers, seed=1), "mse", OPTIMIZERS[optimizer]) for _ in "ab"
    )
    for row in range(len(x)):
        one = slice(row, row + 1)
        assert short.step(x[one], y[one]) == long.compute_gradients(x[one], y[one])
        long.update()
    np.testing.assert_array_equal(short.network.parameters, long.network.parameters)
    np.testing.assert_array_equal(short.state, long.state)


@pytest.mark.parametrize("optimizer", ["adamw", "rmsprop, centred", "rprop"])
def test_threads_do_not_show(rng, optimizer):
    x, y = make_data(rng, 300, 60, 40)
    layers = [ds.Dense(90, "relu", l2=0.1, learning_rate=0.5), ds.Dense(40, l1=0.1, max_norm=1.0)]
    runs = []
    for threads in (1, 3):
        network = ds.Network(60, layers, seed=2)
        losses = network.fit(
            x, y, optimizer=OPTIMIZERS[optimizer], epochs=3, batch_size=150, threads=threads
        ).loss
        runs.append([network.parameters, np.array(losses)])
    for one, other in zip(*runs, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("name", ["lion", "rprop"])
def test_steps_by_sign_follow_the_oracle(rng, name):
    """The whole data at once: the signs are not those of chance."""
    x, y = make_data(rng)
    network = make_network([ds.Dense(9, "tanh"), ds.Dense(3)])
    oracle, step = reference.Network.copy_of(network), 1e-3
    optimizers = {
        "lion": (ds.Lion(step), rules.Lion(step)),
        "rprop": (ds.Rprop(step), rules.Rprop(step)),
    }
    own, theirs = optimizers[name]
    losses = network.fit(x, y, optimizer=own, batch_size=None, epochs=100).loss
    expected = reference.train(
        oracle, x, y, loss="mse", optimizer=theirs, batch_size=40, orders=[np.arange(40)] * 100
    )
    np.testing.assert_allclose(losses, expected, rtol=1e-9)
    np.testing.assert_allclose(network.parameters, oracle.parameters, atol=1e-9)


# ---- Decay and penalties ----


@pytest.mark.parametrize("batch_size", [10, 40])
def test_weight_decay_spares_the_biases(rng, batch_size):
    x, y = make_data(rng)
    network = one_layer()
    weights, bias = (array.copy() for array in (network.layers[0].weights, network.layers[0].bias))
    d_weights, d_bias = data_gradient(network, x, y)
    ds.Trainer(network, optimizer=ds.SGD(0.1, weight_decay=0.5)).step(x, y)
    expected = 0.95 * weights - 0.1 * d_weights
    np.testing.assert_allclose(network.layers[0].weights, expected, rtol=1e-12)
    np.testing.assert_allclose(network.layers[0].bias, bias - 0.1 * d_bias, rtol=1e-12)


@pytest.mark.parametrize("per_row", [False, True])
def test_penalties_in_loss_and_gradient(rng, per_row):
    x, y = make_data(rng)
    network = one_layer(l1=0.3, l2=0.2)
    weights = network.layers[0].weights
    weights[0, 0] = 0.0  # where |w| has its kink, it counts as flat
    d_weights, d_bias = data_gradient(network, x, y)
    share = 1 / 40 if per_row else 1
    penalty = share * (0.3 * np.abs(weights).sum() + 0.2 * (weights**2).sum())
    trainer = ds.Trainer(network)
    trainer._stepper.descent.penalties_per_row = per_row
    loss = trainer.compute_gradients(x, y)
    assert loss == pytest.approx(network.evaluate(x, y) + penalty, rel=1e-12)
    expected = d_weights + share * (0.3 * np.sign(weights) + 0.4 * weights)
    np.testing.assert_allclose(network.gradients[:15].reshape(5, 3), expected, rtol=1e-10)
    np.testing.assert_allclose(network.gradients[15:], d_bias, rtol=1e-10)


def test_penalties_are_in_the_history_and_not_in_validation(rng):
    x, y = make_data(rng)
    network = one_layer(l2=1.0)
    penalty = (network.layers[0].weights ** 2).sum()
    loss, rate = network.evaluate(x, y), 1e-300
    history = network.fit(
        x, y, optimizer=ds.SGD(rate), batch_size=7, validation_data=(x, y), shuffle=False
    )
    assert history.loss == pytest.approx([loss + penalty], rel=1e-12)
    assert history.val_loss == pytest.approx([loss], rel=1e-12)


def test_a_penalty_is_decay_for_plain_descent(rng):
    x, y = make_data(rng)
    decay, penalty = one_layer(), one_layer(l2=0.25)
    for network, optimizer in ((decay, ds.SGD(0.1, weight_decay=0.5)), (penalty, ds.SGD(0.1))):
        network.fit(x, y, optimizer=optimizer, epochs=5, batch_size=8)
    np.testing.assert_allclose(decay.parameters, penalty.parameters, rtol=1e-12)


# ---- Layers: frozen, slower, bounded ----


@pytest.mark.parametrize("frozen", [(0,), (1,), (0, 1), (2,), (0, 1, 2)])
@pytest.mark.parametrize("by_hand", [False, True])
def test_frozen_layers_do_not_change(rng, frozen, by_hand):
    x, y = make_data(rng)
    plain = [ds.Dense(11, "tanh"), ds.Dense(7, "relu", l2=0.1), ds.Dense(3)]
    layers = copy.deepcopy(plain)
    for index in frozen:
        layers[index].trainable = False
    network, free = make_network(layers), make_network(plain)
    before = [array.copy() for array in network._views()]
    trainers = [ds.Trainer(n, optimizer=ds.AdamW(0.01)) for n in (network, free)]
    for trainer in trainers:
        if by_hand:
            trainer.compute_gradients(x, y)
            trainer.update()
        else:
            trainer.step(x, y)
    for index, (old, new, other) in enumerate(
        zip(before, network._views(), free._views(), strict=True)
    ):
        np.testing.assert_array_equal(new, old if index // 2 in frozen else other)
    if by_hand:
        for layer, gradient in zip(network.layers, split(network, network.gradients), strict=True):
            assert gradient.any() == (network.layers.index(layer) not in frozen)


def split(network, flat):
    sizes = np.cumsum([layer.weights.size + layer.bias.size for layer in network.layers])
    return np.split(flat, sizes[:-1])


def test_a_frozen_layer_passes_the_gradient_on(rng):
    layers = [ds.Dense(7, "tanh", trainable=False), ds.Dense(3)]
    frozen, free = make_network(layers), make_network([ds.Dense(7, "tanh"), ds.Dense(3)])
    x, d_out = make_data(rng)
    for network in (frozen, free):
        network.forward(x)
    np.testing.assert_array_equal(frozen.backward(d_out), free.backward(d_out))
    assert not frozen.gradients[:42].any()
    np.testing.assert_array_equal(frozen.gradients[42:], free.gradients[42:])


@pytest.mark.parametrize("optimizer", [o for o in OPTIMIZERS if o != "rprop"])
def test_a_rate_of_its_own_is_a_lower_learning_rate(rng, optimizer):
    x, y = make_data(rng)
    chosen = OPTIMIZERS[optimizer]
    slow = one_layer(learning_rate=0.25)
    whole = one_layer()
    slow.fit(x, y, optimizer=chosen, epochs=3, batch_size=8)
    lower = type(chosen)(**{**chosen.__dict__, "learning_rate": 0.25 * chosen.learning_rate})
    whole.fit(x, y, optimizer=lower, epochs=3, batch_size=8)
    np.testing.assert_allclose(slow.parameters, whole.parameters, rtol=1e-12)


def test_each_layer_has_its_own_rate(rng):
    x, y = make_data(rng)
    layers = [ds.Dense(7, "tanh", learning_rate=0.5), ds.Dense(3, learning_rate=2.0)]
    network, plain = make_network(layers), make_network([ds.Dense(7, "tanh"), ds.Dense(3)])
    before = network.parameters.copy()
    for each in (network, plain):
        ds.Trainer(each, optimizer=ds.SGD(0.1)).step(x, y)
    change, expected = network.parameters - before, plain.parameters - before
    np.testing.assert_allclose(change[:42], 0.5 * expected[:42], rtol=1e-9)
    np.testing.assert_allclose(change[42:], 2.0 * expected[42:], rtol=1e-9)


@pytest.mark.parametrize("clip", [{}, {"clip_norm": 1e9}])
def test_norms_stay_bounded(rng, clip, dtype):
    x, y = make_data(rng)
    network = make_network([ds.Dense(11, "tanh", max_norm=0.5), ds.Dense(3)], dtype)
    free = make_network([ds.Dense(11, "tanh"), ds.Dense(3)], dtype)
    for each in (network, free):
        ds.Trainer(each, optimizer=ds.SGD(0.5, **clip)).step(x, y)
    norms = np.linalg.norm(free.layers[0].weights, axis=0)
    expected = free.layers[0].weights * np.minimum(1, 0.5 / norms)
    tolerance = 10 * np.finfo(dtype).eps
    np.testing.assert_allclose(network.layers[0].weights, expected, rtol=tolerance)
    np.testing.assert_array_equal(network.layers[1].weights, free.layers[1].weights)


# ---- Gradients: clipped, accumulated ----


@pytest.mark.parametrize("clip", [{"clip_value": 0.05}, {"clip_norm": 0.1}, {"clip_norm": 1e9}])
def test_clipping(rng, clip, dtype):
    x, y = make_data(rng)
    network = make_network([ds.Dense(11, "tanh", l2=0.1), ds.Dense(3)], dtype)
    trainer = ds.Trainer(network, optimizer=ds.SGD(0.5, **clip))
    trainer.compute_gradients(x, y)
    g = network.gradients.astype(np.float64)
    if "clip_value" in clip:
        g = np.clip(g, -0.05, 0.05)
    else:
        g *= min(1, clip["clip_norm"] / np.linalg.norm(g))
    expected = network.parameters - 0.5 * g
    by_hand = copy.deepcopy(network)
    trainer.step(x, y)
    np.testing.assert_allclose(network.parameters, expected, atol=4 * np.finfo(dtype).eps)
    other = ds.Trainer(by_hand, optimizer=ds.SGD(0.5, **clip))
    other.compute_gradients(x, y)
    other.update()
    np.testing.assert_array_equal(by_hand.parameters, network.parameters)


def test_the_value_is_clipped_before_the_norm(rng):
    x, y = make_data(rng)
    network = one_layer()
    trainer = ds.Trainer(network, optimizer=ds.SGD(1.0, clip_value=0.01, clip_norm=0.005))
    before = network.parameters.copy()
    d = np.concatenate([part.ravel() for part in data_gradient(network, x, y)]).clip(-0.01, 0.01)
    trainer.step(x, y)
    expected = before - d * 0.005 / np.linalg.norm(d)
    np.testing.assert_allclose(network.parameters, expected, rtol=1e-12)


@pytest.mark.parametrize("bad", [np.inf, np.nan])
def test_clipping_does_not_hide_what_is_not_finite(bad):
    for clip in ({"clip_value": 1.0}, {"clip_norm": 1.0}):
        if clip == {"clip_value": 1.0} and bad == np.inf:
            continue  # into the range, as any large number
        network = one_layer()
        trainer = ds.Trainer(network, optimizer=ds.SGD(0.1, **clip))
        network.gradients[4] = bad
        with pytest.raises(FloatingPointError):
            trainer.update()


def test_accumulated_gradients_are_those_of_a_larger_batch(rng):
    x, y = make_data(rng)
    small, large = (make_network() for _ in "ab")
    for network, options in (
        (small, {"batch_size": 4, "optimizer": ds.Adam(0.01, gradient_accumulation_steps=3)}),
        (large, {"batch_size": 12, "optimizer": ds.Adam(0.01)}),
    ):
        network.fit(x, y, epochs=3, **options)
    np.testing.assert_array_equal(small.parameters, large.parameters)


# ---- The moving average ----


@pytest.mark.parametrize("overwrite", [None, 3])
def test_moving_average(rng, overwrite):
    x, y = make_data(rng)
    optimizer = ds.SGD(0.1, ema_momentum=0.75, ema_overwrite_frequency=overwrite)
    averaged, plain = (make_network([ds.Dense(3)]) for _ in "ab")
    expected = plain.parameters.copy()
    own, other = ds.Trainer(averaged, optimizer=optimizer), ds.Trainer(plain, optimizer=ds.SGD(0.1))
    for step in range(1, 9):
        own.step(x, y)
        other.step(x, y)
        expected = 0.75 * expected + 0.25 * plain.parameters
        if overwrite and step % overwrite == 0:
            plain.parameters[:] = expected
        np.testing.assert_allclose(averaged.parameters, plain.parameters, rtol=1e-12)
        np.testing.assert_allclose(own.state[-1], expected, rtol=1e-12)


def test_fit_ends_with_the_average(rng):
    x, y = make_data(rng)
    network = make_network([ds.Dense(3)])
    trainer = ds.Trainer(network, optimizer=ds.Adam(0.01, ema_momentum=0.9))
    network.parameters[:] *= 2  # the average begins with what is there at the first step
    start = network.parameters.copy()
    trainer.fit(x, y, batch_size=None)
    np.testing.assert_array_equal(network.parameters, trainer.state[-1])
    assert np.abs(network.parameters - start).max() < 0.002  # a tenth of a step


# ---- L-BFGS ----


def test_lbfgs_is_scipys_on_the_oracle(rng):
    optimize = pytest.importorskip("scipy.optimize")
    x, y = make_data(rng)
    network = make_network([ds.Dense(4, "tanh", l2=0.01), ds.Dense(3)])
    oracle = reference.Network.copy_of(network)

    def loss_and_gradient(parameters):
        oracle.parameters = parameters
        weights = oracle.layers[0].weights
        gradient = oracle.gradient(x, y, "mse")
        gradient[: weights.size] += 0.02 * weights.ravel()
        return oracle.loss(x, y, "mse") + 0.01 * (weights**2).sum(), gradient

    expected = optimize.minimize(
        loss_and_gradient, oracle.parameters, jac=True, method="L-BFGS-B", options={"maxiter": 20}
    )
    history = network.fit(x, y, optimizer="lbfgs", epochs=20)
    assert history.epochs == 20
    assert history.loss[-1] == pytest.approx(expected.fun, rel=1e-6)
    assert np.diff(history.loss).max() < 0
    np.testing.assert_allclose(network.parameters, expected.x, rtol=1e-3, atol=1e-3)


def test_lbfgs_ends_when_it_has_converged_or_is_told_to(rng):
    pytest.importorskip("scipy")
    x = rng.normal(size=(60, 5))
    y = x @ rng.normal(size=(5, 3))
    network = one_layer(trainable=True)
    trainer = ds.Trainer(network, optimizer=ds.LBFGS(gradient_tolerance=1e-9))
    history = trainer.fit(x, y, epochs=500, validation_split=0.2)
    assert history.epochs == len(history.val_loss) == trainer.steps < 100
    assert history.val_loss[-1] == pytest.approx(0, abs=1e-12)
    stop = ds.EarlyStopping("loss", patience=1, min_delta=1e9)
    network = one_layer()
    assert network.fit(x, y, optimizer="lbfgs", epochs=100, callbacks=[stop]).epochs == 2
    frozen = one_layer(trainable=False)
    before = frozen.parameters.copy()
    frozen.fit(x, y, optimizer="lbfgs", epochs=5)
    np.testing.assert_array_equal(frozen.parameters, before)


class Rate:
    def __call__(self, step):
        return 0.1


@pytest.mark.parametrize(
    ("rate", "shown"),
    [
        (math.exp, "math.exp"),
        (functools.partial(max, 0.1), "functools.partial"),
        (Rate(), f"{__name__}.Rate"),
        (Rate().__call__, f"{__name__}.Rate.__call__"),
    ],
)
def test_a_function_for_a_rate_is_shown_without_its_address(rate, shown):
    assert repr(ds.SGD(rate)) == f"SGD(learning_rate=Custom({shown}), momentum=0.0, nesterov=False)"
    assert repr(ds.schedules.Custom(rate)) == f"Custom({shown})"


def test_what_lbfgs_does_not_do(rng, monkeypatch):
    pytest.importorskip("scipy")
    x, y = make_data(rng)
    trainer = ds.Trainer(one_layer(), optimizer="lbfgs")
    with pytest.raises(TypeError, match=r"LBFGS has no use for step\(\)"):
        trainer.step(x, y)
    with pytest.raises(TypeError, match=r"LBFGS has no use for learn_one\(\)"):
        trainer.learn_one(x[0], y[0])
    with pytest.raises(TypeError, match=r"LBFGS has no use for update\(\)"):
        trainer.update()
    with pytest.raises(TypeError, match="LBFGS has no use for a learning rate"):
        trainer.learning_rate = 0.1
    with pytest.raises(ValueError, match="no learning rate to lower"):
        trainer.fit(x, y, callbacks=[ds.ReduceLROnPlateau("loss")])
    with pytest.raises(TypeError, match="LBFGS has no learning rate to look for"):
        ds.find_learning_rate(one_layer(), x, y, optimizer="lbfgs")
    with pytest.raises(ValueError, match="layer 0 has one"):
        one_layer(max_norm=1.0).fit(x, y, optimizer="lbfgs")
    with pytest.raises(ValueError, match="sampling='with_replacement' draws them"):
        trainer.fit(x, y, sampling="with_replacement")
    monkeypatch.setitem(sys.modules, "scipy.optimize", None)
    with pytest.raises(ImportError, match=r'pip install "downslope\[scipy\]"'):
        trainer.fit(x, y)


# ---- Specifications ----


@pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_optimizers_are_values(optimizer):
    assert pickle.loads(pickle.dumps(optimizer)) == optimizer
    again = eval(repr(optimizer), vars(ds))
    assert again == optimizer


def test_layers_options_are_saved(tmp_path):
    network = make_network([ds.Dense(4, trainable=False), *LAYERS])
    network.save(tmp_path / "net.safetensors")
    again = ds.load(tmp_path / "net.safetensors")
    assert [repr(layer) for layer in again._dense] == [repr(layer) for layer in network._dense]


# What the names stand for, with the defaults that the docstrings promise.
NAMED = {
    "sgd": ds.SGD(0.01),
    "adam": ds.Adam(0.001, beta_1=0.9, beta_2=0.999, epsilon=1e-8),
    "adamw": ds.AdamW(0.001, weight_decay=0.01),
    "nadam": ds.NAdam(0.002, momentum_decay=0.004),
    "radam": ds.RAdam(0.001),
    "adagrad": ds.Adagrad(0.01, initial_accumulator_value=0.0, epsilon=1e-10),
    "rmsprop": ds.RMSProp(0.01, rho=0.99, momentum=0.0, epsilon=1e-8),
    "adadelta": ds.Adadelta(1.0, rho=0.9, epsilon=1e-6),
    "lion": ds.Lion(0.0001, beta_1=0.9, beta_2=0.99),
    "rprop": ds.Rprop(0.01, eta_minus=0.5, eta_plus=1.2, min_step=1e-6, max_step=50.0),
}


def test_an_optimizer_by_its_name(rng):
    assert set(NAMED) == set(NAMES)
    x, y = make_data(rng)
    for name, optimizer in NAMED.items():
        trainer, by_object = ds.Trainer(make_network(), optimizer=name), make_network()
        assert trainer.optimizer == optimizer
        trainer.fit(x, y)
        by_object.fit(x, y, optimizer=optimizer)
        np.testing.assert_array_equal(trainer.network.parameters, by_object.parameters)


BAD = {
    "weight_decay": (lambda: ds.SGD(0.1, weight_decay=-1), "weight_decay must be"),
    "clip_value": (lambda: ds.Adam(clip_value=0), "clip_value must be"),
    "clip_norm": (lambda: ds.Adam(clip_norm=float("inf")), "clip_norm must be"),
    "accumulation": (lambda: ds.Adam(gradient_accumulation_steps=0), "must be at least 1"),
    "ema_momentum": (lambda: ds.Adam(ema_momentum=1.0), "ema_momentum must be"),
    "overwrite alone": (lambda: ds.Adam(ema_overwrite_frequency=3), "needs an ema_momentum"),
    "rho": (lambda: ds.RMSProp(rho=1.0), "rho must be"),
    "momentum_decay": (lambda: ds.NAdam(momentum_decay=0.0), "momentum_decay must be"),
    "eta_plus": (lambda: ds.Rprop(eta_plus=1.0), "eta_plus must be"),
    "steps of rprop": (lambda: ds.Rprop(min_step=2, max_step=1), "max_step must be"),
    "rprop's schedule": (lambda: ds.Rprop(lambda step: 0.1), "takes no schedule"),
    "l1": (lambda: ds.Dense(2, l1=-1.0), "l1 must be"),
    "l2": (lambda: ds.Dense(2, l2=float("nan")), "l2 must be"),
    "max_norm": (lambda: ds.Dense(2, max_norm=0.0), "max_norm must be"),
    "layer's rate": (lambda: ds.Dense(2, learning_rate=0.0), "learning_rate must be"),
}


@pytest.mark.parametrize(("make", "message"), BAD.values(), ids=BAD)
def test_bad_values(make, message):
    with pytest.raises(ValueError, match=message):
        make()
