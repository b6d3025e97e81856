"""Losses that are functions: the same results as the kernels', and what they may return."""

from __future__ import annotations

import numpy as np
import pytest

import downslope as ds


def squared_error(outputs, targets):
    """The loss "mse", row by row."""
    error = outputs - targets
    return (error**2).mean(axis=1), 2 * error / error.size


def mean_squared_error(outputs, targets):
    """The loss "mse", as one number."""
    losses, gradient = squared_error(outputs, targets)
    return losses.mean(), gradient


def make_network(**options):
    return ds.Network([3, 7, 2], **{"activation": "tanh", "dtype": "float64", "seed": 0, **options})


def make_data(rng, rows=23):
    return rng.normal(size=(rows, 3)), rng.normal(size=(rows, 2))


BOTH = pytest.mark.parametrize("function", [squared_error, mean_squared_error])


@BOTH
@pytest.mark.parametrize("output", ["identity", "sigmoid"])
def test_a_run_is_that_of_the_kernel(rng, function, output):
    x, y = make_data(rng)
    options = {"optimizer": "adam", "epochs": 3, "batch_size": 5, "validation_split": 0.2}
    own, kernel = make_network(output=output), make_network(output=output)
    got = own.fit(x, y, loss=function, **options)
    expected = kernel.fit(x, y, loss="mse", **options)
    np.testing.assert_allclose(got.loss, expected.loss, rtol=1e-12)
    np.testing.assert_allclose(got.val_loss, expected.val_loss, rtol=1e-12)
    np.testing.assert_allclose(own.parameters, kernel.parameters, rtol=1e-10)


@pytest.mark.parametrize("optimizer", [ds.SGD(0.1, clip_norm=1.0), "adam", "lbfgs"])
def test_penalties_of_the_layers_count(rng, optimizer):
    if optimizer == "lbfgs":
        pytest.importorskip("scipy")
    x, y = make_data(rng)
    layers = [
        ds.Dense(4, "tanh", l2=0.5),
        ds.Dense(3, l2=2.0, trainable=False),
        ds.Dense(2, l1=0.1),
    ]
    own, kernel = (ds.Network(3, layers, dtype="float64", seed=0) for _ in range(2))
    options = {"optimizer": optimizer, "epochs": 3, "batch_size": 5}
    got, expected = own.fit(x, y, loss=squared_error, **options), kernel.fit(x, y, **options)
    np.testing.assert_allclose(got.loss, expected.loss, rtol=1e-9)
    np.testing.assert_allclose(own.parameters, kernel.parameters, rtol=1e-7)


@pytest.mark.parametrize("sampling", ["without_replacement", "with_replacement"])
def test_weights_follow_their_rows(rng, sampling):
    x, y = make_data(rng)
    weight = rng.random(23)
    options = {"sample_weight": weight, "batch_size": 4, "sampling": sampling, "epochs": 2}
    own, kernel = make_network(), make_network()
    own.fit(x, y, loss=squared_error, **options)
    kernel.fit(x, y, loss="mse", **options)
    np.testing.assert_allclose(own.parameters, kernel.parameters, rtol=1e-10)
    got, expected = (
        own.evaluate(x, y, loss=loss, sample_weight=weight) for loss in (squared_error, "mse")
    )
    assert got == pytest.approx(expected, rel=1e-13)


@BOTH
def test_steps_by_hand(rng, function):
    x, y = make_data(rng)
    own, kernel = (ds.Trainer(make_network(), loss) for loss in (function, "mse"))
    assert own.step(x, y) == pytest.approx(kernel.step(x, y), rel=1e-13)
    assert own.compute_gradients(x, y) == pytest.approx(kernel.compute_gradients(x, y), rel=1e-13)
    np.testing.assert_allclose(own.network.gradients, kernel.network.gradients, rtol=1e-10)
    own.update()
    kernel.update()
    np.testing.assert_allclose(own.network.parameters, kernel.network.parameters, rtol=1e-12)
    assert own.steps == kernel.steps == 2


@BOTH
def test_the_function_and_its_gradient_are_checked(rng, function):
    x, y = make_data(rng, 4)
    assert ds.check_gradients(make_network(), x, y, loss=function)

    def wrong(outputs, targets):
        losses, gradient = function(outputs, targets)
        return losses, 1.01 * gradient

    assert not ds.check_gradients(make_network(), x, y, loss=wrong)


