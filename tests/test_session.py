"""Sessions: what compiled code of other projects sees, through the example that is built here."""

import ctypes
import shutil
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_array_equal

import downslope as ds

pytest.importorskip("Cython", reason="Cython is not installed")
pytest.importorskip("setuptools", reason="setuptools is not installed")
if shutil.which("cc") is None:
    pytest.skip("there is no C compiler", allow_module_level=True)

EXAMPLE = Path(__file__).parents[1] / "examples" / "from_c"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The example, copied and built against the installed package."""
    target = tmp_path_factory.mktemp("from_c")
    shutil.copytree(EXAMPLE, target, dirs_exist_ok=True)
    command = [sys.executable, "setup.py", "-q", "build_ext", "--inplace"]
    done = subprocess.run(command, cwd=target, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return target


@pytest.fixture
def online(folder, monkeypatch):
    monkeypatch.syspath_prepend(str(folder))
    return pytest.importorskip("online")


def trainer(loss="mse", seed=0):
    net = ds.Network([3, 7, 2], activation="gelu", seed=seed)
    return ds.Trainer(net, loss, ds.Adam(0.01))


def test_the_program_of_the_example(folder):
    done = subprocess.run(
        [sys.executable, "main.py"], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "the top is at 0.0, 1.0 high" in done.stdout


def test_steps_from_c_are_those_from_python(rng, online):
    x, y = (rng.normal(size=(20, n)).astype(np.float32) for n in (3, 2))
    first, second = trainer(), trainer()
    capsule = ds.Session(first, rows=1).capsule  # keeps the session
    loss = online.learn(capsule, x, y, 2)
    for _ in range(2):
        losses = [second.step(x[i : i + 1], y[i : i + 1]) for i in range(20)]
    assert_array_equal(first.network.parameters, second.network.parameters)
    assert_array_equal(first.state, second.state)
    assert first.steps == second.steps == 40
    assert loss == pytest.approx(np.mean(losses), rel=1e-12)


def test_passes_from_cython_are_those_from_python(rng, online):
    one = trainer()
    x = rng.normal(size=3).astype(np.float32)
    place = x.copy()
    height = online.steepest(ds.Session(one, rows=4).capsule, place, 5, 0.1)
    kept = ds.Pass(one.network)
    for _ in range(5):
        kept.forward(x[None])
        x += np.float32(0.1) * kept.backward([[1.0, 0.0]])[0]
    assert_array_equal(place, x)
    assert height == one.network.predict_one(x)[0]


def test_a_divergence_is_told(online):
    one = ds.Trainer(ds.Network([1, 1], seed=0), optimizer=ds.SGD(1e30))
    x = np.full((50, 1), 1e4, np.float32)
    assert online.learn(ds.Session(one, rows=1).capsule, x, x, 1) == -1
    assert np.isfinite(one.network.parameters).all()


def test_sessions_of_different_threads_run_at_once(rng, online):
    x, y = (rng.normal(size=(300, n)).astype(np.float32) for n in (3, 2))
    trainers = [trainer(seed=i) for i in range(3)]
    capsules = [ds.Session(one, rows=1).capsule for one in trainers]
    threads = [threading.Thread(target=online.learn, args=(c, x, y, 3)) for c in capsules]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for seed, one in enumerate(trainers):
        alone = trainer(seed=seed)
        online.learn(ds.Session(alone, rows=1).capsule, x, y, 3)
        assert_array_equal(one.network.parameters, alone.network.parameters)


class Table(ctypes.Structure):
    """The ds_session of downslope_session.h, up to its `step`."""

    _fields_ = (
        ("self", ctypes.c_void_p),
        ("sizes", ctypes.c_ssize_t * 5),
        ("flags", ctypes.c_int * 2),
        ("others", ctypes.c_void_p * 6),
        (
            "step",
            ctypes.CFUNCTYPE(
                ctypes.c_int,
                ctypes.c_void_p,
                ctypes.c_void_p,
                ctypes.c_void_p,
                ctypes.c_ssize_t,
                ctypes.POINTER(ctypes.c_double),
            ),
        ),
    )


def step_from_c(capsule, x, y):
    pointer = ctypes.pythonapi.PyCapsule_GetPointer
    pointer.restype, pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    table = Table.from_address(pointer(capsule, b"downslope.session.1"))
    loss = ctypes.c_double()
    status = table.step(table.self, x.ctypes.data, y.ctypes.data, len(x), ctypes.byref(loss))
    assert status == 0
    return loss.value


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_larger_steps_from_python_in_between(rng, threads):
    """The descent then computes in new memory, which has room for the session's threads."""
    x, y = (rng.normal(size=(512, n)).astype(np.float32) for n in (200, 10))
    first, second = (ds.Trainer(ds.Network([200, 300, 300, 10], seed=0)) for _ in range(2))
    capsule = ds.Session(first, rows=256, threads=threads).capsule
    for rows in 256, 512, 256:
        expected = second.step(x[:rows], y[:rows])
        if rows == 512:
            assert first.step(x, y) == expected
        else:
            assert step_from_c(capsule, x[:rows], y[:rows]) == expected
    assert_array_equal(first.network.parameters, second.network.parameters)


def test_a_session_is_refused_while_another_thread_trains(rng):
    one = trainer()
    with one.network.exclusive, ThreadPoolExecutor(1) as pool:
        made = pool.submit(ds.Session, one, rows=1)
        assert "another thread is training" in str(made.exception())


@pytest.mark.parametrize("rows", [sys.maxsize, 1 << 56])
def test_more_rows_than_memory(rows):
    with pytest.raises((MemoryError, OSError)):
        ds.Session(trainer(), rows=rows)


def test_unfit_arguments_are_refused():
    with pytest.raises(TypeError, match=r"downslope\.Trainer"):
        ds.Session(ds.Network([1, 1]), rows=1)
    with pytest.raises(ValueError, match="takes no labels"):
        ds.Session(trainer(), rows=1, labels=True)
    with pytest.raises(TypeError, match="loss by its name"):
        ds.Session(trainer(lambda y, t: (0.0, y)), rows=1)
    changing = ds.Trainer(ds.Network([1, 1]), optimizer=ds.SGD(lambda step: 0.1))
    with pytest.raises(ValueError, match="one learning rate"):
        ds.Session(changing, rows=1)
    with pytest.raises(ValueError, match="rows"):
        ds.Session(trainer(), rows=0)
    whole = ds.Trainer(ds.Network([1, 1]), optimizer=ds.LBFGS())
    with pytest.raises(TypeError, match="a session"):
        ds.Session(whole, rows=1)
