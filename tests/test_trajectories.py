"""Whole runs of training against the oracle: 200 steps and more, parameters and losses."""

from __future__ import annotations

import copy
import itertools

import numpy as np
import pytest

import downslope as ds
import numpy_reference as reference
import optimizer_oracles as rules

# Of parameters, relative to the largest; of losses, relative to each.  Rounding errors of float32
# grow along a run, so that it can only be followed loosely.
TOLERANCES = {"float64": 1e-10, "float32": 5e-3}

OPTIMIZERS = {
    "sgd": (ds.SGD(0.05), rules.SGD(0.05)),
    "momentum": (ds.SGD(0.01, momentum=0.9), rules.SGD(0.01, 0.9)),
    "nesterov": (ds.SGD(0.01, momentum=0.9, nesterov=True), rules.SGD(0.01, 0.9, True)),
    "adam": (ds.Adam(0.01), rules.Adam(0.01)),
    "adam with its own constants": (
        ds.Adam(0.002, beta_1=0.8, beta_2=0.99, epsilon=1e-3),
        rules.Adam(0.002, 0.8, 0.99, 1e-3),
    ),
    "adam with epsilon hat": (
        ds.Adam(0.01, epsilon=1e-3, epsilon_hat=True),
        rules.Adam(0.01, epsilon=1e-3, epsilon_hat=True),
    ),
    "amsgrad": (ds.Adam(0.01, amsgrad=True), rules.AMSGrad(0.01)),
    "nadam": (ds.NAdam(0.01), rules.NAdam(0.01)),
    "radam": (ds.RAdam(0.01, beta_2=0.99), rules.RAdam(0.01, beta_2=0.99)),
    "adagrad": (
        ds.Adagrad(0.05, initial_accumulator_value=0.1, epsilon=1e-6),
        rules.Adagrad(0.05, 0.1, 1e-6),
    ),
    "rmsprop": (ds.RMSProp(0.001, epsilon=1e-3), rules.RMSProp(0.001, epsilon=1e-3)),
    "rmsprop with momentum": (
        ds.RMSProp(0.001, rho=0.9, momentum=0.5, epsilon=1e-3),
        rules.RMSProp(0.001, 0.9, 0.5, 1e-3),
    ),
    "rmsprop, centred": (
        ds.RMSProp(0.001, momentum=0.5, epsilon=1e-2, centered=True),
        rules.RMSProp(0.001, momentum=0.5, epsilon=1e-2, centered=True),
    ),
    "adadelta": (ds.Adadelta(0.5, epsilon=1e-4), rules.Adadelta(0.5, epsilon=1e-4)),
}

# Widths, hidden activation, output activation, loss, how the biases are.  (No bias is shared below
# softmax: its gradient is 0 but for rounding errors, and Adam makes whole steps of those.)
CASES = {
    "2-2-2 sigmoid, shared bias": (
        *([2, 2, 2], "sigmoid", "sigmoid", "half_squared_error"),
        {"shared_bias": True},
    ),
    "10-32-1 tanh": ([10, 32, 1], "tanh", "identity", "mse", {}),
    "7-19-5 relu, softmax": ([7, 19, 5], "relu", "softmax", "cross_entropy", {}),
    "5-3 logistic": ([5, 3], "identity", "sigmoid", "binary_cross_entropy", {}),
    "3-17-9-2 mixed, no bias": ([3, 17, 9, 2], ["gelu", "silu"], "elu", "mse", {"use_bias": False}),
    "4-8-8-3 mixed, shared bias": (
        *([4, 8, 8, 3], ["leaky_relu", "softplus"], "tanh", "half_squared_error"),
        {"shared_bias": True},
    ),
}

ROWS = 45


@pytest.fixture(params=CASES)
def case(request):
    return CASES[request.param]


def make_network(rng, case, dtype="float64"):
    widths, hidden, output, _, bias = case
    network = ds.Network(widths, activation=hidden, output=output, dtype=dtype, seed=3, **bias)
    network.parameters[:] = rng.normal(scale=0.5, size=network.parameters.size)
    return network


def make_data(rng, case, rows=ROWS):
    widths, _, _, loss, _ = case
    x = rng.normal(size=(rows, widths[0]))
    if loss == "cross_entropy":
        return x, rng.integers(0, widths[-1], rows)
    return x, rng.random((rows, widths[-1]))


def as_type(data, dtype):
    """The data as the library sees them: real numbers rounded to the network's type."""
    return tuple(a.astype(dtype) if a.dtype == np.float64 else a for a in data)


