"""Threads: how many, the same results with any number, fork, concurrent callers, GIL, Ctrl-C."""

from __future__ import annotations

import _thread
import functools
import math
import os
import signal
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import downslope as ds
import fresh_python
from downslope import _kernels, _threads

# ---- How many ----


@pytest.fixture
def default_threads():
    """The default, put back afterwards."""
    before = ds.get_num_threads()
    yield before
    ds.set_num_threads(before)


def test_set_and_get(default_threads):
    for threads in (1, 3, np.int64(2)):
        ds.set_num_threads(threads)
        assert ds.get_num_threads() == threads
    ds.set_num_threads(10**6)
    assert ds.get_num_threads() == _kernels.MAX_THREADS


@pytest.mark.parametrize("bad", [0, -1, 1.5, "2", None, True])
def test_a_bad_number_is_refused(default_threads, bad):
    with pytest.raises((TypeError, ValueError), match="threads"):
        ds.set_num_threads(bad)
    assert ds.get_num_threads() == default_threads
    if bad is not None:  # None: the default
        net = ds.Network([2, 1], seed=0)
        with pytest.raises((TypeError, ValueError), match="threads"):
            net.predict([[1.0, 2.0]], threads=bad)
        with pytest.raises((TypeError, ValueError), match="threads"):
            net.fit([[1.0, 2.0]], [1.0], threads=bad)


PRINT_THREADS = "import downslope as ds; print(ds.get_num_threads())"


def test_environment_variable():
    assert fresh_python.output_of("-c", PRINT_THREADS, DOWNSLOPE_NUM_THREADS="3") == "3"
    everything = fresh_python.output_of("-c", PRINT_THREADS, DOWNSLOPE_NUM_THREADS="")
    assert int(everything) == _threads._available_cpus()


@pytest.mark.parametrize("text", ["0", "-2", "two", "1.5"])
def test_a_bad_environment_variable_is_named(text):
    result = fresh_python.run("-c", PRINT_THREADS, DOWNSLOPE_NUM_THREADS=text)
    assert result.returncode != 0
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith("ValueError: DOWNSLOPE_NUM_THREADS")
    assert repr(text) in last


def test_affinity():
    program = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}); " + PRINT_THREADS
    assert fresh_python.output_of("-c", program, DOWNSLOPE_NUM_THREADS="") == "1"


def write_files(root, files):
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


GROUP = "proc/self/cgroup"
V2, V1 = "sys/fs/cgroup", "sys/fs/cgroup/cpu"


@pytest.mark.parametrize(
    ("files", "quota"),
    [
        ({}, math.inf),
        ({GROUP: "0::/"}, math.inf),
        ({GROUP: "0::/\n", f"{V2}/cpu.max": "max 100000\n"}, math.inf),
        ({GROUP: "0::/\n", f"{V2}/cpu.max": "150000 100000\n"}, 1.5),
        ({GROUP: "0::/a/b\n", f"{V2}/a/b/cpu.max": "20000 10000\n"}, 2),
        # the group above allows less, or more
        ({GROUP: "0::/a/b", f"{V2}/a/b/cpu.max": "4 1", f"{V2}/a/cpu.max": "3 1"}, 3),
        ({GROUP: "0::/a/b", f"{V2}/a/b/cpu.max": "3 1", f"{V2}/a/cpu.max": "max 1"}, 3),
        # in a container that sees the host's path, and its own group at the top
        ({GROUP: "0::/docker/12ab", f"{V2}/cpu.max": "250000 100000"}, 2.5),
        (
            {
                GROUP: "3:memory:/x\n2:cpu,cpuacct:/job\n1:cpuset:/y\n0::/\n",
                f"{V1}/job/cpu.cfs_quota_us": "300000\n",
                f"{V1}/job/cpu.cfs_period_us": "100000\n",
                f"{V1}/cpu.cfs_quota_us": "-1\n",
                f"{V1}/cpu.cfs_period_us": "100000\n",
            },
            3,
        ),
        ({GROUP: "2:cpu:/", f"{V1}/cpu.cfs_quota_us": "-1"}, math.inf),
        ({GROUP: "2:cpuset:/", f"{V2}/cpu.max": "1 1"}, math.inf),
        ({GROUP: "0::/", f"{V2}/cpu.max": "nonsense"}, math.inf),
    ],
)
def test_quota_of_the_control_group(tmp_path, files, quota):
    write_files(tmp_path, files)
    assert _threads._cgroup_quota(tmp_path) == quota


@pytest.mark.parametrize(
    ("quota", "threads"), [(0.2, 1), (1.5, 2), (3, 3), (100, 4), (math.inf, 4)]
)
def test_the_quota_limits_the_threads(monkeypatch, quota, threads):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(4)))
    monkeypatch.setattr(_threads, "_cgroup_quota", lambda root: quota)
    assert _threads._available_cpus() == threads


