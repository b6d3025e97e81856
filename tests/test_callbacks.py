"""Callbacks: when they are called, how they stop a run, early stopping, progress."""

from __future__ import annotations

import copy
import pickle
import re
import sys

import numpy as np
import pytest

import downslope as ds

SEED = 5


def make_run():
    """A small trainer, and data to train it on."""
    rng = np.random.default_rng(SEED)
    network = ds.Network([2, 4, 1], activation="tanh", seed=0)
    return ds.Trainer(network, optimizer=ds.SGD(0.1)), rng.normal(size=(12, 2)), rng.normal(size=12)


class Recorder(ds.Callback):
    """Writes down what it is told, and fails or stops when it is asked to."""

    def __init__(self, name="", calls=None, fail_in=None, stop_after=None):
        self.name, self.calls = name, [] if calls is None else calls
        self.fail_in, self.stop_after = fail_in, stop_after
        self.logs, self.parameters, self.interrupted = [], [], None

    def record(self, what, *details):
        self.calls.append((self.name + what, *details))
        if self.fail_in == what:
            raise RuntimeError(f"{self.name}{what} failed")

    def on_fit_begin(self, trainer):
        self.record("fit_begin", trainer.epoch, trainer.target_epoch, trainer.validates)

    def on_epoch_begin(self, trainer, epoch):
        self.record("epoch_begin", epoch, trainer.epoch)

    def on_epoch_end(self, trainer, epoch, logs):
        self.logs.append(dict(logs))
        self.parameters.append(trainer.network.parameters.copy())
        self.record("epoch_end", epoch, trainer.epoch)
        return epoch == self.stop_after

    def on_fit_end(self, trainer):
        self.interrupted = trainer.interrupted
        self.record("fit_end")


# ---- Order ----


def test_order_of_calls():
    trainer, x, t = make_run()
    calls = []
    trainer.fit(x, t, epochs=2, callbacks=[Recorder("a ", calls), Recorder("b ", calls)])
    assert calls == [
        ("a fit_begin", 0, 2, False),
        ("b fit_begin", 0, 2, False),
        ("a epoch_begin", 0, 0),
        ("b epoch_begin", 0, 0),
        ("a epoch_end", 0, 1),
        ("b epoch_end", 0, 1),
        ("a epoch_begin", 1, 1),
        ("b epoch_begin", 1, 1),
        ("a epoch_end", 1, 2),
        ("b epoch_end", 1, 2),
        ("a fit_end",),
        ("b fit_end",),
    ]


def test_epochs_count_over_the_life_of_the_trainer():
    trainer, x, t = make_run()
    trainer.fit(x, t, epochs=3)
    recorder = Recorder()
    trainer.fit(x, t, epochs=1, validation_split=0.25, callbacks=(recorder,))
    assert recorder.calls[0] == ("fit_begin", 3, 4, True)
    assert recorder.calls[1:3] == [("epoch_begin", 3, 3), ("epoch_end", 3, 4)]


def test_logs_are_the_history():
    trainer, x, t = make_run()
    recorder = Recorder()
    history = trainer.fit(x, t, epochs=3, validation_split=0.25, callbacks=[recorder])
    assert recorder.logs == [
        {"loss": loss, "val_loss": val_loss}
        for loss, val_loss in zip(history.loss, history.val_loss, strict=True)
    ]
    trainer.fit(x, t, callbacks=[recorder])
    assert recorder.logs[-1].keys() == {"loss"}


def test_a_callback_may_change_the_learning_rate():
    class Halve(ds.Callback):
        def on_epoch_begin(self, trainer, epoch):
            trainer.learning_rate = 0.1 * 0.5**epoch

    trainer, x, t = make_run()
    trainer.fit(x, t, epochs=3, callbacks=[Halve()])
    assert trainer.learning_rate == 0.025


def test_the_base_does_nothing():
    trainer, x, t = make_run()
    assert trainer.fit(x, t, epochs=2, callbacks=[ds.Callback()]).epochs == 2


