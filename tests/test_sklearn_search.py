"""The search over many networks: to the bit what scikit-learn's own finds, on any threads."""

import pickle
import signal
import threading
import warnings

import numpy as np
import pytest
from numpy.testing import assert_array_equal

import downslope as ds

pytest.importorskip("sklearn", reason="scikit-learn is not installed")

from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning, FitFailedWarning, NotFittedError
from sklearn.metrics import log_loss, make_scorer
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
    KFold,
    ShuffleSplit,
    cross_val_score,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from downslope.sklearn import EnsembleSearchCV, MLPClassifier, MLPRegressor

pytestmark = pytest.mark.filterwarnings(
    "ignore::sklearn.exceptions.ConvergenceWarning", "ignore:lbfgs failed to converge"
)


def classifier(**parameters):
    return MLPClassifier((6,), batch_size=16, max_iter=8, random_state=0).set_params(**parameters)


def regressor(**parameters):
    model = MLPRegressor("squared_error", (6,), batch_size=16, max_iter=8, random_state=0)
    return model.set_params(**parameters)


@pytest.fixture
def data(rng):
    x = rng.normal(size=(90, 4))
    return x, np.array(["no", "yes", "maybe"])[np.digitize(x[:, 0] * x[:, 1], [-0.3, 0.3])]


def assert_same_search(ours, theirs):
    """All results but the times, and what was refitted."""
    assert ours.cv_results_.keys() == theirs.cv_results_.keys()
    for name, values in theirs.cv_results_.items():
        if not name.endswith("_time"):
            assert_array_equal(ours.cv_results_[name], values, err_msg=name)
    assert ours.best_params_ == theirs.best_params_
    assert_array_equal(ours.best_score_, theirs.best_score_)
    assert ours.n_splits_ == theirs.n_splits_
    for own, other in zip(ours.best_estimator_.coefs_, theirs.best_estimator_.coefs_, strict=True):
        assert_array_equal(own, other)


CASES = {
    "shapes and rates": (
        classifier(),
        {"hidden_layer_sizes": [(6,), (4, 3)], "learning_rate_init": [0.001, 0.03]},
        {},
    ),
    "a list of grids": (
        classifier(),
        [{"alpha": [0.1, 1.0]}, {"activation": ["tanh"], "solver": ["sgd", "lbfgs"]}],
        {"cv": ShuffleSplit(3, random_state=1)},
    ),
    "early stopping": (
        classifier(early_stopping=True, scoring="accuracy", max_iter=30, n_iter_no_change=2),
        {"solver": [ds.SGD(0.1), ds.AdamW(0.01)]},
        {"cv": 3, "scoring": "neg_log_loss"},
    ),
    "weights of classes": (
        classifier(),
        {"class_weight": [None, "balanced", {"no": 3}]},
        {"cv": 2, "scoring": "neg_log_loss"},
    ),
    "probabilities, and training scores": (
        classifier(),
        {"batch_size": [8, "auto"]},
        {
            "cv": 2,
            "return_train_score": True,
            "scoring": make_scorer(
                log_loss, response_method="predict_proba", greater_is_better=False
            ),
        },
    ),
    "one's own score": (
        classifier(),
        {"shuffle": [True, False]},
        {"cv": 2, "scoring": lambda model, x, y: -model.loss_},
    ),
}


@pytest.mark.parametrize("n_jobs", [1, 3])
@pytest.mark.parametrize("case", CASES)
def test_it_finds_what_grid_search_finds(data, case, n_jobs):
    model, grid, options = CASES[case]
    theirs = GridSearchCV(model, grid, **options).fit(*data)
    ours = EnsembleSearchCV(model, grid, n_jobs=n_jobs, **options).fit(*data)
    assert_same_search(ours, theirs)
    assert_array_equal(ours.predict(data[0]), theirs.predict(data[0]))
    assert ours.score(*data) == theirs.score(*data)
    assert len(set(ours.cv_results_["mean_test_score"])) > 1  # what is varied counts


@pytest.mark.parametrize("outputs", [1, 2])
def test_regression(rng, outputs):
    x = rng.normal(size=(80, 3)).astype(np.float32)
    y = (x[:, :1] * [1.0, 2.0])[:, :outputs].squeeze()
    grid = {"loss": ["squared_error", "huber"], "tol": [0.0, 0.1]}
    theirs = GridSearchCV(regressor(n_iter_no_change=2), grid).fit(x, y)
    ours = EnsembleSearchCV(regressor(n_iter_no_change=2), grid, n_jobs=2).fit(x, y)
    assert_same_search(ours, theirs)


def test_groups_frames_and_sparse_rows(data):
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    from scipy import sparse

    x, y = data
    groups = np.arange(len(x)) % 7
    frame, labels = pandas.DataFrame(x, columns=list("abcd")), pandas.Series(y)
    for rows, targets in ((frame, labels), (sparse.csr_matrix(x), y)):
        options = {"param_grid": {"alpha": [0.0, 1.0]}, "cv": GroupKFold(3)}
        theirs = GridSearchCV(classifier(), **options).fit(rows, targets, groups=groups)
        ours = EnsembleSearchCV(classifier(), **options).fit(rows, targets, groups=groups)
        assert_same_search(ours, theirs)
        assert hasattr(ours, "feature_names_in_") == (rows is frame)


