"""The report from the records: what it says, as Markdown and as an HTML page without outside parts.

A section has a text, tables, and pictures.  What is said about who is ahead is computed here, from
the intervals of the ratios: ahead or behind means that the whole interval is.
"""

from __future__ import annotations

import html
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from benches import figures
from benches.tables import (
    CASE,
    Record,
    Row,
    pairs_of,
    ratio_text,
    share_of_peak,
    tables,
    time_text,
)
from downslope.timing import median_interval

QUOTED_PEERS = ["NumPy", "scikit-learn", "PyTorch", "JAX scan"]


@dataclass
class Section:
    """A part of the report; a picture is an SVG element and what it says in words."""

    title: str
    text: str
    tables: list[list[Row]] = field(default_factory=list)
    picture: str = ""
    caption: str = ""


@dataclass
class Results:
    """What `results.json` holds."""

    facts: dict[str, str]
    missing: dict[str, str]
    bandwidth: float
    peaks: dict[str, float]
    records: list[Record]

    def of(self, kind: str, threads: int = 1, dtype: str | None = None) -> list[Record]:
        return [
            record
            for record in self.records
            if (record["kind"], record["threads"]) == (kind, threads)
            and dtype in (None, record.get("dtype"))
        ]


def sections(results: Results) -> list[Section]:
    """The whole report, the most important first."""
    return [Section("", verdict(results)), *_sections(results), _measured_on(results)]


def verdict(results: Results) -> str:
    """Where downslope loses or ties, then where it is ahead."""
    behind, level, ahead = [], [], []
    for record in results.of("epoch", dtype="float32"):
        _, low, high = median_interval(pairs_of(record).ratios)
        (ahead if low > 1 else behind if high < 1 else level).append(record)
    says = []
    if behind:
        says.append(f"downslope loses: {_listed(behind)}.")
    if level:
        says.append(f"It can not be told which is ahead: {_listed(level)}.")
    if not behind and not level:
        says.append("downslope loses or ties with no peer in training on one thread.")
    says.append(
        f"In {len(ahead)} of {len(ahead) + len(behind) + len(level)} comparisons of training on "
        "one thread (a network with a peer each) it is ahead."
    )
    slower = _slower_predictions(results.of("inference"))
    if slower:
        says.append(f"Its predictions take longer than a peer's: {'; '.join(slower)}.")
    if results.missing:
        absent = ", ".join(f"{name} ({reason})" for name, reason in results.missing.items())
        says.append(f"Missing here: {absent}.")
    return " ".join(says)


def _listed(records: Sequence[Record]) -> str:
    """Cases, each with the peers and ratios."""
    by_case = defaultdict(list)
    for record in records:
        ratio = median_interval(pairs_of(record).ratios)[0]
        by_case[record["case"]].append(f"{record['peer']} {ratio:.2f}×")
    return "; ".join(f"{case} beside {', '.join(peers)}" for case, peers in by_case.items())


def _slower_predictions(records: Sequence[Record]) -> list[str]:
    ours = {(r["case"], r["rows"]): r["p50"] for r in records if r["peer"] == "downslope"}
    best: dict[tuple[str, int], Record] = {}
    for record in records:
        key = record["case"], record["rows"]
        slowest_first = best.get(key, record)
        if not record["peer"].startswith("downslope") and record["p50"] <= slowest_first["p50"]:
            best[key] = record
    return [
        f"{case} with {rows} rows beside {record['peer']} "
        f"({time_text(ours[case, rows])} and {time_text(record['p50'])})"
        for (case, rows), record in best.items()
        if record["p50"] < ours[case, rows]
    ]


