"""The estimators: scikit-learn's results, contract and uses."""

from __future__ import annotations

import io
import pickle
import subprocess
import sys
import tracemalloc
from inspect import signature

import numpy as np
import pytest

pytest.importorskip("sklearn")

import joblib
from scipy import sparse
from sklearn import config_context, neural_network
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.inspection import permutation_importance
from sklearn.model_selection import GridSearchCV, cross_val_score, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

import downslope as ds
from downslope.sklearn import MLPClassifier, MLPRegressor, from_sklearn, to_sklearn
from sklearn_data import (
    assert_equal,
    cancer,
    counts,
    diabetes,
    digits,
    frames,
    labels,
    random_weights,
)

pytestmark = pytest.mark.filterwarnings(
    "ignore::sklearn.exceptions.ConvergenceWarning"  # a few epochs are enough here
)


CLASSIFIER, REGRESSOR = "MLPClassifier", "MLPRegressor"


def fit_both(kind, data, sample_weight=None, **parameters):
    """scikit-learn's estimator and ours, fitted alike."""
    parameters = {"random_state": 3, "max_iter": 12, "hidden_layer_sizes": (12,), **parameters}
    theirs = getattr(neural_network, kind)(**parameters)
    ours = {CLASSIFIER: MLPClassifier, REGRESSOR: MLPRegressor}[kind](**parameters)
    arguments = {} if sample_weight is None else {"sample_weight": sample_weight}
    return theirs.fit(*data, **arguments), ours.fit(*data, **arguments)


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
    with pytest.warns(ConvergenceWarning, match=r"Maximum iterations \(2\) reached") as told:
        MLPClassifier(max_iter=2).fit(*digits(50))
    assert told[0].filename == __file__
    with pytest.warns(ConvergenceWarning, match="lbfgs failed to converge") as told:
        MLPClassifier(max_iter=2, solver="lbfgs").fit(*digits(50))
    assert told[0].filename == __file__


def test_warns_of_a_batch_larger_than_the_data():
    with pytest.warns(UserWarning, match="batch_size=60 is larger than .*, 50") as told:
        MLPClassifier(batch_size=60).partial_fit(*digits(50), classes=range(10))
    assert told[0].filename == __file__


def test_interrupt_keeps_what_was_learnt():
    class Interrupt(ds.Callback):
        def on_epoch_end(self, trainer, epoch, logs):
            if epoch == 3:
                raise KeyboardInterrupt

    model = MLPClassifier(random_state=0, callbacks=[Interrupt()])
    with pytest.warns(UserWarning, match="interrupted by user") as told:
        model.fit(*digits(100))
    assert told[0].filename == __file__
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


@pytest.mark.parametrize("early_stopping", [False, True])
def test_converted_estimators_start_warm(early_stopping):
    x, y = digits(200)
    parameters = {"max_iter": 3, "random_state": 0, "warm_start": True}
    parameters["early_stopping"] = early_stopping
    theirs = neural_network.MLPClassifier(**parameters).fit(x, y)
    ours = MLPClassifier(**parameters).fit(x, y)
    assert len(from_sklearn(theirs).fit(x, y, X_val=x, y_val=y).validation_loss_curve_) == 3
    # nothing gets better than it was: the weights stay
    for converted in (from_sklearn(theirs), to_sklearn(ours)):
        before = converted.coefs_[0].copy()
        if early_stopping:
            converted.best_validation_score_ = np.inf
        converted.fit(x, y)
        assert np.array_equal(converted.coefs_[0], before) == early_stopping


def test_what_scikit_learn_lacks_is_not_converted():
    with pytest.raises(ValueError, match="activation"):
        to_sklearn(MLPClassifier(activation="gelu"))
    with pytest.raises(ValueError, match="solver"):
        to_sklearn(MLPRegressor(solver=ds.SGD(0.1)))
    with pytest.raises(TypeError, match="Pipeline"):
        from_sklearn(make_pipeline(StandardScaler()))
    with pytest.raises(TypeError, match=r"of downslope\.sklearn"):
        to_sklearn(neural_network.MLPClassifier())
