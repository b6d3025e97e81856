"""Metrics against scikit-learn, and in a run: logs, history, early stopping."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest

import downslope as ds
from downslope import metrics

# ---- Against scikit-learn ----


@pytest.fixture
def sk():
    return pytest.importorskip("sklearn.metrics")


def outputs_of_classes(rng, rows, classes):
    """Probabilities on a coarse grid, so that there are ties between rows."""
    grid = rng.integers(1, 6, size=(rows, classes)) + np.arange(classes) / 100
    return grid / grid.sum(axis=1, keepdims=True)


def test_accuracy_and_f1_of_labels(rng, sk):
    y, out = rng.integers(0, 4, 200), outputs_of_classes(rng, 200, 4)
    guess = out.argmax(axis=1)
    for targets in (y, np.eye(4)[y]):
        assert metrics.accuracy(targets, out) == pytest.approx(sk.accuracy_score(y, guess))
        assert metrics.f1(targets, out) == pytest.approx(sk.f1_score(y, guess, average="macro"))


def test_accuracy_and_f1_of_one_output(rng, sk):
    y, out = rng.integers(0, 2, (200, 1)).astype(float), rng.uniform(size=(200, 1))
    guess = out[:, 0] >= 0.5
    assert metrics.accuracy(y, out) == pytest.approx(sk.accuracy_score(y[:, 0], guess))
    assert metrics.f1(y, out) == pytest.approx(sk.f1_score(y[:, 0], guess))


def test_several_labels_a_row(rng, sk):
    y, out = rng.integers(0, 2, (200, 3)).astype(float), rng.uniform(size=(200, 3))
    assert metrics.accuracy(y, out) == pytest.approx(np.mean(y == (out >= 0.5)))
    assert metrics.f1(y, out) == pytest.approx(sk.f1_score(y, out >= 0.5, average="macro"))
    assert metrics.roc_auc(y, out) == pytest.approx(sk.roc_auc_score(y, out))


@pytest.mark.parametrize("k", [1, 2, 3])
def test_top_k(rng, sk, k):
    y, out = rng.integers(0, 4, 200), rng.uniform(size=(200, 4))
    metric = metrics.top_k_accuracy(k)
    assert metric.name == f"top_{k}_accuracy"
    expected = sk.top_k_accuracy_score(y, out, k=k)
    assert metric(y, out) == metric(np.eye(4)[y], out) == pytest.approx(expected)


def test_roc_auc(rng, sk):
    for classes in (2, 4):
        y, out = rng.integers(0, classes, 200), outputs_of_classes(rng, 200, classes)
        score = out[:, 1] if classes == 2 else out
        expected = sk.roc_auc_score(y, score, multi_class="ovr")
        assert metrics.roc_auc(y, out) == pytest.approx(expected)
    y, score = rng.integers(0, 2, (100, 1)).astype(float), rng.integers(0, 9, (100, 1))
    assert metrics.roc_auc(y, score) == pytest.approx(sk.roc_auc_score(y[:, 0], score[:, 0]))
    assert np.isnan(metrics.roc_auc(np.ones((3, 1)), np.ones((3, 1))))


def test_r2_and_mae(rng, sk):
    y, out = rng.normal(size=(100, 3)), rng.normal(size=(100, 3))
    assert metrics.r2(y, out) == pytest.approx(sk.r2_score(y, out))
    assert metrics.mae(y, out) == pytest.approx(sk.mean_absolute_error(y, out))
    flat = np.ones((5, 1))
    assert (metrics.r2(flat, flat), metrics.r2(flat, flat + 1)) == (1, 0)


def test_targets_of_signs_part_at_zero(rng, sk):
    """As those of "hinge"."""
    y, out = rng.choice([-1.0, 1.0], (200, 1)), rng.normal(size=(200, 1))
    assert metrics.accuracy(y, out) == pytest.approx(sk.accuracy_score(y, np.sign(out)))
    assert metrics.f1(y, out) == pytest.approx(sk.f1_score(y, np.sign(out)))
    assert metrics.roc_auc(y, out) == pytest.approx(sk.roc_auc_score(y, out))


def test_rows_of_probabilities_are_of_their_greatest(rng):
    soft, out = rng.dirichlet([1, 1, 1], 200), np.log(outputs_of_classes(rng, 200, 3))
    labels = soft.argmax(axis=1)
    for metric in (metrics.accuracy, metrics.f1, metrics.roc_auc, metrics.top_k_accuracy(2)):
        assert metric(soft, out) == metric(labels, out)


def test_variances_are_no_answers(rng, sk):
    """Of the outputs for "gaussian_nll", the first half counts."""
    y, out = rng.normal(size=(100, 2)), rng.normal(size=(100, 4))
    assert metrics.r2(y, out) == pytest.approx(sk.r2_score(y, out[:, :2]))
    assert metrics.mae(y, out) == pytest.approx(sk.mean_absolute_error(y, out[:, :2]))
    with pytest.raises(ValueError, match="an output for each of 2 targets; got 3"):
        metrics.r2(y, out[:, :3])


def test_targets_with_one_axis(rng, sk):
    """As a loss function may have them."""
    y, out = rng.normal(size=50), rng.normal(size=(50, 1))
    assert metrics.r2(y, out) == pytest.approx(sk.r2_score(y, out))
    assert metrics.mae(y, out) == pytest.approx(sk.mean_absolute_error(y, out))
    signs = rng.integers(0, 2, 50)
    assert metrics.accuracy(signs, out) == pytest.approx(sk.accuracy_score(signs, out >= 0.5))


# ---- In a run ----


def make_data(rng, rows=40):
    return rng.normal(size=(rows, 3)), rng.integers(0, 2, rows)


def make_trainer():
    net = ds.Network([3, 6, 2], activation="tanh", output="softmax", seed=2)
    return ds.Trainer(net, "cross_entropy", "adam")


def worst(targets, outputs):
    return float(outputs[np.arange(len(targets)), targets].min())


def test_logs_and_history(rng):
    x, y = make_data(rng)
    trainer = make_trainer()
    options = {"metrics": ["accuracy", worst], "validation_data": (x[:15], y[:15])}
    history = trainer.fit(x, y, epochs=3, **options)
    assert list(history.metrics) == ["accuracy", "worst", "val_accuracy", "val_worst"]
    out = trainer.network.predict(x)
    assert history.metrics["accuracy"][-1] == metrics.accuracy(y, out)
    assert history.metrics["val_accuracy"][-1] == metrics.accuracy(y[:15], out[:15])
    assert history.metrics["val_worst"][-1] == worst(y[:15], out[:15])
    assert all(len(values) == 3 for values in history.to_dict().values())
    assert make_trainer().fit(x, y, epochs=3).loss == history.loss


@pytest.mark.parametrize("loss", ["hinge", "mse"])
def test_signs_that_are_all_positive_part_at_zero_too(rng, loss):
    """As the loss or the training targets say."""
    x, _ = make_data(rng)
    y = np.where(x[:, :1] > 0, 1.0, -1.0)
    positive = y[:, 0] > 0
    net = ds.Network([3, 1], weights="zeros")
    net.parameters[-1] = 0.2
    options = {"loss": loss, "optimizer": ds.SGD(1e-9), "metrics": ["accuracy", "f1"]}
    validation = (x[positive], y[positive])
    history = net.fit(x, y, validation_data=validation, **options)
    assert history.metrics["val_accuracy"] == history.metrics["val_f1"] == [1.0]
    assert history.metrics["accuracy"] == [positive.mean()]
    if loss == "hinge":
        history = net.fit(*validation, validation_data=(x, y), **options)
        assert history.metrics["accuracy"] == [1.0]
        history = net.fit([(x, y)], validation_data=validation, **options)
        assert history.metrics["val_accuracy"] == [1.0]


def test_metrics_of_a_split_are_of_its_two_parts(rng):
    x, y = make_data(rng)
    sizes = ds.Metric("sizes", lambda t, o: len(t) + len(o) / 1000, True)
    history = make_trainer().fit(x, y, validation_split=0.25, metrics=[sizes])
    assert history.metrics == {"sizes": [30.03], "val_sizes": [10.01]}


def test_metrics_of_batches_are_those_of_validation(rng):
    x, y = make_data(rng)
    history = make_trainer().fit([(x, y)], metrics=["accuracy"], validation_data=(x, y))
    assert list(history.metrics) == ["val_accuracy"]


class Script(ds.Callback):
    def __init__(self, name, values):
        self.name, self.values = name, values

    def on_epoch_end(self, trainer, epoch, logs):
        logs[self.name] = self.values[epoch]


@pytest.mark.parametrize(
    ("values", "options", "stopped", "best"),
    [
        ([0.1, 0.3, 0.2, 0.2], {"patience": 2}, 3, 1),
        ([0.1, 0.3, 0.35, 0.4], {"patience": 2, "min_delta": 0.15}, 3, 1),
        ([0.1, 0.2, 0.3, 0.4], {"mode": "min", "patience": 2}, 2, 0),
        ([0.9, 0.1, 0.2, 0.1], {"warm_up": 1, "patience": 1}, 3, 2),
        ([0.9, 0.1, 0.1, 0.1], {"warm_up": 3, "patience": 1}, None, 3),
    ],
)
def test_early_stopping_on_a_metric(rng, values, options, stopped, best):
    x, y = make_data(rng)
    stop = ds.EarlyStopping("val_accuracy", **options)
    callbacks = [Script("val_accuracy", values), stop]
    make_trainer().fit(
        x, y, epochs=4, metrics=["accuracy"], validation_data=(x, y), callbacks=callbacks
    )
    assert (stop.stopped_epoch, stop.best_epoch, stop.best) == (stopped, best, values[best])


@pytest.mark.parametrize(
    ("values", "stopped", "best"),
    [([np.nan, 2.0, 1.0, np.nan, 3.0], 4, 2), ([np.nan, np.nan, 1.0], 1, None)],
)
def test_what_is_not_a_number_is_no_improvement(rng, values, stopped, best):
    stop = ds.EarlyStopping("loss", patience=2, restore_best_weights=True)
    make_trainer().fit(*make_data(rng), epochs=5, callbacks=[Script("loss", values), stop])
    assert (stop.stopped_epoch, stop.best_epoch) == (stopped, best)


def test_warm_up_counts_from_the_beginning_of_the_run(rng):
    x, y = make_data(rng)
    trainer = make_trainer()
    trainer.fit(x, y, epochs=5)
    stop = ds.EarlyStopping("loss", warm_up=2)
    values = [0] * 5 + [1, 2, 4, 3, 5]
    trainer.fit(x, y, epochs=5, callbacks=[Script("loss", values), stop])
    assert (stop.best_epoch, stop.stopped_epoch) == (8, 9)


@pytest.mark.parametrize(
    ("monitor", "message"),
    [("val_accuracy", "no validation data"), ("f1", "unknown monitor 'f1'"), ("lose", "'loss'")],
)
def test_what_is_not_in_the_logs_can_not_be_monitored(rng, monitor, message):
    with pytest.raises(ValueError, match=message):
        make_trainer().fit(
            *make_data(rng), metrics=["accuracy"], callbacks=[ds.EarlyStopping(monitor)]
        )


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ("accuracy", TypeError, "metrics must be a list"),
        (["acuracy"], ValueError, "did you mean 'accuracy'"),
        ([3], TypeError, "a metric must be a name"),
        (["accuracy", "accuracy"], ValueError, "different names"),
        (["mae"], ValueError, "must be numbers, not class labels"),
        ([ds.Metric("loss", worst, True)], ValueError, "not 'loss'"),
        ([ds.Metric("val_worst", worst, True)], ValueError, "not with 'val_' before"),
        (["acc"], ValueError, "here it is 'accuracy'"),
        (["top_0_accuracy"], ValueError, "top_3_accuracy"),
    ],
)
def test_wrong_metrics(rng, given, error, message):
    with pytest.raises(error, match=message):
        make_trainer().fit(*make_data(rng), metrics=given)


@pytest.mark.parametrize(
    ("metric", "message"),
    [
        ("accuracy", r"must be classes: .*; these lie in -?\d"),
        ("roc_auc", "must be classes"),
        (metrics.f1, "must be classes"),
        ("top_2_accuracy", "'top_2_accuracy': there must be classes"),
    ],
)
def test_metrics_of_classes_refuse_numbers(rng, metric, message):
    x, _ = make_data(rng)
    net = ds.Network([3, 1], seed=0)
    before = net.parameters.copy()
    with pytest.raises(ValueError, match=message):
        net.fit(x, 3 * x[:, :1], metrics=[metric])
    np.testing.assert_array_equal(net.parameters, before)


def test_metrics_need_rows_that_stay(rng):
    with pytest.raises(ValueError, match="with batches, give validation_data"):
        make_trainer().fit([make_data(rng)], metrics=["accuracy"])


def test_a_metric_is_a_name_and_a_function_that_gives_a_number(rng):
    for name, function in [("x", 3), (3, len)]:
        with pytest.raises(TypeError, match="a metric has a name and a function"):
            ds.Metric(name, function, True)
    with pytest.raises(TypeError, match="metric 'all' must return a number; got ndarray"):
        make_trainer().fit(*make_data(rng), metrics=[ds.Metric("all", lambda t, y: y, True)])


# ---- What is left of a run ----


def run_with_metrics(rng, **options):
    return make_trainer().fit(
        *make_data(rng), epochs=3, metrics=["accuracy"], validation_split=0.25, **options
    )


def test_history_as_a_table(rng, tmp_path):
    pytest.importorskip("pandas")
    history = run_with_metrics(rng)
    frame = history.to_dataframe()
    assert list(frame) == ["loss", "val_loss", "accuracy", "val_accuracy"]
    history.to_csv(tmp_path / "run.csv")
    with open(tmp_path / "run.csv", newline="") as file:
        lines = list(csv.DictReader(file))
    assert [int(line.pop("epoch")) for line in lines] == list(frame.index)
    for name in frame:
        assert [float(line[name]) for line in lines] == list(frame[name]) == history.to_dict()[name]


def test_lines_of_json_are_there_while_it_runs(rng, tmp_path):
    path, seen = tmp_path / "run.jsonl", []

    class Reader(ds.Callback):
        def on_epoch_end(self, trainer, epoch, logs):
            seen.append([json.loads(line) for line in path.read_text().splitlines()])

    history = run_with_metrics(rng, callbacks=[ds.JSONLines(path), Reader()])
    assert [len(lines) for lines in seen] == [1, 2, 3]
    for name, values in history.to_dict().items():
        assert [line[name] for line in seen[-1]] == values
    assert [line["epoch"] for line in seen[-1]] == [0, 1, 2]


def test_tensorboard(rng, tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    history = run_with_metrics(rng, callbacks=[ds.TensorBoard(tmp_path)])
    events = accumulator.EventAccumulator(str(tmp_path))
    events.Reload()
    values = [event.tensor_proto.float_val[0] for event in events.Tensors("val_loss")]
    np.testing.assert_allclose(values, history.val_loss, rtol=1e-6)
