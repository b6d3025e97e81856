"""A grid search that trains all candidates on all folds side by side.

Each pair of a candidate and a fold is a network of its own, trained by one thread from its first
epoch to its last; the engine computes without Python's lock.  A fold's rows are checked and copied
once, for all its networks.  (A `downslope.Ensemble` is not what trains them: its order of the rows
and its rule for stopping early are other than scikit-learn's, which the estimators follow.)
"""

from __future__ import annotations

import traceback
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from numbers import Number
from time import perf_counter
from typing import Any

import joblib
import numpy as np
from numpy.typing import NDArray
from sklearn import config_context
from sklearn.base import clone, is_classifier
from sklearn.exceptions import FitFailedWarning
from sklearn.metrics import check_scoring
from sklearn.model_selection import GridSearchCV, ParameterGrid, check_cv
from sklearn.utils import _safe_indexing, indexable

from downslope import _threads
from downslope._tasks import results_of
from downslope.callbacks import Callback
from downslope.sklearn._base import BaseMLP
from downslope.sklearn._data import Rows
from downslope.training import Trainer

# Those of an estimator's parameters by which it turns rows into what the engine takes.
_OF_DATA = ("solver", "class_weight")


class EnsembleSearchCV(GridSearchCV):
    """scikit-learn's `GridSearchCV` for downslope's estimators, trained side by side.

    What it finds is what `GridSearchCV` finds, to the bit: each network is trained as if alone.
    Threads take the place of processes, and share the rows, which are checked once for each fold
    and not for each of its networks.

    Parameters
    ----------
    estimator : MLPClassifier or MLPRegressor
        Of `downslope.sklearn`.
    param_grid : dict or list of dict
        Names of parameters with lists of values, as for `sklearn.model_selection.ParameterGrid`.
    scoring : str, callable or None, default None
        One score, more being better; None is the estimator's own.
    n_jobs : int or None, default None
        Threads: -1 for all CPUs, None for downslope's default.  Each trains other networks.
    refit : bool or callable, default True
        Fit the best candidate on all rows; a function of `cv_results_` gives its index.
    cv : int, splitter, iterable or None, default None
        Folds: five if None, stratified for a classifier.
    error_score : "raise" or float, default NaN
        The score where a fit fails, or its score can not be computed.
    return_train_score : bool, default False
        Whether to score the rows trained on too.

    Attributes
    ----------
    cv_results_ : dict of array (candidates,)
        As `GridSearchCV` has it.
    best_params_, best_score_, best_index_
        Of the candidate with the greatest mean score.
    best_estimator_
        It, fitted on all rows, if `refit`; `predict`, `predict_proba` and `score` are its.
    n_splits_, scorer_, refit_time_, classes_, n_features_in_, feature_names_in_
        As `GridSearchCV` has them.

    Examples
    --------
    >>> from downslope.sklearn import EnsembleSearchCV, MLPClassifier
    >>> from sklearn.datasets import load_iris
    >>> X, y = load_iris(return_X_y=True)
    >>> model = MLPClassifier((8,), max_iter=300, tol=0.01, random_state=0)
    >>> search = EnsembleSearchCV(model, {"learning_rate_init": [1e-5, 0.03]}, cv=3).fit(X, y)
    >>> search.best_params_
    {'learning_rate_init': 0.03}
    """

    def __init__(
        self,
        estimator: BaseMLP,
        param_grid: Mapping[str, Sequence[Any]] | Sequence[Mapping[str, Sequence[Any]]],
        *,
        scoring: Any = None,
        n_jobs: int | None = None,
        refit: Any = True,
        cv: Any = None,
        error_score: Any = np.nan,
        return_train_score: bool = False,
    ) -> None:
        super().__init__(
            estimator,
            param_grid,
            scoring=scoring,
            n_jobs=n_jobs,
            refit=refit,
            cv=cv,
            error_score=error_score,
            return_train_score=return_train_score,
        )

    def fit(self, X: Any, y: Any, *, groups: Any = None) -> EnsembleSearchCV:
        """Train and score all candidates on all folds, then the best one on all rows.

        Parameters
        ----------
        X : array-like or sparse matrix (rows, inputs)
        y : array-like (rows,) or (rows, outputs)
        groups : array-like (rows,), optional
            For splitters that keep groups of rows together.

        Returns
        -------
        self

        Raises
        ------
        TypeError, ValueError
            If a parameter or an argument is not as it should be, or all fits fail.
        """
        if not isinstance(self.estimator, BaseMLP):
            raise TypeError(
                "estimator must be an MLPClassifier or MLPRegressor of downslope.sklearn; got "
                f"{type(self.estimator).__name__}. GridSearchCV takes any estimator"
            )
        if not (self.scoring is None or isinstance(self.scoring, str) or callable(self.scoring)):
            raise ValueError(f"scoring must be one score, a name or function; got {self.scoring!r}")
        if y is None:
            raise ValueError("EnsembleSearchCV requires y to be passed, but the target y is None")
        self._validate_params()
        self.scorer_, self.multimetric_ = check_scoring(self.estimator, self.scoring), False
        X, y, groups = indexable(X, y, groups)
        splitter = check_cv(self.cv, y, classifier=is_classifier(self.estimator))
        folds = [_Fold(X, y, *rows) for rows in splitter.split(X, y, groups)]
        candidates = list(ParameterGrid(self.param_grid))
        self.n_splits_ = len(folds)
        results = self._run_all(
            [_Fit(self, candidate, fold) for candidate in candidates for fold in folds]
        )
        self.cv_results_ = self._format_results(candidates, self.n_splits_, results)
        self._choose_best(X, y)
        return self

    def _run_all(self, fits: list[_Fit]) -> list[dict[str, Any]]:
        """The results of all fits, by as many threads as asked for."""
        asked = None if self.n_jobs is None else joblib.effective_n_jobs(self.n_jobs)
        pool = ThreadPoolExecutor(_threads.resolve(asked))
        try:
            results = results_of([pool.submit(fit.run) for fit in fits])
        finally:  # after an error or Ctrl-C, which this thread alone receives
            for fit in fits:
                fit.ending.asked_for = True
            pool.shutdown(cancel_futures=True)
        _check_failures([result["fit_error"] for result in results], self.error_score)
        _tell_of_scores([e for r in results for e in r["score_errors"]], self.error_score)
        return results

    def _choose_best(self, X: Any, y: Any) -> None:
        """The best candidate, fitted on all rows if wanted."""
        results = self.cv_results_
        if callable(self.refit):
            self.best_index_ = self.refit(results)
        else:
            self.best_index_ = results["rank_test_score"].argmin()
            self.best_score_ = results["mean_test_score"][self.best_index_]
        self.best_params_ = results["params"][self.best_index_]
        if not self.refit:
            return
        best = clone(self.estimator).set_params(**clone(self.best_params_, safe=False))
        begin = perf_counter()
        self.best_estimator_ = best.fit(X, y)
        self.refit_time_ = perf_counter() - begin
        if hasattr(best, "feature_names_in_"):
            self.feature_names_in_ = best.feature_names_in_


