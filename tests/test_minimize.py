"""Descent on functions: every optimiser, every way to a gradient, every reason to stop."""

from __future__ import annotations

import math

import numpy as np
import pytest

import downslope as ds
import optimizer_oracles as rules
from downslope.optimizers import OPTIMIZERS

# The article's two functions with their gradients.
SINE = (lambda x: math.e**2 * math.sin(x), lambda x: math.e**2 * math.cos(x))
SADDLE = (lambda p: p[0] * p[1] + p[0] ** 2, lambda p: np.array([p[1] + 2 * p[0], p[0]]))


def bowl(p):
    return p[0] ** 2 + 10 * p[1] ** 2


def bowl_gradient(p):
    return np.array([2 * p[0], 20 * p[1]])


START = np.array([3.0, 1.0])

# ours, the oracle's
PAIRS = {
    "sgd": (ds.SGD(0.04), rules.SGD(0.04)),
    "momentum": (ds.SGD(0.02, momentum=0.9), rules.SGD(0.02, 0.9)),
    "nesterov": (ds.SGD(0.02, momentum=0.9, nesterov=True), rules.SGD(0.02, 0.9, True)),
    "adam": (ds.Adam(0.1), rules.Adam(0.1)),
}


# ---- Gradients by differences ----


def test_gradients_of_the_article():
    assert ds.gradient(SINE[0], 0.0) == pytest.approx(math.e**2, rel=1e-11)
    assert SADDLE[0]([3.0, -3.0]) == 0.0  # the article prints 9
    np.testing.assert_allclose(ds.gradient(SADDLE[0], [3.0, -3.0]), [3.0, 3.0], rtol=1e-11)


def test_gradient_of_any_shape(rng):
    x, a = rng.normal(size=(2, 3, 4)), rng.normal(size=(2, 3, 4))
    np.testing.assert_allclose(
        ds.gradient(lambda p: np.sum(a * p**3), x), 3 * a * x**2, rtol=1e-9, atol=1e-11
    )
    assert type(ds.gradient(lambda x: x * x, 2)) is float


def test_the_order_of_the_differences():
    """Exact for polynomials up to degree four, whatever the step."""
    assert ds.gradient(lambda x: x**4, 1.0, step=0.5) == pytest.approx(4.0, rel=1e-14)
    assert ds.gradient(lambda x: x**5, 1.0, step=0.5) != pytest.approx(5.0, rel=1e-3)


def test_check_gradient():
    check = ds.check_gradient(bowl, bowl_gradient, START)
    assert check
    np.testing.assert_allclose(check.analytic, [6.0, 20.0])
    wrong = ds.check_gradient(bowl, lambda p: bowl_gradient(p) * [1, 1.001], START)
    assert not wrong
    assert wrong.max_error == pytest.approx(1e-3, rel=1e-2)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: ds.gradient(bowl, []), ValueError, "empty"),
        (lambda: ds.gradient(bowl, "here"), TypeError, "must be a number"),
        (lambda: ds.gradient(bowl, [np.nan, 1.0]), ValueError, "finite"),
        (lambda: ds.gradient(lambda p: p, START), ValueError, r"one number; .* shape \(2,\)"),
        (lambda: ds.gradient(lambda p: "high", START), TypeError, "must return a number"),
        (lambda: ds.gradient(bowl, START, step=0), ValueError, "step"),
        (lambda: ds.check_gradient(bowl, lambda p: p[0], START), ValueError, r"\(2,\)"),
    ],
)
def test_gradient_refuses(call, error, words):
    with pytest.raises(error, match=words):
        call()


# ---- Descent ----