def test_callbacks_of_any_iterable():
    trainer, x, t = make_run()
    recorder = Recorder(stop_after=0)
    assert trainer.fit(x, t, epochs=3, callbacks=iter([recorder])).epochs == 1


# ---- Stopping and failing ----


def test_true_ends_the_run_after_all_have_seen_the_epoch():
    trainer, x, t = make_run()
    first, second = Recorder(stop_after=1), Recorder()
    history = trainer.fit(x, t, epochs=5, callbacks=[first, second])
    assert (history.epochs, trainer.epoch) == (2, 2)
    assert [len(recorder.logs) for recorder in (first, second)] == [2, 2]
    assert first.interrupted is second.interrupted is False


@pytest.mark.parametrize("place", ["epoch_begin", "epoch_end"])
def test_a_failure_ends_the_run_for_all(place):
    trainer, x, t = make_run()
    first, second = Recorder("first "), Recorder("second ", fail_in=place)
    with pytest.raises(RuntimeError, match=f"second {place} failed"):
        trainer.fit(x, t, epochs=5, callbacks=[first, second])
    for recorder in (first, second):
        assert recorder.calls[-1] == (f"{recorder.name}fit_end",)
        assert recorder.interrupted is True
    assert trainer.interrupted
    assert trainer.history.epochs == trainer.epoch == (place == "epoch_end")


def test_a_failure_at_the_beginning_comes_before_any_training():
    trainer, x, t = make_run()
    before = trainer.network.parameters.copy()
    callbacks = [Recorder(), Recorder(fail_in="fit_begin"), Recorder()]
    with pytest.raises(RuntimeError, match="fit_begin failed"):
        trainer.fit(x, t, callbacks=callbacks)
    assert [len(recorder.calls) for recorder in callbacks] == [2, 1, 0]
    np.testing.assert_array_equal(trainer.network.parameters, before)


def test_a_failure_at_the_end_keeps_no_other_from_its_end():
    trainer, x, t = make_run()
    callbacks = [Recorder("a ", fail_in="fit_end"), Recorder("b ")]
    with pytest.raises(RuntimeError, match="a fit_end failed"):
        trainer.fit(x, t, callbacks=callbacks)
    assert callbacks[1].calls[-1] == ("b fit_end",)


def test_callbacks_see_a_divergence():
    trainer, x, t = make_run()
    trainer.learning_rate = 1e30
    recorder = Recorder()
    with pytest.raises(FloatingPointError):
        trainer.fit(x, t, epochs=5, callbacks=[recorder])
    assert recorder.interrupted is True


# ---- Early stopping ----


class Script(ds.Callback):
    """Stands before another callback and puts scripted losses into the logs."""

    def __init__(self, losses, monitor="val_loss"):
        self.losses, self.monitor = losses, monitor

    def on_epoch_end(self, trainer, epoch, logs):
        logs[self.monitor] = self.losses[epoch]


def run_script(stop, losses, monitor="val_loss"):
    trainer, x, t = make_run()
    validation = {"validation_split": 0.25} if monitor == "val_loss" else {}
    callbacks = [Script(losses, monitor), stop]
    return trainer.fit(x, t, epochs=len(losses), callbacks=callbacks, **validation)


# losses, patience, min_delta -> the epoch stopped after, the best epoch: as Keras has it.
SCRIPTS = [
    ([5, 4, 3, 2, 1], 0, 0, None, 4),
    ([5, 4, 4, 3], 0, 0, 2, 1),
    ([5, 4, 4, 3], 1, 0, 2, 1),
    ([5, 4, 4, 3], 2, 0, None, 3),
    ([5, 4, 6, 6, 6, 6], 2, 0, 3, 1),
    ([5, 4, 6, 6, 6, 6], 3, 0, 4, 1),
    ([5, 6, 4, 6, 6, 6], 2, 0, 4, 2),
    ([5, 6, 7, 8], 0, 0, 1, 0),
    ([5, 5, 5, 5], 3, 0, 3, 0),
    ([5, 4.5, 4, 3.5], 0, 1, 1, 0),
    ([5, 4.5, 3.5, 3], 1, 1, 1, 0),
    ([5, 4.5, 3.5, 3], 2, 1, None, 2),
    ([5, 4, 3], 1, 1, 1, 0),
    ([5, 3.9, 2.8], 1, 1, None, 2),
]


