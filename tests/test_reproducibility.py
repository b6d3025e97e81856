"""The same bytes from whole training runs: any threads, instruction set, slicing, way to get there.

Run as a program with "serve", it reads cases from its standard input and prints the digest of each:
one process computes with one instruction set.  With "write" it writes the golden digests: those of
this version of the library, for every activation, loss and optimiser.  A change of them is a change
of the bits that users get, and stands in CHANGELOG.md.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import downslope as ds
import fresh_python
from downslope import _kernels
from downslope.losses import LOSSES
from downslope.optimizers import OPTIMIZERS

GOLDEN = Path(__file__).with_name("golden_digests.json")

# ---- Cases: networks x losses x optimisers x ways to make the mini-batches.  Plain JSON, so that
# they can be sent to a process with another instruction set. ----

ROWS = 101
RAGGED = [3, 17, 50, 129, 1]
HIDDEN = ["tanh", "gelu", "silu"]
ACTIVATIONS = sorted(_kernels.ACTIVATIONS)

# Each loss with the output and the targets that it takes.
LOSS_CASES = {
    "half_squared_error": ("identity", "real"),
    "mse": ("tanh", "real"),
    "mae": ("identity", "real"),
    "huber": ("tanh", "real"),
    "log_cosh": ("identity", "real"),
    "quantile": ("identity", "real"),
    "poisson": ("identity", "counts"),
    "gaussian_nll": ("identity", "one for two outputs"),
    "hinge": ("identity", "signs"),
    "binary_focal": ("sigmoid", "indicators"),
    "binary_cross_entropy": ("sigmoid", "probabilities"),
    "cross_entropy": ("softmax", "probabilities"),
    "cross_entropy, labels": ("softmax", "labels"),
    "focal": ("softmax", "probabilities"),
    "focal, labels": ("softmax", "labels"),
}

OPTIMIZER_CASES = {
    **{name: optimizer() for name, optimizer in OPTIMIZERS.items()},
    "momentum": ds.SGD(0.05, momentum=0.9),
    "nesterov": ds.SGD(0.01, momentum=0.9, nesterov=True),
    "amsgrad": ds.Adam(0.01, amsgrad=True),
    "rmsprop with momentum": ds.RMSProp(0.001, momentum=0.9),
    "rmsprop, centred": ds.RMSProp(0.001, momentum=0.9, centered=True),
    "adamw, clipped, averaged": ds.AdamW(
        ds.schedules.Warmup(ds.schedules.Cosine(0.01, 50), 5), clip_norm=0.1, ema_momentum=0.9
    ),
    "large adam": ds.Adam(0.01),
    "large sgd": ds.SGD(0.1),
}

CASES = {
    "sigmoid, one row at a time": {
        "widths": RAGGED,
        "activation": "sigmoid",
        "optimizer": "large sgd",
        "batch_size": 1,
    },
    "with replacement": {
        "widths": RAGGED,
        "activation": HIDDEN,
        "optimizer": "momentum",
        "batch_size": 7,
        "sampling": "with_replacement",
    },
    "relu, Nesterov, last batch of 5": {
        "widths": RAGGED,
        "activation": "relu",
        "optimizer": "nesterov",
        "batch_size": 32,
    },
    "full batch, validation": {
        "widths": RAGGED,
        "activation": ["leaky_relu", "elu", "softplus"],
        "optimizer": "large adam",
        "batch_size": None,
        "validation_split": 0.25,
    },
    "labels, validation": {
        "widths": [17, 50, 3],
        "activation": "silu",
        "loss": "cross_entropy, labels",
        "optimizer": "large adam",
        "batch_size": 32,
        "validation_split": 0.1,
    },
    "sample weights": {
        "widths": [17, 50, 5],
        "activation": "elu",
        "loss": "binary_cross_entropy",
        "optimizer": "momentum",
        "weighted": True,
        "batch_size": 32,
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
        "optimizer": "large adam",
        "rows": 701,
        "batch_size": 333,
    },
    "large, softmax, full batch": {
        "widths": [129, 257, 10],
        "activation": "leaky_relu",
        "loss": "cross_entropy, labels",
        "rows": 701,
        "batch_size": None,
    },
    **{
        f"activation {name}": {"widths": [5, 33, 21, 2], "activation": name, "batch_size": 7}
        for name in ACTIVATIONS
    },
    **{
        f"loss {name}": {
            "widths": [5, 19, 4 if kind == "one for two outputs" else 3],
            "loss": name,
            "batch_size": 16,
        }
        for name, (_, kind) in LOSS_CASES.items()
    },
    **{
        f"optimizer {name}": {"widths": [5, 19, 3], "optimizer": name, "batch_size": 16}
        for name in OPTIMIZER_CASES
    },
}


def uniform(stream, *shape):
    """In (-1, 1), from the library's own generator: the same on every machine."""
    return 2 * _kernels.random_uniform(12, stream, int(np.prod(shape))).reshape(shape) - 1


