"""Ensembles: to the bit the same networks trained alone, on any number of threads."""

import copy
import pickle
import signal
import threading

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import downslope as ds

SHAPE = {"widths": [3, 8, 2], "activation": "tanh", "output": "softmax"}
N = 5


@pytest.fixture
def data(rng):
    x = rng.normal(size=(70, 3)).astype(np.float32)
    return x, (x[:, 0] > x[:, 1]).astype(int)


def optimizers():
    return [ds.Adam(0.003 * (i + 1)) for i in range(N - 1)] + [ds.SGD(1e-7, momentum=0.9)]


def bootstrap(rng, rows):
    return rng.multinomial(rows, np.full(rows, 1 / rows), size=N).astype(np.float32)


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("batch_size", [32, 1, None])
def test_members_are_the_networks_trained_alone(rng, data, threads, shuffle, batch_size):
    x, y = data
    weight = bootstrap(rng, len(x))
    validation = (x[:20], y[:20])
    settings = {"patience": 2, "min_delta": 1e-3, "restore_best_weights": True}
    common = {"loss": "cross_entropy", "epochs": 12, "batch_size": batch_size, "shuffle": shuffle}
    ensemble = ds.Ensemble(N, **SHAPE, seed=4)
    histories = ensemble.fit(
        x,
        y,
        optimizer=optimizers(),
        sample_weight=weight,
        validation_data=validation,
        early_stopping=ds.EarlyStopping(**settings),
        threads=threads,
        **common,
    )
    for i, optimizer in enumerate(optimizers()):
        alone = ds.Network(**SHAPE, seed=4 + i)
        history = alone.fit(
            x,
            y,
            optimizer=optimizer,
            sample_weight=weight[i],
            validation_data=validation,
            callbacks=[ds.EarlyStopping(**settings)],
            **common,
        )
        assert histories[i].loss == history.loss
        assert histories[i].val_loss == history.val_loss
        assert_array_equal(ensemble.networks[i].parameters, alone.parameters)
    assert len({len(history.loss) for history in histories}) > 1  # some stopped before others


def test_steps_that_keep_their_gradients(rng):
    x, y = rng.normal(size=(5000, 3)), rng.normal(size=(5000, 2))
    ensemble = ds.Ensemble(2, [3, 4, 2], seed=[7, 3], dtype="float64")
    ensemble.fit(x, y, epochs=2, batch_size=None, sample_weight=np.full(len(x), 0.5))
    alone = ds.Network([3, 4, 2], seed=3, dtype="float64")
    alone.fit(x, y, epochs=2, batch_size=None, sample_weight=np.full(len(x), 0.5))
    assert_array_equal(ensemble.networks[1].parameters, alone.parameters)


@pytest.mark.parametrize("threads", [1, 2])
def test_members_draw_their_own_noise(data, threads):
    """In the memory that one member after the other works in."""
    x, y = data
    shape = {"widths": 3, "layers": [ds.Dense(8, "relu", dropout=0.4), ds.Dense(2)]}
    shape["input_dropout"] = 0.2
    ensemble = ds.Ensemble(N, **shape, seed=4)
    ensemble.fit(x, np.eye(2)[y], optimizer="adam", epochs=3, threads=threads)
    for i in range(N):
        alone = ds.Network(**shape, seed=4 + i)
        alone.fit(x, np.eye(2)[y], optimizer="adam", epochs=3)
        assert_array_equal(ensemble.networks[i].parameters, alone.parameters)


@pytest.mark.parametrize(
    "settings",
    [
        {"patience": 1, "warm_up": 20},
        {"patience": 1, "mode": "max"},
        {"patience": 4, "min_delta": 1e9},  # no epoch is a best one
        {"patience": 3, "monitor": "loss"},
    ],
)
@pytest.mark.parametrize("scale", [1, 1e25])  # the validation loss is infinite
def test_early_stopping_by_all_its_settings(rng, settings, scale):
    x = rng.normal(size=(64, 3)).astype(np.float32)
    y = x[:, :1] * x[:, 1:2]
    settings = {"restore_best_weights": True, **settings}
    common = {"optimizer": ds.SGD(0.1), "epochs": 60}
    common["validation_data"] = x, np.float32(scale) * y
    ensemble = ds.Ensemble(2, [3, 4, 1], seed=0)
    histories = ensemble.fit(x, y, early_stopping=ds.EarlyStopping(**settings), **common)
    for i in range(2):
        alone = ds.Network([3, 4, 1], seed=i)
        history = alone.fit(x, y, callbacks=[ds.EarlyStopping(**settings)], **common)
        assert histories[i].val_loss == history.val_loss
        assert_array_equal(ensemble.networks[i].parameters, alone.parameters)


@pytest.mark.parametrize(
    "copied", [copy.copy, copy.deepcopy, lambda it: pickle.loads(pickle.dumps(it))]
)
def test_a_copy_has_memory_of_its_own(data, copied):
    ensemble = ds.Ensemble(2, **SHAPE, seed=0)
    ensemble.networks[0].metadata["name"] = "first"
    outputs = ensemble.predict(data[0])
    other = copied(ensemble)
    assert other.networks[0].metadata == {"name": "first"}
    assert_array_equal(other.predict(data[0]), outputs)
    other.parameters[:] = 0
    assert not other.networks[1].parameters.any()
    assert_array_equal(ensemble.predict(data[0]), outputs)
    ensemble.parameters[:] = 0
    assert not ensemble.networks[1].parameters.any()