def test_the_contract_of_scikit_learn(data):
    x, y = data
    search = EnsembleSearchCV(classifier(), {"alpha": [0.0, 1.0]}, cv=2)
    with pytest.raises(NotFittedError):
        search.predict(x)
    assert clone(search).get_params().keys() == search.get_params().keys()
    search.set_params(estimator__max_iter=4)
    assert search.fit(x, y) is search
    assert search.estimator.get_params()["callbacks"] == ()  # as it was given
    assert_array_equal(search.classes_, np.unique(y))
    assert search.n_features_in_ == 4
    assert search.predict_proba(x).shape == (90, 3)
    again = pickle.loads(pickle.dumps(search))
    assert_array_equal(again.predict(x), search.predict(x))
    assert cross_val_score(make_pipeline(StandardScaler(), search), x, y, cv=2).shape == (2,)
    unfitted = clone(search).set_params(refit=False).fit(x, y)
    assert not hasattr(unfitted, "best_estimator_")
    assert unfitted.best_params_ == search.best_params_
    last = clone(search).set_params(refit=lambda results: 1).fit(x, y)
    assert last.best_params_ == {"alpha": 1.0}


def test_fits_that_fail_are_told_of(data):
    grid = {"learning_rate_init": [0.01, 1e300]}
    search = EnsembleSearchCV(classifier(solver="sgd"), grid, cv=2, refit=False, n_jobs=2)
    with (
        pytest.warns(FitFailedWarning, match="2 of 4 fits failed"),
        pytest.warns(UserWarning, match="non-finite"),
    ):
        search.fit(*data)
    assert_array_equal(np.isnan(search.cv_results_["mean_test_score"]), [False, True])
    assert search.best_index_ == 0
    with pytest.raises(ValueError, match="non-finite"):
        clone(search).set_params(error_score="raise").fit(*data)
    with pytest.raises(ValueError, match="2 of 2 fits failed"):
        clone(search).set_params(param_grid={"learning_rate_init": [1e300]}).fit(*data)


def test_scores_that_fail_are_told_of(data):
    x, y = data[0], np.repeat([0, 1, 2], 30)  # each fold is tested with an unknown class
    grid, options = {"alpha": [0.0, 1.0]}, {"cv": KFold(3), "scoring": "neg_log_loss"}
    with pytest.warns(UserWarning, match="Scoring failed|non-finite"):
        theirs = GridSearchCV(classifier(), grid, **options).fit(x, y)
    search = EnsembleSearchCV(classifier(), grid, n_jobs=2, **options)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        ours = clone(search).fit(x, y)
    told = [w for w in caught if "Scoring failed 2 times" in str(w.message)]
    assert [w.filename for w in told] == [__file__] * 3
    assert_same_search(ours, theirs)
    assert np.isnan(ours.cv_results_["split0_test_score"]).all()
    with pytest.warns(UserWarning, match="scores are -1"):
        clone(search).set_params(error_score=-1).fit(x, y)
    with pytest.raises(ValueError, match="y_true"):
        clone(search).set_params(error_score="raise").fit(x, y)


def test_bad_arguments_are_refused(data):
    from sklearn.neural_network import MLPClassifier as Theirs

    with pytest.raises(TypeError, match=r"of downslope\.sklearn; got MLPClassifier"):
        EnsembleSearchCV(Theirs(), {"alpha": [0.0]}).fit(*data)
    with pytest.raises(ValueError, match="one score"):
        EnsembleSearchCV(classifier(), {"alpha": [0.0]}, scoring=["accuracy"]).fit(*data)
    with pytest.raises(ValueError, match="Invalid parameter 'alfa'"):
        EnsembleSearchCV(classifier(), {"alfa": [0.0]}).fit(*data)
    with pytest.raises(ValueError, match="requires y"):
        EnsembleSearchCV(classifier(), {"alpha": [0.0]}).fit(data[0], None)
    several = EnsembleSearchCV(classifier(), {"alpha": [0.0]}, scoring=lambda *_: {"a": 1.0})
    with pytest.raises(ValueError, match=r"one number; got .* of the type dict"):
        several.fit(*data)


@pytest.mark.usefixtures("each_wait")
def test_ctrl_c_ends_all_threads(data):
    before = threading.active_count()
    timer = threading.Timer(
        0.5, signal.pthread_kill, [threading.main_thread().ident, signal.SIGINT]
    )
    model = classifier(max_iter=10**7, n_iter_no_change=np.inf)
    search = EnsembleSearchCV(model, {"alpha": [0.0, 1.0]}, n_jobs=2)
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        search.fit(*data)
    timer.join()
    assert threading.active_count() == before


def test_warnings_of_each_fit_come_through(data):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        EnsembleSearchCV(classifier(max_iter=1), {"alpha": [0.0]}, cv=2, refit=False).fit(*data)
    assert sum(issubclass(w.category, ConvergenceWarning) for w in caught) == 2
