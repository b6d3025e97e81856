"""What the commands print: lines, tables, and the display of a training run.  Needs rich."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, Self

from rich import box
from rich.console import Console, RenderableType
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

import downslope as ds

console = Console(highlight=False)
errors = Console(highlight=False, stderr=True)

# The key of a table's preprocessing in the metadata of a model file.
PREPROCESSING = "preprocessing"


def say(text: str, to: Console = console) -> None:
    """Print a paragraph; only a terminal gets it broken into lines."""
    to.print(text, markup=False, soft_wrap=not to.is_terminal)


def say_where(what: str, path: Path) -> None:
    """Print where something is; never broken into lines, so that the path can be copied whole."""
    console.print(f"{what}: {path}", markup=False, soft_wrap=True)


def show_values(title: str, values: Mapping[str, object]) -> None:
    """Print names and values in two columns."""
    table = Table(title=_title(title), title_justify="left", box=box.SIMPLE, show_header=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, value in values.items():
        table.add_row(Text(name), Text(str(value)))
    console.print(table)


def show_rows(title: str, names: Iterable[str], rows: Iterable[Iterable[object]]) -> None:
    """Print rows of values under column names."""
    table = Table(*names, title=_title(title), title_justify="left", box=box.SIMPLE)
    for row in rows:
        table.add_row(*(Text(str(value)) for value in row))
    console.print(table)


def _title(title: str) -> Text:
    """A title as it is: rich would take brackets in the name of a file for a style."""
    return Text(title, style="table.title")


def check_output(path: Path, *inputs: Path) -> None:
    """Raise, before any work is done, if `path` can not be written or is one of the inputs."""
    if path.is_dir():
        raise IsADirectoryError(0, "is a directory; name a file", str(path))
    if not path.parent.is_dir():
        raise FileNotFoundError(0, "there is no such directory", str(path.parent))
    if any(path.resolve() == given.resolve() for given in inputs):
        raise ValueError(f"{path} is an input: choose another name for the output")
    if path.is_file() or not path.exists():  # a device needs no place in its folder
        _check_folder(path)


def _check_folder(path: Path) -> None:
    """Raise if no file can be made beside `path`, in whose place a model is then put."""
    try:
        with TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise OSError(error.errno, f"can not be written ({error.strerror})", str(path)) from error


def describe_network(network: ds.Network) -> str:
    """Widths, activations and size on one line."""
    widths = "-".join(str(n) for n in (network.inputs, *(_.outputs for _ in network.layers)))
    activations = ", ".join(dict.fromkeys(layer.activation.name for layer in network.layers))
    return f"{widths} ({activations}), {network.parameters.size:,} parameters, {network.dtype}"


def describe_epochs(history: ds.History) -> str:
    """How many epochs were run, and which was the best."""
    assert history.best_epoch is not None
    return f"{history.epochs}, least validation loss after epoch {history.best_epoch + 1}"


@contextmanager
def saved_if_interrupted(save: Callable[[], None]) -> Iterator[None]:
    """Call `save` when Ctrl-C ends the block: what was trained so far is kept."""
    try:
        yield
    except KeyboardInterrupt:
        say("Interrupted; the network as trained so far is kept.")
        save()
        raise


class TrainingDisplay(ds.Callback):
    """A live display of epochs, losses, speed and the time left, to be used in a `with` statement.

    Parameters
    ----------
    rows : int
        Training rows of an epoch.
    epochs : int
        The most epochs that will be run.
    """

    def __init__(self, rows: int, epochs: int) -> None:
        self._rows = rows
        self._epochs = epochs
        self._numbers = Text()
        self._progress = _BarAndText(self._numbers)
        self._bar = self._progress.add_task("starting", total=epochs)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._progress.stop()

    def on_fit_begin(self, trainer: Any) -> None:
        self._begun = time.perf_counter()

    def on_epoch_end(self, trainer: Any, epoch: int, logs: Mapping[str, float]) -> None:
        done = epoch + 1
        seconds = time.perf_counter() - self._begun
        left = timedelta(seconds=round(seconds / done * (self._epochs - done)))
        self._progress.update(
            self._bar,
            completed=done,
            description=f"epoch {done} of at most {self._epochs} · at most {left} left",
        )
        losses = [f"{_LOSS_NAMES.get(name, name)} {value:.4f}" for name, value in logs.items()]
        self._numbers.plain = " · ".join([*losses, f"{done * self._rows / seconds:,.0f} samples/s"])

    def on_fit_end(self, trainer: Any) -> None:
        done = int(self._progress.tasks[0].completed)
        self._progress.update(self._bar, total=done, description=f"{done} epochs")


_LOSS_NAMES = {"val_loss": "validation loss"}


class _BarAndText(Progress):
    """A bar, and under it a text that wraps in a narrow terminal."""

    def __init__(self, text: Text) -> None:
        self._text = text
        columns = BarColumn(bar_width=20), TextColumn("{task.description}", markup=False)
        super().__init__(*columns, console=console)

    def get_renderables(self) -> Iterator[RenderableType]:
        yield from super().get_renderables()
        yield self._text
