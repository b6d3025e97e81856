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

from downslope import _threads
from downslope._config import config, show_config
from downslope._threads import get_num_threads, set_num_threads
from downslope.activations import Activation
from downslope.callbacks import (
    Callback,
    Checkpoint,
    EarlyStopping,
    JSONLines,
    MemoryLimit,
    Progress,
    TensorBoard,
    TimeLimit,
)
from downslope.diagnosis import Diagnosis, LayerDiagnosis
from downslope.gradients import GradientCheck, check_gradients
from downslope.history import History
from downslope.initializers import Initializer
from downslope.layers import Dense, Layer
from downslope.losses import Loss
from downslope.metrics import Metric
from downslope.network import Network, load
from downslope.optimizers import SGD, Adam, Optimizer
from downslope.training import Trainer

_threads.register_with_threadpoolctl()

__all__ = [
    "SGD",
    "Activation",
    "Adam",
    "Callback",
    "Checkpoint",
    "Dense",
    "Diagnosis",
    "EarlyStopping",
    "GradientCheck",
    "History",
    "Initializer",
    "JSONLines",
    "Layer",
    "LayerDiagnosis",
    "Loss",
    "MemoryLimit",
    "Metric",
    "Network",
    "Optimizer",
    "Progress",
    "TensorBoard",
    "TimeLimit",
    "Trainer",
    "check_gradients",
    "config",
    "get_num_threads",
    "load",
    "set_num_threads",
    "show_config",
]
