"""`python -m benches.report`: all benchmarks on this machine, and a report of them.

Writes `index.html`, `summary.md` and `results.json` to benches/report/, and the runs of
pytest-benchmark, for `--benchmark-compare`, to benches/report/reference/.  It takes the minutes
that it is given: benchmarks are shortened when it is late, and one that fails, is stopped or is not
begun is told in the report.

`--from results.json` draws the report anew from an earlier run, `--quote` puts its figures into
documents, and `--check` tells whether they, and the summary, are what the results give.
"""

from __future__ import annotations

import argparse
import difflib
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic

from benches import page, peers, quotes
from benches.machine import copy_bandwidth, cores, cpu_times, facts, fma_peak, stolen_share

HERE = Path(__file__).parent
TITLE = "downslope beside its peers"
# What is run on how many threads, the most important first: what is late is not begun.
SELECTED = {
    2: ["test_peers.py::test_epoch", "test_peers.py::test_threads"],
    1: [
        f"test_{name}.py"
        for name in (
            *("peers", "inference", "accuracy", "phases", "sweep", "features", "process"),
            *("sklearn", "embedding"),
        )
    ],
}
# Minutes of the whole run, and the share of them for two threads.
MINUTES, SHARE_OF_TWO = 19.0, 0.15
# Of pytest: all passed, some failed, none was selected.
_USUAL = (0, 1, 5)
# Seconds beyond its time after which a run that does not end is ended.
PATIENCE = 30


def main() -> None:
    arguments = _parser().parse_args()
    if arguments.check:
        sys.exit(check(arguments) or None)
    arguments.output.mkdir(parents=True, exist_ok=True)
    if arguments.results is None:
        results = measure(arguments)
        text = json.dumps(asdict(results), ensure_ascii=False)
        (arguments.output / "results.json").write_text(text, encoding="utf-8")
    else:
        results = read(arguments.results)
    parts = page.sections(results)
    for name, write in (("index.html", page.page), ("summary.md", page.markdown)):
        (arguments.output / name).write_text(write(TITLE, parts), encoding="utf-8")
        print(arguments.output / name)
    for path in arguments.quote:
        path.write_text(quotes.renewed(path, results), encoding="utf-8")


def check(arguments: argparse.Namespace) -> str:
    """How the summary and the quotations differ from what the results make of them."""
    results = read(arguments.results or arguments.output / "results.json")
    expected = {path: quotes.renewed(path, results) for path in arguments.check}
    expected[arguments.output / "summary.md"] = page.markdown(TITLE, page.sections(results))
    return "".join(
        line
        for path, text in expected.items()
        for line in difflib.unified_diff(
            path.read_text(encoding="utf-8").splitlines(keepends=True),
            text.splitlines(keepends=True),
            f"{path}, as it is",
            f"{path}, as the results are",
        )
    )


def read(path: Path) -> page.Results:
    return page.Results(**json.loads(path.read_text(encoding="utf-8")))


def measure(arguments: argparse.Namespace) -> page.Results:
    """Run the benchmarks, each number of threads in a process of its own."""
    begun, ticks = monotonic(), cpu_times()
    ends = begun + 60 * arguments.minutes
    absent = peers.missing()
    records = []
    for threads in SELECTED:
        if threads <= cores():
            seconds = SHARE_OF_TWO * (ends - begun) if threads > 1 else ends - monotonic()
            records += run(threads, max(seconds, 1.0), arguments)
    peaks: dict[str, float] = {dtype: fma_peak(dtype) for dtype in ("float32", "float64")}
    for record in records:
        dtype = record.get("dtype", "float32")
        peaks[dtype] = max(peaks[dtype], record.get("peak", 0.0))
    for record in records:
        record["peak"] = peaks[record.get("dtype", "float32")]
    bandwidth = copy_bandwidth()
    limits = ", ".join(f"{peak:.1f} GFLOP/s {dtype}" for dtype, peak in peaks.items())
    measured = {
        "date": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {(monotonic() - begun) / 60:.0f} minutes",
        **facts(),
        "FMA peak of a core": limits,
        "memory, copying": f"{bandwidth:.1f} GB/s",
        "time stolen by the host": f"{stolen_share(ticks):.1%}",
        **peers.versions(),
    }
    return page.Results(measured, absent, bandwidth, peaks, _rounded(records))


def run(threads: int, seconds: float, arguments: argparse.Namespace) -> list[page.Record]:
    """The records of a run of pytest, of failures too."""
    name = f"{threads}_thread{'s' * (threads > 1)}"
    reference = arguments.output.resolve() / "reference"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "records"
        path.touch()
        command = [
            *(sys.executable, "-m", "pytest", "--benchmark-only", "-q", "--tb=short"),
            *(
                "--continue-on-collection-errors",
                "-p",
                "no:cacheprovider",
                "--records",
                str(path),
                f"--budget={seconds}",
            ),
            f"--benchmark-max-time={arguments.seconds}",
            *(f"--benchmark-storage=file://{reference}", f"--benchmark-save={name}"),
            *(["-k", arguments.only] if arguments.only else []),
            *(str(HERE / selected) for selected in SELECTED[threads]),
        ]
        environment = {
            **os.environ,
            "DOWNSLOPE_BENCH_THREADS": str(threads),
            # what torch.compile compiled in an earlier run is compiled anew
            "TORCHINDUCTOR_CACHE_DIR": f"{folder}/inductor",
        }
        try:
            status = subprocess.run(
                command, cwd=HERE.parent, env=environment, timeout=seconds + PATIENCE
            ).returncode
            problem = f"pytest ended with {status}" if status not in _USUAL else ""
        except subprocess.TimeoutExpired:
            problem = f"pytest did not end, and was ended after {seconds + PATIENCE:.0f} seconds"
        lines = path.read_text(encoding="utf-8").splitlines()
    _keep_the_latest(reference, threads, name)
    records = [json.loads(line) for line in lines]
    if problem:
        failed = {"group": "what follows", "peer": "any", "what": "", "reason": problem}
        records.append({"kind": "failed", "threads": threads, **failed})
    return records


def _keep_the_latest(reference: Path, number: int, name: str) -> None:
    """Let a run's file stand for those before it, and for a name that stays the same.

    pytest-benchmark numbers what it saves upwards.
    """
    for machine in {path.parent for path in reference.rglob(f"*_{name}.json")}:
        latest = max(machine.glob(f"*_{name}.json"))
        latest.replace(machine / f"{number:04d}_{name}.json")
        for path in machine.glob(f"*_{name}.json"):
            if path.name != f"{number:04d}_{name}.json":
                path.unlink()


def _rounded(value: object) -> object:
    """Five digits are more than any time is worth."""
    if isinstance(value, float):
        return float(f"{value:.5g}")
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    return [_rounded(item) for item in value] if isinstance(value, list | tuple) else value


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benches.report", description=__doc__)
    parser.add_argument("--output", type=Path, default=HERE / "report")
    parser.add_argument("--from", dest="results", type=Path, help="an earlier results.json")
    parser.add_argument("--only", default="", help="of the benchmarks, as pytest's -k takes it")
    parser.add_argument("--seconds", type=float, default=0.8, help="at most, of timing, for each")
    parser.add_argument("--minutes", type=float, default=MINUTES, help="for all of them")
    for option, does in (("--quote", "make the quotations anew in"), ("--check", "only compare")):
        parser.add_argument(
            option, type=Path, nargs="+", default=[], help=f"{does} these Markdown files"
        )
    return parser


if __name__ == "__main__":
    main()
