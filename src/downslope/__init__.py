"""Feed-forward neural networks trained on the CPU: fast, and reproducible to the bit.

Examples
--------
>>> import downslope as ds, numpy as np
>>> x = np.random.default_rng(0).normal(size=(500, 2))
>>> labels = (x[:, 0] * x[:, 1] > 0).astype(int)
>>> net = ds.Network([2, 16, 2], activation="tanh", output="softmax", seed=0)
>>> history = net.fit(x, labels, loss="cross_entropy", optimizer=ds.Adam(0.01), epochs=100)
>>> bool((net.predict(x).argmax(axis=1) == labels).mean() > 0.95)
True
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from downslope import _threads
from downslope._config import config, show_config
from downslope._threads import get_num_threads, set_num_threads
from downslope.activations import Activation
from downslope.initializers import Initializer
from downslope.layers import Dense, Layer
from downslope.losses import Loss
from downslope.network import Network
from downslope.passes import Pass

if TYPE_CHECKING:
    from downslope import schedules
    from downslope._scale import UnscaledInputsWarning
    from downslope.callbacks import (
        Callback,
        Checkpoint,
        EarlyStopping,
        JSONLines,
        MemoryLimit,
        Progress,
        ReduceLROnPlateau,
        TensorBoard,
        TimeLimit,
    )
    from downslope.diagnosis import Diagnosis, LayerDiagnosis
    from downslope.ensemble import Ensemble
    from downslope.explanation import Explanation, explain
    from downslope.gradients import GradientCheck, check_gradient, check_gradients, gradient
    from downslope.history import History
    from downslope.learning_rate import LearningRateSearch, find_learning_rate
    from downslope.metrics import Metric
    from downslope.minimization import MinimizeResult, minimize, random_search
    from downslope.model_files import load
    from downslope.optimizers import (
        LBFGS,
        SGD,
        Adadelta,
        Adagrad,
        Adam,
        AdamW,
        Lion,
        NAdam,
        Optimizer,
        RAdam,
        RMSProp,
        Rprop,
    )
    from downslope.session import Session, get_include
    from downslope.training import Trainer

_threads.register_with_threadpoolctl()

__all__ = [
    "LBFGS",
    "SGD",
    "Activation",
    "Adadelta",
    "Adagrad",
    "Adam",
    "AdamW",
    "Callback",
    "Checkpoint",
    "Dense",
    "Diagnosis",
    "EarlyStopping",
    "Ensemble",
    "Explanation",
    "GradientCheck",
    "History",
    "Initializer",
    "JSONLines",
    "Layer",
    "LayerDiagnosis",
    "LearningRateSearch",
    "Lion",
    "Loss",
    "MemoryLimit",
    "Metric",
    "MinimizeResult",
    "NAdam",
    "Network",
    "Optimizer",
    "Pass",
    "Progress",
    "RAdam",
    "RMSProp",
    "ReduceLROnPlateau",
    "Rprop",
    "Session",
    "TensorBoard",
    "TimeLimit",
    "Trainer",
    "UnscaledInputsWarning",
    "check_gradient",
    "check_gradients",
    "config",
    "explain",
    "find_learning_rate",
    "get_include",
    "get_num_threads",
    "gradient",
    "load",
    "minimize",
    "random_search",
    "schedules",
    "set_num_threads",
    "show_config",
]

# What training and studying a network take beyond the network itself is imported when it is first
# used, so that `import downslope` is quick.  No module may have the name of a function here: once
# imported, it would take the function's place.
_MODULES = {
    "_scale": "UnscaledInputsWarning",
    "callbacks": "Callback Checkpoint EarlyStopping JSONLines MemoryLimit Progress "
    "ReduceLROnPlateau TensorBoard TimeLimit",
    "diagnosis": "Diagnosis LayerDiagnosis",
    "ensemble": "Ensemble",
    "explanation": "Explanation explain",
    "gradients": "GradientCheck check_gradient check_gradients gradient",
    "history": "History",
    "learning_rate": "LearningRateSearch find_learning_rate",
    "metrics": "Metric",
    "minimization": "MinimizeResult minimize random_search",
    "model_files": "load",
    "optimizers": "LBFGS SGD Adadelta Adagrad Adam AdamW Lion NAdam Optimizer RAdam RMSProp Rprop",
    "schedules": "",  # public as a module
    "session": "Session get_include",
    "training": "Trainer",
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names.split()}

if not TYPE_CHECKING:  # which would take any name for an attribute

    def __getattr__(name: str) -> Any:
        """A public name, or a module, that is imported when it is first used (PEP 562)."""
        if name in _MODULES:
            return import_module(f"downslope.{name}")
        if name not in _MODULE_OF:
            raise AttributeError(f"module 'downslope' has no attribute {name!r}")
        value = getattr(import_module(f"downslope.{_MODULE_OF[name]}"), name)
        globals()[name] = value  # found without this function from now on
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
