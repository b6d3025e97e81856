"""The estimators: scikit-learn's results and uses, and what they have besides."""

from __future__ import annotations

import io
import pickle
import subprocess
import sys
import tracemalloc
import warnings
from inspect import signature

import numpy as np
import pytest

pytest.importorskip("sklearn")

import joblib
import pandas as pd
from scipy import sparse
from sklearn import config_context, neural_network
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import (
    load_breast_cancer,
    load_diabetes,
    load_digits,
    make_multilabel_classification,
)
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.inspection import permutation_importance
from sklearn.model_selection import GridSearchCV, cross_val_score, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

import downslope as ds
from downslope.sklearn import MLPClassifier, MLPRegressor, from_sklearn, to_sklearn

pytestmark = pytest.mark.filterwarnings(
    "ignore::sklearn.exceptions.ConvergenceWarning"  # a few epochs are enough here
)

# Of weights and losses between two ways to compute the same in float64.
ROUNDING = 1e-9


def digits(rows=300):
    x, y = load_digits(return_X_y=True)
    return x[:rows] / 16, y[:rows]


def cancer():
    x, y = load_breast_cancer(return_X_y=True)
    return StandardScaler().fit_transform(x), y


def diabetes(outputs=1):
    x, y = load_diabetes(return_X_y=True)
    y = (y - y.mean()) / y.std()
    return x * 20, y if outputs == 1 else np.column_stack([y, y**2])


def counts(outputs=1):
    x, y = diabetes()
    y = np.floor(np.exp(y))
    return x, y if outputs == 1 else np.column_stack([y, 2 * y + 1])


def labels():
    x, y = make_multilabel_classification(200, random_state=0)
    return x / 10, y


def random_weights(rows):
    weights = np.random.default_rng(1).random(rows)
    weights[:5] = 0
    return weights


CLASSIFIER, REGRESSOR = "MLPClassifier", "MLPRegressor"


def fit_both(kind, data, sample_weight=None, **parameters):
    """scikit-learn's estimator and ours, fitted alike."""
    parameters = {"random_state": 3, "max_iter": 12, "hidden_layer_sizes": (12,), **parameters}
    theirs = getattr(neural_network, kind)(**parameters)
    ours = {CLASSIFIER: MLPClassifier, REGRESSOR: MLPRegressor}[kind](**parameters)
    arguments = {} if sample_weight is None else {"sample_weight": sample_weight}
    return theirs.fit(*data, **arguments), ours.fit(*data, **arguments)


def assert_equal(theirs, ours, tolerance=ROUNDING):
    """All fitted attributes, the lists of arrays and of numbers to rounding."""
    for name, value in vars(theirs).items():
        if not name.endswith("_"):
            continue
        mine = getattr(ours, name)
        if name in ("coefs_", "intercepts_"):
            assert len(mine) == len(value)
            for a, b in zip(mine, value, strict=True):
                assert a.shape == b.shape
                np.testing.assert_allclose(a, b, rtol=0, atol=tolerance)
        elif isinstance(value, str | np.ndarray | None) or (np.isscalar(value) and value != value):
            np.testing.assert_array_equal(mine, value, err_msg=name)
        else:
            np.testing.assert_allclose(mine, value, rtol=tolerance, atol=tolerance, err_msg=name)


# ---- The same results ----

