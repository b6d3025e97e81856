"""The report from the records: what it says, as Markdown and as an HTML page without outside parts.

A section has a text, tables, and pictures.  What is said about who is ahead is computed here, from
the intervals of the ratios: ahead or behind means that the whole interval is.
"""

from __future__ import annotations

import html
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from statistics import median

from matplotlib.figure import Figure

from benches import figures
from benches.tables import (
    CASE,
    OUT,
    Record,
    Row,
    latency_by_side,
    pairs_of,
    positive_text,
    ratio_text,
    share_of_peak,
    standing,
    tables,
    time_text,
)
from downslope.timing import median_interval

# Of a ratio whose whole interval is above 1, that holds 1, or is below.
MARKS = {"ahead": "", "level": "≈ ", "behind": "▼ "}
# Rows of a table that is not folded.
LONGEST = 20
# A percentile of fewer calls is but the slowest of them.
FEWEST_FOR_P99 = 100
QUOTED_PEERS = ["NumPy", "scikit-learn", "PyTorch", "JAX scan"]


@dataclass
class Section:
    """A part of the report; a picture is what draws it, and what it says in words."""

    title: str
    text: str
    tables: list[list[Row]] = field(default_factory=list)
    picture: Callable[[], Figure] | None = None
    caption: str = ""


@dataclass
class Results:
    """What `results.json` holds."""

    facts: dict[str, str]
    missing: dict[str, str]
    bandwidth: float
    peaks: dict[str, float]
    records: list[Record]

    def failed(self, group: str | None = None, threads: int | None = None) -> list[Record]:
        """The benchmarks that failed, of a group of pytest-benchmark's."""
        return [
            record
            for record in self.records
            if record["kind"] == "failed"
            and group in (None, record["group"])
            and threads in (None, record["threads"])
        ]

    def of(self, kind: str, threads: int = 1, dtype: str | None = None) -> list[Record]:
        return [
            record
            for record in self.records
            if (record["kind"], record["threads"]) == (kind, threads)
            and dtype in (None, record.get("dtype"))
        ]


def sections(results: Results) -> list[Section]:
    """The whole report, the most important first."""
    return [
        Section("", verdict(results), [outcomes(results)]),
        *_sections(results),
        _measured_on(results),
    ]


def verdict(results: Results) -> str:
    """Where downslope loses or ties, and what could not be compared: a paragraph each."""
    says = []
    for what, of in _compared(results).items():
        verbs = (("loses", of["behind"]), ("ties", of["level"]))
        named = [f"{verb} {_listed(records)}" for verb, records in verbs if records]
        if named:
            says.append(f"{what[0].upper()}{what[1:]}: {'; '.join(named)}.")
    if later := _sooner_accurate(results.of("target")):
        says.append(f"Training to an accuracy: later than {later}.")
    opening = "Where downslope loses or ties (the interval of the ratio holds 1)"
    paragraphs = [f"{opening}. {' '.join(says)}" if says else f"{opening}: nowhere."]
    if failed := results.failed():
        paragraphs.append(f"Failed, for the reasons given below: {_listed_failures(failed)}.")
    if results.missing:
        absent = ", ".join(f"{name} ({reason})" for name, reason in results.missing.items())
        paragraphs.append(f"Missing here: {absent}.")
    return "\n\n".join(paragraphs)


def outcomes(results: Results) -> list[Row]:
    """How often downslope is ahead, ties and loses."""
    return [
        ("with peers", "compared", "ahead", "ties", "loses"),
        *(
            (
                what,
                str(sum(map(len, of.values()))),
                *(str(len(of[key])) for key in ("ahead", "level", "behind")),
            )
            for what, of in _compared(results).items()
        ),
    ]


def _compared(results: Results) -> dict[str, dict[str, list[Record]]]:
    """What was timed in pairs with a peer, by who is ahead."""
    timed = {
        "training on one thread": results.of("epoch", dtype="float32"),
        "training in float64": results.of("epoch", dtype="float64"),
        "training on two threads": results.of("epoch", threads=2),
        "steps called from Python": results.of("step"),
        "prediction": [r for r in results.of("inference") if r["peer"] != OUT],
    }
    found = {}
    for what, records in timed.items():
        if records:
            found[what] = {"ahead": [], "level": [], "behind": []}
        for record in records:
            found[what][standing(pairs_of(record))].append(record)
    return found


def _listed(records: Sequence[Record]) -> str:
    """Cases, each with the peers and ratios."""
    by_case = defaultdict(list)
    for record in records:
        ratio = median_interval(pairs_of(record).ratios)[0]
        rows = f" with {record['rows']:,} rows" if "rows" in record else ""
        by_case[f"{record['case']}{rows}"].append(f"{record['peer']} {ratio:.2f}×")
    return ", ".join(f"{case} beside {' and '.join(peers)}" for case, peers in by_case.items())


