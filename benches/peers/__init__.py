"""The programs that downslope is compared with, one file each, behind the interface of `peer.py`.

A peer is written as its own good users write it.  Its module is imported when it is asked for, so
that a peer that is not installed is found missing, and named as such, and stops nothing.
"""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

from benches.peers.peer import Classify, Peer

# The name in reports -> module and class here, and what a user of the peer imports.
_PEERS = {
    "downslope": ("downslope_fit", "Downslope", ["downslope"]),
    "NumPy": ("numpy_baseline", "NumPy", ["numpy"]),
    "scikit-learn": ("scikit_learn", "ScikitLearn", ["sklearn.neural_network"]),
    "PyTorch": ("pytorch", "PyTorch", ["torch"]),
    "torch.compile": ("pytorch_compiled", "PyTorchCompiled", ["torch"]),
    "JAX jit": ("jax_jit", "JaxJit", ["jax", "optax"]),
    "JAX scan": ("jax_scan", "JaxScan", ["jax", "optax"]),
    "Keras": ("keras_jax", "KerasJax", ["keras", "jax"]),
}

NAMES = [name for name in _PEERS if name != "downslope"]

# Generators over the epochs of a classifier's training, see `Classify` in peer.py.
CLASSIFIERS = ["downslope", "NumPy", "scikit-learn", "PyTorch", "JAX scan"]


def load(name: str) -> type[Peer]:
    """The peer of that name; ImportError if something that it needs is not installed."""
    _, class_name, _ = _PEERS[name]
    peer = getattr(_module(name), class_name)
    peer.name = name
    return peer


def load_classifier(name: str) -> Classify:
    """The same for the function that trains a classifier."""
    return _module(name).classify


def imports(name: str) -> list[str]:
    """What a user of the peer imports."""
    return _PEERS[name][2]


def missing() -> dict[str, str]:
    """The peers that are not installed, and what they lack."""
    errors = {name: _error(name) for name in NAMES}
    return {name: str(e) for name, e in errors.items() if isinstance(e, ImportError)}


def versions() -> dict[str, str]:
    """The versions of the peers that can be imported."""
    return {name: load(name).version() for name in NAMES if _error(name) is None}


def _error(name: str) -> Exception | None:
    """What importing the peer ends with."""
    try:
        load(name)
    except Exception as error:
        return error
    return None


def _module(name: str) -> ModuleType:
    return import_module(f"benches.peers.{_PEERS[name][0]}")