CASES = {
    "adam": (CLASSIFIER, digits(), {}),
    "adam, large epsilon": (CLASSIFIER, digits(), {"epsilon": 1e-3, "beta_1": 0.5, "beta_2": 0.9}),
    "large penalty": (CLASSIFIER, digits(), {"alpha": 3.0, "batch_size": 17}),
    "rows in order": (CLASSIFIER, digits(), {"shuffle": False, "batch_size": 32}),
    "batch too large": (CLASSIFIER, digits(), {"batch_size": 1000}),
    "no hidden layer": (CLASSIFIER, digits(), {"hidden_layer_sizes": ()}),
    "three hidden layers": (
        *(CLASSIFIER, cancer()),
        {"hidden_layer_sizes": [9, 5, 7], "activation": "tanh"},
    ),
    "logistic": (CLASSIFIER, cancer(), {"activation": "logistic", "max_iter": 50, "tol": 1e-2}),
    "identity": (REGRESSOR, diabetes(), {"activation": "identity"}),
    "sgd": (CLASSIFIER, digits(), {"solver": "sgd", "momentum": 0, "learning_rate_init": 0.1}),
    "momentum": (CLASSIFIER, digits(), {"solver": "sgd", "nesterovs_momentum": False}),
    "invscaling": (
        *(CLASSIFIER, digits()),
        {"solver": "sgd", "learning_rate": "invscaling", "power_t": 0.2, "learning_rate_init": 0.5},
    ),
    "adaptive": (
        *(CLASSIFIER, digits()),
        {
            "solver": "sgd",
            "learning_rate": "adaptive",
            "learning_rate_init": 0.2,
            "tol": 1e-2,
            "n_iter_no_change": 2,
            "max_iter": 200,
        },
    ),
    "adaptive, one step too many": (
        *(REGRESSOR, diabetes()),
        {
            "solver": "sgd",
            "learning_rate": "adaptive",
            "learning_rate_init": 1e-5,
            "tol": 0.1,
            "n_iter_no_change": 1,
            "max_iter": 200,
        },
    ),
    "tolerance": (CLASSIFIER, digits(), {"tol": 1e-2, "n_iter_no_change": 3, "max_iter": 300}),
    "no end": (REGRESSOR, diabetes(), {"n_iter_no_change": np.inf, "tol": 0.0}),
    "early stopping": (
        *(CLASSIFIER, digits()),
        {"early_stopping": True, "max_iter": 100, "tol": 1e-2, "validation_fraction": 0.3},
    ),
    "early stopping, two classes": (CLASSIFIER, cancer(), {"early_stopping": True}),
    "early stopping, several labels": (CLASSIFIER, labels(), {"early_stopping": True}),
    "early stopping, regression": (REGRESSOR, diabetes(), {"early_stopping": True}),
    "several labels": (CLASSIFIER, labels(), {"alpha": 0.1}),
    "several outputs": (REGRESSOR, diabetes(outputs=2), {"alpha": 0.1}),
    "lbfgs": (CLASSIFIER, digits(), {"solver": "lbfgs"}),
    "lbfgs, two classes": (CLASSIFIER, cancer(), {"solver": "lbfgs", "alpha": 1.0}),
    "lbfgs, regression": (REGRESSOR, diabetes(), {"solver": "lbfgs"}),
    "lbfgs, several outputs": (REGRESSOR, diabetes(outputs=2), {"solver": "lbfgs"}),
}
if "loss" in neural_network.MLPRegressor().get_params():  # from scikit-learn 1.7 on
    CASES |= {
        "poisson": (REGRESSOR, counts(), {"loss": "poisson"}),
        "poisson, several outputs": (
            *(REGRESSOR, counts(outputs=2)),
            {"loss": "poisson", "early_stopping": True},
        ),
        "poisson, lbfgs": (REGRESSOR, counts(), {"loss": "poisson", "solver": "lbfgs"}),
    }


@pytest.mark.filterwarnings("ignore:Got `batch_size`", "ignore:batch_size=1000 is larger")
@pytest.mark.parametrize("case", CASES)
def test_results_are_scikit_learns(case):
    kind, data, parameters = CASES[case]
    theirs, ours = fit_both(kind, data, **parameters)
    assert_equal(theirs, ours)
    np.testing.assert_allclose(ours.predict(data[0]), theirs.predict(data[0]), atol=1e-7)
    if kind == CLASSIFIER:
        np.testing.assert_allclose(
            ours.predict_proba(data[0]), theirs.predict_proba(data[0]), rtol=1e-7, atol=1e-9
        )


@pytest.mark.parametrize("solver", ["adam", "sgd", "lbfgs"])
def test_results_with_sample_weights_are_scikit_learns(solver):
    if "sample_weight" not in signature(neural_network.MLPRegressor.fit).parameters:
        pytest.skip("this version of scikit-learn takes no sample weights here")
    for kind, data in ((REGRESSOR, diabetes()), (CLASSIFIER, labels()), (CLASSIFIER, digits())):
        weights = random_weights(len(data[0]))
        assert_equal(*fit_both(kind, data, weights, solver=solver, alpha=0.1, batch_size=64))
    parameters = {"early_stopping": solver != "lbfgs", "solver": solver}
    assert_equal(*fit_both(CLASSIFIER, cancer(), random_weights(569), **parameters))


