"""scikit-learn's multi-layer perceptrons on downslope's engine: change the import, keep the code.

`MLPClassifier` and `MLPRegressor` have the parameters, methods, attributes and results of those in
``sklearn.neural_network``, and more parameters besides, off by default.  docs/sklearn.md has the
differences.  Needs scikit-learn: ``python -m pip install "downslope[sklearn]"``.
"""

try:
    import sklearn  # noqa: F401  (the message below, before the modules that need it)
except ImportError as error:
    raise ImportError(
        "downslope.sklearn needs scikit-learn, which is not installed; get it with: "
        'python -m pip install "downslope[sklearn]"'
    ) from error

from downslope.sklearn._convert import from_sklearn, to_sklearn
from downslope.sklearn._estimators import MLPClassifier, MLPRegressor
from downslope.sklearn._search import EnsembleSearchCV

__all__ = ["EnsembleSearchCV", "MLPClassifier", "MLPRegressor", "from_sklearn", "to_sklearn"]