def test_iterators_are_read_once():
    ensemble = ds.Ensemble(2, iter([3, 1]), seed=iter([7, 3]))
    assert [network.seed for network in ensemble.networks] == [7, 3]


def test_predictions_and_their_spread(rng):
    ensemble = ds.Ensemble(N, **SHAPE, seed=0)
    x = rng.normal(size=(9, 3))
    outputs = ensemble.predict(x)
    for network, own in zip(ensemble.networks, outputs, strict=True):
        assert_array_equal(network.predict(x), own)
    mean, spread = ensemble.mean_and_spread(x)
    assert_allclose(mean, outputs.mean(axis=0), rtol=1e-6)
    assert_allclose(spread, outputs.std(axis=0), rtol=1e-5)
    ensemble.parameters[0] = 0
    assert_array_equal(ensemble.predict(x)[0], np.float32(0.5))
    assert len(ensemble) == N


def test_divergence_of_one_member_leaves_the_others(data):
    x, _ = data
    chosen = [ds.SGD(0.1), ds.SGD(1e30), ds.SGD(0.1)]
    arguments = {"optimizer": chosen, "epochs": 4, "threads": 2}
    target = x[:, :2] * 3
    for outcome, context in (
        ("raise", pytest.raises(FloatingPointError, match=r"members \[1\]")),
        ("warn", pytest.warns(RuntimeWarning, match=r"members \[1\]")),
    ):
        ensemble = ds.Ensemble(3, [3, 8, 2], seed=0)
        with context:
            ensemble.fit(x, target, on_divergence=outcome, **arguments)
        alone = ds.Network([3, 8, 2], seed=2)
        alone.fit(x, target, optimizer=chosen[2], epochs=4)
        assert_array_equal(ensemble.networks[2].parameters, alone.parameters)
        assert np.isfinite(ensemble.parameters).all()


def test_ctrl_c_ends_all_threads(rng):
    x, y = rng.normal(size=(20000, 3)), rng.normal(size=(20000, 2))
    ensemble = ds.Ensemble(4, [3, 16, 2], seed=0)
    before = threading.active_count()
    main = threading.main_thread()
    timer = threading.Timer(0.3, signal.pthread_kill, [main.ident, signal.SIGINT])
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        ensemble.fit(x, y, epochs=100_000, threads=2)
    timer.join()
    assert threading.active_count() == before


@pytest.mark.usefixtures("each_wait")
@pytest.mark.parametrize("idle", [0, 1])
def test_ctrl_c_when_the_calling_thread_is_done(rng, idle):
    """And waits for the other, which is in an epoch of minutes."""
    x = rng.normal(size=(100_000, 3)).astype(np.float32)
    weight = np.ones((2, len(x)))
    weight[idle] = 0  # its loss stays as it is
    ensemble = ds.Ensemble(2, [3, 256, 256, 1], seed=0)
    before, main = threading.active_count(), threading.main_thread()
    timer = threading.Timer(0.7, signal.pthread_kill, [main.ident, signal.SIGINT])
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        ensemble.fit(
            x,
            x[:, :1],
            optimizer=ds.SGD(1e-6),
            epochs=1000,
            sample_weight=weight,
            early_stopping=ds.EarlyStopping("loss", patience=1),
            threads=2,
        )
    timer.join()
    assert threading.active_count() == before


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"optimizer": ["sgd"]}, ValueError, "each of 5 members"),
        ({"sample_weight": np.ones((2, 70))}, ValueError, r"\(5, 70\)"),
        ({"sample_weight": -np.ones((5, 70))}, ValueError, "negative"),
        ({"early_stopping": 3}, TypeError, "EarlyStopping"),
        ({"early_stopping": ds.EarlyStopping()}, ValueError, "validation data"),
        ({"on_divergence": "stop"}, ValueError, "on_divergence"),
        ({"loss": lambda y, t: (0, y)}, TypeError, "by name"),
        ({"epochs": 0}, ValueError, "epochs"),
        ({"optimizer": ds.SGD(lambda step: 0.1)}, ValueError, "constant learning rate"),
        ({"optimizer": ds.SGD(0.1, ema_momentum=0.9)}, ValueError, "average"),
    ],
)
def test_bad_arguments_change_nothing(data, arguments, error, message):
    ensemble = ds.Ensemble(N, **SHAPE, seed=0)
    before = ensemble.parameters.copy()
    with pytest.raises(error, match=message):
        ensemble.fit(*data, **({"loss": "cross_entropy"} | arguments))
    assert_array_equal(ensemble.parameters, before)


def test_bad_members_are_refused():
    with pytest.raises(ValueError, match="each of 3 members"):
        ds.Ensemble(3, [2, 1], seed=[1, 2])
    with pytest.raises(TypeError, match="memory of its own"):
        ds.Ensemble(2, [2, 1], parameters=np.ones(3))
    with pytest.raises(ValueError, match="n must be at least 1"):
        ds.Ensemble(0, [2, 1])