def test_float32_stays_float32_and_is_close():
    x, y = digits()
    theirs, ours = fit_both(CLASSIFIER, (x.astype("float32"), y))
    assert {array.dtype for array in ours.coefs_ + ours.intercepts_} == {np.dtype("float32")}
    assert ours.predict_proba(x.astype("float32")).dtype == np.float32
    np.testing.assert_allclose(ours.loss_curve_, theirs.loss_curve_, rtol=1e-3)


def test_float32_rows_are_not_copied(monkeypatch):
    x = np.ones((50, 3), "float32")
    seen = []
    monkeypatch.setattr(ds.Network, "predict", lambda self, x, **_: seen.append(x))
    model = MLPRegressor(max_iter=1).fit(x, np.ones(50))
    model._outputs(model._checked(x))
    assert np.shares_memory(seen[0], x)


@pytest.mark.parametrize("solver", ["adam", "sgd"])
def test_partial_fits_are_scikit_learns(solver):
    x, y = digits()
    parameters = {"solver": solver, "random_state": 0, "hidden_layer_sizes": 12}
    theirs, ours = neural_network.MLPClassifier(**parameters), MLPClassifier(**parameters)
    for first in (0, 100, 200, 0, 100):
        rows = slice(first, first + 100)
        theirs.partial_fit(x[rows], y[rows], classes=np.arange(10))
        ours.partial_fit(x[rows], y[rows], classes=np.arange(10))
    assert_equal(theirs, ours)


@pytest.mark.parametrize("solver", ["adam", "sgd", "lbfgs"])
def test_warm_starts_are_scikit_learns(solver):
    data = diabetes()
    theirs, ours = fit_both(REGRESSOR, data, solver=solver, warm_start=True, max_iter=5)
    assert_equal(theirs.fit(*data), ours.fit(*data))


def test_random_states_of_numpy_go_on():
    data = digits(100)
    theirs, ours = fit_both(CLASSIFIER, data, random_state=np.random.RandomState(5), max_iter=3)
    # both drew from the one state in turn: ours after theirs
    state = np.random.RandomState(5)
    kind = neural_network.MLPClassifier
    for _ in "ab":
        theirs = kind(hidden_layer_sizes=12, random_state=state, max_iter=3).fit(*data)
    assert_equal(theirs, ours)


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_verbose_prints_what_scikit_learn_prints(solver, capsys):
    data = digits(100)
    parameters = {"solver": solver, "verbose": True, "early_stopping": True}
    parameters["tol"] = 0.5 if solver == "adam" else 1e-4
    for kind in (neural_network.MLPClassifier, MLPClassifier):
        kind(random_state=0, max_iter=30, **parameters).fit(*data)
        printed = capsys.readouterr().out
        if kind is neural_network.MLPClassifier:
            expected = printed
    if solver == "adam":
        assert printed == expected
        assert "Validation score did not improve more than tol=0.500000" in printed
    else:
        assert printed.startswith("Iteration 1, loss = ")


def test_quiet_by_default(capfd):
    MLPClassifier(max_iter=2).fit(*digits(50))
    assert capfd.readouterr() == ("", "")


# ---- scikit-learn's contract ----

# So that the check of equivalence, which asks for convergence, is fair: scikit-learn's own choice.
WEIGHTED = {
    "MLPClassifier": {"solver": "lbfgs"},
    "MLPRegressor": {"solver": "sgd", "tol": 0.01, "random_state": 42},
}


@pytest.mark.filterwarnings("ignore")
@parametrize_with_checks([MLPClassifier(max_iter=100), MLPRegressor(max_iter=100)])
def test_estimator_checks(estimator, check):
    name = getattr(check, "func", check).__name__
    if name.startswith("check_sample_weight_equivalence"):
        estimator = clone(estimator).set_params(**WEIGHTED[type(estimator).__name__])
    check(estimator)


