"""`python -m benches.report`: all benchmarks on this machine, and a report of them.

Writes `index.html`, `summary.md` and `results.json` to benches/report/, and the run of
pytest-benchmark on one thread, for `--benchmark-compare`, to benches/report/reference/.
`--from results.json` draws the report anew from an earlier run; `--quote README.md` puts its table
into that file.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic

from benches import page, peers
from benches.machine import copy_bandwidth, cores, cpu_times, facts, fma_peak, stolen_share

HERE = Path(__file__).parent
TITLE = "downslope beside its peers"
# Around a quotation in another document.
BEGIN, END = "<!-- quoted by benches.report -->", "<!-- end of the quotation -->"
# What is run on how many threads.
SELECTED = {
    1: [
        *("epoch", "step", "inference", "sweep", "accuracy", "process", "feature", "phases"),
        "estimators",
    ],
    2: ["test_epoch"],
}


def main() -> None:
    arguments = _parser().parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    if arguments.results is None:
        results = measure(arguments)
        text = json.dumps(asdict(results), ensure_ascii=False)
        (arguments.output / "results.json").write_text(text, encoding="utf-8")
    else:
        results = page.Results(**json.loads(arguments.results.read_text(encoding="utf-8")))
    parts = page.sections(results)
    for name, write in (("index.html", page.page), ("summary.md", page.markdown)):
        (arguments.output / name).write_text(write(TITLE, parts), encoding="utf-8")
        print(arguments.output / name)
    if arguments.quote is not None:
        quote(arguments.quote, page.quotation(results))


def measure(arguments: argparse.Namespace) -> page.Results:
    """Run the benchmarks, each number of threads in a process of its own."""
    begun, ticks = monotonic(), cpu_times()
    absent = peers.missing()
    records = []
    for threads, selected in SELECTED.items():
        if threads <= cores():
            records += run(threads, " or ".join(selected), arguments)
    peaks: dict[str, float] = {dtype: fma_peak(dtype) for dtype in ("float32", "float64")}
    for record in records:
        dtype = record.get("dtype", "float32")
        peaks[dtype] = max(peaks[dtype], record["peak"])
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


def run(threads: int, selected: str, arguments: argparse.Namespace) -> list[page.Record]:
    """The records of a run of pytest; benchmarks that fail are told there and are not in it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "records.json"
        command = [
            *(sys.executable, "-m", "pytest", str(HERE), "--benchmark-only", "-q", "--tb=short"),
            *("-k", _keywords(selected, arguments.only), "-p", "no:cacheprovider"),
            *("--ignore", str(HERE / "test_kernels.py"), "--records", str(path)),
            f"--benchmark-max-time={arguments.seconds}",
            f"--benchmark-storage=file://{arguments.output.resolve()}/reference",
            f"--benchmark-save={threads}_thread{'s' * (threads > 1)}",
        ]
        environment = {**os.environ, "DOWNSLOPE_BENCH_THREADS": str(threads)}
        ended = subprocess.run(command, cwd=HERE.parent, env=environment)
        if ended.returncode:
            print(f"{threads} threads: some benchmarks failed", file=sys.stderr)
        return json.loads(path.read_text(encoding="utf-8"))


def quote(path: Path, text: str) -> None:
    """Replace what stands between the marks."""
    before, begin, rest = path.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not end:
        raise ValueError(f"{path}: no quotation between {BEGIN} and {END}")
    path.write_text(f"{before}{begin}\n{text}\n{end}{after}", encoding="utf-8")


def _keywords(selected: str, only: str) -> str:
    return f"({selected}) and ({only})" if only else selected


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
    parser.add_argument("--seconds", type=float, default=1.0, help="to spend on each benchmark")
    parser.add_argument(
        "--quote", type=Path, help="a Markdown file whose quotation, between marks, is made anew"
    )
    return parser


if __name__ == "__main__":
    main()
