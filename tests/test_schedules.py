"""Schedules of the learning rate, the callback that lowers it, the search for one."""

from __future__ import annotations

import copy
import json
import math
import pickle

import numpy as np
import pytest

import downslope as ds
from downslope import schedules

# A schedule, and the same by the textbook.
FORMULAS = {
    "constant": (schedules.Constant(0.3), lambda t: 0.3),
    "step": (schedules.Step(0.5, 7, 0.3), lambda t: 0.5 * 0.3 ** (t // 7)),
    "exponential": (schedules.Exponential(0.5, 7, 0.3), lambda t: 0.5 * 0.3 ** (t / 7)),
    "inverse time": (schedules.InverseTime(0.5, 7, 2.0), lambda t: 0.5 / (1 + 2 * t / 7)),
    "polynomial": (
        schedules.Polynomial(0.5, 30, end=0.1, power=1.5),
        lambda t: 0.1 + 0.4 * (1 - min(t, 30) / 30) ** 1.5,
    ),
    "cosine": (
        schedules.Cosine(0.5, 30, end=0.1),
        lambda t: 0.1 + 0.2 * (1 + math.cos(math.pi * min(t, 30) / 30)),
    ),
    "cosine with restarts": (
        schedules.Cosine(0.5, 8, restarts=True, rate_factor=0.5),
        lambda t: 0.5 ** (t // 8) * 0.25 * (1 + math.cos(math.pi * (t % 8) / 8)),
    ),
    "warm-up": (
        schedules.Warmup(schedules.Exponential(0.5, 7, 0.3), 10, 0.2),
        lambda t: 0.5 * (0.2 + 0.08 * t) if t < 10 else 0.5 * 0.3 ** ((t - 10) / 7),
    ),
    "own function": (schedules.Custom(math.sqrt), math.sqrt),
}
DESCRIBED = [
    *(schedule for name, (schedule, _) in FORMULAS.items() if name != "own function"),
    schedules.OneCycle(0.1, 100, warmup=0.2),
    schedules.Cosine(0.1, 10, restarts=True, cycle_factor=2),
]


@pytest.mark.parametrize(("schedule", "formula"), FORMULAS.values(), ids=FORMULAS)
def test_formulas(schedule, formula):
    expected = [formula(t) for t in range(60)]
    np.testing.assert_allclose(schedule.rates(0, 60), expected, rtol=1e-13, atol=1e-16)
    np.testing.assert_array_equal(schedule.rates(7, 20), schedule.rates(0, 60)[7:27])
    assert schedule(13) == schedule.rates(13, 1)[0]


PEERS = {
    "restarts that double": (
        schedules.Cosine(0.5, 5, end=0.01, restarts=True, cycle_factor=2),
        lambda torch, o: torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(o, 5, 2, 0.01),
    ),
    "one cycle": (
        schedules.OneCycle(0.5, 60, warmup=0.4),
        lambda torch, o: torch.optim.lr_scheduler.OneCycleLR(o, 0.5, 60, pct_start=0.4),
    ),
    "linear warm-up": (
        schedules.Warmup(schedules.Constant(0.5), 20, 0.25),
        lambda torch, o: torch.optim.lr_scheduler.LinearLR(o, 0.25, total_iters=20),
    ),
    "polynomial": (
        schedules.Polynomial(0.5, 40, power=2.0),
        lambda torch, o: torch.optim.lr_scheduler.PolynomialLR(o, 40, 2.0),
    ),
}


@pytest.mark.parametrize(("schedule", "make"), PEERS.values(), ids=PEERS)
def test_against_pytorch(schedule, make):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.5)
    scheduler, rates = make(torch, optimizer), []
    for step in range(60):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if step < 59:
            scheduler.step()
    np.testing.assert_allclose(schedule.rates(0, 60), rates, rtol=1e-9, atol=1e-12)


def test_ends_are_met():
    assert schedules.Cosine(0.5, 30)(0) == 0.5
    assert schedules.Cosine(0.5, 30)(30) == schedules.Cosine(0.5, 30)(1000) == 0
    assert schedules.Polynomial(0.5, 30)(30) == 0
    assert schedules.OneCycle(0.5, 100)(1000) == pytest.approx(0.5 / 25 / 1e4, rel=1e-9)


@pytest.mark.parametrize("schedule", DESCRIBED, ids=repr)
def test_schedules_are_values(schedule):
    assert pickle.loads(pickle.dumps(schedule)) == schedule
    assert schedules.from_dict(json.loads(json.dumps(schedule.to_dict()))) == schedule
    assert eval(repr(schedule), vars(schedules)) == schedule


def make_data(rng):
    return rng.normal(size=(43, 5)), rng.normal(size=(43, 2))


def make_network():
    return ds.Network([5, 7, 2], activation="tanh", dtype="float64", seed=3)


@pytest.mark.parametrize("as_function", [False, True])
def test_fit_takes_a_rate_for_each_step(rng, as_function):
    x, y = make_data(rng)
    schedule = schedules.Exponential(0.5, 10)
    by_fit = ds.Trainer(
        make_network(),
        optimizer=ds.SGD((lambda step: schedule(step)) if as_function else schedule, momentum=0.5),
    )
    by_hand = ds.Trainer(make_network(), optimizer=ds.SGD(1.0, momentum=0.5))
    by_fit.fit(x, y, batch_size=10, epochs=2, shuffle=False)
    by_fit.fit(x, y, batch_size=10, epochs=1, shuffle=False)
    by_fit.step(x, y)
    by_fit.compute_gradients(x, y)
    by_fit.update()
    for _ in range(3):
        for first in range(0, 43, 10):
            by_hand.learning_rate = schedule(by_hand.steps)
            by_hand.step(x[first : first + 10], y[first : first + 10])
    for _ in range(2):
        by_hand.learning_rate = schedule(by_hand.steps)
        by_hand.step(x, y)
    np.testing.assert_array_equal(by_fit.network.parameters, by_hand.network.parameters)
    assert by_fit.learning_rate == schedule(16)


def test_a_rate_of_zero_changes_nothing(rng):
    x, y = make_data(rng)
    for kind in (ds.SGD, ds.Adam, ds.NAdam, ds.Lion):
        network = make_network()
        before = network.parameters.copy()
        network.fit(x, y, optimizer=kind(lambda step: 0.0))
        np.testing.assert_array_equal(network.parameters, before)


BAD = {
    "rate": (lambda: schedules.Step(0.0, 10), "rate must be"),
    "steps": (lambda: schedules.Cosine(0.1, 0), "steps must be"),
    "factor": (lambda: schedules.Exponential(0.1, 10, -1.0), "factor must be"),
    "restarts": (lambda: schedules.Cosine(0.1, 5, cycle_factor=2), "go with restarts"),
    "short cycle": (lambda: schedules.OneCycle(0.1, 3), "give more steps"),
    "negative": (lambda: ds.SGD(lambda t: -0.1), "not negative; .* gives .*-0.1.* at step 0"),
    "nan": (lambda: ds.SGD(schedules.Custom(lambda t: math.nan)), "gives nan at step 0"),
    "name": (lambda: schedules.from_dict({"schedule": "Cosin"}), "did you mean 'Cosine'"),
}


@pytest.mark.parametrize(("make", "message"), BAD.values(), ids=BAD)
def test_bad_values(make, message):
    with pytest.raises(ValueError, match=message):
        ds.Trainer(make_network(), optimizer=o) if isinstance(o := make(), ds.Optimizer) else None


def test_wrong_kinds(rng):
    with pytest.raises(TypeError, match="learning_rate must be a number; got <class"):
        ds.SGD(schedules.Step)
    with pytest.raises(TypeError, match="learning rate is a number, a schedule or a function"):
        schedules.Warmup(schedules.Custom(3.0), 5)
    with pytest.raises(TypeError, match="must give numbers; got 'fast' at step 0"):
        make_network().fit(*make_data(rng), optimizer=ds.SGD(lambda step: "fast"))
    with pytest.raises(ValueError, match="step must be at least 0"):
        schedules.Constant(0.1)(-1)
    with pytest.raises(TypeError, match="learning_rate must be a number"):
        ds.SGD("fast")
    with pytest.raises(TypeError, match="can not be described"):
        schedules.Custom(math.sqrt).to_dict()
    with pytest.raises(TypeError, match="dict with a name"):
        schedules.from_dict({})


def test_the_rate_of_a_schedule_can_not_be_set():
    trainer = ds.Trainer(make_network(), optimizer=ds.SGD(schedules.Step(0.1, 10)))
    with pytest.raises(ValueError, match="follows a schedule"):
        trainer.learning_rate = 0.1


# ---- Lowering the rate on a plateau ----


class Losses(ds.Callback):
    """Puts losses of its own in the place of those of the epochs, and notes the rates."""

    def __init__(self, losses):
        self.losses, self.rates = losses, []

    def on_epoch_begin(self, trainer, epoch):
        self.rates.append(trainer.learning_rate)

    def on_epoch_end(self, trainer, epoch, logs):
        logs["loss"] = self.losses[epoch]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"patience": 2}, [1, 1, 1, 1, 0.5, 0.5, 0.25, 0.25]),
        ({"patience": 2, "cooldown": 2}, [1, 1, 1, 1, 0.5, 0.5, 0.5, 0.5]),
        ({"patience": 2, "min_learning_rate": 0.4}, [1, 1, 1, 1, 0.5, 0.5, 0.4, 0.4]),
        ({"patience": 2, "min_delta": 2.0}, [1, 1, 1, 0.5, 0.5, 0.25, 0.25, 0.125]),
    ],
)
def test_plateau(rng, options, expected):
    x, y = make_data(rng)
    losses = Losses([5.0, 4.0, 4.0, 4.0, 4.0, 4.0, 4.0, 4.0])
    lower = ds.ReduceLROnPlateau("loss", factor=0.5, **options)
    network = ds.Network([5, 2], weights="zeros")
    network.fit(
        x,
        y * 1e-3,
        optimizer=ds.SGD(1.0),
        epochs=8,
        batch_size=None,
        shuffle=False,
        callbacks=[losses, lower],
    )
    assert losses.rates == expected