def test_constructors_begin_as_scikit_learns():
    for theirs, ours in (
        (neural_network.MLPClassifier(), MLPClassifier()),
        (neural_network.MLPRegressor(), MLPRegressor()),
    ):
        expected, parameters = theirs.get_params(), ours.get_params()
        assert {name: parameters[name] for name in expected} == expected
        public = {name for name in dir(theirs) if not name.startswith("_")}
        assert public <= set(dir(ours))


@pytest.mark.parametrize(
    ("parameters", "error"),
    [
        ({"hidden_layer_sizes": (5, 0)}, "hidden_layer_sizes must be > 0"),
        ({"activation": "rleu"}, "The 'activation' parameter"),
        ({"solver": "newton"}, "The 'solver' parameter"),
        ({"alpha": -1}, "The 'alpha' parameter"),
        ({"momentum": 2}, "The 'momentum' parameter"),
        ({"activation": ["relu", "tanh"]}, "one for each of the 1 hidden layers; got 2"),
        ({"scoring": "accuracies"}, "The 'scoring' parameter"),
        ({"class_weight": "even"}, "The 'class_weight' parameter"),
    ],
)
def test_bad_parameters_are_refused(parameters, error):
    model = MLPClassifier(**parameters)
    with pytest.raises(ValueError, match=error):
        model.fit(*digits(30))
    assert not hasattr(model, "coefs_")


def test_bad_calls_are_refused():
    x, y = digits(60)
    model = MLPClassifier(max_iter=2)
    with pytest.raises(NotFittedError):
        model.predict(x)
    with pytest.raises(NotFittedError):
        _ = model.network_
    with pytest.raises(ValueError, match="classes must be passed on the first call"):
        model.partial_fit(x, y)
    with pytest.raises(AttributeError, match="partial_fit"):
        _ = MLPClassifier(solver="lbfgs").partial_fit
    assert not hasattr(MLPRegressor(solver="lbfgs"), "partial_fit")
    with pytest.raises(ValueError, match="does not support early_stopping"):
        MLPClassifier(early_stopping=True).partial_fit(x, y, classes=range(10))
    with pytest.raises(ValueError, match=r"weight.*zero"):
        model.fit(x, y, sample_weight=np.zeros(60))
    with pytest.raises(ValueError, match="must not be negative"):
        model.fit(x, y, sample_weight=np.arange(60) - 1.0)
    with pytest.raises(ValueError, match="validation set is too small"):
        MLPRegressor(early_stopping=True).fit(x[:5], y[:5])
    with pytest.raises(TypeError, match=r"downslope\.Callback"):
        MLPClassifier(callbacks=["progress"]).fit(x, y)
    model.set_params(warm_start=True).fit(x, y)
    with pytest.raises(ValueError, match="warm_start can only be used where `y` has the same"):
        model.fit(x, y % 5)
    with pytest.raises(ValueError, match=r"hidden_layer_sizes=.* asks for others"):
        model.set_params(hidden_layer_sizes=7).fit(x, y)


def test_divergence_is_an_error():
    x, y = diabetes()
    model = MLPRegressor(solver="sgd", learning_rate_init=1e10, random_state=0)
    with pytest.raises(ValueError, match="non-finite parameter weights"):
        model.fit(x, y)
    assert all(np.isfinite(coef).all() for coef in model.coefs_)


def test_warns_when_epochs_run_out():
    with pytest.warns(ConvergenceWarning, match=r"Maximum iterations \(2\) reached"):
        MLPClassifier(max_iter=2).fit(*digits(50))
    with pytest.warns(ConvergenceWarning, match="lbfgs failed to converge"):
        MLPClassifier(max_iter=2, solver="lbfgs").fit(*digits(50))


def test_interrupt_keeps_what_was_learnt():
    class Interrupt(ds.Callback):
        def on_epoch_end(self, trainer, epoch, logs):
            if epoch == 3:
                raise KeyboardInterrupt

    model = MLPClassifier(random_state=0, callbacks=[Interrupt()])
    with pytest.warns(UserWarning, match="interrupted by user"):
        model.fit(*digits(100))
    assert model.n_iter_ == 4
    assert_equal(MLPClassifier(random_state=0, max_iter=4).fit(*digits(100)), model)


# ---- In company ----


