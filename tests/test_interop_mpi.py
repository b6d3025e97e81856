"""Training on the ranks of real MPI jobs."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import downslope as ds

pytest.importorskip("mpi4py", reason="mpi4py is not installed")

MPIEXEC = shutil.which(
    "mpiexec", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
)
if MPIEXEC is None:
    pytest.skip("there is no mpiexec", allow_module_level=True)

PROGRAM = Path(__file__).with_name("mpi_program.py")


def run_job(ranks, *arguments):
    """A job of so many ranks; one that hangs is ended, and fails the test."""
    command = [MPIEXEC, "-n", str(ranks), sys.executable, str(PROGRAM), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


@pytest.fixture(scope="module")
def alone():
    sys.path.insert(0, str(PROGRAM.parent))
    try:
        from mpi_program import train
    finally:
        sys.path.pop(0)
    return train("any", communicator=None)


@pytest.mark.parametrize("ranks", [2, 3])
@pytest.mark.parametrize("rank_order", ["fixed", "any"])
def test_ranks_train_as_one(tmp_path, alone, ranks, rank_order):
    done = run_job(ranks, "train", tmp_path, rank_order)
    assert done.returncode == 0, done.stderr
    results = [list(np.load(tmp_path / f"{rank}.npz").values()) for rank in range(ranks)]
    for other in results[1:]:
        for own, first in zip(other, results[0], strict=True):
            assert_array_equal(own, first)
    if rank_order == "fixed":  # to the bit, but for the sum of the training losses
        for own, expected in zip(results[0][:3], alone[:3], strict=True):
            assert_array_equal(own, expected)
        assert_allclose(results[0][3], alone[3], rtol=1e-14)
    else:
        assert_allclose(results[0][3][:5], alone[3][:5], rtol=1e-4)


def test_all_ranks_see_a_divergence(tmp_path):
    done = run_job(2, "diverge", tmp_path)
    assert done.returncode == 0, done.stderr
    first, second = (np.load(tmp_path / f"{rank}.npy") for rank in range(2))
    assert np.isfinite(first).all()
    assert_array_equal(first, second)


def test_ranks_that_train_different_networks_are_refused(tmp_path):
    done = run_job(2, "differ", tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(list(tmp_path.iterdir())) == 2


def test_trainers_begin_as_that_of_the_first_rank(tmp_path):
    done = run_job(2, "begin", tmp_path)
    assert done.returncode == 0, done.stderr
    first, second = (np.load(tmp_path / f"{rank}.npy") for rank in range(2))
    assert_array_equal(first, second)
    assert not first[1].any()


@pytest.mark.parametrize("kind", ["killed", "raises"])
def test_a_rank_in_trouble_ends_the_job(tmp_path, kind):
    done = run_job(3, "trouble", tmp_path, kind)
    assert done.returncode != 0
    assert kind == "killed" or "trouble on this rank alone" in done.stderr


def test_bad_arguments_are_refused():
    with pytest.raises(TypeError, match=r"MPI\.COMM_WORLD"):
        ds.Trainer(ds.Network([2, 1]), communicator=3)
