"""Training to an accuracy on images not seen before: the digits that come with downslope, and MNIST
where the environment variable DOWNSLOPE_MNIST names its folder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from time import perf_counter

import numpy as np
import pytest

from benches import THREADS, mnist, peers
from benches.peers.peer import Classify
from downslope.digits import split_digits

# Trainings from different seeds, of which the first, that compiles and warms up, is told apart.
SEEDS = range(4)
MOST_EPOCHS = 60


@dataclass(frozen=True)
class Task:
    """To classify test images with so many correct; `load` gives (x, labels) of both parts."""

    name: str
    widths: tuple[int, ...]
    batch: int
    target: float
    load: Callable[[], tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]]


def digits() -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    parts = split_digits()
    return parts.training, parts.test


TASKS = [
    Task("digits", (64, 64, 10), 32, 0.95, digits),
    Task("MNIST", (784, 128, 10), 128, 0.97, mnist.load),
]


@pytest.mark.benchmark(group="accuracy")
@pytest.mark.skipif(THREADS > 1, reason="measured with one thread")
@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
@pytest.mark.parametrize("peer", peers.CLASSIFIERS)
def test_time_to_accuracy(
    benchmark: Callable[..., None], record: Callable[..., None], task: Task, peer: str
) -> None:
    if task.load is mnist.load and not mnist.FOLDER:
        pytest.skip("DOWNSLOPE_MNIST does not name the folder of MNIST")
    try:
        classify = peers.load_classifier(peer)
    except ImportError as error:
        pytest.skip(f"{peer} is missing: {error}")
    parts = task.load()
    curves: list[list[tuple[float, float]]] = []
    benchmark.pedantic(
        lambda seed: curves.append(curve(classify, task, parts, seed)),
        setup=lambda: ((SEEDS[len(curves)],), {}),
        rounds=len(SEEDS),
    )
    first, *others = curves
    others.sort(key=lambda curve: curve[-1][0])
    typical = others[len(others) // 2]
    assert typical[-1][1] >= task.target, f"{peer} did not get there in {MOST_EPOCHS} epochs"
    epochs = [b[0] - a[0] for curve in others for a, b in pairwise([(0.0, 0.0), *curve])]
    record(
        "target",
        data=task.name,
        peer=peer,
        target=task.target,
        seconds=typical[-1][0],
        all_seconds=[curve[-1][0] for curve in others],
        seconds_per_epoch=median(epochs),
        curve=typical,
        start=first[0][0] - median(epochs),
    )


def curve(
    classify: Classify,
    task: Task,
    parts: tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]],
    seed: int,
) -> list[tuple[float, float]]:
    """Seconds of training, without the tests, and accuracy after each epoch."""
    (x, labels), (test_x, test_labels) = parts
    points: list[tuple[float, float]] = []
    passed, begun = 0.0, perf_counter()
    for predict in classify(list(task.widths), task.batch, x, labels, seed, THREADS):
        passed += perf_counter() - begun
        accuracy = float(np.mean(predict(test_x) == test_labels))
        points.append((passed, accuracy))
        if accuracy >= task.target or len(points) == MOST_EPOCHS:
            break
        begun = perf_counter()
    return points