@pytest.mark.parametrize("name", PAIRS)
def test_the_path_is_the_oracles(name):
    ours, theirs = PAIRS[name]
    result = ds.minimize(
        bowl, START, gradient=bowl_gradient, optimizer=ours, steps=50, gradient_tolerance=0
    )
    point, path = START, [START]
    for _ in range(50):
        point = theirs.update(point, bowl_gradient(point))
        path.append(point)
    np.testing.assert_allclose(result.path, path, rtol=1e-10, atol=1e-13)
    np.testing.assert_allclose(result.values, [bowl(p) for p in path], rtol=1e-9, atol=1e-20)
    np.testing.assert_array_equal(result.x, result.path[-1])
    assert (result.nit, result.njev, result.nfev) == (50, 50 + 1, 50 + 1)
    assert not result.success
    assert result.message == "the limit of 50 steps was reached"


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_by_its_name(name):
    result = ds.minimize(bowl, START, gradient=bowl_gradient, optimizer=name, steps=300)
    assert result.fun < 0.97 * bowl(START)  # Lion's steps are of 0.0001


def test_whole_runs_are_refused():
    with pytest.raises(TypeError, match="minimize makes single steps, LBFGS whole runs"):
        ds.minimize(bowl, START, optimizer="lbfgs")


def test_one_step_is_learning_rate_times_gradient():
    """The article's step: 0.01 x 2.5 = 0.025."""
    result = ds.minimize(lambda x: 2.5 * x, 1.0, optimizer=ds.SGD(0.01), steps=1)
    assert result.path[0] - result.path[1] == pytest.approx(0.025, rel=1e-10)


def test_a_function_of_one_number():
    seen = []
    result = ds.minimize(
        lambda x: seen.append(x) or SINE[0](x), gradient=SINE[1], optimizer=ds.SGD(0.1)
    )
    assert {type(x) for x in [*seen, result.x, result.jac]} == {float}
    assert result.path[0] == 0.0
    assert result.path[1] == pytest.approx(-0.1 * math.e**2)
    assert result.x == pytest.approx(-math.pi / 2, abs=1e-6)
    assert result.success
    assert "gradient_tolerance" in result.message
    assert str(result.fun) in repr(result)


def test_ways_to_the_gradient():
    given = ds.minimize(bowl, START, gradient=bowl_gradient, optimizer=ds.SGD(0.05))
    both = ds.minimize(
        lambda p: (bowl(p), bowl_gradient(p)), START, gradient=True, optimizer=ds.SGD(0.05)
    )
    differences = ds.minimize(bowl, START, optimizer=ds.SGD(0.05))
    np.testing.assert_array_equal(both.path, given.path)
    np.testing.assert_allclose(differences.path, given.path, atol=1e-9)
    assert differences.nfev == differences.nit + 1 + 8 * (differences.nit + 1)


def test_gradients_from_jax():
    jax = pytest.importorskip("jax")
    ours = ds.minimize(bowl, START, gradient=bowl_gradient, optimizer=ds.SGD(0.03), steps=5)
    for fun, gradient in (bowl, jax.jit(jax.grad(bowl))), (jax.jit(jax.value_and_grad(bowl)), True):
        theirs = ds.minimize(fun, START, gradient=gradient, optimizer=ds.SGD(0.03), steps=5)
        np.testing.assert_allclose(theirs.path, ours.path, rtol=1e-5)


def test_matrices():
    target = np.arange(6.0).reshape(2, 3)
    result = ds.minimize(
        lambda p: np.sum((p - target) ** 2), np.ones((2, 3)), optimizer=ds.SGD(0.3)
    )
    assert result.path.shape == (result.nit + 1, 2, 3)
    np.testing.assert_allclose(result.x, target, atol=1e-6)


def test_starts():
    assert ds.minimize(lambda x: x * x, steps=0).path.tolist() == [0.0]
    random = [ds.minimize(np.sum, "random", size=3, steps=0, seed=s).x for s in (1, 1, 2)]
    np.testing.assert_array_equal(random[0], random[1])
    assert (random[0] != random[2]).all()
    # At the saddle point there is no slope to follow.
    assert ds.minimize(SADDLE[0], "zeros", size=2, gradient=SADDLE[1]).nit == 0


def test_the_callers_arrays_are_left_alone():
    def greedy(p):
        value = bowl(p)
        p[:] = 7.0
        return value

    start = START.copy()
    result = ds.minimize(greedy, start, gradient=bowl_gradient, optimizer=ds.SGD(0.05))
    np.testing.assert_array_equal(start, START)
    assert result.success


# ---- Learning rates ----


