"""Training: what a step, a batch, an epoch and a run are; samples, weights, validation, failure."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import downslope as ds
import numpy_reference as reference

DTYPES = ["float32", "float64"]

OPTIMIZERS = {
    "sgd": ds.SGD(0.05),
    "momentum": ds.SGD(0.05, momentum=0.8),
    "nesterov": ds.SGD(0.05, momentum=0.8, nesterov=True),
    "adam": ds.Adam(0.01),
}


def make_network(dtype="float32", widths=(3, 8, 2), **options):
    return ds.Network(list(widths), **{"activation": "tanh", "dtype": dtype, "seed": 0, **options})


def make_data(rng, rows, network=None):
    inputs, outputs = (network.inputs, network.outputs) if network else (3, 2)
    return rng.normal(size=(rows, inputs)), rng.normal(size=(rows, outputs))


def assert_same_parameters(*networks):
    for network in networks[1:]:
        np.testing.assert_array_equal(network.parameters, networks[0].parameters)


# ---- A step ----


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rows", [1, 7, 300])
def test_a_step_is_its_gradients_and_an_update(rng, optimizer, dtype, rows):
    """To the bit, though a step makes the update on the way and keeps no gradients."""
    whole, parts = (ds.Trainer(make_network(dtype), "mse", OPTIMIZERS[optimizer]) for _ in "ab")
    for _ in range(5):
        x, t = make_data(rng, rows)
        assert whole.step(x, t) == parts.compute_gradients(x, t)
        parts.update()
        assert_same_parameters(whole.network, parts.network)
    np.testing.assert_array_equal(whole.state, parts.state)
    assert whole.steps == parts.steps == 5


@pytest.mark.parametrize("bias", [{}, {"shared_bias": True}, {"use_bias": False}], ids=str)
def test_a_step_of_more_rows_than_a_block(rng, bias):
    """5000 rows go through in two blocks; the gradient is that of all of them."""
    network = make_network("float64", **bias)
    oracle = reference.Network.copy_of(network)
    x, t = make_data(rng, 5000)
    expected = oracle.parameters - 0.1 * oracle.gradient(x, t, "mse")
    loss = ds.Trainer(network, "mse", ds.SGD(0.1)).step(x, t)
    assert loss == pytest.approx(oracle.loss(x, t, "mse"), rel=1e-12)
    np.testing.assert_allclose(network.parameters, expected, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_steps_by_hand_are_fit(rng, optimizer, dtype):
    x, t = make_data(rng, 25)
    by_fit, by_hand = (ds.Trainer(make_network(dtype), "mse", OPTIMIZERS[optimizer]) for _ in "ab")
    history = by_fit.fit(x, t, epochs=3, batch_size=10, shuffle=False)
    for epoch in range(3):
        losses = [
            by_hand.step(x[rows], t[rows]) * len(x[rows])
            for rows in (slice(0, 10), slice(10, 20), slice(20, 25))
        ]
        assert history.loss[epoch] == pytest.approx(sum(losses) / 25, rel=1e-13)
    assert_same_parameters(by_fit.network, by_hand.network)
    np.testing.assert_array_equal(by_fit.state, by_hand.state)
    assert by_fit.steps == by_hand.steps == 9


def test_a_step_returns_the_loss_before_it(rng):
    network = make_network()
    x, t = make_data(rng, 9)
    before = network.evaluate(x, t)
    assert ds.Trainer(network).step(x, t) == before
    assert network.evaluate(x, t) < before


def test_gradients_of_shards_can_be_averaged(rng):
    """As several machines would do it."""
    whole, sharded = (ds.Trainer(make_network("float64"), optimizer="adam") for _ in "ab")
    x, t = make_data(rng, 12)
    whole.step(x, t)
    total = np.zeros_like(sharded.network.gradients)
    for rows in (slice(0, 4), slice(4, 12)):
        sharded.compute_gradients(x[rows], t[rows])
        total += sharded.network.gradients * len(x[rows]) / 12
    sharded.network.gradients[:] = total
    sharded.update()
    np.testing.assert_allclose(
        sharded.network.parameters, whole.network.parameters, rtol=1e-7, atol=1e-9
    )


def test_forward_backward_update_is_a_step(rng):
    whole, parts = (ds.Trainer(make_network("float64"), "mse", ds.SGD(0.1)) for _ in "ab")
    x, t = make_data(rng, 8)
    whole.step(x, t)
    y = parts.network.forward(x)
    parts.network.backward(2 * (y - t) / t.size)
    parts.update()
    np.testing.assert_allclose(parts.network.parameters, whole.network.parameters, rtol=1e-13)


# ---- The optimiser's state and learning rate ----


@pytest.mark.parametrize(("optimizer", "states"), [("sgd", 0), ("momentum", 1), ("adam", 2)])
@pytest.mark.parametrize("dtype", DTYPES)
def test_layout_of_the_state(rng, optimizer, states, dtype):
    trainer = ds.Trainer(make_network(dtype), "mse", OPTIMIZERS[optimizer])
    assert trainer.state.shape == (states, trainer.network.parameters.size)
    assert trainer.state.dtype == dtype
    assert not trainer.state.any()
    trainer.compute_gradients(*make_data(rng, 4))
    trainer.update()
    g = trainer.network.gradients
    expected = {"sgd": [], "momentum": [g], "adam": [0.1 * g, 0.001 * g * g]}[optimizer]
    for state, value in zip(trainer.state, expected, strict=True):
        np.testing.assert_allclose(state, value, rtol=1e-5, atol=1e-12)


def test_the_state_can_be_written(rng):
    """Zeroed, momentum starts anew."""
    x, t = make_data(rng, 4)
    trainer = ds.Trainer(make_network(), optimizer=OPTIMIZERS["momentum"])
    trainer.step(x, t)
    fresh = ds.Trainer(copy.deepcopy(trainer.network), optimizer=OPTIMIZERS["momentum"])
    trainer.state[:] = 0
    trainer.step(x, t)
    fresh.step(x, t)
    assert_same_parameters(trainer.network, fresh.network)


def test_the_learning_rate_can_be_set(rng):
    x, t = make_data(rng, 4)
    changed, plain = (ds.Trainer(make_network(), optimizer=ds.SGD(rate)) for rate in (0.5, 0.125))
    assert changed.learning_rate == 0.5
    changed.learning_rate = 0.125
    assert changed.learning_rate == 0.125
    for trainer in (changed, plain):
        trainer.step(x, t)
    assert_same_parameters(changed.network, plain.network)
    changed.learning_rate = 0
    before = changed.network.parameters.copy()
    changed.step(x, t)
    np.testing.assert_array_equal(changed.network.parameters, before)


def test_optimizers_are_compared_by_value_and_never_change():
    assert repr(ds.SGD(0.1)) == "SGD(learning_rate=0.1, momentum=0.0, nesterov=False)"
    assert ds.Adam(0.01, beta_1=0.8, beta_2=0.9, epsilon=1e-4) == ds.Adam(
        learning_rate=0.01, beta_1=0.8, beta_2=0.9, epsilon=1e-4
    )
    with pytest.raises(AttributeError):
        ds.SGD().learning_rate = 1


# ---- Batches and epochs ----


@pytest.mark.parametrize("size", [20, 21, 1000, np.int64(20)])
def test_a_batch_of_all_rows(rng, size):
    x, t = make_data(rng, 20)
    full, sized = make_network(), make_network()
    trainer = ds.Trainer(full)
    first = trainer.fit(x, t, epochs=2, batch_size=None, shuffle=False)
    assert trainer.steps == 2
    assert sized.fit(x, t, epochs=2, batch_size=size, shuffle=False).loss == first.loss
    assert_same_parameters(full, sized)


@pytest.mark.parametrize(("size", "steps"), [(1, 20), (3, 7), (10, 2), (None, 1), (32, 1)])
@pytest.mark.parametrize("sampling", ["without_replacement", "with_replacement"])
def test_steps_of_an_epoch(rng, size, steps, sampling):
    trainer = ds.Trainer(make_network())
    trainer.fit(*make_data(rng, 20), batch_size=size, sampling=sampling)
    assert (trainer.steps, trainer.epoch) == (steps, 1)


def test_a_partial_batch_is_a_mean_over_its_own_rows():
    """y = b, t = 1 and no weights at work: each step halves the distance, the last one too."""
    network = ds.Network([1, 1], weights="zeros", dtype="float64")
    trainer = ds.Trainer(network, "half_squared_error", ds.SGD(0.5))
    history = trainer.fit(np.zeros((5, 1)), np.ones(5), batch_size=2)
    assert network.layers[0].bias == 1 - 0.5**3
    assert history.loss == [(0.5 * 2 + 0.125 * 2 + 0.03125 * 1) / 5]


@given(
    rows=st.integers(1, 40),
    size=st.one_of(st.none(), st.integers(1, 50)),
    epochs=st.integers(1, 3),
    seed=st.integers(0, 2**32),
)
@settings(deadline=None, max_examples=50)
def test_any_batch_size_is_steps_over_slices(rows, size, epochs, seed):
    x, t = make_data(np.random.default_rng(seed), rows)
    by_fit, by_hand = (ds.Trainer(make_network(), optimizer="adam") for _ in "ab")
    by_fit.fit(x, t, epochs=epochs, batch_size=size, shuffle=False)
    for _ in range(epochs):
        for first in range(0, rows, size or rows):
            chosen = slice(first, first + (size or rows))
            by_hand.step(x[chosen], t[chosen])
    assert_same_parameters(by_fit.network, by_hand.network)


def test_runs_go_on_where_the_last_one_ended(rng):
    """Two epochs and three are five: the optimiser's state and the order of rows go on."""
    x, t = make_data(rng, 20)
    once, twice = (ds.Trainer(make_network(), optimizer="adam") for _ in "ab")
    whole = once.fit(x, t, epochs=5, batch_size=6)
    first = twice.fit(x, t, epochs=2, batch_size=6)
    second = twice.fit(x, t, epochs=3, batch_size=6)
    assert_same_parameters(once.network, twice.network)
    assert first.loss + second.loss == whole.loss
    assert twice.history is second
    assert (once.epoch, twice.epoch, twice.steps) == (5, 5, 20)


