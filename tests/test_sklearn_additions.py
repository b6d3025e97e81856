"""The estimators: what they have that scikit-learn's have not."""

from __future__ import annotations

import pickle
import subprocess
import sys
import warnings

import numpy as np
import pytest

pytest.importorskip("sklearn")

import joblib
from sklearn import neural_network
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning

import downslope as ds
from downslope.sklearn import MLPClassifier, MLPRegressor
from sklearn_data import (
    ROUNDING,
    assert_equal,
    cancer,
    counts,
    diabetes,
    digits,
    frames,
    random_weights,
)

pytestmark = pytest.mark.filterwarnings(
    "ignore::sklearn.exceptions.ConvergenceWarning"  # a few epochs are enough here
)


# ---- What scikit-learn does not have ----


def test_validation_set_of_ones_own():
    x, y = digits()
    model = MLPClassifier(random_state=0, max_iter=8)
    alone = clone(model).fit(x[:200], y[:200])
    assert alone.validation_loss_curve_ is None
    watched = clone(model).fit(x[:200], y[:200], X_val=x[200:], y_val=y[200:])
    assert_equal(alone, clone(watched).fit(x[:200], y[:200]))
    np.testing.assert_array_equal(watched.coefs_[0], alone.coefs_[0])
    chosen = watched.predict_proba(x[200:])[np.arange(100), y[200:]]
    assert len(watched.validation_loss_curve_) == 8
    assert watched.validation_loss_curve_[-1] == pytest.approx(-np.log(chosen).mean())
    pair = clone(model).fit(x[:200], y[:200], eval_set=[(x[200:], y[200:])])
    assert pair.validation_loss_curve_ == watched.validation_loss_curve_

    model.set_params(early_stopping=True)
    stopped = model.fit(x[:200], y[:200], X_val=x[200:], y_val=y[200:])
    assert stopped.best_validation_score_ == stopped.score(x[200:], y[200:])
    assert len(stopped.validation_loss_curve_) == len(stopped.validation_scores_)


def test_weights_of_the_validation_set():
    x, y = diabetes()
    some = np.arange(len(y)) < 100
    model = MLPRegressor(random_state=0, max_iter=3, alpha=0)
    arguments = {"X_val": x, "y_val": y, "sample_weight_val": some.astype(float)}
    weighted = clone(model).fit(x, y, **arguments).validation_loss_curve_
    part = model.fit(x, y, X_val=x[some], y_val=y[some]).validation_loss_curve_
    np.testing.assert_allclose(weighted, part)
    assert part[-1] == pytest.approx(0.5 * np.mean((model.predict(x[some]) - y[some]) ** 2))


def test_a_validation_set_without_weight_is_refused():
    x, y = digits(50)
    model = MLPClassifier(early_stopping=True, random_state=0)
    weight = np.zeros(50)
    with pytest.raises(ValueError, match="zero"):
        model.fit(x, y, X_val=x, y_val=y, sample_weight_val=weight)
    with pytest.raises(ValueError, match="zero"):
        model.gradients(x, y, weight)
    weight[0] = 1.0  # a row that is not held out
    with pytest.raises(ValueError, match="zero for all rows held out"):
        model.set_params(random_state=1).fit(x, y, weight)


def test_contradictions_about_the_validation_set():
    x, y = digits(50)
    own = {"X_val": x, "y_val": y}
    for parameters, arguments, error in (
        ({}, {"X_val": x}, "X_val and y_val go together"),
        ({}, {"sample_weight_val": y}, "needs X_val"),
        ({}, {**own, "eval_set": (x, y)}, "eval_set and X_val, y_val contradict"),
        ({}, {"eval_set": [(x, y), (x, y)]}, "one pair"),
        ({"validation_fraction": 0.2}, own, "contradict each other"),
        ({"solver": "lbfgs"}, own, "no epochs to validate"),
        ({}, {"X_val": x, "y_val": y + 1}, "classes not in"),
        ({}, {"X_val": x[:, 1:], "y_val": y}, "63 features"),
    ):
        with pytest.raises(ValueError, match=error):
            MLPClassifier(max_iter=2, **parameters).fit(x, y, **arguments)