@pytest.mark.parametrize(("losses", "patience", "min_delta", "stopped", "best"), SCRIPTS)
@pytest.mark.parametrize("monitor", ["val_loss", "loss"])
def test_early_stopping(losses, patience, min_delta, stopped, best, monitor):
    stop = ds.EarlyStopping(monitor, patience=patience, min_delta=min_delta)
    history = run_script(stop, losses, monitor)
    assert stop.stopped_epoch == stopped
    assert (stop.best_epoch, stop.best) == (best, losses[best])
    assert history.epochs == (len(losses) if stopped is None else stopped + 1)


@pytest.mark.parametrize(("patience", "epochs"), [(2, 4), (100, 6)])
def test_the_best_weights_are_restored_stopped_or_not(patience, epochs):
    trainer, x, t = make_run()
    recorder = Recorder()
    stop = ds.EarlyStopping(patience=patience, restore_best_weights=True)
    callbacks = [recorder, Script([5, 4, 6, 6, 6, 6]), stop]
    trainer.fit(x, t, epochs=6, validation_split=0.25, callbacks=callbacks)
    assert len(recorder.parameters) == epochs
    np.testing.assert_array_equal(trainer.network.parameters, recorder.parameters[1])


def test_the_last_weights_stay_unless_asked():
    trainer, x, t = make_run()
    recorder, stop = Recorder(), ds.EarlyStopping()
    callbacks = [recorder, Script([5, 4, 6]), stop]
    trainer.fit(x, t, epochs=3, validation_split=0.25, callbacks=callbacks)
    np.testing.assert_array_equal(trainer.network.parameters, recorder.parameters[2])


def test_restored_weights_are_those_of_the_best_validation_loss():
    rng = np.random.default_rng(SEED)
    network = ds.Network([5, 30, 1], activation="tanh", seed=0)
    x, t = rng.normal(size=(20, 5)), rng.normal(size=20)  # noise: over-fitting is certain
    stop = ds.EarlyStopping(patience=5, restore_best_weights=True)
    x_val, t_val = rng.normal(size=(20, 5)), rng.normal(size=20)
    history = network.fit(
        x, t, optimizer="adam", epochs=500, validation_data=(x_val, t_val), callbacks=[stop]
    )
    assert history.epochs < 500
    assert stop.best_epoch == history.best_epoch == history.epochs - 6
    assert network.evaluate(x_val, t_val) == stop.best == min(history.val_loss)


def test_nothing_is_restored_after_a_failure():
    trainer, x, t = make_run()
    recorder = Recorder(stop_after=None)
    stop = ds.EarlyStopping("loss", patience=9, restore_best_weights=True)

    class Fail(ds.Callback):
        def on_epoch_end(self, trainer, epoch, logs):
            if epoch == 2:
                raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        trainer.fit(x, t, epochs=9, callbacks=[recorder, Script([1, 2, 3], "loss"), stop, Fail()])
    np.testing.assert_array_equal(trainer.network.parameters, recorder.parameters[2])


def test_a_stopper_can_be_used_again():
    stop = ds.EarlyStopping()
    run_script(stop, [1, 2, 3])
    assert stop.stopped_epoch == 1
    run_script(stop, [9, 8, 7])
    assert (stop.stopped_epoch, stop.best, stop.best_epoch) == (None, 7, 2)


def test_without_validation_there_is_nothing_to_monitor():
    trainer, x, t = make_run()
    before = trainer.network.parameters.copy()
    with pytest.raises(ValueError, match="no validation data: give validation_data"):
        trainer.fit(x, t, callbacks=[ds.EarlyStopping()])
    np.testing.assert_array_equal(trainer.network.parameters, before)
    assert trainer.fit(x, t, callbacks=[ds.EarlyStopping("loss")]).epochs == 1