def test_schedule():
    rates = [0.05 / (1 + step) for step in range(4)]
    result = ds.minimize(
        bowl, START, gradient=bowl_gradient, learning_rate=lambda step: 0.05 / (1 + step), steps=4
    )
    assert result.learning_rates.tolist() == rates
    point = START
    for rate in rates:
        point = point - rate * bowl_gradient(point)
    np.testing.assert_allclose(result.x, point, rtol=1e-14, atol=1e-15)


@pytest.mark.parametrize("tolerance", [None, 1e-9])
def test_a_rate_of_zero_is_a_step_that_stands_still(tolerance):
    """It is no end, and meets no tolerance of steps and values."""
    common = {
        "fun": lambda x: (x - 1) ** 2,
        "x0": 0.0,
        "step_tolerance": tolerance,
        "value_tolerance": tolerance,
    }
    warmup = ds.schedules.Warmup(ds.schedules.Constant(0.1), 10, start=0)
    for options in (
        {"optimizer": ds.SGD(warmup)},
        {"learning_rate": lambda step: min(0.1, 0.01 * step)},
    ):
        result = ds.minimize(**common, **options)
        assert result.success, result.message
        assert (result.learning_rates[0], result.path[1]) == (0, 0)
        assert result.x == pytest.approx(1, abs=1e-3)
    result = ds.minimize(**common, optimizer=ds.SGD(ds.schedules.Cosine(0.01, 50)), steps=60)
    assert (result.nit, result.message) == (60, "the limit of 60 steps was reached")


def test_backtracking():
    result = ds.minimize(
        bowl,
        START,
        gradient=bowl_gradient,
        optimizer=ds.SGD(1.0),
        learning_rate="backtracking",
        gradient_tolerance=1e-8,
    )
    assert result.success
    assert result.nit < 200
    assert set(np.log2(result.learning_rates)) <= {0.0, -1.0, -2.0, -3.0, -4.0}
    falls = result.values[:-1] - result.values[1:]
    slopes = np.sum(np.square([bowl_gradient(p) for p in result.path[:-1]]), axis=1)
    assert (falls >= 1e-4 * result.learning_rates * slopes).all()
    # a rate is halved only where the one before it is too long
    halved = result.learning_rates < 1
    longer = result.path[:-1] - 2 * (result.path[:-1] - result.path[1:])
    values = np.array([bowl(p) for p in longer])
    enough = result.values[:-1] - 2e-4 * result.learning_rates * slopes
    assert (values > enough)[halved].all()


def test_backtracking_gives_up():
    """The value does not fall along a gradient of the wrong sign."""
    result = ds.minimize(
        bowl, START, gradient=lambda p: -bowl_gradient(p), learning_rate="backtracking"
    )
    assert (result.nit, result.success) == (1, False)
    assert "no step" in result.message
    np.testing.assert_array_equal(result.x, START)


# ---- The end ----


def test_tolerances():
    common = {"gradient": bowl_gradient, "optimizer": ds.SGD(0.04), "gradient_tolerance": 0}
    by_gradient = ds.minimize(bowl, START, **{**common, "gradient_tolerance": 1e-2})
    assert np.abs(by_gradient.jac).max() <= 1e-2 < np.abs(bowl_gradient(by_gradient.path[-2])).max()
    by_step = ds.minimize(bowl, START, **common, step_tolerance=1e-3)
    steps = np.abs(np.diff(by_step.path, axis=0)).max(axis=1)
    assert steps[-1] <= 1e-3 < steps[:-1].min()
    by_value = ds.minimize(bowl, START, **common, value_tolerance=1e-3)
    changes = np.abs(np.diff(by_value.values))
    assert changes[-1] <= 1e-3 < changes[:-1].min()
    for result, name in ((by_gradient, "gradient"), (by_step, "step"), (by_value, "value")):
        assert result.success
        assert f"{name}_tolerance" in result.message


@pytest.mark.parametrize("optimizer", [ds.SGD(1.5), ds.SGD(2.5, momentum=0.5)])
def test_divergence_is_said(optimizer):
    result = ds.minimize(lambda x: x * x, 1.0, gradient=lambda x: 2 * x, optimizer=optimizer)
    assert not result.success
    assert "diverged" in result.message
    assert "lower the learning rate" in result.message