def _sections(results: Results) -> Iterator[Section]:
    if epochs := results.of("epoch", dtype="float32"):
        yield Section(
            "Training on one thread",
            "A step within an epoch of shuffled mini-batches in memory: the rows gathered, the "
            "loss of the epoch included. Each peer is timed in turn with downslope, a pair after "
            "the other; the number is the median over the pairs of the peer's time divided by "
            "downslope's, with its 95 % bootstrap interval. ~ marks pairs that stayed noisy "
            "(interquartile range above 10 %) though they were repeated; – is what "
            "a peer can not do.",
            [networks(results), ratios(epochs)],
            figures.svg(figures.speed_ups(epochs), "speed-ups"),
            "How many times as long each peer takes, on a logarithmic scale. Bars to the right of "
            "the line: downslope is ahead; bars to the left: it loses; grey: too close to tell.",
        )
        yield Section(
            "Beside the machine's limits",
            "The line is what the core and its memory allow if nothing stayed in a cache between "
            "steps: small networks do stay there.",
            [],
            figures.svg(
                figures.roofline(epochs, results.peaks["float32"], results.bandwidth), "roofline"
            ),
            "Letters are the networks of the table above; hollow: the quickest peer on each.",
        )
        yield Section(
            "Compiling and warming up",
            "What the first epoch took beyond a later one, once in a process for each network and "
            "shape of batch; it is in no other figure of this report.",
            [starts(epochs)],
        )
    if found := results.of("phases"):
        yield Section(
            "Where a step's time goes",
            "Phases timed apart, each on what the one before has left: the gradient is stored and "
            "the update made after it. Within fit most updates are part of the gradient product, "
            "and a batch of one row in a small network goes a shorter way.",
            [],
            figures.svg(figures.phases(found), "phases"),
            "Shares of a step by phase, beside the sum of the phases.",
        )
    if found := results.of("step"):
        yield Section(
            "Steps called from Python",
            "A call for each mini-batch that the caller holds in NumPy arrays.",
            [ratios(found)],
        )
    if found := results.of("inference"):
        yield Section(
            "Inference",
            "From NumPy arrays to NumPy arrays, one call after the other.",
            [inference(found, "p50"), inference(found, "p99")],
            figures.svg(figures.latency(found), "latency"),
            "The median time of a prediction by its number of rows; lower is better.",
        )
    if found := results.of("target"):
        yield Section(
            "Training to an accuracy",
            "Each side with initial weights and order of its own, three seeds; the time is that of "
            "training alone, and the curve that of the median seed.",
            [_table(found)],
            figures.svg(figures.accuracy(found), "accuracy"),
            "Correct test images over the seconds of training; further left is better.",
        )
    if found := results.of("sweep"):
        yield Section(
            "Sweeps",
            "Training of 64-64-64, batch 64, relu, SGD, with one of these varied. " + cliffs(found),
            [],
            figures.svg(figures.sweeps(found, results.peaks), "sweeps"),
            "Share of the FMA peak of the type; a cliff would be a sudden drop.",
        )
    if found := results.of("epoch", dtype="float64"):
        yield Section("Training in float64", "As above, one thread.", [ratios(found)])
    if found := results.of("epoch", threads=2):
        one = [r for r in epochs if r["peer"] in {record["peer"] for record in found}]
        yield Section(
            "Training on two threads",
            "As above; both sides on two threads and two cores.",
            [ratios(found)],
            figures.svg(figures.threads(one, found), "threads"),
            "How many times as long a step takes on one thread as on two; below 1 the second "
            "thread does harm.",
        )
    if found := results.of("process"):
        yield Section(
            "Import, size, memory",
            "Each in a process of its own. Installed: with what it requires, NumPy apart; the "
            "memory of a training of E is the growth of the process at its peak beyond the data.",
            [_table(found)],
        )
    if found := results.of("feature"):
        yield Section(
            "What a feature of training costs",
            "An epoch with it beside the same without.",
            [_table(found)],
        )
    if found := results.of("estimator"):
        yield Section(
            "Estimators beside scikit-learn's own",
            "MLPClassifier and MLPRegressor of both with the same parameters, for as many "
            "epochs, one thread each, in turn for ten seeds. Scores on test rows, mean and "
            "deviation; that they are equal within noise was asserted: a row that was not would be "
            "missing here. The ratio is the median over the seeds, with its 95 % interval.",
            [_table(found)],
        )


