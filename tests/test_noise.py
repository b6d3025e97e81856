"""Dropout and input noise: the draws against an independent generator, the steps against NumPy."""

from __future__ import annotations

import copy
import statistics

import numpy as np
import pytest

import downslope as ds
import noise_oracles
from downslope import _kernels

ISAS = _kernels.available_isas()
SEED, STREAM = 0x0123456789ABCDEF, (4 << 48) + 12345


# ---- The draws ----


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize(("first", "n"), [(0, 256), (0, 1), (255, 2), (3 << 48, 700), (77, 513)])
def test_masks_are_those_of_the_generator(isa, dtype, first, n):
    out = np.empty(n, dtype)
    _kernels.run_dropout_mask(isa, SEED, STREAM, first, 20000, out)
    expected = noise_oracles.dropout_mask(SEED, STREAM, first, n, 20000)
    np.testing.assert_array_equal(out, expected.astype(dtype))


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("cols", [1, 7, 32, 131])
def test_noise_is_that_of_the_generator(isa, dtype, cols):
    x, out = np.ones((5, cols), dtype), np.empty((5, cols), dtype)
    _kernels.run_add_normal(isa, SEED, STREAM, 1000, x, 0.5, out)
    expected = noise_oracles.normal_noise(SEED, STREAM, 1000, 5 * cols).reshape(5, cols)
    np.testing.assert_allclose(out, 1 + 0.5 * expected, rtol=2e-6, atol=2e-6)
    scalar = np.empty_like(out)
    _kernels.run_add_normal("scalar", SEED, STREAM, 1000, x, 0.5, scalar)
    assert out.tobytes() == scalar.tobytes()


def test_noise_is_normal():
    x, out = np.zeros((1, 400_000)), np.empty((1, 400_000))
    _kernels.run_add_normal(ISAS[-1], 1, 2, 0, x, 1.0, out)
    for z in (-4, -3, -2, -1, 0, 0.5, 1.5, 2.5, 3.5):
        expected = statistics.NormalDist().cdf(z)
        spread = np.sqrt(expected * (1 - expected) / out.size)
        assert abs((out <= z).mean() - expected) < 5 * spread
    assert abs(np.corrcoef(out[0, :-1], out[0, 1:])[0, 1]) < 5 / np.sqrt(out.size)


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_the_share_that_is_dropped(rate):
    mask = np.empty(400_000)
    _kernels.run_dropout_mask(ISAS[-1], 1, 2, 0, round(rate * 65536), mask)
    spread = np.sqrt(rate * (1 - rate) / mask.size)
    assert abs((mask == 0).mean() - rate) < 5 * spread + 2**-17
    assert abs(mask.mean() - 1) < 5 * spread / (1 - rate) + 1e-4


# ---- Steps against the oracle ----


def make_network(dtype="float64", **options):
    layers = [
        ds.Dense(19, "tanh", dropout=0.25),
        ds.Dense(9, "softmax", dropout=0.4),
        ds.Dense(11, "relu"),
        ds.Dense(5, "gelu", dropout=0.5),
        ds.Dense(3, "softmax"),
    ]
    return ds.Network(7, layers, dtype=dtype, seed=11, **options)


RATES = [0.25, 0.4, 0.0, 0.5, 0.0]


def oracle_run(net, x, y, batch_size, epochs, learning_rate):
    """Parameters and losses of unshuffled epochs of plain descent."""
    oracle = noise_oracles.NoisyNetwork.copy_of(net)
    losses, step = [], 0
    for _ in range(epochs):
        total = 0.0
        for start in range(0, len(x), batch_size):
            part, labels = x[start : start + batch_size], y[start : start + batch_size]
            noise = noise_oracles.normal_noise(net.seed, (5 << 48) + step, 0, part.size)
            part = part + net.input_noise * noise.reshape(part.shape)
            dropped = round(net.input_dropout * 65536)
            mask = noise_oracles.dropout_mask(net.seed, (4 << 48) + step, 0, part.size, dropped)
            part = part * mask.reshape(part.shape)
            oracle.draw(net.seed, step, len(part), RATES)
            total += oracle.weighted_row_losses(part, labels, "cross_entropy").sum()
            gradient = oracle.gradient(part, labels, "cross_entropy")
            oracle.parameters = oracle.parameters - learning_rate * gradient
            step += 1
        losses.append(total / len(x))
    return oracle.parameters, losses


