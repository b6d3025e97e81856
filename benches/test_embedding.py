"""Inside larger programs: what a single call costs, from Python and from C, and a step of each of a
hundred networks.

The C side is a loop over a session's functions, compiled here.  It has no Python in it, so that the
difference to the same step from Python is what the call, its checks and its conversions take.
"""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

import downslope as ds
from benches import THREADS

if TYPE_CHECKING:
    from pytest_benchmark.fixture import BenchmarkFixture

pytestmark = pytest.mark.skipif(THREADS > 1, reason="measured with one thread")

# A small policy: one row to predict, a batch to learn from.
WIDTHS, BATCH = [17, 64, 64, 6], 64
CALLS = 1000
MEMBERS, MEMBER_WIDTHS, MEMBER_BATCH, MEMBER_EPOCHS = 100, [20, 32, 1], 32, 10

LOOPS = """
#include <downslope_session.h>
void predict(const ds_session *net, const float *x, float *out, int times) {
  for (int i = 0; i < times; ++i) net->predict(net->self, x, 1, out);
}
void step(const ds_session *net, const float *x, const float *y, ptrdiff_t rows, int times) {
  double loss;
  for (int i = 0; i < times; ++i) net->step(net->self, x, y, rows, &loss);
}
"""

Measure = Callable[[str, Callable[[], object], int], None]


@pytest.fixture
def measure(benchmark: BenchmarkFixture, record: Callable[..., None]) -> Measure:
    """measure(what, call, steps): the time of one of the steps that the call makes."""

    def keep(what: str, call: Callable[[], object], steps: int) -> None:
        benchmark.pedantic(call, rounds=20, warmup_rounds=2)
        if not benchmark.disabled:
            record("embedding", what=what, seconds=benchmark.stats.stats.median / steps)

    return keep


def repeated(call: Callable[[], object]) -> Callable[[], None]:
    """The call, so often that the clock does not count."""

    def calls() -> None:
        for _ in range(CALLS):
            call()

    return calls


def policy() -> tuple[ds.Trainer, np.ndarray, np.ndarray]:
    """A trainer, and a batch."""
    rng = np.random.default_rng(0)
    x, y = (rng.normal(size=(BATCH, n)).astype(np.float32) for n in (WIDTHS[0], WIDTHS[-1]))
    return ds.Trainer(ds.Network(WIDTHS, seed=0), optimizer="adam", threads=1), x, y


@pytest.fixture(scope="module")
def loops(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    """The functions above, compiled."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("there is no C compiler")
    source: Path = tmp_path_factory.mktemp("loops") / "loops.c"
    source.write_text(LOOPS)
    library = source.with_suffix(".so")
    include = ["-I", ds.get_include()]
    subprocess.run(
        [compiler, "-O2", "-shared", "-fPIC", *include, source, "-o", library], check=True
    )
    return ctypes.CDLL(str(library))


def session_of(trainer: ds.Trainer) -> tuple[ctypes.c_void_p, object]:
    """The pointer that compiled code works with, and the capsule that keeps it."""
    capsule = ds.Session(trainer, rows=BATCH).capsule
    get = ctypes.pythonapi.PyCapsule_GetPointer
    get.restype, get.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    return ctypes.c_void_p(get(capsule, b"downslope.session.1")), capsule


def pointer(array: np.ndarray) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data)


@pytest.mark.benchmark(group="embedding")
def test_predict_one(measure: Measure) -> None:
    trainer, x, _ = policy()
    row, predict_one = x[0], trainer.network.predict_one
    measure("predict_one, 17-64-64-6", repeated(lambda: predict_one(row)), CALLS)


@pytest.mark.benchmark(group="embedding")
def test_predict_a_row_into_an_array(measure: Measure) -> None:
    trainer, x, _ = policy()
    row, out, predict = x[:1], np.empty((1, WIDTHS[-1]), np.float32), trainer.network.predict
    measure("predict a row, out=, 17-64-64-6", repeated(lambda: predict(row, out=out)), CALLS)


@pytest.mark.benchmark(group="embedding")
def test_predict_from_c(measure: Measure, loops: ctypes.CDLL) -> None:
    trainer, x, _ = policy()
    session, _capsule = session_of(trainer)
    out = np.empty(WIDTHS[-1], np.float32)
    measure(
        "predict a row from C, 17-64-64-6",
        lambda: loops.predict(session, pointer(x), pointer(out), CALLS),
        CALLS,
    )


@pytest.mark.benchmark(group="embedding")
@pytest.mark.parametrize("rows", [1, BATCH])
def test_step(measure: Measure, rows: int) -> None:
    trainer, x, y = policy()
    x, y = x[:rows], y[:rows]
    call = repeated(lambda: trainer.step(x, y))
    measure(f"Trainer.step of {rows} rows, 17-64-64-6, Adam", call, CALLS)


@pytest.mark.benchmark(group="embedding")
@pytest.mark.parametrize("rows", [1, BATCH])
def test_step_from_c(measure: Measure, loops: ctypes.CDLL, rows: int) -> None:
    trainer, x, y = policy()
    session, _capsule = session_of(trainer)
    measure(
        f"the same step from C, {rows} rows",
        lambda: loops.step(session, pointer(x), pointer(y), ctypes.c_ssize_t(rows), CALLS),
        CALLS,
    )


@pytest.mark.benchmark(group="embedding")
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_ensemble(measure: Measure, optimizer: str) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(MEMBER_BATCH * 40, MEMBER_WIDTHS[0])).astype(np.float32)
    ensemble = ds.Ensemble(MEMBERS, MEMBER_WIDTHS, seed=0)
    measure(
        f"a network's step, Ensemble of {MEMBERS}, 20-32-1, batch {MEMBER_BATCH}, {optimizer}",
        lambda: ensemble.fit(
            x,
            x[:, :1],
            optimizer=optimizer,
            epochs=MEMBER_EPOCHS,
            batch_size=MEMBER_BATCH,
            threads=1,
        ),
        MEMBER_EPOCHS * MEMBERS * len(x) // MEMBER_BATCH,
    )