@pytest.mark.parametrize("class_weight", ["balanced", {0: 0.2, 1: 3.0}])
def test_class_weights_are_sample_weights(class_weight):
    x, y = cancer()
    if class_weight == "balanced":
        weights = (len(y) / (2 * np.bincount(y)))[y]
    else:
        weights = np.array([0.2, 3.0])[y]
    model = MLPClassifier((5,), random_state=0, max_iter=5)
    by_rows = clone(model).fit(x, y, sample_weight=weights * 2)
    by_class = model.set_params(class_weight=class_weight).fit(x, y, np.full(len(y), 2.0))
    np.testing.assert_allclose(by_class.coefs_[0], by_rows.coefs_[0], atol=ROUNDING)
    if class_weight == "balanced":
        with pytest.raises(ValueError, match="partial_fit does not have"):
            model.partial_fit(x, y)


def test_class_weights_of_a_batch_without_some_classes():
    x, y = digits(200)
    classes, some = np.arange(10), y < 3
    model = MLPClassifier((5,), random_state=0, class_weight={0: 2.0, 1: 0.5, 7: 3.0})
    by_class = clone(model).partial_fit(x[some], y[some], classes=classes)
    weights = np.array([2.0, 0.5, 1.0])[y[some]]
    model.set_params(class_weight=None)
    by_rows = model.partial_fit(x[some], y[some], weights, classes=classes)
    np.testing.assert_array_equal(by_class.coefs_[0], by_rows.coefs_[0])
    with pytest.raises(ValueError, match="not in class_weight"):
        model.set_params(class_weight={0: 2.0, 10: 3.0}).partial_fit(x[some], y[some])


