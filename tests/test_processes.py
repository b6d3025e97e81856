"""Several processes and joblib: the same results, and no hang, however the processes are made.

Run as a program, it trains in the processes of one kind: each kind begins in a fresh process, in
which the parent's threads are known.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import sys

import numpy as np
import pytest

import downslope as ds
import fresh_python
from downslope import _kernels

SEEDS = range(4)


def train(seed):
    """A digest of what comes out of a training run and a prediction, both with threads."""
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(512, 256)), rng.normal(size=(512, 1))
    net = ds.Network([256, 256, 1], activation="tanh", seed=seed)
    losses = net.fit(x, y, epochs=2, batch_size=256, threads=2).loss
    results = [net.parameters, net.predict(x, threads=2), losses]
    content = b"".join(np.asarray(result).tobytes() for result in results)
    return hashlib.sha256(content).hexdigest()


def in_pool(method):
    with multiprocessing.get_context(method).Pool(2) as pool:
        return pool.map(train, SEEDS)


def in_joblib(backend):
    import joblib

    return joblib.Parallel(n_jobs=2, backend=backend)(joblib.delayed(train)(seed) for seed in SEEDS)


def compare(run, kind):
    """Before and after, the parent trains with threads of its own."""
    expected = [train(seed) for seed in SEEDS]
    assert _kernels.pool_size() == 1
    assert len(set(expected)) == len(SEEDS)
    assert run(kind) == expected
    assert [train(seed) for seed in SEEDS] == expected
    print("the same")


def output_of(*arguments):
    # A warning of Python 3.12 and later: to fork with threads running is what is tested.
    return fresh_python.output_of("-W", "ignore::DeprecationWarning", __file__, *arguments)


def test_a_network_that_was_in_training_at_the_fork():
    """By a thread that the child does not have."""
    program = """
import os, threading, numpy as np, downslope as ds
net, forked = ds.Network([2, 1], seed=0), threading.Event()
held = threading.Event()
def hold():
    with net.exclusive:
        held.set()
        forked.wait()
threading.Thread(target=hold).start()
held.wait()
child = os.fork()
if child == 0:
    net.fit(np.ones((4, 2)), np.ones((4, 1)), epochs=2)
    net.fit(np.ones((4, 2)), np.ones((4, 1)))
    os._exit(0)
forked.set()
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    out = fresh_python.output_of("-W", "ignore::DeprecationWarning", "-c", program)
    assert out == "0"


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_multiprocessing(method):
    assert output_of("multiprocessing", method) == "the same"


@pytest.mark.parametrize("backend", ["loky", "multiprocessing", "threading"])
def test_joblib(backend):
    pytest.importorskip("joblib")
    assert output_of("joblib", backend) == "the same"


if __name__ == "__main__":
    compare({"multiprocessing": in_pool, "joblib": in_joblib}[sys.argv[1]], sys.argv[2])
