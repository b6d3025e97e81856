"""Checkpoints: an interrupted and resumed run equals the uninterrupted one to the bit; damage and
contradictions are refused."""

from __future__ import annotations

import json
import math
import shutil

import numpy as np
import pytest

import downslope as ds
import fresh_python
from downslope.interop.safetensors import read_tensors, write_tensors

ROWS = 101

CASES = {
    "SGD": {"optimizer": ds.SGD(0.05)},
    "momentum, with replacement": {
        "optimizer": ds.SGD(0.05, momentum=0.9),
        "sampling": "with_replacement",
    },
    "Adam, validation, weights": {
        "optimizer": ds.Adam(0.01),
        "validation_split": 0.2,
        "weighted": True,
    },
    "no shuffle, labels, float64": {
        "optimizer": ds.Adam(0.01),
        "shuffle": False,
        "loss": "cross_entropy",
        "dtype": "float64",
    },
    "full batch": {"optimizer": ds.Adam(0.01), "batch_size": None},
}
FIT_OPTIONS = ("sampling", "shuffle", "validation_split", "batch_size")


class Halving(ds.Callback):
    """A callback with a state: it halves the learning rate from time to time."""

    def on_fit_begin(self, trainer):
        self.seen = np.zeros(1)

    def on_epoch_begin(self, trainer, epoch):
        self.seen[0] += 1
        if self.seen[0] % 3 == 0:
            trainer.learning_rate /= 2

    def state_dict(self):
        return {"seen": getattr(self, "seen", np.zeros(1))}

    def load_state_dict(self, state):
        self.seen[:] = state["seen"]


class Copies(ds.Checkpoint):
    """Writes after every step, and keeps each checkpoint."""

    def __init__(self, path):
        super().__init__(path, every_seconds=1e-9)
        self.copies = []

    def on_pause(self, trainer):
        super().on_pause(trainer)
        self.copies.append(self.path.with_name(f"{len(self.copies)}.safetensors"))
        shutil.copyfile(self.path, self.copies[-1])


def make_trainer(case, seed=3):
    output = "softmax" if case.get("loss") else "identity"
    options = {"activation": "tanh", "output": output, "dtype": case.get("dtype", "float32")}
    net = ds.Network([7, 19, 3], seed=seed, **options)
    return ds.Trainer(net, case.get("loss", "mse"), case["optimizer"])


def fit(trainer, case, epochs=4, callbacks=(), data_seed=11, **options):
    rng = np.random.default_rng(data_seed)
    x = rng.normal(size=(ROWS, 7))
    y = rng.integers(0, 3, ROWS) if case.get("loss") else rng.normal(size=(ROWS, 3))
    how = {key: case[key] for key in FIT_OPTIONS if key in case}
    return trainer.fit(
        x,
        y,
        sample_weight=rng.random(ROWS) if case.get("weighted") else None,
        epochs=epochs,
        callbacks=callbacks,
        **{"batch_size": 16, **how, **options},
    )


def outcome(trainer):
    """Everything that a run leaves behind but its duration."""
    numbers = [trainer.steps, trainer.epoch, trainer.learning_rate, trainer.network.seed]
    parts = [trainer.network.parameters, trainer.state, trainer.history.loss]
    arrays = [np.asarray(part) for part in (*parts, trainer.history.val_loss)]
    return numbers, b"".join(array.tobytes() for array in arrays)


# ---- Resumed is uninterrupted ----


@pytest.mark.parametrize("name", CASES)
def test_resumed_from_any_step_a_run_is_the_uninterrupted_one(path, name):
    case = CASES[name]
    whole = make_trainer(case)
    fit(whole, case, callbacks=[Halving()])
    watched, copies = make_trainer(case), Copies(path)
    fit(watched, case, callbacks=[Halving(), copies])
    assert outcome(watched) == outcome(whole)
    assert len(copies.copies) == whole.steps
    for copy in copies.copies:
        resumed = make_trainer(case, seed=8)
        resumed.resume(copy)
        history = fit(resumed, case, callbacks=[Halving()])
        assert outcome(resumed) == outcome(whole)
        assert history is resumed.history
    assert len({copy.read_bytes() for copy in copies.copies}) == whole.steps


