"""`downslope bench`: how fast training is here, beside NumPy, and where a step's time goes."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterable, Sequence
from functools import partial
from statistics import median

import numpy as np
from rich.progress import track

import downslope as ds
from downslope import _kernels
from downslope.cases import CASES, SEED, Case, disagreement, phases
from downslope.cli.comparison import TOLERANCE, blas_threads, thread_note
from downslope.cli.console import console, say, show_rows
from downslope.timing import Pairs, Turn, alternate, median_interval

# Pairs of a case: as many as fit its share of the time, but not fewer.
FEWEST_PAIRS = 5


def run(arguments: Namespace) -> None:
    cases = [case for case in CASES if case.name in arguments.cases]
    threads = arguments.threads
    peak = threads * _fma_peak()
    config = ds.config()
    say(
        f"{config['cpu']}, {config['isa']}, FMA peak {peak:.0f} GFLOP/s on {threads} "
        f"thread{'s' * (threads > 1)}; downslope {config['version']}, NumPy {config['numpy']}."
    )
    with blas_threads(threads):
        if arguments.phases:
            _show_phases(cases, threads, peak)
        else:
            _show_comparison(cases, threads, peak, arguments.seconds / len(cases))


def _fma_peak() -> float:
    """GFLOP/s of one core; the best of a few, as a core takes a moment to reach its clock."""
    return max(_kernels.fma_peak(_kernels.active_isa(), 32) for _ in range(10))


def _over(cases: Sequence[Case], what: str) -> Iterable[Case]:
    """The cases, with a bar that stands still while one is timed."""
    return track(cases, what, console=console, auto_refresh=False)


# ---- Beside NumPy ----


def _show_comparison(cases: Sequence[Case], threads: int, peak: float, seconds: float) -> None:
    rows = []
    for case in _over(cases, "Training beside NumPy, in turn"):
        error = disagreement(case)
        if not error <= TOLERANCE:
            raise ArithmeticError(
                f"downslope and NumPy disagree in network {case.name}: after the same steps their "
                f"weights differ by {error:.1e} (relative)"
            )
        rows.append(_comparison_row(case, _time(case, threads, seconds), peak))
    columns = ("", "network", "batch", "downslope", "of peak", "NumPy", "ratio", "interval")
    show_rows("Training, µs per step", columns, rows)
    say(
        "Times of a step within an epoch of shuffled mini-batches in memory, loss mse, float32, "
        f"{thread_note(threads)}: medians. Ratio: how many times as long NumPy took, the median "
        "over pairs timed in turn, with its 95 % interval; ~: noisy. On the same batches both "
        "learn the same, which was checked."
    )


def _time(case: Case, threads: int, seconds: float) -> Pairs:
    """Epochs in turn, for about so many seconds."""
    x, y = case.data()
    trainer, baseline = case.trainer(threads), case.baseline()
    data, rng = baseline.prepare(x, y), np.random.default_rng(SEED)
    ours = Turn(lambda: trainer.fit(x, y, batch_size=case.batch), case.steps)
    theirs = Turn(
        lambda: baseline.epoch(data, rng.permutation(len(x)), batch_size=case.batch), case.steps
    )
    by_turns = partial(alternate, ours, theirs, resting=threads > 1)
    warm_up = by_turns(2)
    pair = case.steps * (warm_up.ours[-1] + warm_up.theirs[-1])
    return by_turns(max(int(seconds / pair), FEWEST_PAIRS))


def _comparison_row(case: Case, pairs: Pairs, peak: float) -> tuple[str, ...]:
    ratio, low, high = median_interval(pairs.ratios)
    seconds = median(pairs.ours)
    return (
        *_name(case),
        _microseconds(seconds),
        f"{1e-9 * case.flops / seconds / peak:.0%}",
        _microseconds(median(pairs.theirs)),
        f"{ratio:.2f}",
        f"{low:.2f}–{high:.2f}{'~' * pairs.noisy}",
    )


def _name(case: Case) -> tuple[str, ...]:
    return case.name, case.network_text, str(case.batch)


# ---- Phase by phase ----


def _show_phases(cases: Sequence[Case], threads: int, peak: float) -> None:
    found = {case: phases(case, threads) for case in _over(cases, "Steps, phase by phase")}
    names = list(next(iter(found.values())))
    rows = [
        (case.name, case.network_text, *map(_microseconds, times.values()))
        for case, times in found.items()
    ]
    show_rows("A step, phase by phase, in µs", ("", "network", *names), rows)
    shares = [
        (
            case.name,
            *(f"{times[name] / times['apart']:.0%}" for name in names[:-2]),
            f"{1e-9 * case.flops / times['in fit'] / peak:.0%}",
        )
        for case, times in found.items()
    ]
    show_rows("Shares of the time apart", ("", *names[:-2], "in fit, of FMA peak"), shares)
    say(
        "Apart: the sum of the phases, each timed by itself. In fit: a whole step, whose update is "
        "made on the gradient while that is in the cache, without a clock in between; a batch of "
        "one row in a small network goes a shorter way there."
    )


def _microseconds(seconds: float) -> str:
    return f"{1e6 * seconds:,.{2 if seconds < 1e-3 else 0}f}"
