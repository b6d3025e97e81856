"""The programs that downslope is compared with, one file each, behind the interface of `peer.py`.

A peer is written as its own good users write it.  Its module is imported when it is asked for, so
that a peer that is not installed is found missing, and named as such, and stops nothing.
"""

from __future__ import annotations

from importlib import import_module

from benches.peers.peer import Peer

# The name in reports -> module and class.
_PEERS = {
    "downslope": ("downslope_fit", "Downslope"),
    "NumPy": ("numpy_baseline", "NumPy"),
    "scikit-learn": ("scikit_learn", "ScikitLearn"),
    "PyTorch": ("pytorch", "PyTorch"),
    "torch.compile": ("pytorch_compiled", "PyTorchCompiled"),
    "JAX jit": ("jax_jit", "JaxJit"),
    "JAX scan": ("jax_scan", "JaxScan"),
    "Keras": ("keras_jax", "KerasJax"),
}

NAMES = [name for name in _PEERS if name != "downslope"]


def load(name: str) -> type[Peer]:
    """The peer of that name; ImportError if something that it needs is not installed."""
    module, class_name = _PEERS[name]
    peer = getattr(import_module(f"benches.peers.{module}"), class_name)
    peer.name = name
    return peer


def missing() -> dict[str, str]:
    """The peers that can not be imported here, and why."""
    reasons = {}
    for name in NAMES:
        try:
            load(name)
        except ImportError as error:
            reasons[name] = str(error)
    return reasons


def versions() -> dict[str, str]:
    """The versions of the peers that can be imported."""
    absent = missing()
    return {name: load(name).version() for name in NAMES if name not in absent}