@pytest.mark.parametrize(("mode", "rate", "best"), [("auto", 1.0, 0.3), ("min", 0.5, 0.1)])
def test_plateau_of_a_metric(rng, mode, rate, best):
    x, y = make_data(rng)
    grows = iter([0.1, 0.2, 0.3, np.nan])
    metric = ds.Metric("grows", lambda targets, outputs: next(grows), True)
    trainer = ds.Trainer(make_network(), optimizer=ds.SGD(1.0, clip_norm=1e-9))
    lower = ds.ReduceLROnPlateau("grows", mode=mode, factor=0.5, patience=2)
    trainer.fit(x, y, epochs=4, metrics=[metric], callbacks=[lower])
    assert (trainer.learning_rate, lower.best) == (rate, best)


def test_plateau_without_what_it_needs(rng):
    x, y = make_data(rng)
    with pytest.raises(ValueError, match="ReduceLROnPlateau monitors 'val_loss'"):
        make_network().fit(x, y, callbacks=[ds.ReduceLROnPlateau()])
    with pytest.raises(ValueError, match="contradicts the schedule"):
        make_network().fit(
            *(x, y),
            optimizer=ds.SGD(schedules.Step(0.1, 10)),
            callbacks=[ds.ReduceLROnPlateau("loss")],
        )