@pytest.mark.parametrize("place", ["first", "last"])
@pytest.mark.parametrize("restore", [True, False])
def test_early_stopping_is_resumed(path, restore, place):
    case = {"optimizer": ds.SGD(0.4), "validation_split": 0.3}

    def stopper():
        return ds.EarlyStopping(patience=3, restore_best_weights=restore)

    whole, expected = make_trainer(case), stopper()
    fit(whole, case, epochs=200, callbacks=[expected])
    assert 4 < whole.epoch < 200
    copies, stop = Copies(path), stopper()
    fit(make_trainer(case), case, 200, [stop, copies] if place == "last" else [copies, stop])
    for copy in copies.copies[::3] + copies.copies[-1:]:
        resumed, stop = make_trainer(case), stopper()
        resumed.resume(copy)
        fit(resumed, case, epochs=200, callbacks=[stop])
        assert outcome(resumed) == outcome(whole)
        for name in ("best", "best_epoch", "stopped_epoch"):
            assert getattr(stop, name) == getattr(expected, name)


KILLED = """
import os, random, signal, sys, time
import numpy as np
import downslope as ds

path, seed = sys.argv[1], int(sys.argv[2])
rng = np.random.default_rng(1)
x, y = rng.normal(size=(2000, 20)).astype("float32"), rng.normal(size=(2000, 2)).astype("float32")

def train(path, **options):
    net = ds.Network([20, 256, 256, 2], seed=5)
    trainer = ds.Trainer(net, "mse", ds.Adam(1e-3))
    if os.path.exists(path):
        trainer.resume(path)
    resumed = trainer.steps
    stop = ds.EarlyStopping(patience=50, restore_best_weights=True)
    history = trainer.fit(x, y, epochs=12, validation_split=0.1, threads=2, callbacks=[
        ds.Checkpoint(path, **options), stop])
    results = [net.parameters, trainer.state, history.loss, history.val_loss, [stop.best]]
    return resumed, b"".join(np.asarray(result).tobytes() for result in results)

_, whole = train(path + ".whole")
moments = random.Random(seed)

def written():
    return os.path.exists(path) and os.stat(path).st_ino

def has_ended(child):
    return os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

killed = 0
while killed < 20:
    before = written()
    child = os.fork()
    if child == 0:
        try:
            train(path, every_seconds=1e-9)  # busy with writing most of the time
        except BaseException:
            sys.excepthook(*sys.exc_info())
            os._exit(1)
        os._exit(0)
    while written() == before and not has_ended(child):
        time.sleep(0.0001)
    time.sleep(moments.uniform(0, 0.02))
    os.kill(child, signal.SIGKILL)
    status = os.waitpid(child, 0)[1]
    if status == signal.SIGKILL:
        killed += 1
    elif status == 0:  # it came to its end before: begin again
        os.unlink(path)
    else:
        sys.exit("could not be resumed")
resumed, result = train(path)
print(result == whole, resumed)
"""


def test_killed_at_random_moments(path):
    seed = np.random.SeedSequence().entropy % 2**32
    print("seed of the moments:", seed)
    arguments = ("-W", "ignore::DeprecationWarning", "-c", KILLED, str(path), str(seed))
    same, resumed = fresh_python.output_of(*arguments).split()
    assert same == "True"
    assert int(resumed) > 0


def test_a_trainer_with_a_loop_of_its_own(path, rng):
    x, y = rng.normal(size=(40, 7)), rng.normal(size=(40, 3))
    case = CASES["momentum, with replacement"]
    trainer = make_trainer(case)
    for _ in range(3):
        trainer.step(x, y)
    trainer.learning_rate = 0.01
    trainer.save(path)
    resumed = make_trainer(case)
    resumed.resume(path)
    assert resumed.steps == 3
    assert resumed.history is None
    for each in (trainer, resumed):
        each.step(x, y)
        fit(each, case, epochs=2)
    assert outcome(resumed) == outcome(trainer)