def test_fit_of_a_network_begins_anew(rng):
    """Its optimiser's state and its count of epochs are of that run alone."""
    x, t = make_data(rng, 20)
    network, other = make_network(), make_network()
    for _ in range(2):
        network.fit(x, t, optimizer="adam", batch_size=6)
        ds.Trainer(other, optimizer="adam").fit(x, t, batch_size=6)
    assert_same_parameters(network, other)


# ---- Which rows are drawn: a network that counts them ----


def row_counter(rows, seed=0):
    """Trained by single rows, weight i says how often row i of the identity matrix was met."""
    network = ds.Network([rows, 1], weights="zeros", use_bias=False, dtype="float64", seed=seed)
    return ds.Trainer(network, "half_squared_error", ds.SGD(0.01))


def count_rows(trainer, **options):
    """Each visit takes a weight from w to w + 0.01 (1 - w), that is, 1 - w to 0.99 (1 - w)."""
    rows = trainer.network.inputs
    trainer.fit(np.eye(rows), np.ones(rows), batch_size=1, **options)
    counts = np.log1p(-trainer.network.parameters) / np.log(0.99)
    np.testing.assert_allclose(counts, counts.round(), atol=1e-6)
    return counts.round().astype(int)


@pytest.mark.parametrize("shuffle", [True, False])
def test_without_replacement_each_row_is_met_once_an_epoch(shuffle):
    assert (count_rows(row_counter(37), epochs=4, shuffle=shuffle) == 4).all()