def assert_oracle_follows(
    network,
    x,
    y,
    loss,
    optimizers,
    *,
    batch_size,
    epochs,
    orders=None,
    sample_weight=None,
    **options,
):
    """Train the network and the oracle alike; orders: of the rows, None for as they lie."""
    own, oracles = optimizers
    oracle = reference.Network.copy_of(network)
    history = network.fit(
        x,
        y,
        loss=loss,
        optimizer=own,
        batch_size=batch_size,
        epochs=epochs,
        shuffle=orders is not None,
        sample_weight=sample_weight,
        **options,
    )
    losses = reference.train(
        oracle,
        x,
        y,
        loss=loss,
        optimizer=copy.copy(oracles),
        batch_size=batch_size or len(x),
        orders=[np.arange(len(x))] * epochs if orders is None else orders,
        sample_weight=sample_weight,
    )
    tolerance = TOLERANCES[network.dtype.name]
    scale = np.abs(oracle.parameters).max()
    np.testing.assert_allclose(history.loss, losses, rtol=tolerance)
    np.testing.assert_allclose(
        network.parameters, oracle.parameters, rtol=0, atol=tolerance * scale
    )


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_mini_batches_with_a_smaller_last_one(rng, case, optimizer, dtype):
    """200 steps: 40 epochs of 45 rows, in batches of 10, 10, 10, 10 and 5."""
    network = make_network(rng, case, dtype)
    x, y = as_type(make_data(rng, case), dtype)
    assert_oracle_follows(network, x, y, case[3], OPTIMIZERS[optimizer], batch_size=10, epochs=40)


@pytest.mark.parametrize(("batch_size", "epochs"), [(1, 10), (None, 200), (1000, 200)])
def test_stochastic_and_full_batch(rng, case, batch_size, epochs):
    optimizers = ds.SGD(0.01, momentum=0.5), rules.SGD(0.01, 0.5)
    network = make_network(rng, case)
    x, y = make_data(rng, case, 20)
    assert_oracle_follows(network, x, y, case[3], optimizers, batch_size=batch_size, epochs=epochs)


@pytest.mark.parametrize("optimizer", ["nesterov", "adam"])
def test_sample_weights(rng, case, optimizer):
    network = make_network(rng, case)
    x, y = make_data(rng, case)
    weight = rng.random(ROWS) * rng.integers(0, 2, ROWS)
    assert_oracle_follows(
        network,
        x,
        y,
        case[3],
        OPTIMIZERS[optimizer],
        batch_size=10,
        epochs=40,
        sample_weight=weight,
    )


def test_validation_loss(rng, case):
    """The mean loss of the rows held out, after each epoch."""
    network = make_network(rng, case)
    x, y = make_data(rng, case)
    held_out = make_data(rng, case, 11)
    expected = []

    class Follow(ds.Callback):
        def on_epoch_end(self, trainer, epoch, logs):
            oracle = reference.Network.copy_of(trainer.network)
            expected.append(oracle.loss(*held_out, case[3]))

    history = network.fit(
        x, y, loss=case[3], epochs=3, validation_data=held_out, callbacks=[Follow()]
    )
    np.testing.assert_allclose(history.val_loss, expected, rtol=TOLERANCES["float64"])


# ---- Ways of making the same steps ----


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_steps_by_hand_are_those_of_fit(rng, optimizer):
    """`fit`, `step`, and gradients with `update`: one trajectory, three ways."""
    case = CASES["7-19-5 relu, softmax"]
    x, y = make_data(rng, case)
    start = make_network(rng, case)
    networks = {way: copy_of(start) for way in ("fit", "step", "pieces")}
    trainers = {
        way: ds.Trainer(network, loss=case[3], optimizer=OPTIMIZERS[optimizer][0])
        for way, network in networks.items()
    }
    trainers["fit"].fit(x, y, epochs=5, batch_size=10, shuffle=False)
    for begin in list(range(0, ROWS, 10)) * 5:
        rows = slice(begin, begin + 10)
        trainers["step"].step(x[rows], y[rows])
        trainers["pieces"].compute_gradients(x[rows], y[rows])
        trainers["pieces"].update()
    for way in ("step", "pieces"):
        assert trainers[way].steps == trainers["fit"].steps == 25
        np.testing.assert_allclose(
            networks[way].parameters, networks["fit"].parameters, rtol=0, atol=1e-13
        )


def copy_of(network):
    again = ds.Network(
        [network.inputs, *(layer.outputs for layer in network.layers)],
        activation=[layer.activation for layer in network.layers[:-1]],
        output=network.layers[-1].activation,
        dtype=network.dtype,
        seed=network.seed,
    )
    again.parameters[:] = network.parameters
    return again


def test_two_runs_are_one_long_run(rng):
    """A second `fit` of a trainer goes on: optimiser state, epochs and their shuffles."""
    case = CASES["10-32-1 tanh"]
    x, y = make_data(rng, case)
    start = make_network(rng, case)
    whole, parts = copy_of(start), copy_of(start)
    one = ds.Trainer(whole, optimizer=ds.Adam(0.01))
    losses = one.fit(x, y, epochs=7, batch_size=10).loss
    two = ds.Trainer(parts, optimizer=ds.Adam(0.01))
    again = (
        two.fit(x, y, epochs=3, batch_size=10).loss + two.fit(x, y, epochs=4, batch_size=10).loss
    )
    assert again == losses
    np.testing.assert_array_equal(parts.parameters, whole.parameters)
    assert (two.epoch, two.steps) == (one.epoch, one.steps) == (7, 35)