def make_data(case, inputs, outputs):
    rows = case.get("rows", ROWS)
    kind = LOSS_CASES[case.get("loss", "mse")][1]
    labels = np.empty(rows, np.int64)
    _kernels.random_integers(12, 1, outputs, labels)
    y = uniform(2, rows, outputs)
    if kind == "one for two outputs":
        y = y[:, ::2]
    elif kind == "counts":
        y = np.round(3 * np.abs(y))
    elif kind == "signs":
        y = np.where(y < 0, -1.0, 1.0)
    elif kind == "indicators":
        y = np.where(y < 0, 0.0, 1.0)
    elif kind == "probabilities":
        y = 0.75 * np.eye(outputs)[labels] + 0.25 * np.eye(outputs)[labels[::-1]]
    weight = uniform(3, rows) ** 2 if case.get("weighted") else None
    return 2 * uniform(4, rows, inputs), labels if kind == "labels" else y, weight


def run(case, dtype, threads, seed=5, epochs=3):
    """Train, and return everything that comes out of it, as bytes."""
    output, _ = LOSS_CASES[case.get("loss", "mse")]
    options = {key: case[key] for key in ("activation", "shared_bias", "use_bias") if key in case}
    net = ds.Network(case["widths"], output=output, dtype=dtype, seed=seed, **options)
    x, y, weight = make_data(case, net.inputs, net.outputs)
    loss = case.get("loss", "mse").partition(",")[0]
    trainer = ds.Trainer(net, loss, OPTIMIZER_CASES[case.get("optimizer", "sgd")])
    how = {
        key: case[key]
        for key in ("batch_size", "sampling", "shuffle", "validation_split")
        if key in case
    }
    with contextlib.suppress(FloatingPointError):  # which comes at the same step everywhere
        trainer.fit(x, y, sample_weight=weight, epochs=epochs, threads=threads, **how)
    history = trainer.history
    outputs = net.predict(x, threads=threads)
    check_company(net, x, outputs)
    results = [net.parameters, trainer.state, outputs, trainer.steps]
    results += [history.loss, history.val_loss]
    return b"".join(map(bits, results))


def bits(values):
    """As bytes; NaN is NaN, whatever its sign and payload."""
    values = np.array(values)
    if values.dtype.kind == "f":
        values[np.isnan(values)] = np.nan
    return values.tobytes()


