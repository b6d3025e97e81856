"""The networks that are timed, and the arithmetic of timing."""

import threading

import numpy as np
import pytest

from downslope import _engine
from downslope.cases import CASES, Case, disagreement, phases
from downslope.optimizers import SGD
from downslope.timing import Pairs, Turn, alternate, median_interval, spread

SMALL = [case for case in CASES if case.name not in "FGO"]


@pytest.mark.parametrize("case", SMALL, ids=lambda case: case.name)
def test_both_sides_learn_the_same(case):
    assert disagreement(case) < 1e-3


def test_disagreement_is_seen(monkeypatch):
    case = CASES[1]
    other = case.baseline()
    other.parameters += 0.01
    monkeypatch.setattr(Case, "baseline", lambda self: other)
    assert disagreement(case) > 1e-3


def test_counts():
    case = Case("X", (3, 4, 5), 2, "tanh", SGD(0.1), 7)
    # forward and gradient of both layers, the delta of the second
    assert case.flops == 2 * 2 * (2 * (12 + 20) + 20)
    assert case.network_text == "3-4-5"
    assert Case("X", (3, 4, 4, 4, 4, 5), 2, "tanh", SGD(0.1), 7).network_text == "3-4×4-5"
    x, y = case.data()
    assert (x.shape, y.shape) == ((14, 3), (14, 5))


def test_phases_train_as_steps_do():
    """The timed steps are real ones: their parameters are those of as many steps of `_train`."""
    case = CASES[2]
    x, y = case.data(1)
    order = np.arange(len(x))[::-1].copy()
    timed, usual = case.trainer(), case.trainer()
    data = timed.network.dataset(x, y, timed.loss, None)
    timed._stepper.descent.keep_gradients(timed.network.gradients)
    loss = timed._stepper.losses[data.has_labels]
    times = timed._stepper.descent.time_phases(data, loss, order, case.batch, 1, 3)
    for _ in range(3):
        usual.step(x[order], y[order])
    assert tuple(times) == _engine.PHASES
    assert min(times.values()) >= 0
    np.testing.assert_array_equal(timed.network.parameters, usual.network.parameters)


def test_phases_of_a_batch_of_several_blocks():
    case = next(case for case in CASES if case.name == "S")
    times = phases(case, seconds=0.01)
    assert times["forward"] > 0
    assert times["apart"] == pytest.approx(sum(times[name] for name in _engine.PHASES))


def test_turns_alternate():
    calls = []
    ours, theirs = (Turn(lambda name=name: calls.append(name), steps=2) for name in ("us", "them"))
    pairs = alternate(ours, theirs, 3)
    assert calls == ["them", "us"] * 3
    assert len(pairs.ratios) == 3


def test_a_turn_waits_for_threads_that_are_at_work():
    def spin() -> None:
        while not enough.is_set():
            pass

    enough = threading.Event()
    at_work = threading.Thread(target=spin)
    at_work.start()
    threading.Timer(0.2, enough.set).start()
    starts = []
    ours, theirs = (Turn(lambda: starts.append(enough.is_set())) for _ in range(2))
    alternate(ours, theirs, 1, resting=True)
    at_work.join()
    assert starts == [True, True]


def test_ratios_and_noise():
    assert Pairs([1.0, 2.0], [3.0, 8.0]).ratios == [3.0, 4.0]
    assert not Pairs([1.0] * 5, [2.0, 2.01, 2.0, 1.99, 2.0]).noisy
    assert Pairs([1.0] * 5, [1.0, 2.0, 3.0, 4.0, 5.0]).noisy
    assert spread([2.0, 2.0, 2.0]) == 0


def test_bootstrap_interval(rng):
    """It holds the true median about as often as it says, and narrows as the square root."""
    held = 0
    for _ in range(100):
        middle, low, high = median_interval(rng.normal(10.0, 1.0, 30))
        assert low <= middle <= high
        held += low <= 10.0 <= high
    assert 85 <= held <= 100
    _, low, high = median_interval(rng.normal(10.0, 1.0, 3000))
    assert high - low < 0.15