def test_values_that_are_not_finite():
    with np.errstate(all="ignore"):
        result = ds.minimize(np.log, 1.0, gradient=lambda x: 1 / x, optimizer=ds.SGD(0.6))
    assert not result.success
    assert "diverged at step 2: the value is nan" in result.message
    result = ds.minimize(
        lambda x: -x, 0.0, gradient=lambda x: -1e300, optimizer=ds.SGD(1e10), steps=3
    )
    assert "diverged at step 1: a variable would not be finite" in result.message
    assert result.x == 0.0


def test_a_rise_is_said():
    result = ds.minimize(
        lambda x: x * x, 1.0, gradient=lambda x: 2 * x, optimizer=ds.SGD(1.01), steps=5
    )
    assert result.message.endswith("above the value at the start: lower the learning rate")


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"x0": "somewhere"}, ValueError, "zeros, random"),
        ({"x0": [1.0], "size": 3}, ValueError, "size"),
        ({"x0": "zeros", "size": 0}, ValueError, "size"),
        ({"gradient": 1}, TypeError, "gradient must be a function of the point, True"),
        ({"gradient": np.ones(2)}, TypeError, "gradient must be a function of the point, True"),
        ({"gradient": True}, ValueError, r"\(value, gradient\)"),
        ({"gradient": lambda x: [x, x]}, ValueError, "shape of the point"),
        ({"gradient": lambda x: "down"}, TypeError, "must return numbers"),
        ({"gradient": lambda x: math.nan}, ValueError, "gradient must be finite at the start"),
        ({"fun": lambda x: math.nan}, ValueError, "fun must be finite at the start"),
        ({"fun": 3}, TypeError, "fun must be a function"),
        ({"optimizer": "newton"}, ValueError, "optimizer"),
        ({"learning_rate": "halving"}, ValueError, "backtracking"),
        ({"learning_rate": 0.1}, TypeError, "learning_rate"),
        ({"learning_rate": "backtracking", "optimizer": "adam"}, ValueError, "without momentum"),
        ({"learning_rate": lambda step: -1.0}, ValueError, "learning_rate"),
        ({"steps": -1}, ValueError, "steps"),
        ({"step_tolerance": -1.0}, ValueError, "step_tolerance"),
        ({"x0": "random", "seed": -1}, ValueError, "seed"),
    ],
)
def test_minimize_refuses(arguments, error, words):
    with pytest.raises(error, match=words):
        ds.minimize(**{"fun": lambda x: x * x + x, **arguments})


# ---- The blind walker ----


def test_random_search():
    walk = ds.random_search(bowl, START, step_size=0.25, steps=100, seed=4)
    lengths = np.linalg.norm(np.diff(walk.path, axis=0), axis=1)
    taken = lengths > 0
    np.testing.assert_allclose(lengths[taken], 0.25, rtol=1e-12)
    assert 0 < taken.sum() < 100
    np.testing.assert_array_equal(walk.values, [bowl(p) for p in walk.path])
    assert ((np.diff(walk.values) < 0) == taken).all()
    assert walk.success
    assert (walk.nit, walk.nfev, walk.njev, walk.jac) == (100, 101, 0, None)
    again = ds.random_search(bowl, START, step_size=0.25, steps=100, seed=4)
    np.testing.assert_array_equal(walk.path, again.path)


def test_the_steepest_step_beats_the_blind_one():
    """Steps of the same length: ten variables, a tenth of the way each."""
    start = np.ones(10)
    walk = ds.random_search(lambda p: p @ p, start, step_size=0.1, steps=30)
    steepest = ds.minimize(
        lambda p: math.sqrt(p @ p),
        start,
        gradient=lambda p: p / math.sqrt(p @ p),
        optimizer=ds.SGD(0.1),
        steps=30,
    )
    assert steepest.fun < 0.2 < 1.5 < math.sqrt(walk.fun)


def test_a_walk_that_finds_nothing():
    walk = ds.random_search(lambda x: x * x, 0.0, steps=5)
    assert not walk.success
    assert walk.message == "tried 5 directions, none of which led down"