def test_with_replacement_rows_are_drawn_uniformly():
    rows, epochs = 50, 40
    counts = count_rows(row_counter(rows), epochs=epochs, sampling="with_replacement")
    assert counts.sum() == rows * epochs
    # Chi squared with 49 degrees of freedom: below 24 or above 86 once in a thousand.
    assert 24 < ((counts - epochs) ** 2 / epochs).sum() < 86


def test_with_replacement_the_seed_decides():
    draw = {"epochs": 3, "sampling": "with_replacement"}
    first, again, other = (count_rows(row_counter(30, seed), **draw) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_with_replacement_epochs_differ():
    trainer = row_counter(30)
    first = count_rows(trainer, sampling="with_replacement")
    both = count_rows(trainer, sampling="with_replacement")
    assert (both - first != first).any()


@pytest.mark.parametrize("sampling", ["without_replacement", "with_replacement"])
def test_the_order_is_a_function_of_seed_and_epoch(rng, sampling):
    x, t = make_data(rng, 30)

    def losses(seed):
        network = make_network(seed=seed)
        network.parameters[:] = 0.1
        return network.fit(x, t, epochs=2, batch_size=4, sampling=sampling).loss

    assert losses(1) == losses(1)
    assert losses(1) != losses(2)


def test_shuffled_epochs_differ(rng):
    """With a learning rate so small that only the order could show, and momentum to show it."""
    x, t = make_data(rng, 30)

    def velocity_after(first_epoch):
        trainer = ds.Trainer(make_network(), optimizer=ds.SGD(1e-30, momentum=0.5))
        if first_epoch:
            trainer.fit(x, t, epochs=first_epoch, batch_size=1)
            trainer.state[:] = 0
        trainer.fit(x, t, batch_size=1)
        return trainer.state.copy()

    assert (velocity_after(0) == velocity_after(0)).all()
    assert (velocity_after(0) != velocity_after(1)).any()


# ---- Sample weights ----


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_weights_of_one_change_nothing(rng, optimizer):
    x, t = make_data(rng, 20)
    plain, weighted = make_network(), make_network()
    options = {"optimizer": OPTIMIZERS[optimizer], "epochs": 2, "batch_size": 6}
    first = plain.fit(x, t, **options)
    assert weighted.fit(x, t, sample_weight=np.ones(20), **options).loss == first.loss
    assert_same_parameters(plain, weighted)


@pytest.mark.parametrize(
    ("loss", "output"), [("mse", "identity"), ("binary_cross_entropy", "sigmoid")]
)
def test_whole_weights_are_repeated_rows(rng, loss, output):
    """But for the mean, which is over 10 rows or over as many as there are repeated."""
    x, t = rng.normal(size=(10, 3)), rng.random((10, 2))
    weight = np.array([0, 1, 2, 3, 0, 1, 1, 5, 2, 0])
    rows = np.repeat(np.arange(10), weight)
    weighted, repeated = (
        ds.Trainer(make_network("float64", output=output), loss, ds.SGD(rate))
        for rate in (0.1, 0.1 * len(rows) / 10)
    )
    a = weighted.fit(x, t, sample_weight=weight, epochs=20, batch_size=None)
    b = repeated.fit(x[rows], t[rows], epochs=20, batch_size=None)
    np.testing.assert_allclose(
        weighted.network.parameters, repeated.network.parameters, rtol=1e-11, atol=1e-13
    )
    np.testing.assert_allclose(np.multiply(a.loss, 10), np.multiply(b.loss, len(rows)), rtol=1e-12)


def test_weights_of_zero_drop_rows(rng):
    x, t = make_data(rng, 10)
    weight = np.arange(10) % 2
    x[::2], t[::2] = 1e15, -1e15  # would be seen if they counted
    trainer = ds.Trainer(make_network("float64"))
    loss = trainer.compute_gradients(x, t, sample_weight=weight)
    weighted = trainer.network.gradients.copy()
    assert loss == pytest.approx(trainer.compute_gradients(x[1::2], t[1::2]) / 2, rel=1e-13)
    np.testing.assert_allclose(weighted, trainer.network.gradients / 2, rtol=1e-12, atol=1e-15)


def test_weights_follow_their_rows_through_the_shuffle():
    """Rows of weight zero are never learnt, the others as often as they are met."""
    trainer = row_counter(30)
    weight = (np.arange(30) % 3 == 0).astype(float)
    counts = count_rows(trainer, epochs=3, sample_weight=weight)
    np.testing.assert_array_equal(counts, 3 * weight)


@pytest.mark.parametrize("method", ["step", "partial_fit"])
def test_weights_of_single_steps(rng, method):
    """One batch: the gradients with these weights, and an update."""
    x, t = make_data(rng, 10)
    weight = rng.random(10)
    whole, parts = (ds.Trainer(make_network(), optimizer="adam") for _ in "ab")
    getattr(whole, method)(x, t, sample_weight=weight)
    parts.compute_gradients(x, t, sample_weight=weight)
    parts.update()
    assert_same_parameters(whole.network, parts.network)


def test_weights_and_the_losses_of_a_run(rng):
    x, t = make_data(rng, 10)
    weight = rng.random(10)
    trainer = ds.Trainer(make_network("float64"), optimizer=ds.SGD(1e-300))
    history = trainer.fit(x, t, sample_weight=weight, batch_size=3)
    row_losses = ((trainer.network.predict(x) - t) ** 2).mean(axis=1)
    assert history.loss[0] == pytest.approx((weight * row_losses).sum() / 10, rel=1e-13)


# ---- Validation ----


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("container", [tuple, list])
def test_validation_data(rng, weighted, container):
    network = make_network()
    x_val, t_val = make_data(rng, 7)
    weight = rng.random(7) if weighted else None
    parts = [x_val, t_val, *([weight] if weighted else [])]
    history = network.fit(*make_data(rng, 20), epochs=3, validation_data=container(parts))
    assert len(history.val_loss) == 3
    assert history.val_loss[-1] == network.evaluate(x_val, t_val, sample_weight=weight)


def test_validation_does_not_change_the_training(rng):
    x, t = make_data(rng, 20)
    plain, validated = make_network(), make_network()
    first = plain.fit(x, t, epochs=2)
    second = validated.fit(x, t, epochs=2, validation_data=make_data(rng, 5))
    assert_same_parameters(plain, validated)
    assert (first.loss, first.val_loss) == (second.loss, [])


@pytest.mark.parametrize(
    ("rows", "fraction", "held_out"), [(40, 0.25, 10), (40, 0.98, 39), (3, 0.4, 1)]
)
@pytest.mark.parametrize("shuffle", [True, False])
def test_validation_split(rows, fraction, held_out, shuffle):
    """The split is the seed's; the rows held out are never trained on, the others always."""
    options = {"validation_split": fraction, "shuffle": shuffle, "epochs": 3}
    trainer = row_counter(rows, seed=1)
    counts = count_rows(trainer, **options)
    assert (counts == 0).sum() == held_out
    assert set(counts) == {0, 3}
    # Rows that are not trained on stay at a loss of 0.5.
    assert trainer.history.val_loss == [0.5] * 3
    np.testing.assert_array_equal(counts, count_rows(row_counter(rows, seed=1), **options))


def test_validation_split_by_seed_and_with_replacement():
    first, other = (count_rows(row_counter(40, seed), validation_split=0.5) == 0 for seed in (1, 2))
    assert (first != other).any()
    options = {"validation_split": 0.5, "sampling": "with_replacement", "epochs": 20}
    counts = count_rows(row_counter(40, seed=1), **options)
    np.testing.assert_array_equal(counts == 0, first)
    assert counts.sum() == 20 * 20


def test_validation_split_takes_targets_and_weights_along(rng):
    x, t, weight = *make_data(rng, 40), rng.random(40)
    network, marked = make_network(), row_counter(40, seed=0)
    held_out = count_rows(marked, validation_split=0.25) == 0
    history = network.fit(x, t, sample_weight=weight, validation_split=0.25, epochs=2)
    assert history.val_loss[-1] == network.evaluate(
        x[held_out], t[held_out], sample_weight=weight[held_out]
    )


def test_validation_split_of_labels_and_of_a_single_column(rng):
    network = ds.Network([1, 3], output="softmax", seed=0)
    x, labels = rng.normal(size=(40, 3))[::2, 1], rng.integers(0, 3, 20)
    held_out = count_rows(row_counter(20, seed=0), validation_split=0.25) == 0
    history = network.fit(x, labels, loss="cross_entropy", validation_split=0.25)
    assert history.val_loss[0] == network.evaluate(
        x[held_out], labels[held_out], loss="cross_entropy"
    )


# ---- History ----


def test_history(rng):
    history = make_network().fit(*make_data(rng, 20), epochs=4, validation_split=0.2)
    assert history.epochs == len(history.loss) == len(history.val_loss) == 4
    assert {type(value) for value in history.loss + history.val_loss} == {float}
    assert history.best_epoch == int(np.argmin(history.val_loss))
    assert history.seconds > 0
    assert repr(history) == (
        f"History(epochs=4, loss={history.loss[-1]:.6g}, val_loss={history.val_loss[-1]:.6g}, "
        f"best_epoch={history.best_epoch})"
    )


def test_best_epoch():
    assert ds.History().best_epoch is None
    assert ds.History(loss=[3.0, 1.0, 1.0, 2.0]).best_epoch == 1
    assert ds.History(loss=[3.0, 2.0, 1.0], val_loss=[2.0, 1.0, 4.0]).best_epoch == 1
    assert ds.History(loss=[math.nan, 1.0, 0.5]).best_epoch == 2
    assert ds.History(loss=[1.0], val_loss=[math.nan]).best_epoch is None


def test_the_loss_of_an_epoch_is_of_its_rows_as_they_were_met(rng):
    x, t = make_data(rng, 6)
    trainer = ds.Trainer(make_network("float64"), optimizer=ds.SGD(0.3))
    copied = ds.Trainer(copy.deepcopy(trainer.network), optimizer=ds.SGD(0.3))
    history = trainer.fit(x, t, batch_size=2, shuffle=False)
    losses = [copied.step(x[i : i + 2], t[i : i + 2]) for i in (0, 2, 4)]
    assert history.loss[0] == pytest.approx(np.mean(losses), rel=1e-14)
    assert history.loss[0] != pytest.approx(trainer.network.evaluate(x, t), rel=1e-3)


# ---- Divergence ----


def diverging(optimizer, dtype="float32", scale=1.0):
    trainer = ds.Trainer(make_network(dtype), "mse", optimizer)
    rng = np.random.default_rng(3)
    return trainer, rng.normal(size=(64, 3)), scale * rng.normal(size=(64, 2))


DIVERGING = {
    "sgd": (ds.SGD(1e20), "float32", 1),
    "momentum": (ds.SGD(1e20, momentum=0.9), "float32", 1),
    "nesterov": (ds.SGD(1e25, momentum=0.9, nesterov=True), "float32", 1),
    "adam": (ds.Adam(1e30), "float32", 1),
    "sgd in float64": (ds.SGD(1e200), "float64", 1),
    "adam in float64": (ds.Adam(1e200), "float64", 1),
    "sgd, a parameter first": (ds.SGD(1e38), "float32", 1e4),
    "adam, a parameter first": (ds.Adam(3.4e38, beta_1=0.0), "float32", 1e4),
    "slowly": (ds.SGD(3.0), "float32", 1),
}


@pytest.mark.parametrize("case", DIVERGING)
@pytest.mark.parametrize("batch_size", [1, 16, None])
def test_divergence_leaves_finite_parameters(case, batch_size):
    trainer, x, t = diverging(*DIVERGING[case])
    trainer.network.parameters[:] *= 3
    if case == "slowly":
        trainer.network.layers[0].weights[:] *= 0.01
        t = 100 * t
    with pytest.raises(FloatingPointError, match=r"step \d+: the descent diverges.*[Ll]ower the"):
        trainer.fit(x, t, epochs=3000, batch_size=batch_size)
    assert np.isfinite(trainer.network.parameters).all()
    assert trainer.interrupted
    assert trainer.history.epochs == trainer.epoch


def test_a_loss_that_is_not_finite_ends_the_run_before_its_update():
    """A run and single steps: the same parameters, and the number of the step that failed."""
    trainer, x, t = diverging(ds.SGD(1e20))
    copied = ds.Trainer(copy.deepcopy(trainer.network), optimizer=ds.SGD(1e20))
    with pytest.raises(FloatingPointError, match="the loss stopped being finite") as caught:
        trainer.fit(x, t, epochs=10, batch_size=8, shuffle=False)
    assert f"step {trainer.steps + 1}:" in str(caught.value)
    for step in range(trainer.steps):
        rows = slice(step % 8 * 8, step % 8 * 8 + 8)
        copied.step(x[rows], t[rows])
    assert_same_parameters(trainer.network, copied.network)
    rows = slice(trainer.steps % 8 * 8, trainer.steps % 8 * 8 + 8)
    with pytest.raises(FloatingPointError):
        copied.step(x[rows], t[rows])
    assert_same_parameters(trainer.network, copied.network)


def test_a_parameter_that_would_overflow_keeps_its_value():
    network = ds.Network([2, 1], weights="zeros", use_bias=False)
    trainer = ds.Trainer(network, "half_squared_error", ds.SGD(1e30))
    with pytest.raises(FloatingPointError, match="a new parameter would not be finite in step 1"):
        trainer.step([[1.0, 1e-10]], [1e10])
    np.testing.assert_array_equal(network.parameters, np.float32([0, 1e30]))


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_gradients_that_are_not_finite(optimizer, bad):
    trainer = ds.Trainer(make_network(), optimizer=OPTIMIZERS[optimizer])
    trainer.network.gradients[:] = 0.5
    trainer.network.gradients[3] = bad
    before = trainer.network.parameters[3]
    with pytest.raises(FloatingPointError, match="a new parameter would not be finite"):
        trainer.update()
    assert np.isfinite(trainer.network.parameters).all()
    assert trainer.network.parameters[3] == before


@pytest.mark.parametrize("batch_size", [1, 16, None])
def test_a_divergence_as_a_warning(batch_size):
    """The same end, the same parameters and history as with the error; callbacks see no failure."""
    trainers = [diverging(ds.SGD(1e20))[0] for _ in range(2)]
    _, x, t = diverging(ds.SGD(1e20))
    with pytest.raises(FloatingPointError) as caught:
        trainers[0].fit(x, t, epochs=3000, batch_size=batch_size)
    with pytest.warns(RuntimeWarning, match="the descent diverges") as warned:
        history = trainers[1].fit(x, t, epochs=3000, batch_size=batch_size, on_divergence="warn")
    assert [str(warning.message) for warning in warned] == [str(caught.value)]
    assert history.loss == trainers[0].history.loss
    assert [trainer.interrupted for trainer in trainers] == [True, False]
    assert np.isfinite(trainers[1].network.parameters).all()
    assert_same_parameters(*(trainer.network for trainer in trainers))


def test_a_divergence_of_another_kind_is_no_divergence():
    """What a callback raises is never turned into a warning."""

    class Fails(ds.Callback):
        def on_epoch_end(self, trainer, epoch, logs):
            raise FloatingPointError("of its own")

    trainer, x, t = diverging(ds.SGD(0.01))
    with pytest.raises(FloatingPointError, match="of its own"):
        trainer.fit(x, t, on_divergence="warn", callbacks=[Fails()])


def test_divergence_by_fit_of_a_network():
    _, x, t = diverging(ds.SGD(1e20))
    with pytest.warns(RuntimeWarning, match="the descent diverges"):
        make_network().fit(x, t, optimizer=ds.SGD(1e20), epochs=9, on_divergence="warn")


def test_training_goes_on_after_a_divergence():
    trainer, x, t = diverging(ds.SGD(1e20))
    start = trainer.network.parameters.copy()
    with pytest.raises(FloatingPointError):
        trainer.fit(x, t, epochs=10)
    trainer.network.parameters = start
    trainer.learning_rate = 0.05
    history = trainer.fit(x, t, epochs=10)
    assert history.loss[-1] < history.loss[0]
    assert not trainer.interrupted


# ---- Whole problems ----


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("output", ["sigmoid", "softmax"])
def test_exclusive_or(dtype, output):
    x = [[0, 0], [0, 1], [1, 0], [1, 1]]
    truth = np.array([0, 1, 1, 0])
    units, loss = (1, "binary_cross_entropy") if output == "sigmoid" else (2, "cross_entropy")
    network = ds.Network([2, 8, units], activation="tanh", output=output, dtype=dtype, seed=1)
    network.fit(x, truth, loss=loss, optimizer=ds.Adam(0.05), epochs=300, batch_size=None)
    y = network.predict(x)
    found = y[:, 0] > 0.5 if output == "sigmoid" else y.argmax(axis=1)
    np.testing.assert_array_equal(found, truth)


@pytest.mark.parametrize("optimizer", [ds.SGD(0.05), ds.SGD(0.01, momentum=0.9), ds.Adam(0.01)])
@pytest.mark.parametrize("options", [{}, {"sampling": "with_replacement", "batch_size": 1}])
def test_a_line_is_found(rng, optimizer, options):
    x = rng.normal(size=(50, 2))
    network = ds.Network([2, 1], seed=0, dtype="float64")
    network.fit(x, x @ [2.0, -1.0] + 0.5, optimizer=optimizer, epochs=300, **options)
    np.testing.assert_allclose(network.parameters, [2, -1, 0.5], atol=0.03)