# ---- The search for a rate ----


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_the_search_leaves_the_network_and_suggests_a_rate_that_works(rng, optimizer):
    x = rng.normal(size=(200, 5))
    y = x @ rng.normal(size=(5, 2))
    network = make_network()
    before = network.parameters.copy()
    search = ds.find_learning_rate(network, x, y, optimizer=optimizer, highest=100.0)
    again = ds.find_learning_rate(network, x, y, optimizer=optimizer, highest=100.0)
    np.testing.assert_array_equal(network.parameters, before)
    np.testing.assert_array_equal(search.losses, again.losses)
    assert len(search.learning_rates) == len(search.losses) < 100  # it has diverged
    kind = {"sgd": ds.SGD, "adam": ds.Adam}[optimizer]
    loss = network.fit(x, y, optimizer=kind(search.suggestion), epochs=30).loss
    assert loss[-1] < 0.1 * loss[0]


def test_the_search_refuses_what_diverges_at_once(rng):
    x, y = make_data(rng)
    with pytest.raises(ValueError, match="give a lower `lowest`"):
        ds.find_learning_rate(make_network(), x, y, lowest=1e20, highest=1e30)


def test_the_search_of_a_loss_below_zero(rng):
    """Such as a likelihood: it diverges where the loss rises far, not where it is negative."""
    x = rng.normal(size=(64, 3))
    y = 0.05 * x[:, :1] * x[:, 1:2]
    options = {"loss": "gaussian_nll", "optimizer": "adam"}
    network = ds.Network([3, 8, 2], activation="tanh", seed=0)
    network.fit(x, y, epochs=200, **options)
    search = ds.find_learning_rate(network, x, y, **options)
    assert search.losses[0] < 0
    rise = 3 * np.maximum(abs(search.losses[0]), np.maximum.accumulate(-search.losses))
    assert (search.losses[1:] <= (np.minimum.accumulate(search.losses) + rise)[:-1]).all()
    assert 10 < len(search.losses) < 100
    assert 1e-6 < search.suggestion < 0.1