def test_any_scorer_stops_early():
    x, y = next(frames())
    model = MLPClassifier((5,), random_state=0, max_iter=6, early_stopping=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # about names of features
        warnings.simplefilter("ignore", ConvergenceWarning)
        by_auc = clone(model).set_params(scoring="roc_auc").fit(x, y)
    assert by_auc.best_validation_score_ == max(by_auc.validation_scores_)
    by_auc.set_params(scoring=lambda estimator, X, y: -estimator.n_iter_).fit(x, y)
    assert by_auc.validation_scores_ == [-1, -2, -3, -4, -5, -6]
    by_loss = model.set_params(scoring="loss").fit(x, y)
    np.testing.assert_array_equal(
        by_loss.validation_scores_, np.negative(by_loss.validation_loss_curve_)
    )


def test_an_activation_for_each_layer():
    x, y = digits(100)
    model = MLPClassifier((8, 6), ["tanh", ds.Activation("leaky_relu", 0.2)], max_iter=3).fit(x, y)
    names = [layer.activation.name for layer in model.network_.layers]
    assert names == ["tanh", "leaky_relu", "softmax"]
    hidden, _, outputs = model.layer_outputs(x)
    np.testing.assert_allclose(hidden, np.tanh(x @ model.coefs_[0] + model.intercepts_[0]))
    np.testing.assert_array_equal(outputs, model.predict_proba(x))


# ---- Dropout ----

DROPPING = {"hidden_layer_sizes": (20, 10), "random_state": 0, "max_iter": 4, "batch_size": 50}


def dropped(x, y, network_seed, dropout, input_dropout, **parameters):
    """The same fit by `downslope.Network` alone."""
    plain = MLPClassifier(**DROPPING, **parameters).initialize(x, y)
    widths = [x.shape[1], 20, 10, 10]
    layers = [
        ds.Dense(units, name, weights=coef, bias=bias, l2=0.0001 / 2 / 50, dropout=rate)
        for units, name, coef, bias, rate in zip(
            *(widths[1:], ["relu", "relu", "softmax"], plain.coefs_, plain.intercepts_),
            [*dropout, 0.0],
            strict=True,
        )
    ]
    net = ds.Network(64, layers, input_dropout=input_dropout, dtype="float64", seed=network_seed)
    adam = ds.Adam(epsilon_hat=True)
    return net.fit(
        x, y, loss="cross_entropy", optimizer=adam, batch_size=50, shuffle=False, epochs=4
    ), net


@pytest.mark.parametrize("weighted", [False, True])
def test_dropout_is_that_of_the_network(weighted):
    x, y = digits(200)
    drop = {"dropout": [0.5, 0.25], "input_dropout": 0.1}
    model = MLPClassifier(**DROPPING, **drop, shuffle=False)
    model.fit(x, y, sample_weight=np.ones(200) if weighted else None)
    history, net = dropped(x, y, model.network_.seed, *drop.values(), shuffle=False)
    np.testing.assert_allclose(model.coefs_[0], net.layers[0].weights, rtol=0, atol=ROUNDING)
    np.testing.assert_allclose(model.loss_curve_, history.loss, rtol=ROUNDING)
    assert [layer.dropout for layer in model.network_.layers] == [0.5, 0.25, 0.0]


@pytest.mark.parametrize("drop", [{"dropout": 0.3}, {"dropout": (0, 0.3)}, {"input_dropout": 0.2}])
def test_dropout_depends_on_the_random_state_and_on_training_alone(drop):
    x, y = digits(200)
    first, again, other = (
        MLPClassifier(**{**DROPPING, "random_state": seed}, **drop).fit(x, y) for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first.coefs_[0], again.coefs_[0])
    assert first.network_.seed != other.network_.seed
    plain = MLPClassifier(**DROPPING).fit(x, y)
    assert not np.array_equal(first.coefs_[0], plain.coefs_[0])
    by_hand = x
    for coef, bias in zip(first.coefs_[:-1], first.intercepts_[:-1], strict=True):
        by_hand = np.maximum(by_hand @ coef + bias, 0)
    np.testing.assert_allclose(first.layer_outputs(x)[1], by_hand, atol=ROUNDING)
    one, two = (first.gradients(x, y)[0] for _ in range(2))
    quiet = clone(first).set_params(dropout=0.0, input_dropout=0.0).initialize(x, y)
    for mine, given in zip(quiet.coefs_, first.coefs_, strict=True):
        mine[...] = given
    for mine, given in zip(quiet.intercepts_, first.intercepts_, strict=True):
        mine[...] = given
    assert one == two == quiet.gradients(x, y)[0]


def test_dropout_of_a_regressor_that_goes_on_from_a_pickle():
    x, y = diabetes()
    whole = MLPRegressor(dropout=0.4, random_state=0, shuffle=False)
    parts = clone(whole).partial_fit(x, y)
    for _ in range(3):
        whole.partial_fit(x, y)
    for _ in range(2):
        parts = pickle.loads(pickle.dumps(parts)).partial_fit(x, y)
    np.testing.assert_array_equal(parts.coefs_[0], whole.coefs_[0])


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"dropout": 1.0}, "dropout"),
        ({"dropout": "much"}, "dropout"),
        ({"dropout": [0.1, 0.1, 0.1]}, "one for each of the 2 hidden layers; got 3"),
        ({"dropout": [0.1, 1.5]}, "dropout must be"),
        ({"input_dropout": -0.1}, "input_dropout"),
        ({"solver": "lbfgs", "dropout": 0.1}, "lbfgs"),
        ({"solver": "lbfgs", "input_dropout": 0.1}, "lbfgs"),
    ],
    ids=str,
)
def test_dropout_that_is_refused(parameters, message):
    model = MLPClassifier((5, 5), **parameters)
    with pytest.raises(ValueError, match=message):
        model.fit(*digits(50))
    assert not hasattr(model, "coefs_")


@pytest.mark.parametrize(
    ("loss", "level"),
    [
        ("absolute_error", 0.5),
        ("quantile", 0.5),
        (ds.Loss("quantile", levels=0.9), 0.9),
        (ds.Loss("huber", delta=1e-3), 0.5),
    ],
    ids=str,
)
def test_losses_of_downslope(loss, level, rng):
    y = rng.exponential(size=400)
    endless = {"n_iter_no_change": np.inf, "max_iter": 300, "learning_rate_init": 0.02}
    model = MLPRegressor(loss, (), alpha=0, random_state=0, **endless)
    model.fit(np.zeros((400, 1)), y)
    assert model.predict([[0.0]]) == pytest.approx(np.quantile(y, level), abs=0.05)