def test_a_run_at_its_end_ends_at_once_or_goes_on(path):
    case = CASES["Adam, validation, weights"]
    longer, trainer = make_trainer(case), make_trainer(case)
    fit(longer, case, epochs=6)
    fit(trainer, case, epochs=4, callbacks=[ds.Checkpoint(path)])
    for epochs, expected in ((4, trainer), (2, trainer), (6, longer)):
        resumed = make_trainer(case)
        resumed.resume(path)
        history = fit(resumed, case, epochs=epochs)
        assert outcome(resumed) == outcome(expected)
        assert history.epochs == max(epochs, 4)


def test_a_resumed_trainer_saves_the_run_it_will_finish(path):
    case = CASES["Adam, validation, weights"]
    whole, copies = make_trainer(case), Copies(path)
    fit(whole, case, callbacks=[Halving(), copies])
    resumed = make_trainer(case)
    resumed.resume(copies.copies[9])
    resumed.save(path)
    assert path.read_bytes() == copies.copies[9].read_bytes()


FUNCTIONS = """
import functools, sys
import numpy as np
import downslope as ds

def loss(outputs, targets):
    return ((outputs - targets) ** 2).mean(axis=1), 2 * (outputs - targets) / targets.size

class Weighed:
    def __call__(self, outputs, targets):
        return loss(outputs, targets)

def rate(factor, step):
    return factor / (1 + step)

x = np.linspace(-1, 1, 40).reshape(-1, 1)
path, mode, case = sys.argv[1:]
losses = {"function": loss, "instance": Weighed(), "partial": functools.partial(loss)}
net = ds.Network([1, 4, 1], activation="tanh", seed=0)
trainer = ds.Trainer(net, losses[case], ds.SGD(functools.partial(rate, 0.1)))
if mode == "resume":
    trainer.resume(path)
callbacks = [] if mode == "whole" else [ds.Checkpoint(path)]
trainer.fit(x, x**2, epochs=2 if mode == "begin" else 4, callbacks=callbacks)
print(net.parameters.tolist())
"""


@pytest.mark.parametrize("case", ["function", "instance", "partial"])
def test_functions_are_resumed_in_another_process(path, case):
    """For a loss and for a learning rate; what names them holds no address."""
    begun, resumed, whole = (
        fresh_python.output_of("-c", FUNCTIONS, str(path), mode, case)
        for mode in ("begin", "resume", "whole")
    )
    assert begun != resumed == whole


def test_the_seed_of_the_network_is_resumed(path):
    """A program that gives no seed has another one each time."""
    case = CASES["SGD"]
    whole, copies = make_trainer(case, seed=None), Copies(path)
    fit(whole, case, callbacks=[copies])
    resumed = make_trainer(case, seed=None)
    assert resumed.network.seed != whole.network.seed
    resumed.resume(copies.copies[3])
    fit(resumed, case)
    assert outcome(resumed) == outcome(whole)


# ---- When it is written, and what ----


class Written(ds.Checkpoint):
    """Notes the steps after which it writes."""

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self.steps = []

    def _keep_previous(self):
        super()._keep_previous()
        self.steps.append(self.trainer.steps)

    def on_fit_begin(self, trainer):
        self.trainer = trainer
        super().on_fit_begin(trainer)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, [7, 14, 21, 28, 35]),
        ({"every_epochs": 2}, [14, 28, 35]),
        ({"every_epochs": None}, [35]),
        ({"every_epochs": None, "every_seconds": 3600}, [35]),
        ({"every_epochs": None, "every_seconds": 1e-9}, list(range(1, 36))),
    ],
)
def test_when_a_checkpoint_is_written(path, options, expected):
    written = Written(path, **options)
    fit(make_trainer(CASES["SGD"]), CASES["SGD"], epochs=5, callbacks=[written])
    assert written.steps == expected