def test_pipeline_and_grid_search_in_two_processes():
    x, y = cancer()
    search = GridSearchCV(
        make_pipeline(StandardScaler(), MLPClassifier((5,), max_iter=60, random_state=0)),
        {"mlpclassifier__alpha": [1e-4, 1.0], "mlpclassifier__activation": ["tanh", "gelu"]},
        n_jobs=2,
        cv=2,
    )
    search.fit(x, y)
    assert search.best_score_ > 0.8
    assert search.best_estimator_.score(x, y) > 0.8


def test_calibration_importance_and_cross_validation():
    x, y = cancer()
    model = MLPClassifier((5,), max_iter=30, random_state=0)
    calibrated = CalibratedClassifierCV(model, cv=2).fit(x, y)
    assert calibrated.score(x, y) > 0.9
    importance = permutation_importance(model.fit(x, y), x, y, n_repeats=2, random_state=0)
    assert importance.importances_mean.max() > 0
    x, y = diabetes()
    assert cross_val_score(MLPRegressor(solver="lbfgs", alpha=10), x, y, cv=3).mean() > 0.3


@pytest.mark.parametrize("fitted_by", ["fit", "partial_fit", "lbfgs"])
def test_pickles_go_on_where_they_were(fitted_by):
    x, y = digits(100)
    model = MLPClassifier(random_state=0, max_iter=3, hidden_layer_sizes=7)
    if fitted_by == "partial_fit":
        model.partial_fit(x, y, classes=range(10))
    else:
        model.set_params(solver="lbfgs" if fitted_by == "lbfgs" else "adam").fit(x, y)
    file = io.BytesIO()
    joblib.dump(model, file)
    file.seek(0)
    for again in (pickle.loads(pickle.dumps(model)), joblib.load(file)):
        np.testing.assert_array_equal(again.predict_proba(x), model.predict_proba(x))
        assert again.coefs_[0] is again.network_.layers[0].weights
        if fitted_by != "lbfgs":
            again.partial_fit(x, y)
    if fitted_by != "lbfgs":
        model.partial_fit(x, y)
        np.testing.assert_array_equal(again.coefs_[0], model.coefs_[0])
    assert pickle.loads(pickle.dumps(clone(model))).get_params() == model.get_params()


def test_other_processes_load_the_file(tmp_path):
    x, y = digits(60)
    model = MLPClassifier(random_state=0, max_iter=3).fit(x, y)
    joblib.dump(model, tmp_path / "model.joblib")
    np.save(tmp_path / "x.npy", x)
    script = (
        "import joblib, numpy as np, sys\n"
        "model = joblib.load(sys.argv[1] + '/model.joblib', mmap_mode='r')\n"
        "np.save(sys.argv[1] + '/p.npy', model.predict_proba(np.load(sys.argv[1] + '/x.npy')))\n"
    )
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=True)
    np.testing.assert_array_equal(np.load(tmp_path / "p.npy"), model.predict_proba(x))


def frames():
    x, y = cancer()
    names = [f"feature {i}" for i in range(x.shape[1])]
    yield pd.DataFrame(x, columns=names), pd.Series(y).map({0: "no", 1: "yes"})
    polars = pytest.importorskip("polars")
    yield polars.DataFrame(x, schema=names), polars.Series(y).cast(str)


def test_frames():
    for x, y in frames():
        model = MLPClassifier((5,), max_iter=5, early_stopping=True, random_state=0).fit(x, y)
        assert list(model.feature_names_in_) == list(x.columns)
        assert set(model.predict(x)) <= set(y)
        with pytest.raises(ValueError, match="feature names"):
            model.predict(x[list(x.columns)[::-1]])


def test_scaled_frames_keep_their_names():
    x, y = next(frames())
    model = make_pipeline(StandardScaler(), MLPClassifier((5,), max_iter=5))
    model.set_output(transform="pandas").fit(x, y)
    assert list(model[-1].feature_names_in_) == list(x.columns)


