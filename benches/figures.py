"""The pictures of the report, as SVG whose colours are variables of the page: light or dark.

Everything that colour says is said by place, marker or text as well.  The palette is that of Okabe
and Ito, which people with any colour vision can tell apart.
"""

from __future__ import annotations

import io
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from statistics import median

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, PercentFormatter

from benches.tables import CASE, OUT, Record, number_text, pairs_of, standing, time_text
from downslope.timing import median_interval

# Colour in the light page, as matplotlib writes it -> the page's variable and its dark value.
INK, GRID, MUTED = "#1c1f23", "#d7dadd", "#767b82"
COLORS = {
    INK: ("ink", "#e8eaed"),
    GRID: ("grid", "#3a3f46"),
    MUTED: ("muted", "#9aa0a8"),
    "#0072b2": ("blue", "#4db2ec"),
    "#e69f00": ("orange", "#f0b429"),
    "#009e73": ("green", "#2fc79a"),
    "#d55e00": ("vermilion", "#f5853f"),
    "#cc79a7": ("pink", "#e29bc3"),
    "#56b4e9": ("sky", "#8accf2"),
}
BLUE, ORANGE, GREEN, VERMILION, PINK, SKY = list(COLORS)[3:]

# Side -> colour, marker.
STYLE = {
    "downslope": (BLUE, "o"),
    OUT: (SKY, "o"),
    "NumPy": (ORANGE, "s"),
    "scikit-learn": (GREEN, "^"),
    "PyTorch": (VERMILION, "D"),
    "torch.compile": (PINK, "v"),
    "JAX jit": (SKY, "P"),
    "JAX scan": (INK, "X"),
    "Keras": (MUTED, "*"),
}
# On a bar of any of these colours, in either page.
ON_COLOR = "#111111"
BAR_COLORS = {"ahead": BLUE, "level": MUTED, "behind": VERMILION}
PHASE_COLORS = [SKY, BLUE, ORANGE, GREEN, VERMILION, PINK]

WIDTH = 10.0
mpl.rcParams.update(
    {
        "svg.fonttype": "none",  # text stays text
        "font.family": "sans-serif",
        "font.size": 9.5,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.titlesize": 10.5,
        "axes.axisbelow": True,
        "axes.grid": True,
        "grid.color": GRID,
        "grid.linewidth": 0.7,
        "legend.frameon": False,
        **dict.fromkeys(("text.color", "axes.labelcolor", "xtick.color", "ytick.color"), INK),
        "axes.edgecolor": MUTED,
    }
)

Records = Sequence[Record]


def svg(figure: Figure, name: str) -> str:
    """An element for the page, its colours replaced by variables, its identifiers its own."""
    with mpl.rc_context({"svg.hashsalt": name}):
        written = io.StringIO()
        figure.savefig(written, format="svg", transparent=True, metadata={"Date": None})
    text = written.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'width="[\d.]+pt" height="[\d.]+pt"', "", text, count=1)
    for color, (variable, _) in COLORS.items():
        text = text.replace(color, f"var(--{variable})")
    return text


def _figure(height: float, rows: int = 1, columns: int = 1, **options: object) -> tuple:
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False, **options)


# ---- Training ----