def check_company(net, x, outputs):
    """A row's prediction does not depend on the rows it came with."""
    n = len(x)
    for part in (slice(n // 2, n // 2 + 1), slice(n // 3, None), slice(None, None, -3)):
        np.testing.assert_array_equal(net.predict(x[part]), outputs[part])


def digest(case, dtype, threads):
    return hashlib.sha256(run(case, dtype, threads)).hexdigest()


@pytest.fixture(params=CASES)
def case(request):
    return CASES[request.param]


def test_every_loss_has_a_case():
    assert {name.partition(",")[0] for name in LOSS_CASES} == set(LOSSES)


def test_threads(case, dtype):
    expected = run(case, dtype, threads=1)
    for threads in (2, 3, 5):
        assert run(case, dtype, threads) == expected


# ---- Golden digests ----


def digests():
    return {
        f"{name}, {dtype}": digest(case, dtype, threads=2)
        for name, case in CASES.items()
        for dtype in ("float32", "float64")
    }


def test_golden_digests():
    """The bits of this version, whatever the machine."""
    golden, found = json.loads(GOLDEN.read_text()), digests()
    changed = sorted(key for key in golden | found if golden.get(key) != found.get(key))
    assert not changed, (
        f"other bits than before from {changed}. If that is meant, or a case is new: run "
        f"`python tests/{Path(__file__).name} write`, and list changed bits in CHANGELOG.md"
    )


# ---- Instruction sets ----


class Server:
    """A process that runs this file and computes with one instruction set."""

    def __init__(self, isa):
        self.process = fresh_python.start(__file__, "serve", DOWNSLOPE_ISA=isa)
        assert json.loads(self.process.stdout.readline()) == isa

    def digest(self, *arguments):
        print(json.dumps(arguments), file=self.process.stdin, flush=True)
        return json.loads(self.process.stdout.readline())


@pytest.fixture(scope="module")
def servers():
    """One for each instruction set but this process's own."""
    others = [isa for isa in _kernels.available_isas() if isa != _kernels.active_isa()]
    if not others:
        pytest.skip("this machine has one instruction set")
    servers = [Server(isa) for isa in others]
    yield servers
    for server in servers:
        server.process.communicate(timeout=60)


def serve():
    print(json.dumps(_kernels.active_isa()), flush=True)
    for line in sys.stdin:
        print(json.dumps(digest(*json.loads(line))), flush=True)


def test_instruction_sets(servers, case, dtype):
    expected = digest(case, dtype, 1)
    for server in servers:
        assert server.digest(case, dtype, 1) == expected


# ---- Any network ----


@st.composite
def any_case(draw):
    """Every activation, loss and optimiser; ragged widths, batches of 1 to 4096 rows and a last
    partial one.  The number of rows is such that plain C is done with it soon."""
    sizes = st.sampled_from([1, 3, 17, 50, 129, 1000])
    widths = draw(st.lists(sizes, min_size=2, max_size=5))
    loss = draw(st.sampled_from(sorted(LOSS_CASES)))
    if "softmax" in LOSS_CASES[loss]:
        widths[-1] = max(widths[-1], 2)
    if "one for two outputs" in LOSS_CASES[loss]:
        widths[-1] += widths[-1] % 2
    weights = sum(a * b for a, b in itertools.pairwise(widths))
    batch_size = draw(st.sampled_from([1, 2, 7, 32, 100, 1000, 4096]))
    most = min(10_000_000 // weights, 60 * batch_size, 9000)
    return {
        "widths": widths,
        "activation": [draw(st.sampled_from(ACTIVATIONS)) for _ in widths[1:-1]],
        "loss": loss,
        "optimizer": draw(st.sampled_from(sorted(OPTIMIZER_CASES))),
        "batch_size": batch_size,
        "rows": draw(st.integers(2, max(most, 2))),
        "sampling": draw(st.sampled_from(["without_replacement", "with_replacement"])),
        "validation_split": draw(st.sampled_from([0.0, 0.5])),
        "weighted": draw(st.booleans()),
    }


@settings(max_examples=50, deadline=None)
@given(case=any_case(), dtype=st.sampled_from(["float32", "float64"]))
def test_any_network_with_any_threads_and_instruction_set(servers, case, dtype):
    expected = digest(case, dtype, 1)
    for threads in (2, 3, 5):
        assert digest(case, dtype, threads) == expected
    for server in servers:
        assert server.digest(case, dtype, 2) == expected


def test_seeds(case):
    same, again, other = (run(case, "float32", 1, seed) for seed in (5, 5, 6))
    assert same == again
    assert same != other


def test_a_seed_is_more_than_the_initial_weights():
    """It sets the order of the rows too."""
    x, y, _ = make_data({}, 3, 1)
    nets = [ds.Network([3, 4, 1], seed=seed) for seed in (1, 2)]
    nets[1].parameters = nets[0].parameters
    for net in nets:
        net.fit(x, y, epochs=1)
    assert not np.array_equal(nets[0].parameters, nets[1].parameters)


# ---- A run in pieces ----


@pytest.mark.parametrize("optimizer", [ds.SGD(0.05, momentum=0.9), ds.Adam(0.01)])
@pytest.mark.parametrize("sampling", ["without_replacement", "with_replacement"])
def test_two_epochs_are_one_and_one(sampling, optimizer):
    x, y, _ = make_data({}, 9, 2)

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
    x, y, _ = make_data({}, 9, 2)
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
    if sys.argv[1] == "serve":
        serve()
    else:
        GOLDEN.write_text(json.dumps(digests(), indent=1, sort_keys=True) + "\n")
