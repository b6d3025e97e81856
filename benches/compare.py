"""`python -m benches.compare OLD [NEW]`: two revisions of this repository, built and timed in turn.

For each benchmark the median ratio of their times with its 95 % interval; the exit status is 1 if
one has become slower by more than 3 %, interval and all.  The revisions are asked by
`worker.py`, which uses nothing but the public interface, so that old ones can be compared too.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from io import BytesIO
from pathlib import Path
from statistics import median
from typing import Any, Self

import benches  # noqa: F401  one BLAS thread, for the workers too
from downslope.cases import CASES
from downslope.timing import Pairs, median_interval

HERE = Path(__file__).parent
ROUNDS = 15
SLOWER = 0.97

Job = dict[str, Any]


class Worker:
    """A process that times what it is asked with one build."""

    def __init__(self, sources: Path) -> None:
        environment = {**os.environ, "PYTHONPATH": str(sources / "src")}
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / "worker.py")],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._process.communicate()

    def seconds(self, job: Job) -> float:
        """Seconds per step, or call, of the job, made once."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps(job), file=self._process.stdin, flush=True)
        return float(self._process.stdout.readline())


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benches.compare", description=__doc__)
    parser.add_argument("old", help="a revision, such as main~3")
    parser.add_argument("new", nargs="?", default="HEAD")
    parser.add_argument("--cases", default="ABCRDEFGHSO", help="letters of the networks")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    arguments = parser.parse_args()
    slower = []
    with ExitStack() as stack:
        folders = [stack.enter_context(built(rev)) for rev in (arguments.old, arguments.new)]
        old, new = (stack.enter_context(Worker(folder)) for folder in folders)
        for name, job in jobs(arguments.cases).items():
            pairs = compare(old, new, job, arguments.rounds)
            middle, low, high = median_interval(pairs.ratios)
            slower += [name] * (high < SLOWER)
            print(
                f"{name:12}  {1e6 * median(pairs.theirs):>12,.2f} -> "
                f"{1e6 * median(pairs.ours):>12,.2f} µs   {middle:.3f} ({low:.3f}–{high:.3f})"
                f"{' noisy' * pairs.noisy}{' SLOWER' * (high < SLOWER)}",
                flush=True,
            )
    if slower:
        print(f"slower: {', '.join(slower)}")
    sys.exit(bool(slower))


@contextmanager
def built(revision: str) -> Iterator[Path]:
    """A folder with that revision, its extensions compiled in place."""
    archive = subprocess.run(
        ["git", "archive", revision], cwd=HERE.parent, check=True, capture_output=True
    ).stdout
    with tempfile.TemporaryDirectory() as folder:
        with tarfile.open(fileobj=BytesIO(archive)) as files:
            files.extractall(folder, filter="data")
        build = [sys.executable, "setup.py", "--quiet", "build_ext", "--inplace"]
        subprocess.run(build, cwd=folder, check=True, stdout=subprocess.DEVNULL)
        yield Path(folder)


def jobs(letters: str) -> dict[str, Job]:
    """What is timed: an epoch of each network, steps from Python and predictions of some."""
    found = {}
    for case in CASES:
        if case.name not in letters:
            continue
        job = {
            "widths": case.widths,
            "batch": case.batch,
            "activation": case.activation,
            "output": case.output,
            "optimizer": type(case.optimizer).__name__,
            "learning_rate": case.optimizer.learning_rate,
            "steps": case.steps,
        }
        found[f"{case.name} epoch"] = {"what": "epoch", **job}
        if case.name in "BR":
            found[f"{case.name} step"] = {"what": "step", **job}
            found[f"{case.name} predict"] = {"what": "predict", **job}
    return found


def compare(old: Worker, new: Worker, job: Job, rounds: int) -> Pairs:
    """Both in turn, after a turn to warm up."""
    for worker in (old, new):
        worker.seconds(job)
    times = [(old.seconds(job), new.seconds(job)) for _ in range(rounds)]
    theirs, ours = zip(*times, strict=True)
    return Pairs(ours, theirs)


if __name__ == "__main__":
    main()
