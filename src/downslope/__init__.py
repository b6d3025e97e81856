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

from downslope import _threads, schedules
from downslope._config import config, show_config
from downslope._scale import UnscaledInputsWarning
from downslope._threads import get_num_threads, set_num_threads
from downslope.activations import Activation
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
from downslope.explain import Explanation, explain
from downslope.gradients import GradientCheck, check_gradient, check_gradients, gradient
from downslope.history import History
from downslope.initializers import Initializer
from downslope.layers import Dense, Layer
from downslope.learning_rate import LearningRateSearch, find_learning_rate
from downslope.losses import Loss
from downslope.metrics import Metric
from downslope.minimize import MinimizeResult, minimize, random_search
from downslope.model_files import load
from downslope.network import Network
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
from downslope.passes import Pass
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
