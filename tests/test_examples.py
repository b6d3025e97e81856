"""The scripts in examples/ run as they are."""

import os
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = sorted(Path(__file__).parents[1].joinpath("examples").glob("*.py"))
# What an example needs besides NumPy, by the module that it imports.
PEERS = ("jax", "matplotlib", "mpi4py", "torch")
MPIEXEC = shutil.which(
    "mpiexec", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
)


def run(folder, *command):
    """What a program prints that runs in a folder; it must succeed."""
    done = subprocess.run(
        list(map(str, command)),
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def check_derivatives(lines, folder):
    *_, found, wrong = lines
    assert found.split(": ")[1] == wrong.split(": ")[1]


def check_policy_gradient(lines, folder):
    steps = [float(line.split("stands")[1].split()[0]) for line in lines]
    assert steps[0] < 50 < 150 < steps[-1]


def check_shared_memory(lines, folder):
    errors = [float(line.split()[-1]) for line in lines]
    assert errors[-1] < 0.05


def check_jax_function(lines, folder):
    errors = [float(line.split()[5].strip(";")) for line in lines if line.startswith("step")]
    assert errors[-1] < errors[0] / 50


def check_bootstrap(lines, folder):
    assert (folder / "bootstrap.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example_runs(path, tmp_path):
    for peer in PEERS:
        if f"import {peer}\n" in path.read_text() or f"from {peer} " in path.read_text():
            pytest.importorskip(peer, reason=f"{peer} is not installed")
    lines = run(tmp_path, sys.executable, path).splitlines()
    assert lines
    check = globals().get(f"check_{path.stem}")
    if check is not None:
        check(lines, tmp_path)


def test_worked_example_prints_the_known_numbers(capsys):
    [path] = [path for path in EXAMPLES if path.stem == "worked_example"]
    runpy.run_path(str(path))
    lines = capsys.readouterr().out.splitlines()
    assert "y1 = 0.633710, y2 = 0.648998" in lines
    assert "dE/dw5 = +0.072951997" in lines
    assert lines[-1] == "w5 after one step = 0.179270480"


def test_mpi_training_on_two_ranks(tmp_path):
    pytest.importorskip("mpi4py", reason="mpi4py is not installed")
    if MPIEXEC is None:
        pytest.skip("there is no mpiexec")
    [path] = [path for path in EXAMPLES if path.stem == "mpi_training"]
    out = run(tmp_path, MPIEXEC, "-n", 2, sys.executable, path)
    assert "2 ranks" in out
    assert "the same parameters on all ranks: True" in out