# ---- Progress ----


def test_nothing_is_printed_unless_asked(capfd):
    trainer, x, t = make_run()
    trainer.fit(x, t, epochs=3, validation_split=0.25, callbacks=[ds.EarlyStopping(patience=2)])
    trainer.step(x, t)
    trainer.network.predict(x)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("options", [{"verbose": 1}, {"callbacks": [ds.Progress()]}], ids=str)
def test_progress_goes_to_the_standard_error(capfd, options):
    trainer, x, t = make_run()
    history = trainer.fit(x, t, epochs=3, validation_split=0.25, **options)
    out, err = capfd.readouterr()
    assert out == ""
    lines = err.splitlines()
    assert re.fullmatch(r"epoch 1/3  loss \S+  val_loss \S+  \S+ samples/s  \d+ s left", lines[0])
    assert lines[-1].startswith(
        f"epoch 3/3  loss {history.loss[-1]:.5g}  val_loss {history.val_loss[-1]:.5g}  "
    )


def test_progress_does_not_change_the_run(capfd):
    first, x, t = make_run()
    second, *_ = make_run()
    assert first.fit(x, t, epochs=3).loss == second.fit(x, t, epochs=3, verbose=1).loss


def test_progress_on_a_terminal(monkeypatch, capfd):
    """A live bar, that is ended also when the run fails."""
    pytest.importorskip("rich")
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    trainer, x, t = make_run()
    trainer.fit(x, t, epochs=3, verbose=1)
    out, err = capfd.readouterr()
    assert out == ""
    assert "3/3" in err
    progress = ds.Progress()
    with pytest.raises(RuntimeError):
        trainer.fit(x, t, callbacks=[progress, Recorder(fail_in="epoch_end")])
    assert "\x1b[?25h" in capfd.readouterr().err  # the cursor is shown again


def test_progress_of_tqdm(capfd):
    pytest.importorskip("tqdm")
    trainer, x, t = make_run()
    history = trainer.fit(x, t, epochs=3, callbacks=[ds.Progress("tqdm")])
    out, err = capfd.readouterr()
    assert out == ""
    assert "3/3" in err
    assert f"loss {history.loss[-1]:.5g}" in err
    assert "samples/s" in err


def test_a_bar_whose_library_is_missing(monkeypatch):
    for style in ("rich", "tqdm"):
        monkeypatch.setitem(sys.modules, style, None)
        monkeypatch.setitem(sys.modules, f"{style}.console", None)
        monkeypatch.setitem(sys.modules, f"{style}.auto", None)
        trainer, x, t = make_run()
        with pytest.raises(ImportError, match=f"pip install {style}"):
            trainer.fit(x, t, callbacks=[ds.Progress(style)])
    trainer.fit(x, t, callbacks=[ds.Progress()])  # lines need nothing


# ---- Batches, and ends within an epoch ----


class Batches(ds.Callback):
    """Writes down the steps, and stops at one of them."""

    def __init__(self, stop_before=None, stop_after=None):
        self.stop_before, self.stop_after, self.calls, self.losses = stop_before, stop_after, [], []

    def on_batch_begin(self, trainer, batch):
        self.calls.append(("begin", batch, trainer.steps))
        return batch == self.stop_before

    def on_batch_end(self, trainer, batch, logs):
        self.calls.append(("end", batch, trainer.steps))
        self.losses.append(logs["loss"])
        return batch == self.stop_after


def test_every_batch_is_seen():
    trainer, x, t = make_run()
    watch = Batches()
    trainer.fit(x, t, epochs=2, batch_size=5, callbacks=[watch])
    steps = [(batch, 3 * epoch + batch) for epoch in range(2) for batch in range(3)]
    assert watch.calls == [
        call for batch, step in steps for call in (("begin", batch, step), ("end", batch, step + 1))
    ]