@pytest.mark.parametrize("inputs", [{}, {"input_dropout": 0.2}, {"input_noise": 0.3}, None])
def test_the_oracle_follows(rng, inputs):
    net = make_network(**({"input_dropout": 0.2, "input_noise": 0.3} if inputs is None else inputs))
    x, y = rng.normal(size=(50, 7)), rng.integers(0, 3, 50)
    parameters, losses = oracle_run(net, x, y, 16, 3, 0.1)
    history = net.fit(
        x, y, loss="cross_entropy", optimizer=ds.SGD(0.1), epochs=3, batch_size=16, shuffle=False
    )
    # the quantile of the noise is of single precision
    tolerance = 1e-11 if not net.input_noise else 1e-5
    np.testing.assert_allclose(net.parameters, parameters, rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(history.loss, losses, rtol=tolerance)


def test_a_batch_of_several_blocks(rng):
    net = make_network(input_dropout=0.2)
    x, y = rng.normal(size=(5000, 7)), rng.integers(0, 3, 5000)
    parameters, _ = oracle_run(net, x, y, 5000, 1, 0.5)
    net.fit(
        x, y, loss="cross_entropy", optimizer=ds.SGD(0.5), batch_size=None, shuffle=False, threads=1
    )
    np.testing.assert_allclose(net.parameters, parameters, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("threads", [2, 3])
def test_threads_change_nothing(rng, dtype, threads):
    """So wide that every piece of the work is worth several threads."""
    x, y = rng.normal(size=(300, 300)), rng.integers(0, 10, 300)
    nets = [
        ds.Network(
            [300, 700, 10], output="softmax", dropout=0.3, input_dropout=0.1, input_noise=0.2,
            dtype=dtype, seed=4,
        )
        for _ in range(2)
    ]  # fmt: skip
    options = {"loss": "cross_entropy", "epochs": 1, "batch_size": 150}
    histories = [
        net.fit(x, y, threads=count, **options)
        for net, count in zip(nets, (1, threads), strict=True)
    ]
    assert nets[0].parameters.tobytes() == nets[1].parameters.tobytes()
    assert histories[0].loss == histories[1].loss


# ---- Where there is noise and where there is none ----


def test_only_training_is_noisy(rng):
    net = make_network(input_dropout=0.5, input_noise=1.0)
    plain = ds.Network(
        7, [ds.Dense(layer.outputs, layer.activation) for layer in net.layers], dtype="float64"
    )
    plain.parameters = net.parameters
    x, y = rng.normal(size=(20, 7)), rng.integers(0, 3, 20)
    np.testing.assert_array_equal(net.predict(x), plain.predict(x))
    np.testing.assert_array_equal(net.forward(x), plain.forward(x))
    d_out = rng.normal(size=(20, 3))
    np.testing.assert_array_equal(net.backward(d_out), plain.backward(d_out))
    np.testing.assert_array_equal(net.gradients, plain.gradients)
    evaluated = [n.evaluate(x, y, loss="cross_entropy") for n in (net, plain)]
    assert evaluated[0] == evaluated[1]
    smooth = ds.Network([7, 5, 3], activation="tanh", output="softmax", dropout=0.5, seed=1)
    assert ds.check_gradients(smooth, x, y, loss="cross_entropy").passed


def test_gradients_without_an_update_are_those_of_the_step_to_come(rng):
    x, y = rng.normal(size=(20, 7)), rng.integers(0, 3, 20)
    nets = [make_network(), make_network()]
    by_pieces, at_once = (ds.Trainer(net, "cross_entropy", ds.SGD(0.1)) for net in nets)
    for _ in range(2):
        losses = [by_pieces.compute_gradients(x, y) for _ in range(2)]
        by_pieces.update()
        assert losses == [at_once.step(x, y)] * 2
    np.testing.assert_array_equal(nets[0].parameters, nets[1].parameters)


def test_a_step_of_one_row_in_a_small_network(rng):
    net = ds.Network([3, 200, 1], dropout=0.5, dtype="float64", seed=1)
    before = net.parameters.copy()
    ds.Trainer(net, optimizer=ds.SGD(0.1)).step(rng.normal(size=(1, 3)), [5.0])
    assert np.count_nonzero(net.parameters == before) / 5 > 40  # of 200 units, 5 numbers each


def test_each_step_and_seed_has_its_own(rng):
    x, y = np.ones((1, 3)), np.ones(1)
    seen = set()
    for seed in (1, 2):
        net = ds.Network([3, 64, 1], dropout=0.5, weights="zeros", seed=seed)
        net.layers[0].weights[...] = 1
        net.layers[1].weights[...] = 1
        trainer = ds.Trainer(net, optimizer=ds.SGD(0.1))
        trainer.learning_rate = 0.0
        for _ in range(3):
            trainer.compute_gradients(x, y)
            seen.add(net.gradients.tobytes())
            trainer.update()
    assert len(seen) == 6


def test_a_resumed_run_is_the_uninterrupted_one(rng, tmp_path):
    x, y = rng.normal(size=(90, 7)), rng.integers(0, 3, 90)
    path = tmp_path / "run.safetensors"

    def trainer():
        return ds.Trainer(make_network(input_noise=0.1), "cross_entropy", "adam")

    whole, first, second = trainer(), trainer(), trainer()
    whole.fit(x, y, epochs=4)
    first.fit(x, y, epochs=2, callbacks=[ds.Checkpoint(path)])
    second.resume(path)
    second.fit(x, y, epochs=4)
    np.testing.assert_array_equal(second.network.parameters, whole.network.parameters)


def test_files_and_copies_keep_the_rates(tmp_path):
    net = make_network(input_dropout=0.125, input_noise=0.25)
    net.save(tmp_path / "net.safetensors")
    for again in (ds.load(tmp_path / "net.safetensors"), copy.deepcopy(net)):
        assert [layer.dropout for layer in again.layers] == RATES
        assert (again.input_dropout, again.input_noise) == (0.125, 0.25)


def test_a_list_of_widths_takes_rates_for_its_hidden_layers():
    assert [n.dropout for n in ds.Network([2, 3, 4, 1], dropout=0.5).layers] == [0.5, 0.5, 0]
    rates = [n.dropout for n in ds.Network([2, 3, 4, 1], dropout=[0, 0.1]).layers]
    assert rates == [0, 0.1, 0]


def test_what_goes_without_noise_refuses_it(rng):
    def own_loss(outputs, targets):
        return ((outputs - targets) ** 2).mean(), 2 * (outputs - targets) / outputs.size

    with pytest.raises(ValueError, match="a loss that is a function"):
        ds.Trainer(make_network(), own_loss)
    pytest.importorskip("scipy")
    x, y = rng.normal(size=(20, 7)), rng.integers(0, 3, 20)
    with pytest.raises(ValueError, match="LBFGS needs the same loss"):
        make_network().fit(x, y, loss="cross_entropy", optimizer="lbfgs")
    with pytest.raises(ValueError, match="LBFGS needs all rows"):
        ds.Network([7, 3]).fit([(x, np.zeros((20, 3)))], optimizer="lbfgs")


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: ds.Dense(3, dropout=1.0), ValueError, "dropout must be a finite number"),
        (lambda: ds.Dense(3, dropout=-0.1), ValueError, "dropout must be a finite number"),
        (lambda: ds.Dense(3, dropout="much"), TypeError, "dropout must be a number"),
        (lambda: ds.Network(2, [ds.Dense(1, dropout=0.5)]), ValueError, "the last layer"),
        (lambda: ds.Network([2, 3, 1], dropout=[0.1, 0.1]), ValueError, "one entry for each"),
        (lambda: ds.Network([2, 3, 1], dropout=None), TypeError, "dropout must be a number"),
        (lambda: ds.Network(2, [ds.Dense(1)], dropout=0.5), ValueError, "give it to each Dense"),
        (lambda: ds.Network([2, 1], input_dropout=1), ValueError, "input_dropout"),
        (lambda: ds.Network([2, 1], input_noise=-1), ValueError, "input_noise"),
    ],
)
def test_what_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()