def test_losses_for_values_only():
    x, y = diabetes()
    with pytest.raises(ValueError, match="'hinge' is not one for values"):
        MLPRegressor(ds.Loss("hinge")).fit(x, y)
    with pytest.raises(ValueError, match="predicts one quantile"):
        MLPRegressor(ds.Loss("quantile", levels=[0.1, 0.9])).fit(x, y)
    with pytest.raises(ValueError, match="y must not be negative"):
        MLPRegressor("poisson").fit(x, y)


def test_rates_are_predicted():
    x, y = counts()
    model = MLPRegressor("poisson", random_state=0, max_iter=20).fit(x, y)
    rates = model.predict(x)
    np.testing.assert_allclose(rates, np.exp(model.network_.predict(x)).ravel())
    np.testing.assert_array_equal(model.layer_outputs(x)[-1].ravel(), rates)


def test_optimizers_of_downslope():
    x, y = digits()
    by_name = MLPClassifier(solver="sgd", momentum=0, learning_rate_init=0.1, random_state=0)
    by_name.set_params(max_iter=5).fit(x, y)
    given = MLPClassifier(solver=ds.SGD(0.1), random_state=0, max_iter=5).fit(x, y)
    np.testing.assert_array_equal(given.coefs_[0], by_name.coefs_[0])


def test_parameters_can_change_between_partial_fits():
    x, y = digits(100)
    theirs, ours = (
        kind(random_state=0, hidden_layer_sizes=5).partial_fit(x, y, classes=range(10))
        for kind in (neural_network.MLPClassifier, MLPClassifier)
    )
    for model in (theirs, ours):
        model.set_params(alpha=20.0, activation="tanh").partial_fit(x, y)
    assert_equal(theirs, ours)


def test_schedules_accumulation_and_averages_of_downslope():
    x, y = digits()
    parameters = {"random_state": 0, "max_iter": 3, "hidden_layer_sizes": 9, "alpha": 0}
    rates = MLPClassifier(solver=ds.SGD(lambda step: 0.1 if step < 2 else 0.0), **parameters)
    rates.set_params(batch_size=150)
    still = clone(rates).set_params(max_iter=1).fit(x, y)
    np.testing.assert_array_equal(rates.fit(x, y).coefs_[0], still.coefs_[0])
    by_two = MLPClassifier(
        solver=ds.Adam(gradient_accumulation_steps=2), batch_size=50, **parameters
    )
    at_once = MLPClassifier(solver=ds.Adam(), batch_size=100, **parameters)
    np.testing.assert_array_equal(by_two.fit(x, y).coefs_[0], at_once.fit(x, y).coefs_[0])
    averaged = MLPClassifier(solver=ds.Adam(ema_momentum=0.9), batch_size=100, **parameters)
    assert not np.array_equal(averaged.fit(x, y).coefs_[0], at_once.coefs_[0])
    state = averaged._trainer.state
    np.testing.assert_array_equal(averaged.network_.parameters, state[-1])


def test_checkpoints_are_refused(tmp_path):
    model = MLPClassifier(callbacks=[ds.Checkpoint(tmp_path / "run")])
    with pytest.raises(ValueError, match="can not be resumed"):
        model.fit(*digits(50))


def test_callbacks_are_refused_where_there_are_no_epochs():
    model = MLPClassifier(solver="lbfgs", callbacks=[ds.TimeLimit(1.0)])
    with pytest.raises(ValueError, match="no epochs to call callbacks after"):
        model.fit(*digits(50))


def test_warm_start_with_the_state_of_the_optimizer():
    x, y = digits()
    parameters = {"random_state": 0, "shuffle": False, "hidden_layer_sizes": 9}
    whole = MLPClassifier(max_iter=6, **parameters).fit(x, y)
    parts = MLPClassifier(max_iter=3, warm_start=True, **parameters).fit(x, y)
    forgetful = pickle.loads(pickle.dumps(parts)).fit(x, y)
    parts.set_params(keep_optimizer=True).fit(x, y)
    np.testing.assert_array_equal(parts.coefs_[0], whole.coefs_[0])
    assert not np.array_equal(forgetful.coefs_[0], whole.coefs_[0])