def _listed_failures(failed: Sequence[Record]) -> str:
    """Peers and groups of benchmarks, each with what failed there, on however many threads."""
    whats: dict[tuple[str, str], list[str]] = defaultdict(list)
    for record in failed:
        named = whats[record["peer"], record["group"]]
        if record["what"] and record["what"] not in named:
            named.append(record["what"])
    return "; ".join(
        f"{peer} at {group}" + (f" ({', '.join(what)})" if what else "")
        for (peer, group), what in whats.items()
    )


def _sooner_accurate(records: Sequence[Record]) -> str:
    """The peers that were there before downslope."""
    ours = {r["data"]: r["seconds"] for r in records if r["peer"] == "downslope"}
    return ", ".join(
        f"{r['peer']} on {r['data']} ({time_text(r['seconds'])}, and {time_text(ours[r['data']])})"
        for r in records
        if r["seconds"] < ours.get(r["data"], 0.0)
    )


def _sections(results: Results) -> Iterator[Section]:
    if epochs := results.of("epoch", dtype="float32"):
        yield Section(
            "Training on one thread",
            "A step within an epoch of shuffled mini-batches in memory: the rows gathered, the "
            "loss of the epoch included. Each peer is timed in turn with downslope, a pair after "
            "the other; the number is the median over the pairs of the peer's time divided by "
            "downslope's, with its 95 % bootstrap interval. ~ marks pairs that stayed noisy "
            "(interquartile range above 10 %) though they were repeated; ▼ is a loss and ≈ a tie; "
            "– is what a peer can not do.",
            [networks(results), ratios(epochs, results.failed("epoch", 1))],
            partial(figures.speed_ups, epochs),
            "How many times as long each peer takes, on a logarithmic scale. Bars to the right of "
            "the line: downslope is ahead; bars to the left: it loses; grey: too close to tell.",
        )
        yield Section(
            "Beside the machine's limits",
            "The line is what the core and its memory allow if nothing stayed in a cache between "
            "steps: small networks do stay there.",
            [],
            partial(figures.roofline, epochs, results.peaks["float32"], results.bandwidth),
            "Letters are the networks of the table above; hollow: the quickest peer on each.",
        )
        yield Section(
            "Compiling and warming up",
            "What the very first steps of a network took beyond later ones, with nothing left of "
            "an earlier run; it is in no other figure of this report. A peer's first network also "
            "pays for what is started once in a process.",
            [starts(epochs)],
        )
    if found := results.of("phases"):
        yield Section(
            "Where a step's time goes",
            "Phases timed apart, each on what the one before has left: the gradient is stored and "
            "the update made after it. Within fit most updates are part of the gradient product, "
            "and a batch of one row in a small network goes a shorter way.",
            [phases(found)],
            partial(figures.phases, found),
            "Shares of a step by phase, beside the sum of the phases.",
        )
    if found := results.of("step"):
        yield Section(
            "Steps called from Python",
            "A call for each mini-batch that the caller holds in NumPy arrays. To save time three "
            "of the peers are asked.",
            [ratios(found, results.failed("step"))],
        )
    if found := results.of("inference"):
        sides = latency_by_side(found)
        widest = [side for side in sides if side["rows"] == max(r["rows"] for r in found)]
        yield Section(
            "Inference",
            "From NumPy arrays to NumPy arrays, one call after the other, in turn with each peer: "
            "the ratios as above; the median and, after a stroke, the 99th percentile of the time "
            f"of a call (– of fewer than {FEWEST_FOR_P99} calls); and rows in a second.",
            [
                ratios(
                    _named([record for record in found if record["peer"] != OUT]),
                    results.failed("inference"),
                    "peer's time / downslope's",
                ),
                _pivot(_named(sides), "case", "peer", _percentiles, corner="p50 / p99 of a call"),
                _pivot(_named(widest), "case", "peer", _rate, corner="rows in a second"),
            ],
            partial(figures.latency, sides),
            "The median time of a prediction by its number of rows; lower is better.",
        )
    if found := results.of("target"):
        yield Section(
            "Training to an accuracy",
            "Each side with initial weights and order of its own, three seeds; the time is that of "
            "training alone, and the curve that of the median seed. To save time torch.compile, "
            "Keras and JAX jit are not asked.",
            [_table(found)],
            partial(figures.accuracy, found),
            "Correct test images over the seconds of training; further left is better.",
        )
    if found := results.of("sweep"):
        yield Section(
            "Sweeps",
            "Training of 64-64-64, batch 64, relu, SGD, with one of these varied. " + cliffs(found),
            [],
            partial(figures.sweeps, found, results.peaks),
            "Share of the FMA peak of the type; a cliff would be a sudden drop.",
        )
    if found := results.of("epoch", dtype="float64"):
        yield Section(
            "Training in float64",
            "As above, one thread; beside two of the peers, and where the arithmetic dominates.",
            [ratios(found, results.failed("epoch, float64"))],
        )
    if found := results.of("epoch", threads=2):
        yield Section(
            "Training on two threads",
            "As above; both sides on two threads and two cores. To save time three of the peers "
            "are asked.",
            [ratios(found, results.failed("epoch", 2))],
        )
    if found := results.of("threads", threads=2):
        yield Section(
            "What a second thread gives",
            "downslope beside itself: epochs on two threads and on one by turns, with the same "
            "results to the bit. A and B, C and R take one thread of the two: they are too small "
            "to share.",
            [_table(found)],
            partial(figures.threads, found),
            "How many times as long a step takes on one thread as on two; below 1 the second "
            "thread would do harm; grey: too close to tell.",
        )
    if found := results.of("embedding"):
        yield Section(
            "Inside a larger program",
            "Single calls from Python and from C, one thread, and a step of each of many networks.",
            [_table(found)],
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
            "An epoch with it beside the same without, on the networks of the table above.",
            [features(found)],
        )
    if found := results.of("estimator"):
        yield Section(
            "Estimators beside scikit-learn's own",
            "MLPClassifier and MLPRegressor of both with the same parameters, for as many "
            "epochs, one thread each, in turn for ten seeds. Scores on test rows, mean and "
            "deviation; that they are equal within noise was asserted. The ratio is the median "
            "over the seeds, with its 95 % interval.",
            [_table(found)],
        )
    if results.missing or results.failed():
        yield Section(
            "Missing and failed",
            "What is not in the tables above, and why.",
            [_table([*_absent(results.missing), *results.failed()])],
        )