def test_targets_reach_the_function_as_they_are(rng):
    """Here with NaN where a target is unknown, and as text."""
    x, y = make_data(rng)
    y[rng.random(y.shape) < 0.3] = np.nan

    def known_only(outputs, targets):
        error = np.where(np.isnan(targets), 0, outputs - targets)
        return (error**2).mean(), 2 * error / error.size

    history = make_network().fit(x, y, loss=known_only, optimizer=ds.SGD(0.3), epochs=30)
    assert history.loss[-1] < 0.9 * history.loss[0]

    def by_name(outputs, targets):
        assert outputs.dtype == np.float64
        return squared_error(outputs, np.where(targets == "up", 1.0, -1.0)[:, np.newaxis])

    assert make_network().evaluate(x, np.array(["up", "down"] * 11 + ["up"]), loss=by_name) > 0


def test_a_contrastive_loss_of_the_whole_batch(rng):
    """Not a sum over rows: outputs of opposite rows are to be far apart, here by variance."""

    def minus_variance(outputs, targets):
        centred = outputs - outputs.mean(axis=0)
        return -(centred**2).mean(), -2 * centred / centred.size

    x = rng.normal(size=(40, 3))
    net = make_network(output="tanh")
    assert ds.check_gradients(net, x[:5], x[:5], loss=minus_variance)
    before = net.predict(x).var(axis=0).mean()
    net.fit(x, np.zeros(40), loss=minus_variance, optimizer=ds.SGD(0.5), epochs=20, batch_size=None)
    assert net.predict(x).var(axis=0).mean() > 2 * before


class SaveAtStep7(ds.Callback):
    def __init__(self, path):
        self.path = path

    def next_pause(self):
        return 0.0

    def on_pause(self, trainer):
        if trainer.steps == 7:
            trainer.save(self.path)


def test_a_run_resumed_within_an_epoch(rng, tmp_path):
    """The same bits; the function is recognised by its name."""
    x, y = make_data(rng)
    path = tmp_path / "checkpoint"
    whole, resumed = (ds.Trainer(make_network(), squared_error, "adam") for _ in range(2))
    history = whole.fit(x, y, batch_size=5, epochs=3, callbacks=[SaveAtStep7(path)])
    resumed.resume(path)
    assert resumed.steps == 7
    assert resumed.fit(x, y, batch_size=5, epochs=3).loss == history.loss
    np.testing.assert_array_equal(resumed.network.parameters, whole.network.parameters)
    with pytest.raises(ValueError, match="loss"):
        ds.Trainer(make_network(), mean_squared_error, "adam").resume(path)


def shaped(losses, gradient):
    return lambda outputs, targets: (np.zeros(losses), np.zeros(gradient))


RETURNED = {
    "a number": (lambda outputs, targets: 0.0, TypeError, r"a tuple \(losses, gradient\); got flo"),
    "a list": (lambda outputs, targets: [0.0, outputs], TypeError, "a tuple .*; got list"),
    "three": (lambda outputs, targets: (0.0, 0.0, 0.0), TypeError, "a tuple"),
    "losses of another length": (shaped(22, (23, 2)), ValueError, r"losses of shape \(23,\)"),
    "losses by output": (
        shaped((23, 2), (23, 2)),
        ValueError,
        r"losses of .*; got shape \(23, 2\)",
    ),
    "text": (lambda outputs, targets: ("low", outputs), TypeError, "must return numbers"),
    "a gradient by row": (shaped(23, 23), ValueError, r"outputs' shape \(23, 2\); got \(23,\)"),
}


@pytest.mark.parametrize("returned", RETURNED)
def test_what_a_function_may_not_return(rng, returned):
    function, error, message = RETURNED[returned]
    x, y = make_data(rng)
    net = make_network()
    before = net.parameters.copy()
    for call in (
        lambda: net.fit(x, y, loss=function),
        lambda: net.evaluate(x, y, loss=function),
        lambda: ds.Trainer(net, function).step(x, y),
    ):
        with pytest.raises(error, match=message):
            call()
    np.testing.assert_array_equal(net.parameters, before)


def test_weights_need_the_losses_of_the_rows(rng):
    x, y = make_data(rng)
    with pytest.raises(ValueError, match="sample_weight needs the loss of each row"):
        make_network().fit(x, y, loss=mean_squared_error, sample_weight=np.ones(23))


def test_as_many_targets_as_rows(rng):
    x, y = make_data(rng)
    with pytest.raises(ValueError, match=r"as many rows; got 23 and \(22, 2\)"):
        make_network().fit(x, y[:22], loss=squared_error)


def test_a_loss_that_is_not_finite_ends_the_run(rng):
    x, y = make_data(rng)
    calls = []

    def fails_late(outputs, targets):
        calls.append(len(outputs))
        losses, gradient = squared_error(outputs, targets)
        return (losses if len(calls) < 3 else losses * np.nan), gradient

    trainer = ds.Trainer(make_network(), fails_late)
    with pytest.raises(FloatingPointError, match="before the update of step 3"):
        trainer.fit(x, y, batch_size=10)
    assert calls == [10, 10, 3]
    assert trainer.steps == 2
    assert np.isfinite(trainer.network.parameters).all()