def test_callbacks_are_told():
    told = []

    class Tell(ds.Callback):
        def on_fit_begin(self, trainer):
            told.append(("begin", trainer.epoch, trainer.target_epoch, trainer.validates))

        def on_epoch_end(self, trainer, epoch, logs):
            told.append((epoch, sorted(logs)))
            return epoch == 2

        def on_fit_end(self, trainer):
            told.append(("end", trainer.history.epochs, trainer.interrupted))

    x, y = digits(100)
    model = MLPClassifier(callbacks=[Tell()], max_iter=9).fit(x, y, eval_set=(x, y))
    logs = ["loss", "val_loss"]
    assert told == [("begin", 0, 9, True), *((i, logs) for i in range(3)), ("end", 3, False)]
    assert model.n_iter_ == 3
    stop = ds.EarlyStopping(patience=1, min_delta=10.0)
    assert model.set_params(callbacks=[stop]).fit(x, y, eval_set=(x, y)).n_iter_ == 2
    assert model.set_params(callbacks=[ds.TimeLimit(1e-9)]).fit(x, y).n_iter_ == 1


def test_threads_do_not_show():
    x, y = digits()
    one, two = (
        MLPClassifier((100, 50), n_jobs=n, max_iter=3, random_state=0).fit(x, y) for n in (1, 2)
    )
    np.testing.assert_array_equal(one.coefs_[0], two.coefs_[0])
    assert MLPClassifier(n_jobs=2)._threads() == 2
    assert MLPClassifier()._threads() is None
    assert MLPClassifier(n_jobs=-1)._threads() == joblib.cpu_count()


def threads_in_a_worker():
    return MLPClassifier()._threads()


def test_workers_of_joblib_use_one_thread():
    with joblib.parallel_config("threading"):
        counts = joblib.Parallel(2)(joblib.delayed(threads_in_a_worker)() for _ in range(2))
    assert counts == [1, 1]


def test_initialize_without_training():
    x, y = digits(100)
    model = MLPClassifier(random_state=0, warm_start=True, max_iter=4).initialize(x, y)
    fitted = MLPClassifier(random_state=0, max_iter=4)
    assert model.predict_proba(x).shape == (100, 10)
    assert (model.n_iter_, model.t_, model.n_layers_) == (0, 0, 3)
    before = [coef.copy() for coef in model.coefs_]
    theirs = neural_network.MLPClassifier(random_state=0, learning_rate_init=1e-30, max_iter=1)
    theirs.fit(x, y)
    np.testing.assert_allclose(before[0], theirs.coefs_[0])
    model.partial_fit(x, y)
    assert not np.array_equal(model.coefs_[0], before[0])
    assert fitted.initialize(x, y).fit(x, y).n_iter_ == 4


def test_gradients_are_of_the_penalised_loss():
    x, y = cancer()
    model = MLPClassifier((4,), "tanh", alpha=50.0, random_state=0, max_iter=3).fit(x, y)
    weights = random_weights(len(y))
    loss, (first, _), (_, last) = model.gradients(x, y, weights)
    step = 1e-6
    for gradient, array, index in (
        (first, model.coefs_[0], (3, 1)),
        (last, model.intercepts_[1], 0),
    ):
        array[index] += step
        numeric = (model.gradients(x, y, weights)[0] - loss) / step
        array[index] -= step
        assert gradient[index] == pytest.approx(numeric, rel=1e-4)


def test_weights_can_be_replaced():
    x, y = diabetes()
    model = MLPRegressor(hidden_layer_sizes=3, max_iter=2).fit(x, y)
    model.coefs_[1] = np.zeros((3, 1))
    model.intercepts_[1][:] = 7
    np.testing.assert_array_equal(model.predict(x), np.full(len(y), 7.0))
    np.testing.assert_array_equal(model.network_.layers[1].weights, 0)
    model.coefs_ = [np.ones((10, 2)), np.ones((2, 1))]  # a unit less
    model.intercepts_ = [np.zeros(2), np.zeros(1)]
    np.testing.assert_allclose(
        model.predict(x), 2 * np.maximum(x.sum(axis=1), 0), rtol=1e-12, atol=1e-12
    )


def test_without_scikit_learn_the_message_says_how_to_get_it():
    script = (
        "import sys; sys.modules['sklearn'] = None\n"
        "import downslope\n"
        "try: import downslope.sklearn\n"
        "except ImportError as error: print(error)\n"
    )
    run = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert 'pip install "downslope[sklearn]"' in run.stdout