class _Fold:
    """The rows of a fold, to train on and to test with."""

    def __init__(self, X: Any, y: Any, train: NDArray[Any], test: NDArray[Any]) -> None:
        self.train = _safe_indexing(X, train), _safe_indexing(y, train)
        self.test = _safe_indexing(X, test), _safe_indexing(y, test)
        self._learnt: dict[str, tuple[Rows, dict[str, Any]]] = {}

    def prepare(self, estimator: BaseMLP) -> Rows:
        """Checked rows to train on; the estimator knows what the data say, as if it had checked
        them itself."""
        parameters = estimator.get_params(deep=False)
        key = repr([parameters.get(name) for name in _OF_DATA])
        if key not in self._learnt:
            checker = clone(estimator)
            rows = checker._learn_data(*self.train, None, first=True, incremental=False)
            learnt = {k: v for k, v in vars(checker).items() if k not in parameters}
            self._learnt[key] = rows, learnt
        rows, learnt = self._learnt[key]
        estimator.__dict__.update(learnt)
        return rows


class _Fit:
    """One candidate on one fold."""

    def __init__(self, search: EnsembleSearchCV, candidate: dict[str, Any], fold: _Fold) -> None:
        self.search, self.candidate, self.fold = search, candidate, fold
        self.ending = _Ending()
        self.score_errors: list[str] = []

    def run(self) -> dict[str, Any]:
        """Train and score; a row of what `GridSearchCV` makes its results from."""
        search, begin, error = self.search, perf_counter(), None
        estimator = clone(search.estimator).set_params(**clone(self.candidate, safe=False))
        try:
            self._train(estimator)
        except Exception:
            if search.error_score == "raise":
                raise
            error = traceback.format_exc()
        trained = perf_counter()
        scores = {}
        with config_context(skip_parameter_validation=True):  # of the functions of scores
            for name, rows in self._scored():
                scores[name] = search.error_score if error else self._score(estimator, *rows)
        return {
            **scores,
            "fit_error": error,
            "score_errors": self.score_errors,
            "fit_time": trained - begin,
            "score_time": perf_counter() - trained,
        }

    def _train(self, estimator: BaseMLP) -> None:
        """As `estimator.fit` does with the fold's rows."""
        estimator._check_parameters(None, False)
        estimator.set_params(n_jobs=1, callbacks=[*estimator.callbacks, self.ending])
        rows = self.fold.prepare(estimator)
        estimator._prepare(rows, first=True)
        estimator._train(rows, self.fold.train[0])

    def _score(self, estimator: BaseMLP, X: Any, y: Any) -> Any:
        """The score of a fitted estimator, or what stands for one that can not be computed."""
        search = self.search
        try:
            score = search.scorer_(estimator, X, y)
        except Exception:
            if search.error_score == "raise":
                raise
            self.score_errors.append(traceback.format_exc())
            return search.error_score
        value = score.item() if np.ndim(score) == 0 and hasattr(score, "item") else score
        if not isinstance(value, Number):
            raise ValueError(
                f"scoring must give one number; got {score!r} of the type {type(score).__name__}. "
                "GridSearchCV takes functions with several scores"
            )
        return value

    def _scored(self) -> Iterator[tuple[str, tuple[Any, Any]]]:
        yield "test_scores", self.fold.test
        if self.search.return_train_score:
            yield "train_scores", self.fold.train


class _Ending(Callback):
    """Ends a fit when that is asked for."""

    asked_for = False

    def on_epoch_end(self, trainer: Trainer, epoch: int, logs: dict[str, float]) -> bool:
        return self.asked_for


def _check_failures(errors: list[str | None], error_score: Any) -> None:
    """Tell of fits that failed, as `GridSearchCV` does."""
    failed = Counter(error for error in errors if error is not None)
    if not failed:
        return
    counts = f"{failed.total()} of {len(errors)} fits failed"
    details = "\n".join(f"{count} of them:\n{error}" for error, count in failed.items())
    if failed.total() == len(errors):
        raise ValueError(f"{counts}; error_score='raise' shows one:\n{details}")
    message = f"{counts}, and their scores are {error_score}:\n{details}"
    warnings.warn(message, FitFailedWarning, stacklevel=4)


def _tell_of_scores(errors: list[str], error_score: Any) -> None:
    """Tell of scores that could not be computed, as `GridSearchCV` does."""
    for error, count in Counter(errors).items():
        message = f"Scoring failed {count} times, and these scores are {error_score}:\n{error}"
        warnings.warn(message, UserWarning, stacklevel=4)