def test_losses_of_batches_make_that_of_the_epoch():
    trainer, x, t = make_run()
    watch = Batches()
    history = trainer.fit(x, t, batch_size=5, callbacks=[watch])
    assert history.loss[0] == pytest.approx(np.dot(watch.losses, [5, 5, 2]) / 12, rel=1e-12)
    plain, *_ = make_run()
    assert plain.fit(x, t, batch_size=5).loss == history.loss
    np.testing.assert_array_equal(plain.network.parameters, trainer.network.parameters)


def test_only_those_who_look_at_batches_cost_returns():
    assert Batches().watches_batches
    assert not Recorder().watches_batches
    assert not ds.EarlyStopping().watches_batches


@pytest.mark.parametrize(
    ("options", "steps", "epochs"),
    [({"stop_after": 1}, 2, 1), ({"stop_before": 1}, 1, 1), ({"stop_before": 0}, 0, 0)],
)
def test_a_run_that_stops_within_an_epoch(options, steps, epochs):
    trainer, x, t = make_run()
    calls = []
    watch = Batches(**options)
    history = trainer.fit(
        x,
        t,
        epochs=5,
        batch_size=5,
        validation_data=(x, t),
        callbacks=[watch, Recorder(calls=calls)],
    )
    assert (trainer.steps, trainer.epoch, history.epochs) == (steps, epochs, epochs)
    assert len(history.val_loss) == epochs
    assert calls[-1] == ("fit_end",)
    if epochs:
        assert history.loss == [pytest.approx(np.mean(watch.losses))]
    again = trainer.fit(x, t, batch_size=5)  # goes on with a whole epoch
    assert (trainer.steps, again.epochs) == (steps + 3, 1)


@pytest.mark.parametrize("event", ["on_fit_begin", "on_epoch_begin"])
def test_true_at_a_beginning_ends_the_run_there(event):
    class Stop(ds.Callback):
        pass

    setattr(Stop, event, lambda self, *_: True)
    trainer, x, t = make_run()
    before = trainer.network.parameters.copy()
    assert trainer.fit(x, t, epochs=3, callbacks=[Stop()]).epochs == trainer.steps == 0
    averaged = ds.Trainer(trainer.network, optimizer=ds.SGD(0.1, ema_momentum=0.9))
    averaged.fit(x, t, epochs=3, callbacks=[Stop()])
    np.testing.assert_array_equal(trainer.network.parameters, before)


def test_a_time_limit_ends_the_run_within_an_epoch():
    trainer, x, t = make_run()
    rows = np.arange(2_000_000) % 12  # an epoch of some seconds
    history = trainer.fit(
        x[rows], t[rows], epochs=1000, batch_size=1, callbacks=[ds.TimeLimit(0.05)]
    )
    assert history.epochs == 1
    assert 0 < trainer.steps < len(rows)


def test_a_memory_limit():
    trainer, x, t = make_run()
    assert trainer.fit(x, t, epochs=3, callbacks=[ds.MemoryLimit(1e6)]).epochs == 3
    assert trainer.fit(x, t, epochs=3, callbacks=[ds.MemoryLimit(1)]).epochs == 0


@pytest.mark.parametrize("limit", [ds.TimeLimit, ds.MemoryLimit])
def test_limits_are_above_zero(limit):
    with pytest.raises(ValueError, match="must be a finite number above 0"):
        limit(0)


@pytest.mark.parametrize("kind", [ds.JSONLines, ds.TensorBoard])
def test_writers_can_be_copied_after_a_run(kind, tmp_path):
    if kind is ds.TensorBoard:
        pytest.importorskip("tensorboard")
    trainer, x, t = make_run()
    callback = kind(tmp_path / "run")
    trainer.fit(x, t, epochs=1, callbacks=[callback])
    for same in (copy.deepcopy(callback), pickle.loads(pickle.dumps(callback)), callback):
        trainer.fit(x, t, epochs=1, callbacks=[same])