def _absent(missing: dict[str, str]) -> Iterator[Record]:
    """Peers that are not installed, as if all that is asked of them had failed."""
    for peer, reason in missing.items():
        yield {"kind": "failed", "peer": peer, "group": "all", "what": "", "reason": reason}


def _measured_on(results: Results) -> Section:
    return Section(
        "Measured on",
        "One process, pinned to as many cores as threads. Before any timing, each peer and "
        "downslope made three steps from the same weights on the same batches, and their losses, "
        "weights and outputs agreed.",
        [[("", ""), *results.facts.items()]],
    )


# ---- What other documents quote ----


def _quoted_verdict(results: Results) -> str:
    return "\n\n".join([verdict(results), "\n".join(_markdown_rows(outcomes(results)))])


def _quoted_networks(results: Results) -> str:
    """Each network beside some of the peers."""
    records = [r for r in results.of("epoch", dtype="float32") if r["peer"] in QUOTED_PEERS]
    beside = {name: row for name, *row in ratios(records)}
    rows = []
    for name, network, batch, hidden, optimizer, seconds, share in networks(results):
        text = f"{name}: {network}, {hidden}, {optimizer}, {batch}" if name else "network, batch"
        rows.append((text, seconds, share, *beside[name]))
    facts = results.facts
    versions = ", ".join(facts[name] for name in QUOTED_PEERS if name in facts)
    return "\n".join(
        [
            f"One thread, float32, loss mse; {_quoted_machine(results)}.",
            "How many times as long a peer takes, with the 95 % interval; medians over pairs.",
            f"{versions}; measured {facts['date']}.",
            "",
            *_markdown_rows(rows),
        ]
    )


def _quoted_phases(results: Results) -> str:
    return "\n".join(
        [
            f"One thread; {_quoted_machine(results)}. Shares of the phases' sum.",
            "",
            *_markdown_rows(phases(results.of("phases"))),
        ]
    )


def _quoted_features(results: Results) -> str:
    return "\n".join(_markdown_rows(features(results.of("feature"))))


def _quoted_estimators(results: Results) -> str:
    versions = ", ".join(
        results.facts[name] for name in ("NumPy", "scikit-learn") if name in results.facts
    )
    return "\n".join(
        [
            f"{_quoted_machine(results)}; {versions}.",
            "",
            *_markdown_rows(_table(results.of("estimator"))),
        ]
    )


def _quoted_machine(results: Results) -> str:
    facts = results.facts
    limit = f"FMA peak of a core {results.peaks['float32']:.0f} GFLOP/s"
    return f"{facts['CPU']}, {facts['instruction set']}, {limit}"


# Name, as the marks in other documents give it -> Markdown.
QUOTATIONS = {
    "verdict": _quoted_verdict,
    "networks": _quoted_networks,
    "phases": _quoted_phases,
    "features": _quoted_features,
    "estimators": _quoted_estimators,
}


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


