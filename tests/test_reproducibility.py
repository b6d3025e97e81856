"""The same bytes from whole training runs: any threads, instruction set, slicing, way to get there.

Run as a program, it prints a digest of every case: so one process computes with one instruction
set, and the test compares what they print.
"""

from __future__ import annotations

import hashlib
import json

import numpy as np
import pytest

import downslope as ds
import fresh_python
from downslope import _kernels

# ---- Training runs: networks x losses x optimisers x ways to make the mini-batches ----

ROWS = 101
RAGGED = [3, 17, 50, 129, 1]
HIDDEN = ["tanh", "gelu", "silu"]

CASES = {
    "sigmoid, one row at a time": {
        "widths": RAGGED,
        "activation": "sigmoid",
        "optimizer": ds.SGD(0.1),
        "batch_size": 1,
    },
    "with replacement": {
        "widths": RAGGED,
        "activation": HIDDEN,
        "optimizer": ds.SGD(0.01, momentum=0.9),
        "batch_size": 7,
        "sampling": "with_replacement",
    },
    "relu, Nesterov, last batch of 5": {
        "widths": RAGGED,
        "activation": "relu",
        "optimizer": ds.SGD(0.01, momentum=0.9, nesterov=True),
        "batch_size": 32,
    },
    "full batch, validation": {
        "widths": RAGGED,
        "activation": ["leaky_relu", "elu", "softplus"],
        "optimizer": ds.Adam(0.01),
        "batch_size": None,
        "validation_split": 0.25,
    },
    "softmax and labels": {
        "widths": [17, 50, 3],
        "activation": "silu",
        "output": "softmax",
        "loss": "cross_entropy",
        "optimizer": ds.Adam(0.01),
        "batch_size": 32,
        "validation_split": 0.1,
    },
    "softmax and probabilities": {
        "widths": [3, 129, 17],
        "activation": "gelu",
        "output": "softmax",
        "loss": "cross_entropy",
        "dense": True,
        "batch_size": 7,
    },
    "binary cross-entropy, sample weights": {
        "widths": [17, 50, 5],
        "activation": "elu",
        "output": "sigmoid",
        "loss": "binary_cross_entropy",
        "optimizer": ds.SGD(0.1, momentum=0.5),
        "weighted": True,
        "batch_size": 32,
    },
    "softmax inside, softplus out": {
        "widths": [5, 33, 21, 2],
        "activation": ["softmax", "tanh"],
        "output": "softplus",
        "loss": "half_squared_error",
        "batch_size": 7,
    },
    "one bias for each layer": {
        "widths": [17, 3, 2],
        "activation": "tanh",
        "shared_bias": True,
        "batch_size": 32,
    },
    "no bias, no shuffle": {
        "widths": [1, 50, 3],
        "activation": "relu",
        "use_bias": False,
        "shuffle": False,
        "batch_size": 32,
    },
    "large enough for threads": {
        "widths": [50, 150, 129, 3],
        "activation": ["tanh", "gelu"],
        "optimizer": ds.Adam(0.01),
        "rows": 701,
        "batch_size": 333,
    },
    "large, softmax, full batch": {
        "widths": [129, 257, 10],
        "activation": "leaky_relu",
        "output": "softmax",
        "loss": "cross_entropy",
        "rows": 701,
        "batch_size": None,
    },
}


def make_data(case, outputs, inputs):
    rng = np.random.default_rng(12)
    rows = case.get("rows", ROWS)
    x = rng.normal(size=(rows, inputs))
    if case.get("loss") == "cross_entropy" and not case.get("dense"):
        return x, rng.integers(0, outputs, rows), None
    y = rng.random((rows, outputs))
    weight = rng.random(rows) if case.get("weighted") else None
    return x, y / y.sum(axis=1, keepdims=True), weight


def run(name, dtype, threads, seed=5, epochs=3):
    """Train, and return everything that comes out of it, as bytes."""
    case = CASES[name]
    options = {
        key: case[key]
        for key in ("widths", "activation", "output", "shared_bias", "use_bias")
        if key in case
    }
    net = ds.Network(**options, dtype=dtype, seed=seed)
    x, y, weight = make_data(case, net.outputs, net.inputs)
    trainer = ds.Trainer(net, case.get("loss", "mse"), case.get("optimizer", ds.SGD(0.05)))
    how = {
        key: case[key]
        for key in ("batch_size", "sampling", "shuffle", "validation_split")
        if key in case
    }
    history = trainer.fit(x, y, sample_weight=weight, epochs=epochs, threads=threads, **how)
    results = [net.parameters, trainer.state, net.predict(x), history.loss, history.val_loss]
    return b"".join(np.asarray(result).tobytes() for result in results)


@pytest.fixture(params=CASES)
def name(request):
    return request.param


@pytest.fixture(params=["float32", "float64"])
def dtype(request):
    return request.param


def test_threads(name, dtype):
    expected = run(name, dtype, threads=1)
    for threads in (2, 3):
        assert run(name, dtype, threads) == expected


def digests():
    return {
        f"{name}, {dtype}": hashlib.sha256(run(name, dtype, threads=2)).hexdigest()
        for name in CASES
        for dtype in ("float32", "float64")
    }


@pytest.mark.parametrize("isa", _kernels.available_isas())
def test_instruction_sets(isa):
    """Each against this process's own."""
    printed = fresh_python.output_of(__file__, DOWNSLOPE_ISA=isa)
    assert json.loads(printed) == {"isa": isa, "digests": digests()}