def test_metadata_are_routed():
    x, y = digits(200)
    weights = np.where(y < 5, 1.0, 0.0)
    with config_context(enable_metadata_routing=True):
        model = MLPClassifier(random_state=0, max_iter=40, learning_rate_init=0.01)
        scaler = StandardScaler().set_fit_request(sample_weight=False)
        model.set_fit_request(sample_weight=True).set_score_request(sample_weight=True)
        model = make_pipeline(scaler, model)
        scores = cross_validate(
            model, x, y, cv=2, params={"sample_weight": weights}, return_estimator=True
        )
    for fitted in scores["estimator"]:
        assert fitted.predict(x).max() < 5


@pytest.mark.parametrize("make", [sparse.csr_matrix, sparse.csc_array])
def test_sparse_rows_are_as_dense_ones(make):
    x, y = digits()
    for solver in ("adam", "lbfgs"):
        model = MLPClassifier((9,), max_iter=5, random_state=0, solver=solver)
        dense, thin = clone(model).fit(x, y), model.fit(make(x), y)
        assert_equal(dense, thin)
        np.testing.assert_allclose(thin.predict_proba(make(x)), dense.predict_proba(x))
    thin = MLPClassifier((9,), max_iter=3, early_stopping=True, random_state=0).fit(make(x), y)
    assert_equal(clone(thin).fit(x, y), thin)


def test_sparse_rows_are_dense_only_in_part():
    columns = np.random.default_rng(0).integers(0, 20_000, 4000)
    rows = np.arange(4000)
    x = sparse.csr_matrix((np.ones(4000, "float32"), (rows, columns)), shape=(4000, 20_000))
    model = MLPClassifier((1,), max_iter=1, batch_size=100, solver="sgd")
    tracemalloc.start()
    try:
        model.fit(x, rows % 2).predict(x)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 0.3 * (4000 * 20_000 * 4)


def test_string_labels_and_a_single_class():
    x, y = digits(100)
    names = np.array(list("abcdefghij"))
    by_name = MLPClassifier(random_state=0, max_iter=5).fit(x, names[y])
    by_number = MLPClassifier(random_state=0, max_iter=5).fit(x, y)
    assert list(by_name.classes_) == list(names)
    np.testing.assert_array_equal(by_name.predict(x), names[by_number.predict(x)])
    only = MLPClassifier(max_iter=2).fit(x, ["one"] * 100)
    assert set(only.predict(x)) == {"one"}


def test_html():
    assert "MLPClassifier" in MLPClassifier(alpha=3.0)._repr_html_()
    assert repr(MLPClassifier(alpha=3.0)) == "MLPClassifier(alpha=3.0)"


# ---- To and from scikit-learn ----


@pytest.mark.parametrize(
    ("kind", "data"),
    [(CLASSIFIER, digits()), (CLASSIFIER, cancer()), (CLASSIFIER, labels()),
     (REGRESSOR, diabetes()), (REGRESSOR, diabetes(outputs=2))],
    ids=["classes", "two classes", "labels", "regression", "outputs"],
)  # fmt: skip
def test_conversions(kind, data):
    theirs, ours = fit_both(kind, data, activation="logistic")
    x, y = data
    for original, converted in ((theirs, from_sklearn(theirs)), (ours, to_sklearn(ours))):
        assert type(converted).__name__ == kind
        assert type(converted).__module__ != type(original).__module__
        common = set(theirs.get_params())
        expected = {k: v for k, v in original.get_params().items() if k in common}
        assert {k: v for k, v in converted.get_params().items() if k in common} == expected
        np.testing.assert_allclose(converted.predict(x), original.predict(x), atol=1e-12)
        before = original.coefs_[0].copy()
        converted.partial_fit(x, y)  # nothing is shared
        np.testing.assert_array_equal(original.coefs_[0], before)
    assert not hasattr(from_sklearn(clone(theirs)), "coefs_")


def test_what_scikit_learn_lacks_is_not_converted():
    with pytest.raises(ValueError, match="activation"):
        to_sklearn(MLPClassifier(activation="gelu"))
    with pytest.raises(ValueError, match="solver"):
        to_sklearn(MLPRegressor(solver=ds.SGD(0.1)))
    with pytest.raises(TypeError, match="Pipeline"):
        from_sklearn(make_pipeline(StandardScaler()))
    with pytest.raises(TypeError, match=r"of downslope\.sklearn"):
        to_sklearn(neural_network.MLPClassifier())


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