def test_seconds_are_kept_within_an_epoch(path):
    """Some checkpoints within an epoch, but not one for every step."""
    written = Written(path, every_epochs=None, every_seconds=0.02)
    trainer = ds.Trainer(ds.Network([1, 1], seed=0))
    x = np.zeros((500_000, 1), np.float32)
    trainer.fit(x, x, batch_size=1, callbacks=[written])
    assert 2 <= len(written.steps) < 50_000
    assert all(0 < step < len(x) for step in written.steps[:-1])


def test_the_end_of_a_stopped_run_is_written(path):
    class Stop(ds.Callback):
        def on_epoch_end(self, trainer, epoch, logs):
            return epoch == 2

    case = CASES["SGD"]
    trainer = make_trainer(case)
    written = Written(path, every_epochs=None)
    fit(trainer, case, epochs=100, callbacks=[written, Stop()])
    assert written.steps == [21]
    resumed = make_trainer(case)
    resumed.resume(path)
    assert fit(resumed, case, epochs=100, callbacks=[Stop()]).epochs == 3
    assert outcome(resumed) == outcome(trainer)


@pytest.mark.parametrize("first", [True, False])
def test_the_end_in_a_pause_is_written(path, first):
    class Stop(ds.Callback):
        def on_pause(self, trainer):
            return trainer.epoch == 2

    case = CASES["SGD"]
    trainer = make_trainer(case)
    written = Written(path, every_epochs=None)
    both = [written, Stop()] if first else [Stop(), written]
    history = fit(trainer, case, epochs=100, callbacks=both)
    assert (written.steps, history.epochs, trainer.epoch) == ([14], 2, 2)


def test_a_checkpoint_is_a_model_file_too(path):
    trainer = make_trainer(CASES["SGD"])
    trainer.network.metadata = {"data": "of May"}
    fit(trainer, CASES["SGD"], callbacks=[ds.Checkpoint(path)])
    network = ds.load(path)
    np.testing.assert_array_equal(network.parameters, trainer.network.parameters)
    assert network.metadata == {"data": "of May"}


def test_a_missing_folder_is_found_before_training(tmp_path):
    trainer = make_trainer(CASES["SGD"])
    with pytest.raises(FileNotFoundError, match=r"the folder for checkpoints.*nowhere"):
        fit(trainer, CASES["SGD"], callbacks=[ds.Checkpoint(tmp_path / "nowhere" / "a")])
    assert trainer.steps == 0


@pytest.mark.parametrize(
    "options",
    [
        {"every_epochs": 0},
        {"every_epochs": 1.5},
        {"every_seconds": 0},
        {"every_seconds": -1.0},
        {"every_seconds": math.inf},
        {"every_seconds": "1"},
    ],
)
def test_a_wrong_interval(path, options):
    with pytest.raises((TypeError, ValueError), match=next(iter(options))):
        ds.Checkpoint(path, **options)


# ---- Damage ----


@pytest.fixture
def two(path):
    """A checkpoint and the one before it."""
    checkpoint = ds.Checkpoint(path)
    trainer = make_trainer(CASES["Adam, validation, weights"])
    stop = ds.EarlyStopping(patience=9, restore_best_weights=True)
    fit(trainer, CASES["Adam, validation, weights"], callbacks=[checkpoint, stop])
    return path, checkpoint.previous, trainer


def refuse(path, message):
    """`resume` ends with the error, and has changed nothing."""
    trainer = make_trainer(CASES["Adam, validation, weights"])
    before = trainer.network.parameters.copy()
    with pytest.raises(ValueError, match=message) as caught:
        trainer.resume(path)
    np.testing.assert_array_equal(trainer.network.parameters, before)
    assert (trainer.steps, trainer.epoch, trainer.history) == (0, 0, None)
    assert not trainer.state.any()
    return str(caught.value)


