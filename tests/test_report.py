"""The report of the benchmarks: what is quoted of it, and what it says of peers that are missing or
fail.  Each in a process of its own, as `benches` sets the threads of the process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("matplotlib", reason="Matplotlib is not installed")
pytest.importorskip("threadpoolctl", reason="threadpoolctl is not installed")

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benches" / "report" / "results.json"
DOCUMENTS = [ROOT / "README.md", ROOT / "docs" / "performance.md", ROOT / "docs" / "sklearn.md"]

with_results = pytest.mark.skipif(
    not RESULTS.exists(), reason="the report is not in the source distribution"
)


def report(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "benches.report", *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )


@with_results
def test_summary_and_documents_are_what_the_committed_results_give():
    checked = report("--check", *DOCUMENTS)
    assert checked.returncode == 0, checked.stderr


@with_results
def test_a_figure_that_is_not_in_the_results_is_found(tmp_path):
    results = json.loads(RESULTS.read_text())
    for record in results["records"]:
        if record["kind"] == "phases":
            record["phases"]["update"] *= 3
    altered = tmp_path / "results.json"
    altered.write_text(json.dumps(results))
    checked = report("--from", altered, "--check", *DOCUMENTS)
    assert checked.returncode == 1
    assert "performance.md" in checked.stderr
    assert "README.md" not in checked.stderr


@pytest.fixture
def peers(tmp_path):
    """A folder with a module for each program that peers import, which raises what it is told."""
    folder = tmp_path / "peers"
    folder.mkdir()

    def broken(**errors: str) -> str:
        for module, error in errors.items():
            (folder / f"{module}.py").write_text(f"raise {error}\n")
        return os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])

    return broken


def test_peers_that_are_missing_or_fail_are_told(tmp_path, peers):
    pytest.importorskip("pytest_benchmark", reason="pytest-benchmark is not installed")
    path = peers(
        jax='ImportError("no jax here")',
        torch='DeprecationWarning("too old for this Python")',
        sklearn='ImportError("no sklearn here")',
    )
    made = report(
        *("--output", tmp_path / "report", "--seconds", "0.01", "--only", "test_epoch and B]"),
        PYTHONPATH=path,
    )
    assert made.returncode == 0, made.stderr
    results = json.loads((tmp_path / "report" / "results.json").read_text())
    assert {"NumPy"} == {r["peer"] for r in results["records"] if r["kind"] == "epoch"}
    failed = [r for r in results["records"] if r["kind"] == "failed" and r["threads"] == 1]
    reason = "DeprecationWarning: too old for this Python"
    assert {(r["peer"], r["group"], r["what"], r["reason"]) for r in failed} == {
        (peer, "epoch", "B", reason) for peer in ("PyTorch", "torch.compile")
    }
    assert results["missing"]["JAX scan"] == "no jax here"
    for name in ("summary.md", "index.html"):
        text = (tmp_path / "report" / name).read_text()
        assert "PyTorch at epoch (B)" in text
        assert reason in text
        assert "scikit-learn (no sklearn here)" in text
    on_one_thread, *_ = [
        line
        for line in (tmp_path / "report" / "summary.md").read_text().splitlines()
        if line.startswith("| B |") and "failed" in line
    ]
    assert on_one_thread.count("failed") == 2