def speed_ups(records: Records) -> Figure:
    """Bars: how many times as long each peer takes, a panel for each peer."""
    by_peer = _by_peer(records)
    columns = 4
    rows = -(-len(by_peer) // columns)
    cases = [name for name in CASE if any(record["case"] == name for record in records)]
    labels = [f"{CASE[name].network_text}  {name}" for name in cases]
    figure, axes = _figure(0.6 + 2.9 * rows, rows, columns, sharex=True, sharey=True)
    for ax in axes.flat[len(by_peer) :]:
        ax.set_visible(False)
    for ax, (peer, of_peer) in zip(axes.flat, by_peer.items(), strict=False):
        for record in of_peer:
            middle, low, high = median_interval(pairs_of(record).ratios)
            y = cases.index(record["case"])
            color = BAR_COLORS[standing(pairs_of(record))]
            ax.barh(y, middle - 1, left=1, height=0.62, color=color)
            ax.plot([low, high], [y, y], color=INK, linewidth=1)
            ax.annotate(
                number_text(middle),
                (max(middle, high, 1), y),
                (4, 0),
                textcoords="offset points",
                va="center",
                fontsize=8.5,
            )
        ax.axvline(1, color=INK, linewidth=1)
        ax.set(xscale="log", title=peer, yticks=range(len(cases)), yticklabels=labels)
        ax.grid(axis="y", visible=False)
        ax.tick_params(axis="y", length=0)
    axes[0][0].invert_yaxis()
    left, right = axes[0][0].get_xlim()
    axes[0][0].set_xlim(min(left, 0.7), right * 2.2)
    _plain_ticks(axes[0][0].xaxis)
    for ax in axes.flat[max(len(by_peer) - columns, 0) : len(by_peer)]:
        ax.tick_params(axis="x", labelbottom=True)
        ax.set_xlabel("peer's time / downslope's")
    return figure


def roofline(records: Records, peak: float, bandwidth: float) -> Figure:
    """Rate over arithmetic intensity, under the core's and the memory's limits."""
    figure, [[ax]] = _figure(4.8)
    best = _best_peers(records)
    intensities = [CASE[name].flops / CASE[name].bytes for name in best]
    x = np.geomspace(min(intensities) / 2, max(intensities) * 2, 200)
    ax.plot(x, np.minimum(peak, bandwidth * x), color=INK, linewidth=1.6)
    ax.annotate(
        f"FMA peak, {peak:.0f} GFLOP/s",
        (peak / bandwidth, peak),
        (0, 6),
        textcoords="offset points",
    )
    ax.annotate(
        f"memory, {bandwidth:.0f} GB/s",
        (x[25], bandwidth * x[25]),
        (10, -4),
        textcoords="offset points",
        color=MUTED,
    )
    for name, record in best.items():
        case = CASE[name]
        intensity = case.flops / case.bytes
        ours, theirs = (1e-9 * case.flops / median(record[side]) for side in ("ours", "theirs"))
        ax.plot([intensity] * 2, [theirs, ours], color=GRID, linewidth=1, zorder=1)
        ax.plot(intensity, theirs, "o", markerfacecolor="none", color=VERMILION, markersize=6)
        ax.plot(intensity, ours, "o", color=BLUE, markersize=8)
        ax.annotate(name, (intensity, ours), (7, 3), textcoords="offset points", weight="bold")
    ax.plot([], [], "o", color=BLUE, markersize=8, label="downslope")
    ax.plot([], [], "o", color=VERMILION, markerfacecolor="none", label="the best peer")
    ax.set(
        xscale="log",
        yscale="log",
        xlabel="flops per byte that a step reads and writes anew",
        ylabel="GFLOP/s of a whole step",
    )
    ax.legend(loc="lower right")
    ax.set_ylim(top=2 * peak)
    _plain_ticks(ax.xaxis)
    _plain_ticks(ax.yaxis)
    return figure


def phases(records: Records) -> Figure:
    """Stacked bars: shares of a step's time."""
    figure, [[ax]] = _figure(0.9 + 0.34 * len(records))
    names = [name for name in records[0]["phases"] if name not in ("apart", "in fit")]
    left = np.zeros(len(records))
    for phase, color in zip(names, PHASE_COLORS, strict=True):
        share = np.array([r["phases"][phase] / r["phases"]["apart"] for r in records])
        ax.barh(range(len(records)), share, left=left, color=color, label=phase, height=0.7)
        for y, (start, width) in enumerate(zip(left, share, strict=True)):
            if width > 0.06:
                ax.text(
                    start + width / 2,
                    y,
                    f"{width:.0%}",
                    ha="center",
                    va="center",
                    fontsize=8.5,
                    color=ON_COLOR,
                )
        left += share
    labels = [f"{r['case']}, {time_text(r['phases']['apart'])}" for r in records]
    ax.set(yticks=range(len(records)), yticklabels=labels, xlim=(0, 1))
    ax.invert_yaxis()
    ax.xaxis.set_major_formatter(PercentFormatter(1))
    ax.grid(axis="y", visible=False)
    figure.legend(loc="outside upper center", ncols=len(names))
    return figure


def threads(records: Records) -> Figure:
    """Bars: how many times as long an epoch takes on one thread."""
    figure, [[ax]] = _figure(3.0)
    for x, record in enumerate(records):
        pairs = pairs_of(record)
        middle, low, high = median_interval(pairs.ratios)
        ax.bar(x, middle - 1, bottom=1, width=0.62, color=BAR_COLORS[standing(pairs)])
        ax.plot([x, x], [low, high], color=INK, linewidth=1)
        ax.annotate(
            number_text(middle),
            (x, max(middle, high, 1)),
            (0, 3),
            textcoords="offset points",
            ha="center",
            fontsize=8.5,
        )
    ax.axhline(1, color=INK, linewidth=1)
    names = [record["case"] for record in records]
    ax.set(xticks=range(len(names)), xticklabels=names, ylabel="time on 1 thread / on 2")
    ax.grid(axis="x", visible=False)
    return figure


# ---- Inference ----


def latency(records: Records) -> Figure:
    """Curves: the median time of a prediction over its rows, a panel for each network."""
    by_case = _grouped(records, "case")
    figure, [axes] = _figure(4.2, 1, len(by_case), sharey=True)
    for ax, (case, of_case) in zip(axes, by_case.items(), strict=True):
        _curves(ax, of_case, lambda r: r["rows"], lambda r: r["p50"])
        ax.set(xscale="log", yscale="log", xlabel="rows of the batch")
        ax.set_title(f"{case}: {CASE[case].network_text}")
        ax.set_xscale("log", base=4)
        _plain_ticks(ax.xaxis)
    axes[0].set_ylabel("median time of a call")
    axes[0].yaxis.set_major_formatter(FuncFormatter(lambda seconds, _: time_text(seconds)))
    _shared_legend(figure, axes)
    return figure


# ---- Sweeps ----


def sweeps(records: Records, peaks: dict[str, float]) -> Figure:
    """Curves: share of the FMA peak over width, batch and depth."""
    by_axis = _grouped(records, "axis")
    figure, axes = _figure(2.4 * len(by_axis), len(by_axis))
    for [ax], (axis, of_axis) in zip(axes, by_axis.items(), strict=True):
        for dtype, color in zip(peaks, (BLUE, VERMILION), strict=False):
            points = [r for r in of_axis if r["dtype"] == dtype]
            share = [1e-9 * r["flops"] / r["seconds"] / peaks[dtype] for r in points]
            dash = "-" if dtype == "float32" else "--"
            ax.plot(
                [r["value"] for r in points], share, dash, color=color, label=dtype, linewidth=1.4
            )
        if axis != "depth":
            ax.set_xticks(range(0, 129, 16))
        ax.set(xlabel=axis, ylabel="of FMA peak", ylim=(0, 1))
        ax.margins(x=0.01)
        ax.yaxis.set_major_formatter(PercentFormatter(1))
    axes[0][0].legend(loc="lower right")
    return figure


# ---- Accuracy ----


def accuracy(records: Records) -> Figure:
    """Curves: accuracy on the test images over the seconds of training."""
    by_data = _grouped(records, "data")
    figure, [axes] = _figure(4.0, 1, len(by_data))
    for ax, (data, of_data) in zip(axes, by_data.items(), strict=True):
        for record in of_data:
            color, marker = STYLE[record["peer"]]
            seconds, shares = zip(*record["curve"], strict=True)
            ax.plot(
                seconds,
                shares,
                color=color,
                marker=marker,
                markersize=5,
                linewidth=1.4,
                label=record["peer"],
            )
        target = of_data[0]["target"]
        ax.axhline(target, color=INK, linewidth=1, linestyle=":")
        ax.set(title=f"{data}, to {target:.1%}", xscale="log", xlabel="seconds of training")
        ax.yaxis.set_major_formatter(PercentFormatter(1))
        ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        _plain_ticks(ax.xaxis)
    axes[0].set_ylabel("correct test images")
    _shared_legend(figure, axes)
    return figure


# ---- What they share ----


def in_order(names: Iterable[str]) -> list[str]:
    """Peers always in the same order; other names after them, as they come."""
    sides = list(STYLE)
    return sorted(names, key=lambda name: sides.index(name) if name in STYLE else len(sides))


def _by_peer(records: Iterable[Record]) -> dict[str, list[Record]]:
    groups = _grouped(records, "peer")
    return {peer: groups[peer] for peer in in_order(groups)}


def _grouped(records: Iterable[Record], key: str) -> dict[str, list[Record]]:
    groups = defaultdict(list)
    for record in records:
        groups[record[key]].append(record)
    return dict(groups)


def _best_peers(records: Records) -> dict[str, Record]:
    """For each case the record with the quickest peer."""
    return {
        case: min(of_case, key=lambda record: median(record["theirs"]))
        for case, of_case in _grouped(records, "case").items()
    }


def _curves(
    ax: Axes, records: Records, x: Callable[[Record], float], y: Callable[[Record], float]
) -> None:
    """A line for each side."""
    for peer, of_peer in _by_peer(records).items():
        color, marker = STYLE[peer]
        ours = peer.startswith("downslope")
        ax.plot(
            [x(r) for r in of_peer],
            [y(r) for r in of_peer],
            color=color,
            marker=marker,
            markersize=5,
            linewidth=2.2 if peer == "downslope" else 1.2,
            label=peer,
            zorder=3 if ours else 2,
            linestyle="--" if peer == OUT else "-",
        )


def _shared_legend(figure: Figure, axes: Iterable[Axes]) -> None:
    entries = {}
    for ax in axes:
        handles, labels = ax.get_legend_handles_labels()
        entries |= dict(zip(labels, handles, strict=True))
    figure.legend(entries.values(), entries, loc="outside upper center", ncols=5)


def _plain_ticks(axis: mpl.axis.Axis) -> None:
    """1000 rather than a power of ten."""
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.6g}"))
    axis.set_minor_formatter(NullFormatter())