def ratios(records: Sequence[Record], failed: Sequence[Record] = (), corner: str = "") -> list[Row]:
    """Cases by peers, with a mark where downslope is not ahead."""

    def text(record: Record) -> str:
        pairs = pairs_of(record)
        return f"{MARKS[standing(pairs)]}{ratio_text(pairs)}"

    return _pivot(records, "case", "peer", text, failed, corner)


def starts(records: Sequence[Record]) -> list[Row]:
    """Cases by peers, downslope among them."""
    ours = {r["case"]: {**r, "peer": "downslope", "theirs_start": r["ours_start"]} for r in records}
    both = [*ours.values(), *records]
    return _pivot(both, "case", "peer", lambda r: positive_text(r["theirs_start"]))


def phases(records: Sequence[Record]) -> list[Row]:
    """Cases by phases."""
    names = [name for name in records[0]["phases"] if name not in ("apart", "in fit")]
    rows = [("network, batch", *names, "whole step, in fit", "of FMA peak")]
    for record in records:
        case, times = CASE[record["case"]], record["phases"]
        share = 1e-9 * case.flops / times["in fit"] / record["peak"]
        rows.append(
            (
                f"{case.name}: {case.network_text}, {case.batch:,}",
                *(f"{times[name] / times['apart']:.0%}" for name in names),
                time_text(times["in fit"]),
                f"{share:.0%}",
            )
        )
    return rows


def features(records: Sequence[Record]) -> list[Row]:
    """Features by cases: how many times as long an epoch is with them."""
    networks = {name: f"{case.network_text}, {case.batch}" for name, case in CASE.items()}
    named = [{**record, "network": networks[record["case"]]} for record in records]
    return _pivot(named, "feature", "network", lambda record: ratio_text(pairs_of(record)))


def _named(records: Sequence[Record]) -> list[Record]:
    """Predictions, each network with each number of rows as a case."""
    return [{**r, "case": f"{r['case']}, batch {r['rows']:,}"} for r in records]


def _percentiles(side: Record) -> str:
    p99 = time_text(side["p99"]) if side["calls"] >= FEWEST_FOR_P99 else "–"
    return f"{time_text(side['p50'])} / {p99}"


def _rate(side: Record) -> str:
    """Rows in a second, to three digits."""
    rate = side["rows"] / side["p50"]
    return f"{float(f'{rate:.3g}'):,.0f}"


def _pivot(
    records: Sequence[Record],
    row: str,
    column: str,
    text: Callable[[Record], str],
    failed: Sequence[Record] = (),
    corner: str = "",
) -> list[Row]:
    """A table; cells of benchmarks that failed say so."""
    cells = {(record[row], record[column]): text(record) for record in records}
    names = dict.fromkeys(record[row] for record in records)
    for record in failed:
        for name in names:
            if name.partition(", ")[0] == record["what"]:
                cells.setdefault((name, record[column]), "failed")
    columns = figures.in_order(dict.fromkeys(column for _, column in cells))
    return [
        (corner, *columns),
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
    kind = "" if part.title else " class=verdict"
    lines += [f"<p{kind}>{html.escape(text)}</p>" for text in part.text.split("\n\n")]
    if part.picture:
        caption, picture = html.escape(part.caption), figures.svg(part.picture(), part.title)
        lines.append(
            f'<figure><div role="img" aria-label="{caption}">{picture}</div>'
            f"<figcaption>{caption}</figcaption></figure>"
        )
    lines += [_html_table(rows) for rows in part.tables]
    return "\n".join([*lines, "</section>"])


def _html_table(rows: Sequence[Row]) -> str:
    """Long ones are folded."""

    def line(row: Row, cell: str) -> str:
        first, *others = row
        return f'<tr><th scope="row">{html.escape(first)}</th>' + "".join(
            f"<{cell}{_shade(text)}>{html.escape(text)}</{cell}>" for text in others
        )

    head, *others = rows
    body = "\n".join(line(row, "td") for row in others)
    table = (
        f'<div class="scroll"><table><thead>{line(head, "th")}</thead>\n'
        f"<tbody>{body}</tbody></table></div>"
    )
    if len(others) <= LONGEST:
        return table
    return (
        f"<details><summary>{html.escape(head[0])}: {len(others)} rows</summary>{table}</details>"
    )


def _shade(text: str) -> str:
    """Cells with a mark, and failures, are seen at a glance."""
    for name, begins in (("behind", MARKS["behind"]), ("level", MARKS["level"])):
        if text.startswith(begins):
            return f" class={name}"
    return " class=failed" if text == "failed" else ""


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
.behind { color: var(--vermilion); font-weight: 600; }
.level, .failed { color: var(--muted); }
summary { cursor: pointer; color: var(--blue); }
"""