@pytest.mark.parametrize("first", ["downslope", "threadpoolctl"])
def test_threadpoolctl(first):
    pytest.importorskip("threadpoolctl", minversion="3.2")
    program = f"""
import {first}
import numpy as np, downslope as ds, threadpoolctl
from downslope import _kernels

ds.set_num_threads(3)
assert [pool["num_threads"] for pool in threadpoolctl.threadpool_info()
        if pool["user_api"] == "downslope"] == [3]
net = ds.Network([256, 256, 1], seed=0)
with threadpoolctl.threadpool_limits(1):
    assert ds.get_num_threads() == 1
    net.predict(np.zeros((512, 256)))
    print(_kernels.pool_size())
with threadpoolctl.threadpool_limits(2, user_api="downslope"):
    net.predict(np.zeros((512, 256)))
    print(_kernels.pool_size())
print(ds.get_num_threads())
"""
    assert fresh_python.output_of("-c", program).split() == ["0", "1", "3"]


def test_no_threads_before_they_are_needed():
    """Nor for one thread's work, nor for work too small to share."""
    program = """
import numpy as np, downslope as ds
from downslope import _kernels, _threads
net = ds.Network([256, 256, 1], seed=0)
net.predict(np.zeros((512, 256)), threads=1)
net.predict(np.zeros((1, 256)), threads=2)
print(_kernels.pool_size())
net.predict(np.zeros((512, 256)), threads=2)
print(_kernels.pool_size())
"""
    assert fresh_python.output_of("-c", program).split() == ["0", "1"]


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not tell of cores")
def test_a_worker_that_left_its_callers_core_may_use_all_of_them():
    program = """
import os, time
import numpy as np, downslope as ds

def predict():
    net.predict(x, threads=2)
    time.sleep(0.001)  # after which the worker is parked

def threads():
    return {int(name) for name in os.listdir("/proc/self/task")}

net, x = ds.Network([256, 256, 1], seed=0), np.zeros((512, 256))
before = threads()
predict()
[worker] = threads() - before
cores = os.sched_getaffinity(0)
here = min(cores)
os.sched_setaffinity(0, {here})
for _ in range(20):
    os.sched_setaffinity(worker, {here})
    predict()
    os.sched_setaffinity(worker, cores)
    predict()
    ends = time.monotonic() + 10
    while os.sched_getaffinity(worker) != cores and time.monotonic() < ends:
        time.sleep(0.001)
    assert os.sched_getaffinity(worker) == cores
"""
    fresh_python.output_of("-c", program)


# ---- The same results ----

WIDE = {"widths": [200, 256, 256, 10], "activation": ["tanh", "gelu"], "output": "softmax"}
ROWS = 1100


def wide_problem(rng, dtype):
    x = rng.normal(size=(ROWS, 200)).astype(dtype)
    return x, rng.integers(0, 10, ROWS)


def wide_network(dtype, seed=3):
    return ds.Network(**WIDE, dtype=dtype, seed=seed)


def train(net, x, y, threads, batch_size=512, epochs=2):
    """Everything that a training run leaves behind."""
    trainer = ds.Trainer(net, "cross_entropy", ds.Adam(0.01))
    history = trainer.fit(x, y, epochs=epochs, batch_size=batch_size, threads=threads)
    return [net.parameters.copy(), trainer.state.copy(), np.array(history.loss)]


def assert_same(results, expected):
    for got, want in zip(results, expected, strict=True):
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("batch_size", [512, None])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_results_do_not_depend_on_the_number_of_threads(rng, dtype, batch_size):
    x, y = wide_problem(rng, dtype)
    runs = {n: train(wide_network(dtype), x, y, n, batch_size) for n in (1, 2, 3, 5)}
    assert _kernels.pool_size() >= 4  # the work was split
    assert not np.array_equal(runs[1][0], wide_network(dtype).parameters)
    for run in runs.values():
        assert_same(run, runs[1])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_passes_do_not_depend_on_the_number_of_threads(rng, dtype):
    x, y = wide_problem(rng, dtype)
    d_out = rng.normal(size=(ROWS, 10))
    results = {}
    for threads in (1, 2, 3, 5):
        net = wide_network(dtype)
        out = net.forward(x, threads=threads)
        d_x = net.backward(d_out, threads=threads)
        loss = net.evaluate(x, y, loss="cross_entropy", threads=threads)
        results[threads] = [net.predict(x, threads=threads), out, d_x, net.gradients, loss]
    for result in results.values():
        assert_same(result, results[1])


# ---- Concurrent callers ----