def test_the_search_of_a_loss_that_falls_through_zero(rng):
    x = rng.normal(size=(200, 3))
    y = 0.01 * x[:, :1]
    network = ds.Network([3, 8, 2], activation="tanh", seed=0)
    search = ds.find_learning_rate(network, x, y, loss="gaussian_nll", optimizer="adam")
    assert search.losses[0] > 0
    assert (search.losses < 0).sum() > 10


def test_the_search_takes_what_fit_takes(rng):
    x, y = make_data(rng)
    weight = rng.uniform(1, 2, size=len(x))
    whole = ds.find_learning_rate(make_network(), x, y, batch_size=None)
    rows = ds.find_learning_rate(make_network(), x, y, batch_size=len(x))
    np.testing.assert_array_equal(whole.losses, rows.losses)
    weighted = ds.find_learning_rate(make_network(), x, y, sample_weight=weight, lowest=1e-9)
    expected = make_network().evaluate(x, y, sample_weight=weight)
    assert weighted.losses[0] == pytest.approx(expected, rel=0.5)
    with pytest.warns(ds.UnscaledInputsWarning, match="unscaled"):
        ds.find_learning_rate(make_network(), 1000 * x, y, lowest=1e-12)
    for optimizer in ("rprop", "lbfgs"):
        with pytest.raises(TypeError, match="has no learning rate to look for"):
            ds.find_learning_rate(make_network(), x, y, optimizer=optimizer)


def test_picture_of_the_search(rng):
    pytest.importorskip("matplotlib").use("Agg")
    x, y = make_data(rng)
    search = ds.find_learning_rate(make_network(), x, y)
    ax = search.plot()
    assert ax.get_xscale() == "log"
    np.testing.assert_array_equal(ax.lines[0].get_ydata(), search.losses)
    ax.figure.clear()


def test_copies_of_a_trainer_s_network_keep_the_layers(rng):
    network = ds.Network(5, [ds.Dense(2, l2=0.5, trainable=False)])
    assert repr(copy.deepcopy(network)._dense) == repr(network._dense)
