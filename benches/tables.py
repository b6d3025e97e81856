"""Records as rows of text: for the end of a run of pytest, and for the report."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from statistics import median
from typing import Any

import numpy as np

from downslope.cases import CASES
from downslope.timing import Pairs, median_interval

Record = dict[str, Any]
Row = tuple[str, ...]

CASE = {case.name: case for case in CASES}
# downslope beside itself: predictions into an array that the caller gives.
OUT = "downslope, out="


def tables(records: Iterable[Record]) -> list[tuple[str, list[Row]]]:
    """A title and rows, names of columns first, for each kind of record that is known here."""
    by_kind = defaultdict(list)
    for record in records:
        by_kind[record["kind"]].append(record)
    return [
        (title, [columns, *(row(record) for record in by_kind[kind])])
        for kind, (title, columns, row) in _TABLES.items()
        if kind in by_kind
    ]


def lines(rows: Sequence[Row]) -> list[str]:
    """The rows, their columns lined up."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(f"{cell:>{width}}" for cell, width in zip(row, widths)) for row in rows]


def time_text(seconds: float) -> str:
    """Three digits and a unit."""
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}" if seconds < 999.5 * size else f"{seconds:.0f} s"
    return f"{seconds / 1e-9:.3g} ns"


def positive_text(seconds: float) -> str:
    """Of a difference of times, which may come out below zero where it is nothing."""
    return time_text(seconds) if seconds > 0 else "0"


def ratio_text(pairs: Pairs) -> str:
    """The median of the ratios and its interval; with a tilde if they are noisy."""
    middle, low, high = median_interval(pairs.ratios)
    return f"{'~' * pairs.noisy}{number_text(middle)} ({number_text(low)}–{number_text(high)})"


def number_text(value: float) -> str:
    """Three digits, and no more than two after the point."""
    return f"{value:.{max(0, 2 - int(np.log10(max(value, 1))))}f}"


def pairs_of(record: Record) -> Pairs:
    return Pairs(record["ours"], record["theirs"])


def standing(pairs: Pairs) -> str:
    """Ahead or behind is a ratio whose whole interval is above or below 1; else they are level."""
    _, low, high = median_interval(pairs.ratios)
    return "ahead" if low > 1 else "behind" if high < 1 else "level"


def share_of_peak(record: Record) -> float:
    """Of the FMA peak of the cores in use, reached by downslope's whole step."""
    rate = CASE[record["case"]].flops / median(record["ours"])
    return 1e-9 * rate / (record["peak"] * record["threads"])


def latency_by_side(records: Iterable[Record]) -> list[Record]:
    """A record of p50, p99 and the calls for each side of the pairs; downslope's are medians over
    the peers."""
    ours = defaultdict(list)
    sides = []
    for record in records:
        where = {key: record[key] for key in ("case", "rows", "calls")}
        times = {key: record[f"theirs_{key}"] for key in ("p50", "p99")}
        sides.append({**where, "peer": record["peer"], **times})
        if record["peer"] != OUT:
            ours[record["case"], record["rows"]].append(record)
    for of_case in ours.values():
        middle = {
            key: median(record[name] for record in of_case)
            for key, name in (("p50", "ours_p50"), ("p99", "ours_p99"), ("calls", "calls"))
        }
        case, rows = of_case[0]["case"], of_case[0]["rows"]
        sides.append({"case": case, "rows": rows, "peer": "downslope", **middle})
    return sides


def _spread_text(values: Sequence[float]) -> str:
    return f"{np.mean(values):.4f} ± {np.std(values, ddof=1):.4f}"


def _pair_row(record: Record) -> Row:
    case, pairs = CASE[record["case"]], pairs_of(record)
    return (
        case.name,
        case.network_text,
        str(case.batch),
        case.activation,
        type(case.optimizer).__name__,
        record["dtype"],
        time_text(median(pairs.ours)),
        f"{share_of_peak(record):.0%}",
        record["peer"],
        time_text(median(pairs.theirs)),
        ratio_text(pairs),
    )


_PAIR_COLUMNS = ("", "network", "batch", "hidden", "optimiser", "type", "downslope", "of peak")
_PAIR_COLUMNS += ("peer", "peer's", "ratio")

# kind of record -> title, names of the columns, and a record's row
_TABLES = {
    "failed": (
        "Failed",
        ("peer", "benchmark", "of", "reason"),
        lambda record: (record["peer"], record["group"], record["what"], record["reason"]),
    ),
    "epoch": ("Training, per step of an epoch in one call", _PAIR_COLUMNS, _pair_row),
    "threads": (
        "All threads beside one, per step of an epoch",
        ("network", "all threads", "one", "ratio"),
        lambda r: (
            r["case"],
            time_text(median(r["ours"])),
            time_text(median(r["theirs"])),
            ratio_text(pairs_of(r)),
        ),
    ),
    "step": ("Training, per step called from Python", _PAIR_COLUMNS, _pair_row),
    "inference": (
        "Inference, from NumPy to NumPy",
        ("", "rows", "p50", "p99", "peer", "peer's p50", "p99", "ratio"),
        lambda record: (
            record["case"],
            str(record["rows"]),
            time_text(record["ours_p50"]),
            time_text(record["ours_p99"]),
            record["peer"],
            time_text(record["theirs_p50"]),
            time_text(record["theirs_p99"]),
            ratio_text(pairs_of(record)),
        ),
    ),
    "sweep": (
        "Sweeps, per step",
        ("of", "value", "time", "GFLOP/s"),
        lambda record: (
            record["axis"],
            str(record["value"]),
            time_text(record["seconds"]),
            f"{1e-9 * record['flops'] / record['seconds']:.1f}",
        ),
    ),
    "target": (
        "Training to an accuracy",
        ("data", "peer", "target", "median", "epochs", "accuracy", "first run more"),
        lambda record: (
            record["data"],
            record["peer"],
            f"{record['target']:.1%}",
            time_text(record["seconds"]),
            str(len(record["curve"])),
            f"{record['curve'][-1][1]:.2%}",
            positive_text(record["start"]),
        ),
    ),
    "process": (
        "A process of its own",
        ("peer", "import beyond NumPy's", "installed", "memory of training E", "and its data"),
        lambda record: (
            record["peer"],
            time_text(record["import_seconds"]),
            f"{record['installed_bytes'] / 1e6:.3g} MB",
            f"{record['memory_bytes'] / 1e6:.3g} MB",
            f"{record['data_bytes'] / 1e6:.3g} MB",
        ),
    ),
    "estimator": (
        "Estimators beside scikit-learn's own, mean and deviation of the test scores",
        ("data", "epochs", "score", "scikit-learn's", "a fit", "scikit-learn's", "ratio"),
        lambda record: (
            record["data"],
            str(record["epochs"]),
            _spread_text(record["scores"]),
            _spread_text(record["peer_scores"]),
            time_text(median(record["ours"])),
            time_text(median(record["theirs"])),
            ratio_text(pairs_of(record)),
        ),
    ),
    "embedding": (
        "Inside a larger program",
        ("what", "time"),
        lambda record: (record["what"], time_text(record["seconds"])),
    ),
    "feature": (
        "What a feature costs",
        ("feature", "", "without", "with", "ratio"),
        lambda record: (
            record["feature"],
            record["case"],
            time_text(median(record["ours"])),
            time_text(median(record["theirs"])),
            ratio_text(pairs_of(record)),
        ),
    ),
}