def test_concurrent_predictions_of_one_network(rng):
    x, _ = wide_problem(rng, "float32")
    net = wide_network("float32")
    parts = [x[i::8] for i in range(8)]
    expected = [net.predict(part, threads=1) for part in parts]
    with ThreadPoolExecutor(8) as pool:
        for _ in range(10):
            assert_same(pool.map(lambda part: net.predict(part, threads=2), parts), expected)


def test_concurrent_training_of_networks(rng):
    x, y = wide_problem(rng, "float32")
    expected = [train(wide_network("float32", seed), x, y, threads=1) for seed in range(8)]
    with ThreadPoolExecutor(8) as pool:
        runs = pool.map(lambda seed: train(wide_network("float32", seed), x, y, 2), range(8))
        for run, want in zip(runs, expected, strict=True):
            assert_same(run, want)


def in_another_thread(action, *arguments):
    """What the action gives, or raises, in a thread of its own."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(action, *arguments).result()


REFUSED = {
    "fit": lambda t, x, y: t.network.fit(x, y),
    "fit of another trainer": lambda t, x, y: ds.Trainer(t.network).fit(x, y),
    "step": lambda t, x, y: t.step(x, y),
    "compute_gradients": lambda t, x, y: t.compute_gradients(x, y),
    "update": lambda t, x, y: t.update(),
    "forward": lambda t, x, y: t.network.forward(x),
    "step from plain arrays": lambda t, x, y: t.step(x.astype("float32"), y.astype("float32")),
    "learn_one": lambda t, x, y: t.learn_one(x[0].astype("float32"), y[0].astype("float32")),
    "backward": lambda t, x, y: t.network.backward(y),
    "save": lambda t, x, y: t.save("never.safetensors"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_concurrent_training_of_one_network_is_refused(rng, name):
    """While it trains, here between two epochs; neither run nor network notice."""
    x, y = rng.normal(size=(50, 6)), rng.normal(size=(50, 2))
    runs = []
    for others in ([], [REFUSED[name]]):
        trainer = ds.Trainer(ds.Network([6, 9, 2], seed=0), optimizer="adam")
        trainer.network.forward(x)

        def interfere(trainer=trainer, others=others):
            for call in others:
                with pytest.raises(RuntimeError, match="another thread is training this network"):
                    in_another_thread(call, trainer, x, y)
            in_another_thread(trainer.network.predict, x)

        losses = trainer.fit(x, y, epochs=3, callbacks=[AtEpochBegin(interfere)]).loss
        runs.append([trainer.network.parameters, trainer.state, np.array(losses)])
    assert_same(*runs)


def test_a_claim_lasts_until_its_last_release():
    trainer = ds.Trainer(ds.Network([2, 1], seed=0))
    row = np.ones((1, 2), "float32")
    step = functools.partial(trainer.step, row, row[:, :1])
    with trainer.network.exclusive:
        with trainer.network.exclusive:
            step()
        with pytest.raises(RuntimeError, match="another thread is training this network"):
            in_another_thread(step)
    in_another_thread(step)
    assert trainer.steps == 2


def test_one_network_can_be_trained_by_threads_in_turn(rng):
    x, y = wide_problem(rng, "float32")
    expected, net = wide_network("float32"), wide_network("float32")
    trainers = [ds.Trainer(network, "cross_entropy") for network in (expected, net)]
    for _ in range(2):
        trainers[0].fit(x, y)
        in_another_thread(trainers[1].fit, x, y)
    np.testing.assert_array_equal(net.parameters, expected.parameters)


def test_a_callback_may_make_a_step_of_its_own(rng):
    x, y = rng.normal(size=(50, 6)), rng.normal(size=(50, 2))
    trainer = ds.Trainer(ds.Network([6, 9, 2], seed=0))
    trainer.fit(x, y, batch_size=50, callbacks=[AtEpochBegin(lambda: trainer.step(x, y))])
    assert trainer.steps == 2


# ---- Fork ----


def test_a_forked_child_predicts_and_trains_with_threads():
    program = """
import os, sys
import numpy as np
import downslope as ds
from downslope import _kernels, _threads

rng = np.random.default_rng(0)
x, y = rng.normal(size=(512, 256)), rng.normal(size=(512, 1))
net = ds.Network([256, 256, 1], activation="tanh", seed=1)

def work(net):
    out = net.predict(x, threads=2)
    history = net.fit(x, y, epochs=2, batch_size=256, threads=2)
    return out.tobytes() + net.parameters.tobytes() + np.array(history.loss).tobytes()

expected = work(ds.Network([256, 256, 1], activation="tanh", seed=1))
assert _kernels.pool_size() == 1
for _ in range(3):
    child = os.fork()
    if child == 0:
        before = _kernels.pool_size()
        same = work(ds.Network([256, 256, 1], activation="tanh", seed=1)) == expected
        os._exit(0 if (before, same, _kernels.pool_size()) == (0, True, 1) else 1)
    # The parent's threads are still its own.
    assert work(ds.Network([256, 256, 1], activation="tanh", seed=1)) == expected
    assert os.waitpid(child, 0)[1] == 0