def _measured_on(results: Results) -> Section:
    return Section(
        "Measured on",
        "One process, pinned to as many cores as threads. Before any timing, each peer and "
        "downslope made three steps from the same weights on the same batches, and their losses, "
        "weights and outputs agreed.",
        [[("", ""), *results.facts.items()]],
    )


def quotation(results: Results) -> str:
    """A table for the README, as Markdown: each network beside some of the peers."""
    records = [r for r in results.of("epoch", dtype="float32") if r["peer"] in QUOTED_PEERS]
    beside = {name: row for name, *row in ratios(records)}
    rows = []
    for name, network, batch, hidden, optimizer, seconds, share in networks(results):
        text = f"{network}, {hidden}, {optimizer}, {batch}" if name else "network and batch"
        rows.append((text, seconds, share, *beside[name]))
    facts = results.facts
    limits = f"FMA peak {results.peaks['float32']:.0f} GFLOP/s"
    versions = ", ".join(facts[name] for name in QUOTED_PEERS if name in facts)
    return "\n".join(
        [
            f"One thread, float32, loss mse; {facts['CPU']}, {facts['instruction set']}, {limits}.",
            "How many times as long a peer takes, with the 95 % interval; medians over pairs.",
            f"{versions}; measured {facts['date']}.",
            "",
            *_markdown_rows(rows),
        ]
    )


# ---- Tables ----


def networks(results: Results) -> list[Row]:
    """What each letter stands for, and downslope's time."""
    rows = [("", "network", "batch", "hidden", "optimiser", "downslope, a step", "of FMA peak")]
    by_case = defaultdict(list)
    for record in results.of("epoch", dtype="float32"):
        by_case[record["case"]].append(record)
    for name, records in by_case.items():
        case = CASE[name]
        pooled = {**records[0], "ours": [s for record in records for s in record["ours"]]}
        optimizer = type(case.optimizer).__name__
        rows.append(
            (
                name,
                case.network_text,
                f"{case.batch:,}",
                case.activation,
                optimizer,
                time_text(median(pooled["ours"])),
                f"{share_of_peak(pooled):.0%}",
            )
        )
    return rows


def ratios(records: Sequence[Record]) -> list[Row]:
    """Cases by peers."""
    return _pivot(records, "case", "peer", lambda record: ratio_text(pairs_of(record)))


def starts(records: Sequence[Record]) -> list[Row]:
    """Cases by peers, downslope among them."""
    ours = {r["case"]: {**r, "peer": "downslope", "theirs_start": r["ours_start"]} for r in records}
    both = [*ours.values(), *records]
    return _pivot(both, "case", "peer", lambda r: time_text(max(r["theirs_start"], 0.0)))


def inference(records: Sequence[Record], percentile: str) -> list[Row]:
    """Networks and rows by peers."""
    named = [{**r, "what": f"{r['case']}, batch {r['rows']:,}, {percentile}"} for r in records]
    return _pivot(named, "what", "peer", lambda record: time_text(record[percentile]))


def _pivot(records: Sequence[Record], row: str, column: str, text: Any) -> list[Row]:
    columns = list(dict.fromkeys(record[column] for record in figures.in_order(records)))
    cells = {(record[row], record[column]): text(record) for record in records}
    names = dict.fromkeys(record[row] for record in records)
    return [
        ("", *columns),
        *((name, *(cells.get((name, peer), "–") for peer in columns)) for name in names),
    ]


def _table(records: Sequence[Record]) -> list[Row]:
    [(_, rows)] = tables(records)
    return rows