# ---- The order of the rows ----

WITNESSES = 10


class Witness(ds.Callback):
    """Reads off a training run in which order it met its rows.

    The network is y = w x with x = 1, trained on E = 0.5 (t - w)^2 by single rows at a learning
    rate of 15/16: each row met makes w = w / 16 + 15 t / 16.  With row numbers for targets, w ends
    as 15 / 16 of a number to base 16 whose digits are the rows, the last one first, exactly.
    """

    def __init__(self):
        self.orders = []

    def on_epoch_begin(self, trainer, epoch):
        trainer.network.parameters[:] = 0

    def on_epoch_end(self, trainer, epoch, logs):
        number = round(trainer.network.parameters.item() * 16**WITNESSES / 15)
        self.orders.append(np.array([number >> 4 * i & 15 for i in range(WITNESSES)]))


def witnessed_orders(seed, epochs, **options):
    """The orders of rows in the epochs of a run over `WITNESSES` rows."""
    network = ds.Network([1, 1], use_bias=False, dtype="float64", seed=seed)
    witness = Witness()
    network.fit(
        np.ones((WITNESSES, 1)),
        np.arange(WITNESSES),
        loss="half_squared_error",
        optimizer=ds.SGD(15 / 16),
        batch_size=1,
        epochs=epochs,
        callbacks=[witness],
        **options,
    )
    return witness.orders


def test_without_shuffling_rows_are_met_as_they_lie():
    orders = witnessed_orders(0, 3, shuffle=False)
    np.testing.assert_array_equal(orders, [np.arange(WITNESSES)] * 3)


def test_every_shuffle_meets_every_row_once():
    orders = witnessed_orders(0, 100)
    np.testing.assert_array_equal(np.sort(orders), [np.arange(WITNESSES)] * 100)
    assert len({tuple(order) for order in orders}) == 100


def test_the_order_is_a_function_of_seed_and_epoch():
    np.testing.assert_array_equal(witnessed_orders(5, 6), witnessed_orders(5, 12)[:6])
    assert not np.array_equal(witnessed_orders(5, 6), witnessed_orders(6, 6))


@pytest.mark.parametrize("sampling", ["without_replacement", "with_replacement"])
def test_every_row_is_met_everywhere_about_equally_often(sampling):
    """1000 epochs: a row is met at a place 100 times, give or take 9.5; of the 100 counts, one
    beyond 5 standard deviations would be a matter of one seed in 20,000.  The seed is fixed."""
    orders = np.array(witnessed_orders(0, 1000, sampling=sampling))
    counts = np.array([(orders == row).sum(axis=0) for row in range(WITNESSES)])
    assert abs(counts - 100).max() < 5 * 9.5


def test_with_replacement_rows_come_again():
    """Ten draws of ten rows are all different in 1 of 2,756 epochs."""
    orders = witnessed_orders(0, 50, sampling="with_replacement")
    assert sum(len(set(order)) == WITNESSES for order in orders) <= 1


@pytest.mark.parametrize("sampling", ["without_replacement", "with_replacement"])
@pytest.mark.parametrize("batch_size", [1, 4, None])
def test_shuffled_runs_replayed_by_the_oracle(rng, case, sampling, batch_size):
    """Networks of one seed meet the rows in the same order: what the witness saw, the oracle
    replays."""
    epochs = 20 if batch_size == 1 else 67
    network = make_network(rng, case)
    x, y = make_data(rng, case, WITNESSES)
    assert_oracle_follows(
        network,
        x,
        y,
        case[3],
        OPTIMIZERS["adam"],
        batch_size=batch_size,
        epochs=epochs,
        orders=witnessed_orders(network.seed, epochs, sampling=sampling),
        sampling=sampling,
    )


# ---- A run does not depend on threads ----


@pytest.mark.parametrize(("widths", "rows"), [([20, 64, 48, 3], 300), ([3, 5, 2], 37)])
def test_threads_change_nothing(rng, widths, rows):
    """The same bits with one thread and with several."""
    x, y = rng.normal(size=(rows, widths[0])), rng.random((rows, widths[-1]))
    runs = []
    for threads in (1, 2, 3):
        network = ds.Network(widths, seed=1)
        history = network.fit(x, y, optimizer="adam", epochs=4, batch_size=100, threads=threads)
        runs.append((network.parameters.tobytes(), history.loss))
    for one, other in itertools.pairwise(runs):
        assert one == other