def test_the_previous_checkpoint_is_there(two):
    path, previous, trainer = two
    contents = path.read_bytes()
    path.write_bytes(contents[: len(contents) // 2])
    message = refuse(path, "damaged")
    assert path.name in message
    assert previous.name in message
    resumed = make_trainer(CASES["Adam, validation, weights"])
    resumed.resume(previous)
    assert resumed.epoch == 3
    fit(resumed, CASES["Adam, validation, weights"], callbacks=[ds.EarlyStopping(patience=9)])
    assert resumed.history.loss == trainer.history.loss


def test_every_truncation_is_refused(two):
    contents = two[0].read_bytes()
    for length in [*range(0, len(contents), 97), len(contents) - 1]:
        two[0].write_bytes(contents[:length])
        refuse(two[0], "damaged")


def test_every_flipped_bit_is_refused(two, rng):
    contents = np.frombuffer(two[0].read_bytes(), np.uint8)
    for place in rng.integers(0, contents.size, 400):
        damaged = contents.copy()
        damaged[place] ^= 1 << rng.integers(8)
        two[0].write_bytes(damaged.tobytes())
        refuse(two[0], "damaged|no training under way|changed|has elements of type")


@pytest.mark.parametrize("what", ["parameters", "state", "best parameters", "steps", "digest"])
def test_a_tampered_file_is_refused(two, what):
    """Well-formed, and not what was written."""
    tensors, texts = read_tensors(two[0])
    if what == "steps":
        description = json.loads(texts["downslope.trainer"])
        description["steps"] += 1
        texts["downslope.trainer"] = json.dumps(description)
    elif what == "digest":
        del texts["downslope.sha256"]
    else:
        names = {
            "parameters": "layers.0.bias",
            "state": "trainer.state",
            "best parameters": "trainer.callbacks.0.best_parameters",
        }
        tensors[names[what]].flat[0] += 1
    write_tensors(two[0], tensors, texts)
    refuse(two[0], "SHA-256")


def test_files_of_another_kind(path):
    make_trainer(CASES["SGD"]).network.save(path)
    refuse(path, "no training under way.*downslope.load")
    path.write_bytes(b"pickle?")
    refuse(path, "damaged")
    with pytest.raises(FileNotFoundError):
        make_trainer(CASES["SGD"]).resume(path.with_name("nowhere"))


# ---- Contradictions ----


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("optimizer", lambda: ds.Trainer(ds.Network([7, 19, 3], activation="tanh"))),
        (
            "loss",
            lambda: ds.Trainer(ds.Network([7, 19, 3], activation="tanh"), "half_squared_error"),
        ),
        ("layers", lambda: ds.Trainer(ds.Network([7, 20, 3], activation="tanh"))),
        ("layers", lambda: ds.Trainer(ds.Network([7, 19, 3]))),
        ("dtype", lambda: ds.Trainer(ds.Network([7, 19, 3], activation="tanh", dtype="float64"))),
    ],
)
def test_another_trainer_is_refused(two, name, make):
    trainer = make()
    before = trainer.network.parameters.copy()
    with pytest.raises(ValueError, match=f"the checkpoint was written with {name}="):
        trainer.resume(two[0])
    np.testing.assert_array_equal(trainer.network.parameters, before)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("batch_size", {"batch_size": 15}),
        ("shuffle", {"shuffle": False}),
        ("sampling", {"sampling": "with_replacement"}),
        ("rows", {"validation_split": 0.1}),
        ("callbacks", {"callbacks": []}),
        ("callbacks", {"callbacks": [Halving()]}),
    ],
)
def test_another_run_is_refused(two, name, options):
    case = CASES["Adam, validation, weights"]
    resumed = make_trainer(case)
    resumed.resume(two[1])
    right = {"callbacks": [ds.EarlyStopping(patience=9, restore_best_weights=True)]}
    with pytest.raises(ValueError, match=f"the checkpoint was written with {name}="):
        fit(resumed, case, **{**right, **options})
    fit(resumed, case, **right)  # nothing has changed
    assert outcome(resumed) == outcome(two[2])