print("done")
"""
    # A warning of Python 3.12 and later: to fork with threads running is what is tested.
    arguments = ("-W", "ignore::DeprecationWarning", "-c", program)
    assert fresh_python.output_of(*arguments, timeout=60) == "done"


# ---- The GIL and Ctrl-C ----


class AtEpochBegin(ds.Callback):
    def __init__(self, action):
        self.action = action

    def on_epoch_begin(self, trainer, epoch):
        self.action()


def test_other_threads_run_during_an_epoch():
    """One of them interrupts the epoch, which would take a minute; had it to wait for the GIL, the
    epoch would come to its end."""
    counted = []

    def count_and_interrupt():
        for i in range(100):
            counted.append(i)
            time.sleep(0.001)
        _thread.interrupt_main()

    other = threading.Thread(target=count_and_interrupt)
    x = np.zeros((100_000, 64), np.float32)
    net = ds.Network([64, 256, 64], seed=0)
    trainer = ds.Trainer(net)
    begin = AtEpochBegin(other.start)
    with pytest.raises(KeyboardInterrupt):
        trainer.fit(x, x, batch_size=1, shuffle=False, threads=1, callbacks=[begin])
    other.join()
    assert len(counted) == 100
    assert 0 < trainer.steps < len(x)
    assert trainer.epoch == 0


INTERRUPTED = """
import sys
import numpy as np
import downslope as ds

class Tell(ds.Callback):
    def on_epoch_begin(self, trainer, epoch):
        print("begun", flush=True)

rows, batch_size = {rows}, {batch_size}
x = np.zeros((rows, 8), np.float32)
y = np.ones((rows, 8), np.float32)
net = ds.Network([8, 512, 512, 8], activation="tanh", seed=0)
before = net.parameters.copy()
trainer = ds.Trainer(net, optimizer=ds.Adam())
try:
    trainer.fit(x, y, batch_size=batch_size, shuffle=False, threads=2, callbacks=[Tell()])
except KeyboardInterrupt:
    pass
else:
    sys.exit("the epoch came to its end")
assert trainer.interrupted and trainer.epoch == 0
assert trainer.history.epochs == 0
if batch_size is None:
    assert trainer.steps == 0
    assert (net.parameters == before).all()
else:
    assert 0 < trainer.steps < rows // batch_size
assert np.isfinite(net.parameters).all()
assert np.isfinite(trainer.state).all()
# It goes on as if nothing had been.
steps, before = trainer.steps, net.parameters.copy()
losses = trainer.fit(x[:64], y[:64], epochs=3).loss
assert trainer.steps == steps + 6
assert np.isfinite(losses).all() and not (net.parameters == before).all()
print("went on")
"""


@pytest.mark.parametrize(
    ("rows", "batch_size"),
    [(2_000_000, 32), (2_000_000, None)],
    ids=["a long epoch", "one huge step"],
)
def test_ctrl_c(rows, batch_size):
    """Minutes of work end within the test's patience, before the epoch's or the step's end."""
    program = INTERRUPTED.format(rows=rows, batch_size=batch_size)
    with fresh_python.start("-c", program) as process:
        try:
            assert process.stdout.readline() == "begun\n", process.stderr.read()
            time.sleep(0.5)  # well into the epoch
            process.send_signal(signal.SIGINT)
            out, error = process.communicate(timeout=60)
        finally:
            process.kill()
    assert (process.returncode, out) == (0, "went on\n"), error


# ---- Signal handlers that call back ----

NESTED = """
import signal, numpy as np, downslope as ds
net = ds.Network([200, 700, 700, 10], seed=0)
trainer, one = ds.Trainer(net, threads=1), ds.Pass(net)
x, y = np.ones((10000, 200), "f"), np.zeros((10000, 10), "f")
small = {{"step": lambda: trainer.step(x[:2], y[:2]), "forward": lambda: one.forward(x[:2])}}
large = {{"step": lambda: trainer.step(x, y), "forward": lambda: one.forward(x)}}
signal.signal(signal.SIGALRM, lambda *_: small["{what}"]())
try:
    for _ in range(1000):
        signal.setitimer(signal.ITIMER_REAL, 0.01)
        large["{what}"]()
except RuntimeError as error:
    signal.setitimer(signal.ITIMER_REAL, 0)
    print("a signal handler" in str(error))
small["{what}"]()
"""


@pytest.mark.parametrize("what", ["step", "forward"])
def test_a_handler_does_not_call_what_it_interrupts(what):
    assert fresh_python.output_of("-c", NESTED.format(what=what)) == "True"