def cliffs(records: Sequence[Record]) -> str:
    """The worst width and batch, per useful flop, beside the nearest multiple of 16."""
    says = []
    for axis in ("width", "batch"):
        rates = {
            r["value"]: r["seconds"] / r["flops"]
            for r in records
            if r["axis"] == axis and r["dtype"] == "float32"
        }
        if not rates:
            continue
        costs = {
            value: rates[value] / rates[min(max(round(value / 16) * 16, 16), 128)]
            for value in rates
            if value >= 8
        }
        worst = max(costs, key=costs.__getitem__)
        says.append(
            f"The worst {axis} from 8 on is {worst}: {costs[worst]:.2f} times the time per flop of "
            "the nearest multiple of 16."
        )
    return " ".join(says)


# ---- Markdown and HTML ----


def markdown(title: str, parts: Sequence[Section]) -> str:
    """Everything but the pictures."""
    blocks = [f"# {title}"]
    for part in parts:
        blocks += [f"## {part.title}"] * bool(part.title) + [part.text]
        blocks += ["\n".join(_markdown_rows(rows)) for rows in part.tables]
    return "\n\n".join(blocks) + "\n"


def _markdown_rows(rows: Sequence[Row]) -> Iterator[str]:
    head, *others = rows
    yield f"| {' | '.join(head)} |"
    yield f"|{'|'.join(['---', *['---:'] * (len(head) - 1)])}|"
    yield from (f"| {' | '.join(row)} |" for row in others)


def page(title: str, parts: Sequence[Section]) -> str:
    """One HTML file: style and pictures are in it, and it asks for nothing from outside."""
    light = "".join(f"--{name}:{color};" for color, (name, _) in figures.COLORS.items())
    dark = "".join(f"--{name}:{color};" for name, color in figures.COLORS.values())
    body = "\n".join(_html_section(part) for part in parts)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{html.escape(title)}</title>
<style>
:root {{ color-scheme: light dark; --paper:#fff; {light} }}
@media (prefers-color-scheme: dark) {{ :root {{ --paper:#15181c; {dark} }} }}
{_STYLE}
</style>
</head>
<body>
<main>
<h1>{html.escape(title)}</h1>
{body}
</main>
</body>
</html>
"""


def _html_section(part: Section) -> str:
    lines = ["<section>"]
    if part.title:
        lines.append(f"<h2>{html.escape(part.title)}</h2>")
    lines.append(f"<p{'' if part.title else ' class=verdict'}>{html.escape(part.text)}</p>")
    if part.picture:
        caption = html.escape(part.caption)
        lines.append(
            f'<figure><div role="img" aria-label="{caption}">{part.picture}</div>'
            f"<figcaption>{caption}</figcaption></figure>"
        )
    lines += [_html_table(rows) for rows in part.tables]
    return "\n".join([*lines, "</section>"])


def _html_table(rows: Sequence[Row]) -> str:
    def line(row: Row, cell: str) -> str:
        first, *others = (html.escape(text) for text in row)
        return f'<tr><th scope="row">{first}</th>' + "".join(
            f"<{cell}>{text}</{cell.split()[0]}>" for text in others
        )

    head, *others = rows
    body = "\n".join(line(row, "td") for row in others)
    return (
        f'<div class="scroll"><table><thead>{line(head, "th")}</thead>\n'
        f"<tbody>{body}</tbody></table></div>"
    )


_STYLE = """
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
main { max-width: 68rem; margin: 0 auto; padding: 1.5rem 1rem 4rem; }
h1 { font-size: 1.7rem; line-height: 1.2; }
h2 { font-size: 1.25rem; margin-top: 2.5rem; }
p { max-width: 46rem; }
.verdict { border-left: 4px solid var(--blue); padding-left: 1rem; font-size: 1.05rem; }
figure { margin: 1rem 0; }
figcaption { color: var(--muted); font-size: .9rem; max-width: 46rem; }
svg { width: 100%; height: auto; }
svg text { font-family: inherit !important; }
.scroll { overflow-x: auto; margin: 1rem 0; }
table { border-collapse: collapse; font-size: .88rem; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .7rem; text-align: right; border-bottom: 1px solid var(--grid);
  white-space: nowrap; font-weight: normal; }
thead th { font-weight: 600; }
th[scope=row] { text-align: left; font-weight: 600; }
"""