def test_seeds(name):
    same, again, other = (run(name, "float32", 1, seed) for seed in (5, 5, 6))
    assert same == again
    assert same != other


def test_a_seed_is_more_than_the_initial_weights():
    """It sets the order of the rows too."""
    x, y, _ = make_data({}, 1, 3)
    nets = [ds.Network([3, 4, 1], seed=seed) for seed in (1, 2)]
    nets[1].parameters = nets[0].parameters
    for net in nets:
        net.fit(x, y, epochs=1)
    assert not np.array_equal(nets[0].parameters, nets[1].parameters)


# ---- A run in pieces ----


@pytest.mark.parametrize("optimizer", [ds.SGD(0.05, momentum=0.9), ds.Adam(0.01)])
@pytest.mark.parametrize("sampling", ["without_replacement", "with_replacement"])
def test_two_epochs_are_one_and_one(sampling, optimizer):
    x, y, _ = make_data({}, 2, 9)

    def outcome(pieces):
        trainer = ds.Trainer(ds.Network([9, 20, 2], seed=4), "mse", optimizer)
        losses = []
        for epochs in pieces:
            losses += trainer.fit(x, y, epochs=epochs, batch_size=7, sampling=sampling).loss
        return losses, trainer.network.parameters, trainer.state

    whole = outcome([3])
    for pieces in ([1, 2], [1, 1, 1]):
        for got, expected in zip(outcome(pieces), whole, strict=True):
            np.testing.assert_array_equal(got, expected)
    assert len(set(whole[0])) == 3


def test_an_unshuffled_epoch_is_its_steps():
    x, y, _ = make_data({}, 2, 9)
    trainers = [ds.Trainer(ds.Network([9, 20, 2], seed=4), "mse", ds.Adam(0.01)) for _ in range(2)]
    epoch_loss = trainers[0].fit(x, y, batch_size=16, shuffle=False).loss[0]
    batches = [slice(first, first + 16) for first in range(0, ROWS, 16)]
    total = sum(trainers[1].step(x[b], y[b]) * len(x[b]) for b in batches)
    np.testing.assert_array_equal(*(t.network.parameters for t in trainers))
    np.testing.assert_array_equal(*(t.state for t in trainers))
    assert epoch_loss == pytest.approx(total / ROWS, rel=1e-12)


# ---- A row alone and in company ----


@pytest.mark.parametrize("widths", [[9, 1], [3, 17, 50, 129, 1], [40, 257, 10]])
def test_prediction_of_a_row_does_not_depend_on_its_company(rng, dtype, widths):
    hidden = ["tanh", "gelu", "relu"][: len(widths) - 2]
    net = ds.Network(widths, activation=hidden, output="softmax", dtype=dtype, seed=2)
    if net.outputs == 1:
        net = ds.Network(widths, activation=hidden, output="sigmoid", dtype=dtype, seed=2)
    x = rng.normal(size=(1300, widths[0])).astype(dtype)
    together = net.predict(x, threads=1)
    assert np.unique(together[:, 0]).size > 1000
    alone = [net.predict(x[i : i + 1])[0] for i in range(600)]
    np.testing.assert_array_equal(alone, together[:600])
    for part in (slice(5, 300), slice(511, 514), slice(None, None, 7), slice(None, None, -1)):
        for threads in (1, 3):
            np.testing.assert_array_equal(net.predict(x[part], threads=threads), together[part])
    np.testing.assert_array_equal(net.forward(x[:777]), together[:777])


# ---- A batch too large to go through the layers at once ----

LARGE = 9001  # rows; more than twice a block of 4096


def large_problem(rng, dtype):
    x = rng.normal(size=(LARGE, 6)).astype(dtype)
    return x, rng.normal(size=(LARGE, 3)).astype(dtype)


def test_full_batch_in_blocks_is_the_sum_over_any_parts(rng, dtype):
    x, y = large_problem(rng, dtype)
    nets = [ds.Network([6, 31, 3], activation="tanh", dtype=dtype, seed=8) for _ in range(2)]
    trainers = [ds.Trainer(net, "mse", ds.SGD(0.1, momentum=0.9)) for net in nets]
    by_hand = nets[1]
    scale = np.array(2 * (1 / LARGE) / 3).astype(dtype)  # of d mse / d outputs
    for _ in range(2):
        loss = trainers[0].step(x, y)
        total, first = 0.0, 0
        for end in (1, 1000, 7000, LARGE):
            rows = slice(first, end)
            error = by_hand.forward(x[rows]) - y[rows]
            by_hand.backward(scale * error, accumulate=first > 0)
            total += float(np.square(error, dtype=np.float64).sum())
            first = end
        trainers[1].update()
        assert loss == pytest.approx(total / (3 * LARGE), rel=1e-5 if dtype == "float32" else 1e-12)
        np.testing.assert_array_equal(nets[0].parameters, nets[1].parameters)


def test_large_batch_does_not_depend_on_threads(rng, dtype):
    x, y = large_problem(rng, dtype)
    runs = []
    for threads in (1, 2, 3):
        net = ds.Network([6, 31, 3], activation="gelu", dtype=dtype, seed=8)
        losses = net.fit(x, y, optimizer="adam", batch_size=None, epochs=2, threads=threads).loss
        runs.append(net.parameters.tobytes() + np.array(losses).tobytes())
    assert runs[0] == runs[1] == runs[2]


if __name__ == "__main__":
    print(json.dumps({"isa": _kernels.active_isa(), "digests": digests()}))
